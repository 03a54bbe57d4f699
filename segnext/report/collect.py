"""Reads every run below a folder, finished or not, into one record each."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from segnext.errors import ConfigError
from segnext.files import read_json
from segnext.models.variants import Published, published
from segnext.tracking.events import Event, read_events, series
from segnext.tracking.run_folder import NOT_COMPUTED, RunFolder, select

__all__ = ["Paper", "Run", "collect", "run_folders", "setting_text", "settings_that_differ", "short_name"]

_NO_RUNS = ("checkpoints", "evaluation", "images", "samples", "wandb", "tensorboard")


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
        evaluation: folder with the tables of the best evaluation, or of one made later; it may be missing.
        varied: the settings, by dotted key, in which runs of the same model and dataset differ, seeds aside.
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
    evaluation: Path
    varied: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> str:
        """The settings in which the run differs from others of its model and dataset, as 'key=value, …'."""
        return ", ".join(f"{key}={value}" for key, value in self.varied.items())

    @property
    def short_settings(self) -> list[tuple[str, str]]:
        """``varied`` as people read it: the last part of each key, three digits of each number."""
        return [(short_name(key, list(self.varied)), setting_text(value)) for key, value in self.varied.items()]

    @property
    def label(self) -> str:
        """Model, dataset and what else tells this run's group from others, without the seed."""
        return " ".join([self.model, self.dataset, *(f"{name} {text}" for name, text in self.short_settings)])

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
    folders = list(run_folders(root))
    evaluations = [(f, m) for f, m in ((f, f.read_metrics()) for f in folders) if {"checkpoint", "mode"} <= set(m)]
    # Other verbs leave run folders too, but neither an event log nor a schedule.
    runs = [_read(f, root, evaluations) for f in folders if f.events.is_file() or "schedule" in f.read_config()]
    if not runs:
        raise ConfigError(f"there is no training run in {root} or below: name a folder below outputs/")
    differing = settings_that_differ(runs)
    runs = [replace(run, varied=varied) for run, varied in zip(runs, differing, strict=True)]
    return sorted(runs, key=lambda r: (r.dataset, r.macs or math.inf, r.model, r.settings, r.seed or 0, r.name))


def run_folders(root: Path) -> Iterator[RunFolder]:
    """The run folders in ``root`` and below, those of evaluations included."""
    for place, folders, _ in os.walk(root):
        folders.sort()
        if RunFolder.is_run(place):
            folders[:] = [name for name in folders if name not in _NO_RUNS]
            yield RunFolder.open(place)


def _read(folder: RunFolder, root: Path, evaluations: Sequence[tuple[RunFolder, Mapping[str, Any]]]) -> Run:
    config, metrics, events = folder.read_config(), folder.read_metrics(), read_events(folder.events)
    status = folder.read_status()
    iterations, mious = series(events, "val/mIoU")
    best = int(np.nanargmax(mious)) if np.isfinite(mious).any() else None
    _, rates = series(events, "train/images_per_second")
    _, memory = series(events, "train/device_memory_gib")
    model, dataset = select(config, "model.name"), select(config, "dataset.name")
    own = [(f, e) for f, e in evaluations if Path(str(e["checkpoint"])).absolute().is_relative_to(folder.path)]
    tables = [folder.evaluation, *(f.path for f, e in own if e["mode"] == "ss"), *(f.path for f, _ in own)]
    ms = [e["mIoU"] for _, e in own if e["mode"] == "ms" and e.get("mIoU") is not None] or [metrics.get("mIoU_ms")]
    return Run(
        folder=folder,
        name=str(folder.path.relative_to(root.absolute())),
        model=str(model or "?"),
        dataset=str(dataset or "?"),
        seed=_count(config.get("seed")),
        state="unknown" if status is None else "lost" if status.lost else status.state,
        error=None if status is None else status.error or status.exit_reason,
        iteration=max((e.iteration for e in events), default=0),
        iterations=_count(select(config, "schedule.iterations")),
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
        evaluation=next((place for place in tables if (place / "per_image.npz").is_file()), folder.evaluation),
    )


def settings_that_differ(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Per run the settings, by dotted key, in which runs of the same model and dataset differ, seeds aside."""
    flat = [dict(_flatten(run.config)) for run in runs]
    differing = []
    for run, own in zip(runs, flat, strict=True):
        peers = [
            other
            for peer, other in zip(runs, flat, strict=True)
            if (peer.model, peer.dataset) == (run.model, run.dataset)
        ]
        keys = [key for key in own if any(other.get(key) != own[key] for other in peers)]
        differing.append({key: own[key] for key in keys})
    return differing


def setting_text(value: Any) -> str:
    """A value as people read it: three digits of a number."""
    if isinstance(value, float):
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e+")
    return "–" if value is None else str(value)


def short_name(key: str, keys: Sequence[str]) -> str:
    """The last part of a dotted key, or all of it where another of ``keys`` ends the same."""
    last = key.rsplit(".", 1)[-1]
    return key if sum(other.rsplit(".", 1)[-1] == last for other in keys) > 1 else last


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if not prefix and key in (*NOT_COMPUTED, "seed"):
            continue
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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
