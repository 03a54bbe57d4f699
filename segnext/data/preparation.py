"""Making a download ready: Cityscapes' 19 training classes from its labelIds, and what ADE20K's folder lacks."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from shlex import quote

import cv2
import numpy as np
import numpy.typing as npt

from segnext.data.catalog import list_files
from segnext.data.classes import CITYSCAPES_LABEL_IDS, IGNORE_LABEL
from segnext.data.reading import read_label
from segnext.errors import DataError
from segnext.files import write_atomically

__all__ = [
    "DOWNLOAD_URL",
    "LABEL_ID_TO_TRAIN_ID",
    "AdeInventory",
    "ConversionReport",
    "convert_labels",
    "take_inventory",
    "to_train_ids",
]

UInt8 = npt.NDArray[np.uint8]
Drawer = Callable[[str, str, str], None]

_SOURCES = ("_gtFine_labelIds.png", "_gtFine_polygons.json")
_TARGET = "_gtFine_labelTrainIds.png"


def _lookup_table() -> UInt8:
    table = np.full(256, IGNORE_LABEL, np.uint8)
    table[list(CITYSCAPES_LABEL_IDS)] = np.arange(len(CITYSCAPES_LABEL_IDS))
    table.setflags(write=False)
    return table


LABEL_ID_TO_TRAIN_ID = _lookup_table()
"""(256,) uint8: the trainId of each labelId; 255 for those that are not evaluated."""

_LARGEST_LABEL_ID = 33


def to_train_ids(label_ids: UInt8) -> UInt8:
    """Maps (H, W) labelIds to trainIds 0 … 18 and 255."""
    mapped: UInt8 = cv2.LUT(label_ids, LABEL_ID_TO_TRAIN_ID)
    return mapped


@dataclass
class ConversionReport:
    """What a conversion did: numbers of label files made and found made already, and those that failed and why."""

    converted: int = 0
    present: int = 0
    failed: list[str] = field(default_factory=list)


def convert_labels(
    root: str | Path,
    *,
    splits: tuple[str, ...] = ("train", "val"),
    workers: int = 4,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Writes ``*_gtFine_labelTrainIds.png`` beside every labelIds file (or polygons file) under ``root``/gtFine.

    A file appears under its name only when it is complete, so a conversion that was broken off goes on where it
    stopped. One unreadable file does not keep the others from being converted.

    Args:
        overwrite: convert again what is there already.
        progress: called as (done, total) after every file, those present included, from the calling thread.

    Raises:
        DataError: there is no gtFine folder or nothing to convert in it; or only polygons are there and the package
            cityscapesscripts, which draws them, isn't installed.
    """
    base = Path(root).expanduser() / "gtFine"
    if not base.is_dir():
        raise DataError(
            f"{base} does not exist; set dataset.root to the folder that holds gtFine/ and leftImg8bit/, both unpacked "
            "from the Cityscapes download page (gtFine_trainvaltest.zip, leftImg8bit_trainvaltest.zip)"
        )
    sources = _find_sources(base, splits)
    if not sources:
        raise DataError(f"{base}/{{{','.join(splits)}}} holds no *_gtFine_labelIds.png; unpack gtFine_trainvaltest.zip")
    todo = {target: source for target, source in sources.items() if overwrite or not target.is_file()}
    polygons = next((source for source in todo.values() if source.suffix == ".json"), None)
    draw = None if polygons is None else _polygon_drawer(polygons)
    report = ConversionReport(present=len(sources) - len(todo))
    total, done = len(sources), report.present
    if progress is not None:
        progress(done, total)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running = {pool.submit(_convert, source, target, draw): source for target, source in todo.items()}
        try:
            for future in as_completed(running):
                _count(report, future)
                done += 1
                if progress is not None:
                    progress(done, total)
        finally:
            for future in running:
                future.cancel()
    return report


def _count(report: ConversionReport, future: Future[None]) -> None:
    try:
        future.result()
        report.converted += 1
    except DataError as error:
        report.failed.append(str(error))


def _find_sources(base: Path, splits: tuple[str, ...]) -> dict[Path, Path]:
    """Target file -> its source; labelIds are preferred to polygons."""
    sources: dict[Path, Path] = {}
    for split in splits:
        for end in _SOURCES:
            for file in list_files(base / split, (end,)):
                target = base / split / (file[: -len(end)] + _TARGET)
                sources.setdefault(target, base / split / file)
    return sources


def _convert(source: Path, target: Path, draw: Drawer | None) -> None:
    train_ids = _map_label_ids(source) if draw is None or source.suffix != ".json" else _draw_polygons(source, draw)
    succeeded, encoded = cv2.imencode(".png", train_ids)
    if not succeeded:
        raise DataError(f"{source} cannot be written as PNG; report this")
    write_atomically(target, encoded.tobytes(), error=DataError)


def _map_label_ids(source: Path) -> UInt8:
    label_ids = read_label(source)
    largest = int(label_ids.max())
    if largest > _LARGEST_LABEL_ID and largest != 255:
        raise DataError(f"{source} holds the value {largest}, but labelIds end at 33; is it another kind of label?")
    return to_train_ids(label_ids)


def _draw_polygons(source: Path, draw: Drawer) -> UInt8:
    with tempfile.TemporaryDirectory() as folder:  # the package writes to a file name only
        drawn = Path(folder, "label.png")
        try:
            draw(str(source), str(drawn), "trainIds")
        except (Exception, SystemExit) as error:
            raise DataError(f"{source} cannot be drawn by cityscapesscripts: {error!r}; unpack it again") from error
        return read_label(drawn)


def _polygon_drawer(needed_for: Path) -> Drawer:
    try:
        module = importlib.import_module("cityscapesscripts.preparation.json2labelImg")
    except ImportError as error:
        raise DataError(
            f"{needed_for} has no labelIds file beside it, and drawing polygons needs the package cityscapesscripts "
            f"({error}): `pip install cityscapesscripts`, or unpack gtFine_trainvaltest.zip completely"
        ) from error
    drawer: Drawer = module.json2labelImg
    return drawer


DOWNLOAD_URL = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"

_ARCHIVE = "ADEChallengeData2016.zip"
_PUBLISHED = {"training": 20210, "validation": 2000}


@dataclass(frozen=True)
class AdeInventory:
    """The files of one root folder.

    Attributes:
        root: the folder looked at.
        found: images and labels found, by folder such as ``images/training``.
        published: how many there are in the published dataset, by folder.
        unpaired: images without a label, as paths from the root.
        archive: the downloaded zip file, where one lies in or beside the root.
    """

    root: Path
    found: dict[str, int]
    published: dict[str, int]
    unpaired: tuple[str, ...]
    archive: Path | None

    @property
    def complete(self) -> bool:
        return self.found == self.published and not self.unpaired

    @property
    def instructions(self) -> list[str]:
        """Shell commands, in order, that complete the folder; none when it is complete."""
        if self.complete:
            return []
        target = self.root.parent
        folder, archive = quote(str(target)), quote(str(self.archive or target / _ARCHIVE))
        commands = [] if self.archive else [f"mkdir -p {folder}", f"wget -c -P {folder} {DOWNLOAD_URL}"]
        commands.append(f"unzip -q -o {archive} -d {folder}")
        if self.root.name != "ADEChallengeData2016":
            commands.append(f"# then set dataset.root={target / 'ADEChallengeData2016'}")
        return commands


def take_inventory(root: str | Path) -> AdeInventory:
    """Counts the files under ``root``, which need not exist."""
    base = Path(root).expanduser()
    found, unpaired = {}, []
    for part in _PUBLISHED:
        images = list_files(base / "images" / part, (".jpg",))
        labels = list_files(base / "annotations" / part, (".png",))
        found[f"images/{part}"], found[f"annotations/{part}"] = len(images), len(labels)
        labelled = {PurePosixPath(label).stem for label in labels}
        unpaired += [f"images/{part}/{image}" for image in images if PurePosixPath(image).stem not in labelled]
    published = {f"{kind}/{part}": n for part, n in _PUBLISHED.items() for kind in ("images", "annotations")}
    archives = (folder / _ARCHIVE for folder in (base, base.parent))
    return AdeInventory(
        base, found, published, tuple(unpaired), next((file for file in archives if file.is_file()), None)
    )
