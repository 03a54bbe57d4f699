"""The published checkpoints by name: ``zoo:tiny_ade`` … ``zoo:large_cityscapes`` and ``zoo:mscan_tiny`` ….

Addresses are those printed in the READMEs of JSeg (direct links to Jittor files) and of the SegNeXt repository
(direct links to PyTorch segmentation checkpoints; for the ImageNet backbones a folder to choose from by hand).
Neither publishes checksums: the first copy of a file is trusted, its SHA-256 is noted beside it, and every later use
is checked against that. A download that breaks off goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
from rich.console import Console

from segnext.errors import WeightsError
from segnext.files import FileLock, cache_home, strict_json, write_atomically
from segnext.models.variants import VARIANTS
from segnext.progress import Report, progress

__all__ = ["PREFIX", "ZOO", "Download", "ZooEntry", "ZooFile", "cache_folder", "check", "fetch", "locate", "pin"]

PREFIX = "zoo:"

_JITTOR_HUB = "https://cg.cs.tsinghua.edu.cn/jittor/assets/build/checkpoints/"
_TSINGHUA_CLOUD = "https://cloud.tsinghua.edu.cn/f/{}/?dl=1"
_PAGES = "https://github.com/Jittor/JSeg and https://github.com/Visual-Attention-Network/SegNeXt"
_BACKBONE_FOLDER = "https://cloud.tsinghua.edu.cn/d/c15b25a6745946618462/"

# SegNeXt README, columns "Download"
_CLOUD_FILES = {
    "tiny_ade": "5da98841b8384ba0988a",
    "small_ade": "b2d1eb94f5944d60b3d2",
    "base_ade": "1ea8000916284493810b",
    "large_ade": "d4f8e1020643414fbf7f",
    "tiny_cityscapes": "b1613af9955849bba910",
    "small_cityscapes": "14148cf5371a4f248db1",
    "base_cityscapes": "adb49029f66f426bb046",
    "large_cityscapes": "b5308d092b034f81aac0",
}


@dataclass(frozen=True)
class ZooFile:
    """One published file: its name in the cache folder and its address, None where only ``ZooEntry.page`` is known."""

    name: str
    url: str | None


@dataclass(frozen=True)
class ZooEntry:
    """A checkpoint of the zoo: any one of ``files`` will do, the first is preferred; ``page`` is who publishes them."""

    files: tuple[ZooFile, ...]
    page: str
    is_backbone: bool


def _segmentation(size: str, dataset: str) -> ZooEntry:
    crop = {"ade": "512x512_ade", "cityscapes": "1024x1024_city"}[dataset]
    stem = f"segnext_{size}_{crop}_160k"
    cloud = _TSINGHUA_CLOUD.format(_CLOUD_FILES[f"{size}_{dataset}"])
    files = (ZooFile(f"{stem}.pkl", f"{_JITTOR_HUB}{stem}.pkl"), ZooFile(f"{stem}.pth", cloud))
    return ZooEntry(files, _PAGES, is_backbone=False)


def _backbone(size: str) -> ZooEntry:
    stem = f"mscan_{size[0]}"
    files = (ZooFile(f"{stem}.pkl", f"{_JITTOR_HUB}{stem}.pkl"), ZooFile(f"{stem}.pth", None))
    return ZooEntry(files, _BACKBONE_FOLDER, is_backbone=True)


ZOO: dict[str, ZooEntry] = {
    **{f"{size}_{dataset}": _segmentation(size, dataset) for dataset in ("ade", "cityscapes") for size in VARIANTS},
    **{f"mscan_{size}": _backbone(size) for size in VARIANTS},
}


def cache_folder() -> Path:
    """Returns the folder of downloaded weights: ``$SEGNEXT_HOME/weights``, by default below ``~/.cache/segnext``."""
    return cache_home() / "weights"


def locate(path: str | Path) -> Path:
    """Returns where a weights file lies; a name like ``zoo:tiny_ade`` is downloaded when it is not there yet.

    A file of the right name put into ``cache_folder()`` by hand is taken as it is, without any network.

    Args:
        path: a path, returned unchanged, or ``zoo:NAME``.

    Raises:
        WeightsError: unknown name, a file that has changed since its first use, or a download that failed.
    """
    text = str(path)
    if not text.startswith(PREFIX):
        return Path(path).expanduser()
    name = text.removeprefix(PREFIX)
    if name not in ZOO:
        raise WeightsError(f"{text} is not in the zoo: choose one of {', '.join(PREFIX + known for known in ZOO)}")
    entry, folder = ZOO[name], cache_folder()
    for file in entry.files:
        present = folder / file.name
        if present.exists():
            check(present, source=file.url or entry.page)
            return present
    failures = []
    for file in entry.files:
        if file.url is None:
            continue
        try:
            fetch(Download(file.url, folder / file.name))
        except WeightsError as error:
            failures.append(str(error))
            continue
        check(folder / file.name, source=file.url)
        return folder / file.name
    raise WeightsError(_by_hand(text, entry, folder, failures))


def _by_hand(name: str, entry: ZooEntry, folder: Path, failures: list[str]) -> str:
    lines = [f"{name} could not be downloaded:", *(f"  {failure}" for failure in failures)]
    lines.append("  cure: try again when the network works (what was received is kept), or on another machine get")
    lines += [f"    {file.url}" for file in entry.files if file.url]
    lines.append(f"    (published at {entry.page})")
    lines.append(f"  and put it as {' or '.join(file.name for file in entry.files)} into {folder}")
    if entry.is_backbone:
        lines.append("  or train from scratch with model.pretrained=null")
    return "\n".join(lines)


_CHUNK = 1 << 18
_TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of data


@dataclass(frozen=True)
class Download:
    """From ``url`` to the file ``target``; what arrived so far lies beside it as ``NAME.part``."""

    url: str
    target: Path

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def version(self) -> Path:
        """Notes which version of the file the part belongs to, as the server told (ETag or date)."""
        return self.target.with_name(self.target.name + ".part.version")


class _BrokenOffError(Exception):
    """The connection ended early; trying again goes on from there."""


def fetch(
    download: Download,
    *,
    attempts: int = 4,
    wait: Callable[[float], None] | None = None,
) -> None:
    """Downloads a file, or the rest of it. Several processes may ask for one file: one fetches, the others wait.

    Args:
        download: from where to where.
        attempts: before giving up; attempts that received something do not count.
        wait: called with the seconds between attempts, instead of sleeping.

    Raises:
        WeightsError: the address is wrong (404 …) or the network does not work; what arrived is kept.
    """
    try:
        download.target.parent.mkdir(parents=True, exist_ok=True)
        lock = download.target.with_name(f".{download.target.name}.lock")
        show = Console(stderr=True)
        with FileLock.wait(lock), progress(show, download.target.name, of_bytes=True) as advance:
            failed = 0
            while not download.target.exists():
                before = _size(download.part)
                try:
                    _attempt(download, advance)
                except (_BrokenOffError, requests.ConnectionError, requests.Timeout) as error:
                    failed = 0 if _size(download.part) > before else failed + 1
                    if failed >= attempts:
                        reason = f"no connection after {attempts} attempts ({_brief(error)})"
                        raise WeightsError(f"{download.url}: {reason}") from error
                    (wait or time.sleep)(min(2.0 ** (failed - 1), 30.0))
    except requests.RequestException as error:
        raise WeightsError(f"{download.url}: {error}") from error
    except OSError as error:  # requests' own errors are among these, and came before
        folder = download.target.parent
        raise WeightsError(f"{folder} cannot be written ({error.strerror}): set SEGNEXT_HOME to another") from error


def pin(path: Path, *, source: str) -> None:
    """Notes the SHA-256 of a file that is trusted from now on, in ``NAME.sha256.json`` beside it."""
    record = {"sha256": _sha256(path), "bytes": path.stat().st_size, "source": source}
    with contextlib.suppress(WeightsError):  # a cache shared read-only is used without a record
        write_atomically(_record(path), strict_json(record, indent=2) + "\n", error=WeightsError)


def check(path: Path, *, source: str) -> None:
    """Compares a file with its pinned SHA-256; one without a record (put there by hand) is pinned now.

    Raises:
        WeightsError: the file has changed since.
    """
    try:
        pinned = json.loads(_record(path).read_text())["sha256"]
    except FileNotFoundError:
        pin(path, source=source)
        return
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{_record(path)} is damaged: delete it to trust {path.name} as it is now") from error
    found = _sha256(path)
    if found != pinned:
        raise WeightsError(
            f"{path} has changed since its first use (SHA-256 {found[:12]}…, pinned was {pinned[:12]}…): delete it to "
            f"download it again, or, if the new one is right, delete {_record(path).name} beside it"
        )


def _attempt(download: Download, advance: Report) -> None:
    """One request for what is missing; moves the part to its place when it is whole."""
    offset = _size(download.part)
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if download.version.exists():
            headers["If-Range"] = download.version.read_text()  # another version is sent whole
    with requests.get(download.url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            if offset == _total(response):  # broke off between the last byte and the rename
                _complete(download)
                return
            download.part.unlink()
            raise _BrokenOffError("the part kept does not belong to the file, starting again")
        if response.status_code >= 500:
            raise _BrokenOffError(f"the server answers {response.status_code}")
        response.raise_for_status()
        if "text/html" in response.headers.get("Content-Type", ""):
            raise requests.RequestException("a web page came instead of the file")
        resumed = response.status_code == requests.codes.partial_content
        if not resumed:
            offset = 0
            _write_version(download, response)
        total = _total(response)
        advance(offset, total)
        response.raw.enforce_content_length = False  # keep the last bytes before a break; sizes are compared below
        with download.part.open("ab" if resumed else "wb") as file:
            try:
                for chunk in response.iter_content(_CHUNK):
                    file.write(chunk)
                    advance(file.tell(), total)
            except (requests.exceptions.ChunkedEncodingError, requests.ConnectionError) as error:
                raise _BrokenOffError(str(error)) from error
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
    if total is not None and size != total:
        raise _BrokenOffError(f"received {size} of {total} bytes")
    _complete(download)


def _brief(error: Exception) -> str:
    """The innermost reason; requests wraps it in the reports of two other libraries."""
    inner = error.args[0] if error.args else error
    reason = getattr(inner, "reason", inner)
    return str(reason).rsplit("): ", 1)[-1] if "Connection" in str(reason) else str(reason)


def _complete(download: Download) -> None:
    os.replace(download.part, download.target)
    download.version.unlink(missing_ok=True)


def _total(response: requests.Response) -> int | None:
    """The size of the whole file, if the server tells it."""
    match = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    if match:
        return int(match.group(1))
    length = response.headers.get("Content-Length")
    return int(length) if length and response.status_code == requests.codes.ok else None


def _write_version(download: Download, response: requests.Response) -> None:
    etag = response.headers.get("ETag", "")
    version = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
    if version:
        download.version.write_text(version)
    else:
        download.version.unlink(missing_ok=True)


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256.json")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
