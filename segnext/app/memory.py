"""The memory of a training step: what each way of computing it takes, and which fits the device (``memory=``)."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import psutil
from rich.box import Box
from rich.table import Table

from segnext import backend
from segnext.app.schema import ProfileConfig, TrainConfig
from segnext.backend.cuda.driver import read_card
from segnext.errors import ConfigError
from segnext.models.settings import Precision
from segnext.models.training_memory import divisions
from segnext.tracking.run_folder import RunFolder

__all__ = ["fit_step", "memory_records", "memory_table", "same_step_as"]

_GIB = 1 << 30
_CUDA = 1 * _GIB  # its context with cuBLAS and cuDNN
_PRECISIONS = (Precision.fp32, Precision.bf16)  # of a table: tf32 takes as much as the first, fp16 as the second


def same_step_as(config: TrainConfig, run: RunFolder) -> bool:
    """Puts what ``run`` has chosen for the same ``memory`` into ``config``; False where it has chosen nothing."""
    recorded = run.read_config()
    if config.memory is None or recorded.get("memory") != config.memory:
        return False
    config.schedule.micro_batch = recorded["schedule"]["micro_batch"]
    config.model.gradient_checkpointing = recorded["model"]["gradient_checkpointing"]
    return True


def fit_step(config: TrainConfig, *, num_classes: int, run: RunFolder | None) -> str:
    """Puts the first way that fits ``config.memory`` into ``config`` and says which; that of a ``run`` to go on with.

    Raises:
        ConfigError: none fits.
    """
    if run is not None and same_step_as(config, run):
        return f"memory={config.memory}: as before, {_described(config)}"
    limit = _limit(config)
    share = config.schedule.batch_size // (config.ranks or 1)
    smallest = None
    for division in divisions(
        config.model, num_classes=num_classes, crop=config.dataset.crop, batch=share, precision=config.precision
    ):
        if division.memory <= limit:
            config.schedule.micro_batch = division.micro_batch if division.micro_batch < share else None
            config.model.gradient_checkpointing = division.checkpointing
            taken = f"about {division.memory / _GIB:.1f} of {limit / _GIB:.1f} GiB"
            return f"memory={config.memory}: {_described(config)}, {taken}"
        smallest = min(division.memory, smallest or division.memory)
    assert smallest is not None
    raise ConfigError(
        f"memory={config.memory} leaves {limit / _GIB:.1f} GiB for a step that needs {smallest / _GIB:.1f} GiB one "
        "image at a time: take a smaller model or dataset.crop, or on a GPU precision=bf16"
    )


def memory_records(config: ProfileConfig, num_classes: int) -> list[dict[str, Any]]:
    """Peak memory in bytes of the recipe's step, by precision and division."""
    dataset = config.dataset
    return [
        {"precision": precision.value, **asdict(division)}
        for precision in _PRECISIONS
        for division in divisions(
            config.model, num_classes=num_classes, crop=dataset.crop, batch=dataset.batch_size, precision=precision
        )
    ]


def memory_table(config: ProfileConfig, num_classes: int, style: Box) -> Table:
    """The same for people."""
    dataset = config.dataset
    crop = "×".join(map(str, dataset.crop))
    title = f"{config.model.name}, GiB of a training step on a GPU, {dataset.batch_size} images of {crop}, by count"
    table = Table(title=title, title_justify="left", box=style)
    table.add_column("micro_batch")
    rows: dict[int, list[str]] = {}
    for record in memory_records(config, num_classes):
        rows.setdefault(record["micro_batch"], []).append(f"{record['memory'] / _GIB:.1f}")
    for precision in _PRECISIONS:
        table.add_column(precision.value, justify="right")
        table.add_column("checkpointing", justify="right")
    for size, figures in rows.items():
        table.add_row(f"{size} (whole)" if size == dataset.batch_size else str(size), *figures)
    return table


def _limit(config: TrainConfig) -> float:
    """Bytes for arrays: what was given, or what is free on the device, without what CUDA takes for itself."""
    on_gpu = config.device.value == "cuda" or (config.device.value == "auto" and not backend.cuda_problem())
    given = re.fullmatch(r"([0-9.]+) ?GiB", config.memory or "")
    if given:
        free = float(given[1]) * _GIB
    elif on_gpu:
        card = read_card()
        free = card.memory if card.free is None else card.free
    else:
        free = psutil.virtual_memory().available
    return free - _CUDA if on_gpu else free


def _described(config: TrainConfig) -> str:
    micro_batch, checkpointing = config.schedule.micro_batch, config.model.gradient_checkpointing
    parts = []
    if micro_batch:
        parts.append(f"schedule.micro_batch={micro_batch} (batch norm sees {micro_batch} images, all else is the same)")
    if checkpointing:
        parts.append("model.gradient_checkpointing=true (the same figures, up to a third slower)")
    return " and ".join(parts) or "the whole batch at once"
