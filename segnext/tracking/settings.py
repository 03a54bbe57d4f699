"""The settings of tracking."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from segnext.settings import require

__all__ = ["TrackingSettings", "WandbMode"]


class WandbMode(str, Enum):
    """How Weights & Biases is told of a run."""

    auto = "auto"
    online = "online"
    offline = "offline"
    disabled = "disabled"


@dataclass
class TrackingSettings:
    """Who is told of a run beside its own folder.

    Attributes:
        wandb: Weights & Biases: auto (online with a key and a network, else offline), online, offline, disabled
        project: W&B's project; null: WANDB_PROJECT, else segnext
        entity: W&B's user or team; null: your default one
        group: joins runs in W&B; a sweep sets it to its name; null: WANDB_RUN_GROUP, else MODEL_DATASET
        tags: W&B's tags, beside model, dataset and seed
        notes: a remark kept with the run in W&B
        images: validation images tracked at each evaluation
        artifact: at the end, tell W&B of the best checkpoint as an artifact that refers to its file
        tensorboard: write TensorBoard files as well (extra `tensorboard`)
    """

    wandb: WandbMode = WandbMode.auto
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    images: int = 4
    artifact: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        require(self.images >= 0, "tracking.images", self.images, "at least 0")
