"""What predict writes: a label PNG and an overlay for an image file, an overlay video for a film, camera or stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from segnext.app.runs import open_run_folder, recorded
from segnext.app.schema import PredictConfig
from segnext.data.parts import is_read_in_parts, open_in_parts
from segnext.data.reading import read_image
from segnext.data.settings import ReadingSettings
from segnext.errors import DataError
from segnext.evaluation.predictor import Segmenter
from segnext.export.video import VideoReader, VideoResult, VideoWriter, segment_video
from segnext.files import strict_json, write_atomically
from segnext.plots.overlays import label_png, label_png_by_rows, overlay, overlay_with_legend
from segnext.progress import progress

__all__ = ["segment_file", "segment_film"]

_OVERLAY_SIDE = 4096  # pixels of the longer side, where the image is not held whole


def segment_file(
    segmenter: Segmenter, file: Path, target: Path, *, reading: ReadingSettings, alpha: float
) -> dict[str, Any]:
    """Writes ``<target>_label.png`` and ``<target>_overlay.png``; returns what predictions.json says of the image.

    A TIFF above ``max_megapixels`` is read, segmented and written a few rows at a time, its overlay on a smaller scale.

    Raises:
        DataError: the image cannot be read, or is too large for these test settings.
    """
    classes = segmenter.classes
    label_file, overlay_file = (target.with_name(f"{target.name}_{kind}.png") for kind in ("label", "overlay"))
    if is_read_in_parts(file, reading):
        image, labels, size, counts = _by_rows(segmenter, file, label_file, reading)
    else:
        image = read_image(file, reading)
        labels = segmenter.predict(image)
        label_png(labels, classes.palette).save(label_file)
        size, counts = labels.shape, np.bincount(labels.ravel(), minlength=len(classes))
    Image.fromarray(overlay_with_legend(image, labels, classes.names, classes.palette, alpha)).save(overlay_file)
    return {
        "input": str(file),
        "height": size[0],
        "width": size[1],
        "label": label_file.name,
        "overlay": overlay_file.name,
        "shares": {
            classes.names[k].strip(): float(counts[k] / counts.sum())
            for k in np.argsort(-counts, kind="stable")
            if counts[k]
        },
    }


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
        _show_film(result, target, console)
        if result.interrupted:
            stops.raise_if_received(f"after {result.frames} frames: {target}")


def _show_film(result: VideoResult, target: Path, console: Console) -> None:
    if result.broken:
        console.print(f"{len(result.broken)} broken frames were left out: {_some(result.broken)}", markup=False)
    if result.dropped:
        console.print(f"{result.dropped} frames came too fast and were left out", markup=False)
    console.print(f"{result.frames} frames at {result.fps:.1f} frames/s: {target}", soft_wrap=True, markup=False)


def _some(numbers: list[int], *, shown: int = 10) -> str:
    text = ", ".join(map(str, numbers[:shown]))
    return text if len(numbers) <= shown else f"{text} and {len(numbers) - shown} more"


def _by_rows(
    segmenter: Segmenter, file: Path, label_file: Path, reading: ReadingSettings
) -> tuple[NDArray[np.uint8], NDArray[np.int32], tuple[int, ...], NDArray[np.int64]]:
    """Image and labels with every n-th pixel of every n-th row, (height, width) of all, and how often each class is."""
    with open_in_parts(file, reading) as parts:
        size = parts.height, parts.width
        if not segmenter.predictor.takes_rows(size):
            raise DataError(
                f"image {file} has {size[0] * size[1] / 1e6:.0f} megapixels, above dataset.max_megapixels="
                f"{reading.max_megapixels:g}: set dataset.test.windows=slide dataset.test.scale=null "
                "dataset.test.size_divisor=1 dataset.test.tta=false, with which it is predicted in parts"
            )
        step = -(-max(size) // _OVERLAY_SIDE)
        smaller = tuple(-(-side // step) for side in size)
        image, labels = np.zeros((*smaller, 3), np.uint8), np.zeros(smaller, np.int32)
        counts = np.zeros(len(segmenter.classes), np.int64)

        def thin_out(all_rows: NDArray[Any], start: int, into: NDArray[Any]) -> None:
            into[-(-start // step) : -(-(start + len(all_rows)) // step)] = all_rows[-start % step :: step, ::step]

        with label_png_by_rows(label_file, size, segmenter.classes.palette) as write_rows:

            def read(start: int, stop: int) -> NDArray[np.uint8]:
                rows = parts.rows(start, stop)
                thin_out(rows, start, image)
                return rows

            def write(start: int, rows: NDArray[np.int32]) -> None:
                nonlocal counts
                write_rows(rows)
                thin_out(rows, start, labels)
                counts += np.bincount(rows.ravel(), minlength=len(counts))

            segmenter.predictor.predict_by_rows(size, read, write)
    return image, labels, size, counts
