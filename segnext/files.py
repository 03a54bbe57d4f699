"""Files, whole or absent whatever happens: atomic writes, locks, bounded reading; where caches and runners lie."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import logging
import math
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segnext.errors import ConfigError, SegNeXtError, TrainingError

__all__ = [
    "FileLock", "assure_home", "cache_home", "can_be_written", "link_atomically", "package_environment", "parse_json",
    "read_file", "read_json", "read_yaml", "remove_unfinished", "runner_command", "strict_json", "write_atomically",
]  # fmt: skip

logger = logging.getLogger(__name__)

_UNFINISHED = ".unfinished"  # ends the names of files that are being written
_LARGEST_TEXT = 64 << 20  # bytes of a text file that is read whole
_LARGEST_YAML = 128 << 10  # bytes; PyYAML takes a second for it


def runner_command(verb: str) -> list[str]:
    """What starts ``runners.VERB`` in a process of its own, also in a folder with another package `runners`."""
    return [sys.executable, str(Path(__file__).parents[1] / "runners"), verb]


def package_environment() -> dict[str, str]:
    """This process's environment for a child that imports this package, whatever its folder and its interpreter."""
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def cache_home() -> Path:
    """The folder of this project's own caches, one that can be written to.

    ``SEGNEXT_HOME``, else ``segnext`` in ``XDG_CACHE_HOME`` or ``~/.cache``, else a temporary folder; with a warning
    where one of these cannot be written to.
    """
    return _writable(os.environ.get("SEGNEXT_HOME"), os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME"))


@functools.cache
def _writable(named: str | None, caches: str | None, user: str | None) -> Path:
    places = [Path(named)] if named else []
    places += [Path(caches) / "segnext"] if caches else []
    with contextlib.suppress(RuntimeError):  # neither HOME nor a user of this number
        places.append(Path(user or Path.home()) / ".cache" / "segnext")
    for place in places:
        if can_be_written(place):
            found = place
            break
    else:
        found = _temporary_home()
    if refused := places[: places.index(found)] if found in places else places:
        why = f"{', '.join(map(str, refused))} cannot be written to"
        logger.warning("caches go to %s, since %s: set SEGNEXT_HOME", found, why)
    elif not places:
        logger.warning("caches go to %s, since there is no home: set SEGNEXT_HOME", found)
    return found


def can_be_written(folder: Path) -> bool:
    """Whether ``folder``, made where it is missing, and all folders in it can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        inside = [entry for entry in folder.iterdir() if entry.is_dir()]
    except OSError:
        return False
    return all(os.access(path, os.W_OK | os.X_OK) for path in (folder, *inside))


def assure_home() -> None:
    """Names a home where neither HOME nor the system knows one, as for a container's own user: libraries ask for it."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(_temporary_home())
        logger.warning("there is no home, so %s is taken for one: set HOME", os.environ["HOME"])


def _temporary_home() -> Path:
    folder = Path(tempfile.gettempdir()) / f"segnext-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise SegNeXtError(f"no folder for caches can be written to ({folder} is another user's): set SEGNEXT_HOME")
    return folder


def write_atomically(
    path: Path, content: str | bytes, *, error: type[SegNeXtError] = TrainingError, mode: int = 0o666
) -> None:
    """Writes ``content`` to a temporary name and renames it, so that a reader sees the old or the new file, whole.

    A file name that is no UTF-8 is written with escapes, which JSON readers turn back into that name.

    Args:
        mode: permissions of the file, before the umask: 0o777 for a program.

    Raises:
        SegNeXtError: of the kind ``error``: the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
        _write_and_rename(path, data, mode)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself
        finally:
            os.close(folder)
    except OSError as problem:
        raise error(f"cannot write {path} ({problem.strerror}): free disk space or choose another folder") from problem


def _write_and_rename(path: Path, content: bytes, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, mode & ~mask)  # mkstemp makes files that only their owner reads
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Removes what processes killed in ``write_atomically`` left in ``folder``; nobody may be writing there now."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f".*{_UNFINISHED}"):
            path.unlink(missing_ok=True)


def link_atomically(link: Path, target: Path) -> None:
    """Makes or replaces a symbolic link in one step, so that processes starting together do not disturb each other."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def read_file(path: Path, *, limit: int = _LARGEST_TEXT) -> bytes:
    """The content of a file of at most ``limit`` bytes.

    Raises:
        OSError: it cannot be read, is no regular file (a pipe would block for ever), or is larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
        return file.read(limit)


def read_json(path: Path) -> Any:
    """The value in a JSON file; raises OSError as ``read_file`` does, ValueError for anything that is no JSON."""
    return parse_json(read_file(path))


def parse_json(text: str | bytes) -> Any:
    """The value that ``text`` holds; raises ValueError for anything that is no JSON or is nested without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, of which a few lines can stand for any amount of data."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Any:
    """The value in a YAML file without aliases; raises OSError as ``read_file`` does, ValueError when it is no YAML."""
    try:
        return yaml.load(read_file(path, limit=_LARGEST_YAML), _PlainLoader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ArithmeticError, AttributeError, TypeError) as error:
        raise ValueError(str(error)) from error


def strict_json(value: Any, *, indent: int | None = None) -> str:
    """JSON any parser reads: numpy scalars become numbers, non-finite numbers become null."""
    return json.dumps(_plain(value), allow_nan=False, ensure_ascii=False, indent=indent)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


@dataclass(frozen=True)
class FileLock:
    """A lock that is held by this process and by those that inherit the descriptor ``fd``.

    The kernel lets go of it when the last process that holds the file ends: no crash leaves one.
    """

    fd: int

    @classmethod
    def take(cls, path: Path) -> FileLock | None:
        """The lock on ``path``, or None while somebody else (or this process, by another call) has it."""
        fd = _open(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return cls(fd)

    @classmethod
    @contextlib.contextmanager
    def wait(cls, path: Path) -> Iterator[None]:
        """Holds the lock on ``path``, waiting for it as long as it takes."""
        fd = _open(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def release(self) -> None:
        """Gives this process's hold up."""
        os.close(self.fd)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise ConfigError(f"cannot write to {path.parent} ({error.strerror}): choose another place") from error
