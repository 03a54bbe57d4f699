"""What a run leaves to look at: ``curves.png``, and ``samples/`` with image, truth and prediction side by side."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from PIL import Image

from segnext.errors import DataError
from segnext.plots.charts import plot_curves, save
from segnext.plots.overlays import side_by_side
from segnext.tracking.events import Event
from segnext.tracking.images import StoredImage
from segnext.tracking.run_folder import RunFolder

__all__ = ["sample_pictures", "write_pictures"]

logger = logging.getLogger(__name__)


def sample_pictures(
    folder: RunFolder, events: Sequence[Event], *, best_iteration: int | None, panel_width: int = 480
) -> Iterator[tuple[str, Image.Image | None]]:
    """Name and picture of each validation image kept at ``best_iteration``, else at the last evaluation.

    The picture is None where a file of the image is missing.
    """
    kept = [event for event in events if event.kind == "images"]
    if not kept:
        return
    event = next((e for e in kept if e.iteration == best_iteration), kept[-1])
    names, palette = folder.read_classes()
    for record in event.extra.get("images", []):
        try:
            sample = StoredImage(**record).load(folder)
        except (OSError, TypeError):
            yield str(record.get("name", record)), None
            continue
        title = f"{sample.name}, iteration {event.iteration}"
        yield (
            sample.name,
            side_by_side(
                sample.image,
                sample.truth,
                sample.prediction,
                names=names,
                palette=palette,
                title=title,
                panel_width=panel_width,
            ),
        )


def write_pictures(folder: RunFolder, events: Sequence[Event], *, best_iteration: int | None) -> None:
    """Writes the curves and samples of a run that has ended; what cannot be drawn costs a warning, never the run."""
    try:
        save(plot_curves(events, title=folder.name), folder.curves)
    except DataError:
        return  # it ended before it had logged anything
    except Exception as error:
        logger.warning("cannot draw %s: %s", folder.curves, error)
    try:
        for name, picture in sample_pictures(folder, events, best_iteration=best_iteration):
            if picture is not None:
                folder.samples.mkdir(exist_ok=True)
                picture.save(folder.samples / f"{quote(name, safe=' ')}.png")
    except Exception as error:
        logger.warning("cannot draw the samples in %s: %s", folder.samples, error)
