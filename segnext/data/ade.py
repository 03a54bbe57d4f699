"""ADE20K scene parsing on disk: what is there, what is missing, and how to get it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from shlex import quote

from segnext.data.folder_datasets import list_files

__all__ = ["DOWNLOAD_URL", "AdeInventory", "take_inventory"]

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
