"""Where Jittor compiles to, by names that do not change: another virtual environment, folder or clone finds it again.

Jittor puts the paths of its sources, its compiler and Python's headers into every command line and compiles anew when
one differs. So it sees them through links in the cache, and the cache is named after versions alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import platform
import sys
import sysconfig
import tempfile
import zlib
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from segnext.backend.compiler import Compiler
from segnext.backend.cuda.driver import read_card
from segnext.backend.packages import JITTOR_VERSION
from segnext.errors import BackendError
from segnext.files import cache_home, can_be_written, link_atomically, write_atomically

__all__ = ["CompileCache", "jittor_home"]

logger = logging.getLogger(__name__)

# What Jittor's compile flags depend on, as environment variables.
_SETTINGS = ("nvcc_path", "use_mkl", "cc_flags", "nvcc_flags")

_PYTHON_CONFIG = """#!/bin/sh
case "$1" in
  --includes) echo "-I{include}" ;;
  --extension-suffix) echo "{suffix}" ;;
  *) exit 1 ;;
esac
"""


@dataclass(frozen=True)
class CompileCache:
    """One set of compiled code.

    Attributes:
        home: the folder that Jittor takes for its home, of a name without spaces or quotes.
        sources: a folder in which ``jittor`` and ``jittor_utils`` are found.
        compiler: the C++ compiler as Jittor gets to know it.
        python: what Jittor takes for Python when it compiles an operator.
        python_config: a ``python-config`` of the running interpreter; one on the PATH may be of another version.
        name: of compiler, Python, processor and flags.
    """

    home: Path
    sources: Path
    compiler: Path
    python: Path
    python_config: Path
    name: str

    @classmethod
    def of_this_machine(cls, device: str) -> CompileCache:
        """The cache for this compiler, Python, processor, device and these flags, laid out where it is missing.

        Raises:
            BackendError: there is no compiler, or Python's headers are missing.
        """
        compiler = Compiler.of_this_machine()
        home = jittor_home()
        launcher = compiler.launcher(home)
        python = f"{sys.implementation.cache_tag}-{zlib.crc32(sys.version.encode()):08x}"
        settings = [
            compiler.path,
            compiler.version,
            str(launcher),
            sys.version,
            _processor(),
            *(f"{key}={os.environ.get(key)}" for key in _SETTINGS),
        ]
        name = f"segnext-{zlib.crc32(chr(10).join(settings).encode()):08x}"
        if device != "cpu":  # what was compiled for one compute capability does not run on another
            name += "-sm{}{}".format(*read_card().capability)
        return cls(
            home=home,
            sources=_lay_sources(home / "sources" / f"jittor-{JITTOR_VERSION}"),
            compiler=launcher or Path(compiler.path),
            python=launcher.with_name("python") if launcher else Path(sys.executable),
            python_config=_lay_python(home / "python" / python),
            name=name,
        )

    def enter(self, environment: MutableMapping[str, str]) -> None:
        """Tells Jittor, and those of our processes that start it, of this cache."""
        environment["JITTOR_HOME"] = str(self.home)
        environment["cc_path"] = str(self.compiler)
        environment["SEGNEXT_PYTHON"] = sys.executable
        environment["python_config_path"] = str(self.python_config)
        environment["cache_name"] = self.name

    @contextlib.contextmanager
    def jittor_found(self) -> Iterator[None]:
        """Lets ``import jittor`` and ``import jittor_utils`` find the sources of this cache, and disturb nothing else.

        Jittor names its cache after the host and the kernel as well, which change from one container to the next, and
        writes to ``~`` even if its home is elsewhere. CuPy is hidden: Jittor opens a device through it.
        """
        named, host, user_home = platform.platform, platform.node, os.environ.get("HOME")
        cupy = "cupy" not in sys.modules
        sys.path.insert(0, str(self.sources))
        platform.platform = lambda *_, **__: "-".join((sys.platform, *platform.libc_ver()))
        platform.node = lambda: ""
        os.environ["HOME"] = str(self.home)
        if cupy:
            sys.modules["cupy"] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.path.remove(str(self.sources))
            platform.platform, platform.node = named, host
            if user_home is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = user_home
            if cupy:
                del sys.modules["cupy"]


def jittor_home() -> Path:
    """``JITTOR_HOME``, else a folder of our own; by a link where Jittor's shell commands would break its name."""
    named = os.environ.get("JITTOR_HOME")
    home = Path(named or cache_home()).absolute()
    if named and not can_be_written(home):
        home = cache_home().absolute()
        logger.warning("compiled code goes to %s, since JITTOR_HOME=%s cannot be written to", home, named)
    if not set(str(home)) & set(" '\"\\$`(){}&;|<>*?#~"):
        return home
    folder = Path(tempfile.gettempdir(), f"segnext-links-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise BackendError(f"{home} has characters in its name that break Jittor's commands: set SEGNEXT_HOME")
    link = folder / f"{zlib.crc32(str(home).encode()):08x}"
    link_atomically(link, home)
    return link


def _lay_sources(folder: Path) -> Path:
    for package in ("jittor", "jittor_utils"):
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise BackendError(f"Jittor is not installed: pip install jittor=={JITTOR_VERSION}")
        _lay(folder / package, Path(found.origin).resolve().parent)
    return folder


def _lay_python(folder: Path) -> Path:
    include = Path(sysconfig.get_paths()["include"])
    if not (include / "Python.h").exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise BackendError(f"{include}/Python.h is missing: install Python's headers (apt install python{version}-dev)")
    _lay(folder / "include", include)
    script = _PYTHON_CONFIG.format(include=folder / "include", suffix=sysconfig.get_config_var("EXT_SUFFIX"))
    path = folder / f"python3.{sys.version_info.minor}-config"
    if not path.exists() or path.read_text() != script:
        write_atomically(path, script, error=BackendError, mode=0o777)
    return path


def _lay(link: Path, target: Path) -> None:
    if not link.is_symlink() or Path(os.readlink(link)) != target:
        link_atomically(link, target)


def _processor() -> str:
    """What a processor can do decides what is compiled for it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return next((line for line in file if line.startswith(("flags", "Features"))), "")
    return ""
