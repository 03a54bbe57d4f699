"""Evaluates a checkpoint: `python -m runners.evaluate model=tiny dataset=ade checkpoint=zoo:tiny_ade`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from segnext.app.repeats import evaluate_repeatedly
from segnext.app.runner import runner
from segnext.app.runs import assemble, open_run_folder, recorded
from segnext.app.schema import EvaluateConfig
from segnext.data.catalog import create_dataset
from segnext.evaluation.extremes import write_extremes
from segnext.evaluation.onnx_model import Engine, OnnxModel
from segnext.evaluation.results import metrics_of, print_scores, write_tables
from segnext.evaluation.submission import SubmissionWriter, require_benchmark
from segnext.models.variants import published
from segnext.tracking.run_supervisor import open_session
from segnext.weights.checkpoint import CheckpointInfo
from segnext.weights.trained import load_trained


@runner("evaluate", EvaluateConfig, from_checkpoint=True)
def main(config: EvaluateConfig) -> None:
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=False)
    dataset = create_dataset(config.dataset, split=config.split)
    if config.evaluation.submission:
        require_benchmark(config.dataset.name)
    what = f"{config.checkpoint} on {config.dataset.name} {config.split}: {len(dataset)} images"
    console.print(f"evaluating {what}", soft_wrap=True)
    load = _checked(config, len(dataset.classes))
    communicator, folder, members = assemble(
        config, lambda: open_run_folder(config, config.name), console, jittor=config.engine == Engine.jittor
    )
    with open_session(communicator, folder.path, members), recorded(folder, by=communicator) as stops:
        model, info = load()
        writer = (
            SubmissionWriter(config.dataset.name, folder.path / "submission") if config.evaluation.submission else None
        )
        results = evaluate_repeatedly(config, communicator, model, dataset, writer, console, stops)
        if not communicator.is_main:
            return
        metrics = metrics_of(results) | {
            "checkpoint": config.checkpoint, "engine": config.engine.value, "split": config.split, "seed": config.seed,
            "mode": "ms" if config.dataset.test.tta else "ss", "iteration": info and info.iteration,
        }  # fmt: skip
        write_tables(folder.path, results[0], dataset.classes)
        write_extremes(
            folder.path, model, dataset, results[0], settings=config.dataset.test, count=config.evaluation.extremes,
            seed=config.seed,
        )  # fmt: skip
        folder.write_classes(dataset.classes.names, dataset.classes.palette)
        folder.write_metrics(metrics)
        archive = writer.finish() if writer is not None else None
    title = f"{config.model.name} on {config.dataset.name} {config.split}"
    whole = config.evaluation.max_images is None and config.split == "val"
    paper = published(config.model.name, config.dataset.name)
    print_scores(console, title, results, dataset.classes, tta=config.dataset.test.tta, paper=paper, whole=whole)
    if archive is not None:
        console.print(f"submission: {archive} (read back and verified)", soft_wrap=True)
    console.print(f"results: {folder.path}", soft_wrap=True)


def _checked(config: EvaluateConfig, num_classes: int) -> Callable[[], tuple[Any, CheckpointInfo | None]]:
    """Reads the checkpoint before any work; the result makes the model of it once the engine is up."""
    if config.engine != Engine.jittor:
        exported = OnnxModel(config.checkpoint, engine=config.engine, device=config.device)
        exported.info.require_classes(num_classes, origin=str(exported.path))
        return lambda: (exported, exported.info)
    trained = load_trained(config.checkpoint, settings=config.model, num_classes=num_classes)
    return lambda: (trained.build(precision=config.precision, seed=config.seed), trained.info)


if __name__ == "__main__":
    main()
