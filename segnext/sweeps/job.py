"""What a job of a sweep is, and the names of jobs and sweeps, which follow from their overrides alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Job", "digest", "job_name", "own_overrides", "sweep_name"]

_LONGEST = 60
_GROUPS = ("model", "dataset", "schedule", "experiment", "sweep")
# Say how jobs are run, not what they compute.
_NOT_ITS_OWN = re.compile(
    r"hydra[./@](?!sweeper).*|hydra.sweeper.n_(trials|jobs)|hydra|sweep\..*|output_dir|device|workers|ranks|rank_timeout"
)


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        name: unique within the sweep; the name of its run folder.
        overrides: what the command line of its process says besides the folder.
        folder: its run folder.
        settings: what the tables show and estimates are made from, for example ``iterations``.
    """

    name: str
    overrides: tuple[str, ...]
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)


def own_overrides(overrides: Sequence[str]) -> list[str]:
    """Those of ``overrides`` that decide what is computed: neither Hydra's nor the sweep's nor the machine's."""
    return [text for text in overrides if not _NOT_ITS_OWN.fullmatch(_key(text))]


def digest(overrides: Sequence[str]) -> str:
    """Six hexadecimal digits that tell sets of overrides apart, whatever their order."""
    return hashlib.sha256("\n".join(sorted(overrides)).encode()).hexdigest()[:6]


def job_name(overrides: Sequence[str], swept: Collection[str]) -> str:
    """For example ``tiny_ade_seed=1-3fa2b1``: the choices among which the sweep goes, then a digest of all.

    Args:
        overrides: of the job, ``KEY=VALUE`` each.
        swept: the keys that differ between jobs; none: all are shown.
    """
    own = own_overrides(overrides)
    return f"{_slug([text for text in own if _key(text) in swept] or own)}-{digest(own)}"


def sweep_name(overrides: Sequence[str], swept: Collection[str]) -> str:
    """For example ``tiny+small_ade-91c0de``: the same command gives the same name, another command another."""
    own = own_overrides(overrides)
    return f"{_slug([text for text in own if _key(text) in _GROUPS or _key(text) in swept])}-{digest(own)}"


def _slug(overrides: Sequence[str]) -> str:
    parts = []
    for text in overrides:
        key, value = _key(text), text.partition("=")[2]
        # A choice of a group (model=tiny) speaks for itself, a setting needs its name.
        parts.append(value if key in _GROUPS else f"{key.rsplit('.', 1)[-1]}={value}")
    slug = re.sub(r"[^\w.=+-]+", "", "_".join(parts).replace(",", "+"), flags=re.ASCII)
    return slug[:_LONGEST].strip("_.") or "jobs"


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
