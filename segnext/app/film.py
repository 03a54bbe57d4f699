"""Prediction for a film, a camera or a stream: an overlay video, label PNGs on request, and figures of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from segnext.app.runs import open_run_folder, recorded
from segnext.app.schema import PredictConfig
from segnext.evaluation.predictor import Segmenter
from segnext.export.video import VideoReader, VideoResult, VideoWriter, segment_video
from segnext.files import strict_json, write_atomically
from segnext.plots.overlays import label_png, overlay
from segnext.progress import progress

__all__ = ["segment_film"]


def segment_film(config: PredictConfig, reader: VideoReader, segmenter: Segmenter, console: Console) -> None:
    """Writes ``overlay.mp4`` and ``predictions.json`` into a new run folder.

    Raises:
        Interrupted: at the end, when a signal has ended it; the film can be played.
    """
    folder = open_run_folder(config, config.name)
    target = folder.path / "overlay.mp4"
    palette = segmenter.classes.palette
    total = config.max_frames if reader.frames is None else min(reader.frames, config.max_frames or reader.frames)
    with (
        recorded(folder, at_once=True) as stops,
        progress(console, "predicting frames", total) as report,
        VideoWriter(target, size=reader.size, fps=reader.fps) as film,
    ):

        def write(number: int, frame: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
            film.write(overlay(frame, labels, palette, config.alpha))
            if config.label_files:
                label_png(labels, palette).save(folder.path / f"{number:06d}_label.png")

        def tell(so_far: VideoResult) -> None:
            report(so_far.frames, what=f"predicting {so_far.fps:.1f} frames/s")

        result = segment_video(
            reader, predict=segmenter.predict, write=write, progress=tell, max_frames=config.max_frames
        )
        record: dict[str, Any] = {
            "input": config.input, "checkpoint": config.checkpoint, "overlay": target.name, "frames": result.frames,
            "broken": result.broken, "dropped": result.dropped, "frames_per_second": round(result.fps, 3),
            "interrupted": result.interrupted,
        }  # fmt: skip
        write_atomically(folder.path / "predictions.json", strict_json(record, indent=2) + "\n")
        _show(result, target, console)
        if result.interrupted:
            stops.raise_if_received(f"after {result.frames} frames: {target}")


def _show(result: VideoResult, target: Path, console: Console) -> None:
    if result.broken:
        console.print(f"{len(result.broken)} broken frames were left out: {_some(result.broken)}", markup=False)
    if result.dropped:
        console.print(f"{result.dropped} frames came too fast and were left out", markup=False)
    console.print(f"{result.frames} frames at {result.fps:.1f} frames/s: {target}", soft_wrap=True, markup=False)


def _some(numbers: list[int], *, shown: int = 10) -> str:
    text = ", ".join(map(str, numbers[:shown]))
    return text if len(numbers) <= shown else f"{text} and {len(numbers) - shown} more"
