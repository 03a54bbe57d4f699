"""Reads every run below a folder, finished or not, into one record each."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segnext.errors import ConfigError
from segnext.files import read_json
from segnext.models.published import Published, published
from segnext.tracking.events import Event, read_events, series
from segnext.tracking.run_folder import RunFolder

__all__ = ["Paper", "Run", "collect", "settings_that_differ"]

# Settings that say where and how a run was made, not what it is.
_ADMINISTRATIVE = (
    "seed",
    "name",
    "output_dir",
    "run_folder",
    "resume",
    "tracking",
    "device",
    "workers",
    "sweep",
    "experiment",
)


@dataclass(frozen=True)
class Paper:
    """What the paper reports for a model on a dataset: fractions and multiply-accumulates."""

    miou_ss: float
    miou_ms: float
    macs: float


@dataclass(frozen=True)
class Run:
    """One training run. Scores are fractions; nan or None stands for what is not known (yet).

    Attributes:
        name: path of the run folder below the folder of the report.
        state: running, finished, failed, interrupted, or lost (it says running, but its process is gone).
        miou_ss: best validation mIoU (``best_iteration`` says when); miou_ms: multi-scale and flip, if evaluated.
        images_per_second: median over the run; peak_memory: GiB on the device.
    """

    folder: RunFolder
    name: str
    model: str
    dataset: str
    seed: int | None
    state: str
    error: str | None
    iteration: int
    iterations: int | None
    miou_ss: float
    miou_ms: float
    best_iteration: int | None
    params: int | None
    macs: int | None
    images_per_second: float
    peak_memory: float
    url: str | None
    paper: Paper | None
    config: Mapping[str, Any] = field(repr=False)
    events: Sequence[Event] = field(repr=False)
    settings: str = ""

    @property
    def label(self) -> str:
        """Model, dataset and what else tells this run's group from others, without the seed."""
        return " ".join(filter(None, (self.model, self.dataset, self.settings)))

    def class_iou(self) -> dict[str, float]:
        """IoU per class of the best evaluation; empty before the first."""
        for event in self.events:
            if event.kind == "val" and event.iteration == self.best_iteration:
                prefix = "val/IoU/"
                return {name[len(prefix) :]: iou for name, iou in event.metrics.items() if name.startswith(prefix)}
        return {}


def collect(root: str | Path) -> list[Run]:
    """Every training run in ``root`` or below, sorted by dataset, cost and name.

    Raises:
        ConfigError: the folder is missing or holds no run.
    """
    root = Path(root)
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder: name the folder of a sweep, for example outputs/sweeps/NAME")
    folders = list(_run_folders(root))
    evaluations = [metrics for metrics in (f.read_metrics() for f in folders) if {"checkpoint", "mode"} <= set(metrics)]
    # An evaluation has a run folder too, but no event log.
    runs = [_read(f, root, evaluations) for f in folders if f.events.is_file() or "checkpoint" not in f.read_metrics()]
    if not runs:
        raise ConfigError(f"there is no training run in {root} or below: name a folder below outputs/")
    differing = settings_that_differ(runs)
    runs = [Run(**{**vars(run), "settings": text}) for run, text in zip(runs, differing, strict=True)]
    return sorted(runs, key=lambda r: (r.dataset, r.macs or math.inf, r.model, r.settings, r.seed or 0, r.name))


def _run_folders(root: Path) -> Iterator[RunFolder]:
    for place, folders, _ in os.walk(root):
        folders.sort()
        if RunFolder.is_run(place):
            folders[:] = [name for name in folders if name not in ("checkpoints", "images", "wandb", "tensorboard")]
            yield RunFolder.open(place)


def _read(folder: RunFolder, root: Path, evaluations: Sequence[Mapping[str, Any]]) -> Run:
    config, metrics, events = folder.read_config(), folder.read_metrics(), read_events(folder.events)
    status = folder.read_status()
    iterations, mious = series(events, "val/mIoU")
    best = int(np.nanargmax(mious)) if np.isfinite(mious).any() else None
    _, rates = series(events, "train/images_per_second")
    _, memory = series(events, "train/device_memory_gib")
    model, dataset = _get(config, "model", "name"), _get(config, "dataset", "name")
    own = [e for e in evaluations if Path(str(e["checkpoint"])).is_relative_to(folder.path)]
    ms = [e["mIoU"] for e in own if e["mode"] == "ms" and e.get("mIoU") is not None] or [metrics.get("mIoU_ms")]
    return Run(
        folder=folder,
        name=str(folder.path.relative_to(root.absolute())),
        model=str(model or "?"),
        dataset=str(dataset or "?"),
        seed=_count(_get(config, "seed")),
        state="unknown" if status is None else "lost" if status.lost else status.state,
        error=None if status is None else status.error or status.exit_reason,
        iteration=max((e.iteration for e in events), default=0),
        iterations=_count(_get(config, "schedule", "iterations")),
        miou_ss=_number(metrics.get("best_mIoU")) if best is None else float(mious[best]),
        miou_ms=_number(ms[-1]),
        best_iteration=metrics.get("best_iteration") if best is None else int(iterations[best]),
        params=metrics.get("params"),
        macs=metrics.get("macs"),
        images_per_second=float(np.nanmedian(rates)) if np.isfinite(rates).any() else math.nan,
        peak_memory=float(np.nanmax(memory)) if np.isfinite(memory).any() else _number(metrics.get("peak_memory_gib")),
        url=_url(folder),
        paper=_paper(published(model, dataset)),
        config=config,
        events=events,
    )


def settings_that_differ(runs: Sequence[Run]) -> list[str]:
    """Per run the settings, as 'key=value', in which runs of the same model and dataset differ, seeds aside."""
    flat = [dict(_flatten(run.config)) for run in runs]
    texts = []
    for run, own in zip(runs, flat, strict=True):
        peers = [
            other
            for peer, other in zip(runs, flat, strict=True)
            if (peer.model, peer.dataset) == (run.model, run.dataset)
        ]
        keys = [key for key in own if any(other.get(key) != own[key] for other in peers)]
        texts.append(", ".join(f"{key}={own[key]}" for key in keys))
    return texts


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if not prefix and key in _ADMINISTRATIVE:
            continue
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _get(config: Any, *keys: str) -> Any:
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e30 else math.nan


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and abs(value) < 2**63 else None


def _paper(results: Published | None) -> Paper | None:
    if results is None:
        return None
    return Paper(results.mIoU_ss / 100, results.mIoU_ms / 100, results.flops_G * 1e9)


def _url(folder: RunFolder) -> str | None:
    try:
        url = read_json(folder.path / "wandb.json")["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if isinstance(url, str) and url.startswith(("http://", "https://")) else None
