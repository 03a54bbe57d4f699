"""Pixel counts per image and class: what a paired comparison of two evaluations needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segnext.errors import DataError
from segnext.evaluation.metrics import Counts

__all__ = ["PerImageCounts"]


@dataclass(frozen=True)
class PerImageCounts:
    """Counts of N images; ``names`` are the data set's, arrays are (N, K) uint32 pixels."""

    names: tuple[str, ...]
    intersection: NDArray[np.uint32]
    predicted: NDArray[np.uint32]
    labelled: NDArray[np.uint32]

    @property
    def num_classes(self) -> int:
        return self.intersection.shape[1]

    @classmethod
    def stack(cls, names: Sequence[str], counts: Sequence[Counts], *, num_classes: int) -> PerImageCounts:
        """Joins the counts of single images."""

        def rows(part: str) -> NDArray[np.uint32]:
            return np.array([getattr(c, part) for c in counts], np.uint32).reshape(-1, num_classes)

        return cls(tuple(names), rows("intersection"), rows("predicted"), rows("labelled"))

    @classmethod
    def join(cls, parts: Sequence[PerImageCounts]) -> PerImageCounts:
        """Joins the parts of several ranks, in the order given."""
        names = tuple(name for part in parts for name in part.names)
        return cls(
            names,
            np.concatenate([part.intersection for part in parts]),
            np.concatenate([part.predicted for part in parts]),
            np.concatenate([part.labelled for part in parts]),
        )

    def sorted_by_name(self) -> PerImageCounts:
        """The same counts with the images in the order of their names."""
        return self.in_order(sorted(self.names))

    def in_order(self, names: Sequence[str]) -> PerImageCounts:
        """The counts of the images called ``names``, in that order."""
        position = {name: i for i, name in enumerate(self.names)}
        order = [position[name] for name in names]
        return PerImageCounts(
            tuple(self.names[i] for i in order),
            self.intersection[order],
            self.predicted[order],
            self.labelled[order],
        )

    def save(self, path: str | Path) -> None:
        """Writes a compressed ``.npz``."""
        np.savez_compressed(
            path,
            names=np.array(self.names, dtype=np.str_),
            intersection=self.intersection,
            predicted=self.predicted,
            labelled=self.labelled,
        )

    @classmethod
    def load(cls, path: str | Path) -> PerImageCounts:
        """Reads what ``save`` wrote; raises DataError when the file is something else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                names = tuple(str(name) for name in file["names"])
                return cls(names, file["intersection"], file["predicted"], file["labelled"])
        except (OSError, KeyError, ValueError) as error:
            raise DataError(
                f"{path} is not a file of per-image scores ({error}): evaluate again to write one"
            ) from error
