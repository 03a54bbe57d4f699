"""The packages that Jittor 1.3.11.0 stands on: their versions, Python's headers, and oneDNN from its wheel."""

from __future__ import annotations

import importlib.metadata
import os
import site
import sys
from pathlib import Path

from segnext.errors import BackendError
from segnext.files import link_atomically

__all__ = ["JITTOR_VERSION", "check_packages", "lay_onednn", "package_problem"]

JITTOR_VERSION = "1.3.11.0"

# The folder that Jittor would otherwise download: its presence, with these names inside, is all that Jittor checks.
_ONEDNN_FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"


_CURES = {"jittor": f"pip install jittor=={JITTOR_VERSION}", "numpy": 'pip install "numpy<2"'}


def package_problem(name: str) -> tuple[str, str] | None:
    """What is wrong with the installed ``jittor`` or ``numpy``, and the cure; None: nothing."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed", _CURES[name]
    if name == "jittor" and version != JITTOR_VERSION:
        return f"{version} is installed, this project is built and tested on {JITTOR_VERSION}", _CURES[name]
    if name == "numpy" and int(version.split(".")[0]) >= 2:
        return f"{version} gives silent garbage with Jittor", _CURES[name]
    return None


def check_packages() -> None:
    """Refuses versions that are known to give wrong results or not to import."""
    for name, title in (("jittor", "Jittor"), ("numpy", "NumPy")):
        if found := package_problem(name):
            raise BackendError(f"{title} {found[0]}: {found[1]}")


def lay_onednn(jittor_home: Path) -> None:
    """Links the oneDNN wheel to where Jittor looks for its own download; without the wheel, oneDNN is left out."""
    folder = jittor_home / ".cache" / "jittor" / "mkl" / _ONEDNN_FOLDER
    if (folder / "lib" / "libmkldnn.so").exists() and (folder / "include" / "dnnl.hpp").exists():
        return
    prefix = _onednn_prefix()
    if prefix is None:
        os.environ["use_mkl"] = "0"
        return
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    library = prefix / "lib" / "libdnnl.so.2"
    link_atomically(folder / "include", prefix / "include")
    link_atomically(folder / "lib" / "libdnnl.so.2", library)
    link_atomically(folder / "lib" / "libmkldnn.so", library)


def _onednn_prefix() -> Path | None:
    prefixes = [Path(sys.prefix), Path(site.getuserbase())]
    return next((p for p in prefixes if (p / "include/dnnl.hpp").exists() and (p / "lib/libdnnl.so.2").exists()), None)
