"""Segments images: `python -m runners.predict input='photos/*.jpg' checkpoint=zoo:tiny_ade`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from segnext import backend
from segnext.app.prediction import segment_file, segment_film
from segnext.app.runner import runner
from segnext.app.runs import open_run_folder, recorded
from segnext.app.schema import PredictConfig
from segnext.data.classes import known_classes
from segnext.errors import SegNeXtError
from segnext.evaluation.onnx_model import Engine
from segnext.evaluation.predictor import Segmenter, find_images, result_names
from segnext.export.video import VideoReader, is_video
from segnext.files import strict_json, write_atomically
from segnext.progress import progress
from segnext.screen import shown
from segnext.weights.checkpoint import describe
from segnext.weights.trained import load_trained


@runner("predict", PredictConfig, from_checkpoint=True)
def main(config: PredictConfig) -> int:
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(f"predicting {config.input} with {config.checkpoint}", soft_wrap=True)
    if is_video(config.input):
        reader = VideoReader(config.input)
        segment_film(config, reader, _segmenter(config), console)
        return 0
    files = find_images(config.input)
    segmenter = _segmenter(config)
    folder = open_run_folder(config, config.name)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    with recorded(folder) as stops, progress(console, "predicting", len(files)) as report:
        for number, (file, name) in enumerate(zip(files, result_names(files), strict=True)):
            report(number)
            if stops.received is not None:
                break
            try:
                done.append(
                    segment_file(segmenter, file, folder.path / name, reading=config.dataset, alpha=config.alpha)
                )
            except SegNeXtError as error:
                failed.append({"input": str(file), "error": str(error)})
                print(f"error: {error}", file=sys.stderr)
        record = {"checkpoint": config.checkpoint, "images": done, "failed": failed}
        write_atomically(folder.path / "predictions.json", strict_json(record, indent=2) + "\n")
        stops.raise_if_received(f"after {len(done) + len(failed)} of {len(files)} images: {folder.path}")
    _show(console, done)
    console.print(f"{len(done)} of {len(files)} images segmented: {folder.path}", soft_wrap=True)
    return 1 if failed else 0


def _segmenter(config: PredictConfig) -> Segmenter:
    """The checkpoint's model; a foreign checkpoint is what ``model`` and ``dataset`` say it is."""
    if config.engine != Engine.jittor:
        return Segmenter.from_onnx(
            config.checkpoint, engine=config.engine, settings=config.dataset.test, device=config.device
        )
    info = describe(config.checkpoint)
    named = info is None or config.dataset.classes is not None
    classes = known_classes(config.dataset) if named or info is None else info.classes
    trained = load_trained(config.checkpoint, settings=config.model, num_classes=len(classes))
    backend.start(config.device.value, announce=print, log=backend.default_log())
    network = trained.build(precision=config.precision, seed=config.seed)
    return Segmenter(network, classes, settings=config.dataset.test, seed=config.seed)


def _show(console: Console, images: Sequence[dict[str, Any]], *, rows: int = 20) -> None:
    """One line per image with its largest classes, in per cent."""
    for record in images[:rows]:
        largest = list(record["shares"].items())[:4]
        text = ", ".join(f"{name} {100 * share:.1f} %" for name, share in largest)
        console.print(f"{shown(Path(record['input']).name)}: {text}", no_wrap=True, overflow="ellipsis")
    if len(images) > rows:
        console.print(f"… and {len(images) - rows} more, see predictions.json")


if __name__ == "__main__":
    main()
