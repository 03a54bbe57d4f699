"""Is one evaluation really better than another? Paired bootstrap over images of the mIoU difference.

Both evaluations must cover the same images. Images are drawn with replacement, the same draw for both sides
(paired), the mIoU of each side is computed from the summed counts of the draw, and the 95 % interval is the
percentile interval of the differences (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segnext.errors import DataError
from segnext.evaluation.metrics import PerImageCounts, mean_iou, scores_from_counts

__all__ = ["Comparison", "bootstrap", "compare"]

_CHUNK = 256  # bootstrap draws per matrix product: bounds the memory


@dataclass(frozen=True)
class Comparison:
    """mIoU of two evaluations of the same images and how sure their difference is; all fractions.

    Attributes:
        mIoU_a, mIoU_b: the scores over all images.
        difference: ``mIoU_b - mIoU_a``.
        low, high: ends of the interval of the difference.
        confidence: coverage of the interval, 0.95 by default.
        better_share: share of the draws in which b is better than a (ties count one half).
        images, bootstrap_samples: how many images and bootstrap draws it rests on.
    """

    mIoU_a: float
    mIoU_b: float
    difference: float
    low: float
    high: float
    confidence: float
    better_share: float
    images: int
    bootstrap_samples: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def compare(
    a: PerImageCounts, b: PerImageCounts, *, bootstrap_samples: int = 5000, confidence: float = 0.95, seed: int = 0
) -> Comparison:
    """Compares two evaluations of the same images (matched by name, in any order).

    Raises:
        DataError: the images or the classes differ, or there are no images.
    """
    if a.num_classes != b.num_classes:
        raise DataError(f"cannot compare {a.num_classes} classes with {b.num_classes}: evaluate the same classes")
    if set(a.names) != set(b.names) or len(a.names) != len(b.names):
        odd = sorted(set(a.names) ^ set(b.names))
        example = f", for example {odd[0]!r}" if odd else ""
        raise DataError(
            f"the two evaluations cover different images ({len(a.names)} and {len(b.names)}{example}): "
            "evaluate both on the same split"
        )
    if not a.names:
        raise DataError("there are no per-image scores to compare: evaluate at least one image")
    draws_a, draws_b = (bootstrap(counts, samples=bootstrap_samples, seed=seed) for counts in (a, b))
    differences = draws_b - draws_a
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(differences, [tail, 1 - tail])
    miou_a, miou_b = (scores_from_counts(counts.totals()).mIoU for counts in (a, b))
    return Comparison(
        mIoU_a=miou_a,
        mIoU_b=miou_b,
        difference=miou_b - miou_a,
        low=float(low),
        high=float(high),
        confidence=confidence,
        better_share=float(np.mean(differences > 0) + np.mean(differences == 0) / 2),
        images=len(a.names),
        bootstrap_samples=bootstrap_samples,
    )


def bootstrap(counts: PerImageCounts, *, samples: int, seed: int = 0) -> NDArray[np.float64]:
    """(samples,) the mIoU of as many draws of the images with replacement.

    The same seed draws the same images of every evaluation of them, whatever their order: draws can be subtracted.
    """
    counts = counts.in_order(sorted(counts.names))
    images, classes = len(counts.names), counts.num_classes
    columns = np.concatenate([counts.intersection, counts.union], axis=1).astype(np.float64)  # one product sums both
    rng, draws = np.random.default_rng(seed), np.empty(samples)
    for start in range(0, samples, _CHUNK):
        count = min(_CHUNK, samples - start)
        # How often each image is drawn; whole numbers in float64, so the products are exact.
        weights = rng.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float64)
        sums = weights @ columns
        draws[start : start + count] = mean_iou(sums[:, :classes], sums[:, classes:])
    return draws
