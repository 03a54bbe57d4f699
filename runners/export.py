"""Exports a checkpoint to ONNX: `python -m runners.export checkpoint=zoo:tiny_ade output=model.onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from segnext import backend
from segnext.app.runner import runner
from segnext.app.schema import ExportConfig
from segnext.data.catalog import create_dataset
from segnext.data.classes import known_classes
from segnext.data.datasets import Dataset
from segnext.data.reading import read_image
from segnext.errors import ConfigError
from segnext.evaluation.evaluator import EvaluationResult, evaluate
from segnext.evaluation.inference import fixed_bases_seed
from segnext.evaluation.onnx_model import OnnxModel
from segnext.evaluation.predictor import find_images
from segnext.export.settings import Quantisation
from segnext.progress import progress
from segnext.tracking.tracker import git_revision
from segnext.weights.checkpoint import EXPORTED, CheckpointInfo, describe
from segnext.weights.trained import TrainedModel, load_trained


@runner("export", ExportConfig, from_checkpoint=True)
def main(config: ExportConfig) -> None:
    write_onnx, verify = _tools()
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    target = Path(config.output.path).expanduser()
    if target.suffix != EXPORTED:
        raise ConfigError(f"output={target}: name a file that ends with {EXPORTED}")
    image = read_image(config.image) if config.image is not None else None
    pictures = find_images(config.calibration) if config.calibration is not None else []
    console.print(f"exporting {config.checkpoint}")
    trained, info = _open(config)
    quantised = config.quantise == Quantisation.int8
    has_data = config.dataset.root is not None or config.dataset.name == "shapes"
    scored = create_dataset(config.dataset, split="val") if quantised and has_data else None

    full = target.with_name(f"{target.stem}_float32{EXPORTED}") if quantised else target
    seed = fixed_bases_seed(config.seed)
    with progress(console, f"exporting {config.checkpoint}"):
        write_onnx(trained.weights, full, info=info, settings=config, revision=git_revision())
        backend.start(config.device.value, announce=console.print, log=backend.default_log())
        for agreement in verify(full, trained.build(), settings=config, bases_seed=seed, image=image):
            console.print(f"ONNX Runtime against Jittor, {agreement}")
    console.print(f"wrote {full}: {_megabytes(full)}, opset {config.opset}, bases of seed {config.seed}")
    if quantised:
        from segnext.export.quantise import calibration_inputs, quantise  # of the extra `deploy`

        with progress(console, "quantising"):
            inputs = calibration_inputs(pictures, config.dataset.test, count=config.calibration_images)
            quantise(full, target, inputs=inputs)
        console.print(f"wrote {target}: {_megabytes(target)}, convolutions in int8")
        if scored is not None:
            _compare(console, config, scored, {"float32": full, "int8": target})
        else:
            console.print("give dataset.root=DATA to see the mIoU of both files")


def _tools() -> tuple[Any, Any]:
    """What writes a file and what proves it, of the extra `deploy`."""
    try:
        from segnext.export.graph import write_onnx
        from segnext.export.verify import verify
    except ImportError as error:
        raise ConfigError(f"export is not installed ({error}): pip install 'segnext-jittor[deploy]'") from error
    return write_onnx, verify


def _open(config: ExportConfig) -> tuple[TrainedModel, CheckpointInfo]:
    """The weights, and what the file is to say of them; of a foreign checkpoint what the settings say."""
    info = describe(config.checkpoint)
    classes = info.classes if info is not None else known_classes(config.dataset)
    trained = load_trained(config.checkpoint, settings=config.model, num_classes=len(classes))
    if info is None:
        info = CheckpointInfo(
            config.model.name, config.dataset.name, classes, config.model.nmf_rank, config.dataset.test
        )
    return trained, info


def _compare(console: Console, config: ExportConfig, dataset: Dataset, files: dict[str, Path]) -> None:
    """mIoU, speed and size of each file on the validation split."""
    for name, file in files.items():
        with progress(console, f"evaluating {name}", len(dataset)) as report:
            result: EvaluationResult = evaluate(
                OnnxModel(file), dataset, settings=config.dataset.test, workers=config.workers, progress=report
            )
        console.print(
            f"{name}: mIoU {100 * result.scores.mIoU:.2f} % on {result.images} images, "
            f"{1000 / result.images_per_second:.0f} ms per image, {_megabytes(file)}",
        )


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
