"""Python and its packages, by their metadata: nothing is imported, since what is broken may not import."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any

from segnext.backend.packages import package_problem
from segnext.doctor import Finding, ok, problem, warning
from segnext.lazy import LazyModule

__all__ = ["check_jittor", "check_numpy", "check_python", "check_requirements", "check_wandb"]

# Any of them may be what is missing.
_requirements_of: Any = LazyModule("packaging.requirements")
_tomllib: Any = LazyModule("tomllib")
requests: Any = LazyModule("requests")
wandb: Any = LazyModule("wandb")

_OLDEST, _TOO_NEW = (3, 10), (3, 13)
_DISTRIBUTION = "segnext-jittor"
_OWN_LINES = ("jittor", "numpy", "onednn-devel-cpu-gomp", "wandb")  # checked by themselves


def check_python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if not _OLDEST <= sys.version_info[:2] < _TOO_NEW:
        return problem("Python", f"{version} is not supported", "use Python 3.10, 3.11 or 3.12")
    return ok("Python", f"{version} in {sys.prefix}")


def check_jittor() -> Finding:
    return _as_the_backend_does("Jittor", "jittor")


def check_numpy() -> Finding:
    return _as_the_backend_does("NumPy", "numpy")


def _as_the_backend_does(topic: str, name: str) -> Finding:
    if found := package_problem(name):
        return problem(topic, *found)
    return ok(topic, importlib.metadata.version(name))


def check_requirements() -> Finding:
    """The other packages that the project asks for, against the versions it asks for."""
    lines = _requirements()
    if lines is None:
        return warning("Packages", "versions unknown: the project is not installed", "pip install -e .")
    wanted = [_requirements_of.Requirement(line) for line in lines]
    wanted = [item for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})]
    wanted = [item for item in wanted if item.name.lower() not in _OWN_LINES]
    wrong = []
    for item in wanted:
        version = _version(item.name)
        if version is None:
            wrong.append((item, f"{item.name} is missing"))
        elif not item.specifier.contains(version, prereleases=True):
            wrong.append((item, f"{item.name} {version} is not {item.specifier}"))
    if wrong:
        names = " ".join(f'"{item.name}{item.specifier}"' for item, _ in wrong)
        return problem("Packages", ", ".join(text for _, text in wrong), f"pip install {names}")
    return ok("Packages", f"the {len(wanted)} others that are needed are installed")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements() -> list[str] | None:
    """What the installed project asks for; where it runs from its sources, what pyproject.toml says."""
    try:
        return importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        pass
    source = Path(__file__).parents[2] / "pyproject.toml"
    if sys.version_info >= (3, 11) and source.is_file():
        dependencies = _tomllib.loads(source.read_text(encoding="utf-8"))["project"]["dependencies"]
        return [str(line) for line in dependencies]
    return None


def check_wandb() -> Finding:
    """The mode that ``tracking.wandb=auto`` takes, and the server's answer where that is online."""
    try:
        version = importlib.metadata.version("wandb")
    except importlib.metadata.PackageNotFoundError:
        return problem("W&B", "not installed", "pip install wandb, or train with tracking=none")
    asked = os.environ.get("WANDB_MODE")
    if asked in ("offline", "disabled"):
        return ok("W&B", f"{asked} (WANDB_MODE), version {version}")
    wandb.setup(settings=wandb.Settings(silent=True))
    if not wandb.login(prompt=False, verify=False):
        text = f"offline: no API key, so runs are kept for `wandb sync`; version {version}"
        if asked == "online":
            return warning("W&B", text, "wandb login")
        return ok("W&B", f"{text} (for online: `wandb login`)")
    return _answer(str(wandb.setup().settings.base_url), version)


def _answer(server: str, version: str) -> Finding:
    try:
        requests.head(server, timeout=5)
    except requests.RequestException:
        text = f"{server} does not answer: runs are kept offline, each after a minute's wait"
        return warning("W&B", text, "WANDB_MODE=offline saves the wait; `wandb sync` uploads later")
    return ok("W&B", f"online, {server}, version {version}")
