"""What a rank that does not lead has in place of a Tracker: lines in a file of its own, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Any, SupportsFloat

from segnext.tracking.images import ValidationImage
from segnext.tracking.run_folder import State

__all__ = ["RankLog"]


class RankLog:
    """Writes a line per record to ``log``; has the methods of ``Tracker`` that a training calls."""

    figures: dict[str, Any]

    def __init__(self, log: IO[str]) -> None:
        self._log = log
        self.figures = {}

    def __enter__(self) -> RankLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish("finished")

    def log(self, iteration: int, metrics: Mapping[str, SupportsFloat]) -> None:
        figures = {name: value for name, value in metrics.items() if not name.startswith("val/IoU/")}
        self.note(
            f"iteration {iteration}  " + "  ".join(f"{name} {float(value):.6g}" for name, value in figures.items())
        )

    def note(self, text: str) -> None:
        print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=self._log, flush=True)

    def finish(self, state: State, *, error: str | None = None, exit_reason: str | None = None) -> None:
        self.note(" ".join(filter(None, [state, error, exit_reason])))

    def summary(self, figures: Mapping[str, Any]) -> None:
        """Rank 0 records it."""

    def images(self, iteration: int, images: Sequence[ValidationImage]) -> None:
        """Rank 0 keeps them."""
