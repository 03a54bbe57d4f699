"""A training whose rank 1 breaks after two batches: ``python faulty_train.py FAULT OVERRIDES…``.

FAULT is ``raise``, ``hang``, or ``slow`` (nothing breaks, but every batch takes a while).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from segnext.backend.world import current_world
from segnext.data.loader import Batch, TrainingLoader

fault = sys.argv.pop(1)
intact = TrainingLoader.__iter__


def faulty(loader: Any) -> Iterator[Batch]:
    for batch in intact(loader):
        if current_world().rank == 1 and batch.iteration == 2:
            if fault == "raise":
                raise RuntimeError("broken on purpose")
            if fault == "hang":
                time.sleep(1000)
        if fault == "slow":
            time.sleep(0.1)
        yield batch


TrainingLoader.__iter__ = faulty  # type: ignore[method-assign]

if __name__ == "__main__":
    from runners.train import main

    main()
