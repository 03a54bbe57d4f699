"""The settings of an evaluation beyond how images are shown to the model."""

from __future__ import annotations

from dataclasses import dataclass

from segnext.settings import require

__all__ = ["EvaluationSettings"]


@dataclass
class EvaluationSettings:
    """What is evaluated and what comes of it.

    Attributes:
        max_images: the first so many images of the split; null: all
        repeats: evaluations with other random NMF bases, for mean and spread
        boundary: count boundary IoU as well
        submission: write the benchmark's files, zipped (ade, cityscapes)
        extremes: so many of the best and as many of the worst images are kept to be looked at
    """

    max_images: int | None = None
    repeats: int = 1
    boundary: bool = False
    submission: bool = False
    extremes: int = 3

    def __post_init__(self) -> None:
        require(self.repeats >= 1, "evaluation.repeats", self.repeats, "at least 1")
        require(0 <= self.extremes <= 50, "evaluation.extremes", self.extremes, "0 to 50")
        if self.max_images is not None:
            require(self.max_images >= 1, "evaluation.max_images", self.max_images, "at least 1")

    def count(self, images: int) -> int:
        """How many of ``images`` are evaluated."""
        return min(images, self.max_images or images)
