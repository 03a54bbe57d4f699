"""The memory that training takes, and what to lower when there is not enough."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from segnext import backend
from segnext.errors import SegNeXtError, TrainingError

__all__ = ["MemoryMeter", "out_of_memory_explained"]

_GIB = 1 << 30
# Jittor's allocator on a GPU, Jittor on seeing itself near the end, CUDA, cuBLAS and cuDNN, and C++ on the CPU.
_OUT_OF_MEMORY = re.compile(
    r"unable to alloc|memory is overflow|out of memory|cudaErrorMemoryAllocation|_ALLOC_FAILED|bad_alloc", re.IGNORECASE
)


class MemoryMeter:
    """How much memory is held, now and at most since the start.

    Of a GPU that is Jittor's arrays with the blocks it keeps for more of them, without the one GiB or so of CUDA and
    its libraries. The blocks are given back at evaluations alone, so that what is held after a step was its peak. On
    the CPU it is the whole process.
    """

    def __init__(self) -> None:
        self._peak = 0.0

    def read(self) -> dict[str, float]:
        """The figures in GiB, under the names of the log."""
        if backend.device_name() == "cuda":
            held = backend.start().get_mem_info().total_cuda_used / _GIB
            self._peak = max(self._peak, held)
        else:
            held = psutil.Process().memory_info().rss / _GIB
            self._peak = max(held, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB)
        return {"train/device_memory_gib": held, "train/device_memory_peak_gib": self._peak}


@contextmanager
def out_of_memory_explained() -> Iterator[None]:
    """Turns what Jittor, CUDA or C++ say of missing memory into a TrainingError that names the cure."""
    try:
        yield
    except SegNeXtError:
        raise
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
            raise TrainingError(
                "out of memory: set model.recompute=true (the same figures), lower schedule.micro_batch (the same "
                "step, but batch norm sees fewer images) or dataset.crop, or on a GPU precision=bf16; the log says more"
            ) from error
        raise
