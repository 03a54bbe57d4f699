"""What a run leaves to look at: its curves, and validation images with their true and predicted labels.

``curves.png`` shows loss, rate and mIoU; ``samples/`` the images side by side with their labels in colour.
One folder per image, ``images/<name>/``: ``image.jpg`` and ``truth.png`` once, ``prediction_<iteration>.png`` at each
evaluation. Labels are palette PNGs holding the class numbers. Long sides are brought down to 1024 pixels.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

from segnext.errors import DataError, TrainingError
from segnext.plots.charts import plot_curves, save
from segnext.plots.overlays import label_png, side_by_side
from segnext.tracking.events import Event, series
from segnext.tracking.run_folder import RunFolder

__all__ = ["StoredImage", "ValidationImage", "curves_figure", "sample_pictures", "store_images", "write_pictures"]

_LONG_SIDE = 1024
_LONGEST_NAME = 150  # characters; a file system takes 255 bytes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationImage:
    """``image`` (H, W, 3) uint8 RGB; ``truth`` and ``prediction`` (H, W) integers, 255 = ignore."""

    name: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.integer[Any]]

    def shrunk(self, long_side: int = _LONG_SIDE) -> ValidationImage:
        """The same with its long side at most ``long_side`` pixels; labels take the nearest pixel."""
        height, width = self.image.shape[:2]
        factor = long_side / max(height, width)
        if factor >= 1:
            return self
        size = (max(1, round(width * factor)), max(1, round(height * factor)))

        def label(array: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
            return np.asarray(cv2.resize(array.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST), np.uint8)

        image = np.asarray(cv2.resize(self.image, size, interpolation=cv2.INTER_AREA), np.uint8)
        return ValidationImage(self.name, image, label(self.truth), label(self.prediction))


@dataclass(frozen=True)
class StoredImage:
    """Where the parts of a ``ValidationImage`` lie; paths relative to the run folder."""

    name: str
    image: str
    truth: str
    prediction: str

    def load(self, folder: RunFolder) -> ValidationImage:
        """Reads the three files; raises OSError when one is missing."""
        with Image.open(folder.path / self.image) as image:
            rgb = np.asarray(image.convert("RGB"))
        return ValidationImage(
            self.name, rgb, _read_label(folder.path / self.truth), _read_label(folder.path / self.prediction)
        )


def _read_label(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def store_images(
    folder: RunFolder, images: Sequence[ValidationImage], *, iteration: int, palette: NDArray[np.uint8]
) -> list[StoredImage]:
    """Writes ``images`` below ``folder.images`` and says where; raises TrainingError on a full disk."""
    try:
        return [_store(folder, image.shrunk(), iteration, palette) for image in images]
    except OSError as error:
        raise TrainingError(f"cannot write {folder.images} ({error.strerror}): free disk space, then resume") from error


def _store(folder: RunFolder, image: ValidationImage, iteration: int, palette: NDArray[np.uint8]) -> StoredImage:
    place = folder.images / _file_name(image.name)
    place.mkdir(parents=True, exist_ok=True)
    photo, truth, prediction = place / "image.jpg", place / "truth.png", place / f"prediction_{iteration:06d}.png"
    if not photo.exists():
        Image.fromarray(image.image).save(photo, quality=90)
        label_png(image.truth, palette).save(truth)
    label_png(image.prediction.astype(np.uint8), palette).save(prediction)
    return StoredImage(image.name, *(str(p.relative_to(folder.path)) for p in (photo, truth, prediction)))


def _file_name(name: str) -> str:
    """One part of a path: '/' and the like must not make sub-folders, nor long names more than a file system takes."""
    text = quote(name, safe=" ")
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}-{zlib.crc32(text.encode()):08x}"


def sample_pictures(
    folder: RunFolder, events: Sequence[Event], *, best_iteration: int | None, panel_width: int = 480
) -> Iterator[tuple[str, Image.Image | None]]:
    """Name and picture of each validation image kept at ``best_iteration``, else at the last evaluation.

    The picture is None where a file of the image is missing or damaged.
    """
    kept = [event for event in events if event.kind == "images"]
    if not kept:
        return
    event = next((e for e in kept if e.iteration == best_iteration), kept[-1])
    names, palette = folder.read_classes()
    for record in event.extra.get("images", []):
        name = str(record.get("name", "?"))
        try:
            sample = StoredImage(**record).load(folder)
            picture = side_by_side(
                sample.image,
                sample.truth,
                sample.prediction,
                names=names,
                palette=palette,
                title=f"{name}, iteration {event.iteration}",
                panel_width=panel_width,
            )
        except Exception:  # a damaged picture makes Pillow raise nearly anything
            yield name, None
            continue
        yield name, picture


def curves_figure(events: Sequence[Event], *, title: str = "") -> Figure:
    """Loss, learning rate and mIoU of a run; raises DataError when nothing has been logged yet."""
    loss, rate, miou = (series(events, name) for name in ("train/loss", "train/lr", "val/mIoU"))
    return plot_curves(loss=loss, rate=rate, miou=miou, title=title)


def write_pictures(folder: RunFolder, events: Sequence[Event], *, best_iteration: int | None) -> None:
    """Writes the curves and samples of a run so far; what cannot be drawn costs a warning, never the run."""
    try:
        save(curves_figure(events, title=folder.name), folder.curves)
    except DataError:
        return  # nothing has been logged yet
    except Exception as error:
        logger.warning("cannot draw %s: %s", folder.curves, error)
    try:
        for name, picture in sample_pictures(folder, events, best_iteration=best_iteration):
            if picture is not None:
                folder.samples.mkdir(exist_ok=True)
                picture.save(folder.samples / f"{_file_name(name)}.png", compress_level=1)
    except Exception as error:
        logger.warning("cannot draw the samples in %s: %s", folder.samples, error)
