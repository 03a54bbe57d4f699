"""The errors this package raises on purpose.

Every message names the culprit (file, key, class, value) and the cure. ``exit_code`` is what a runner
ends with: 2 for what is wrong with the user's configuration or data and was found before any work, 1 otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "BackendError", "ConfigError", "DataError", "DivergenceError", "ExportError", "SegNeXtError", "TrainingError",
    "WeightsError", "found_at_work", "out_of_memory_explained", "require",
]  # fmt: skip

# Jittor's allocator on a GPU, Jittor on seeing itself near the end, CUDA, cuBLAS and cuDNN, and C++ on the CPU.
_OUT_OF_MEMORY = re.compile(
    r"unable to alloc|memory is overflow|out of memory|cudaErrorMemoryAllocation|_ALLOC_FAILED|bad_alloc", re.IGNORECASE
)


class SegNeXtError(Exception):
    """Base of every error raised on purpose; its text is fit to be shown to a user as it is.

    ``on_all_ranks``: whether every rank of a run raises it at the same place, so that they may wait for each other.
    """

    exit_code = 1
    on_all_ranks = False


def found_at_work(error: BaseException) -> None:
    """Takes the exit code 2 from an error: the work had begun when it was raised."""
    if isinstance(error, SegNeXtError) and error.exit_code == 2:
        error.exit_code = 1


class ConfigError(SegNeXtError):
    """A setting is unknown, misspelt, of the wrong type or out of range."""

    exit_code = 2


class DataError(SegNeXtError):
    """A dataset, image or label file is missing, unreadable or inconsistent."""

    exit_code = 2


class WeightsError(SegNeXtError):
    """A weights file is missing, unreadable, unsafe, or does not cover the model completely."""

    exit_code = 2


class BackendError(SegNeXtError):
    """Jittor, its compiler or the requested device cannot be brought up on this machine."""

    exit_code = 2


class TrainingError(SegNeXtError):
    """Training cannot go on, for example because the disk is full."""


class DivergenceError(TrainingError):
    """The loss is no longer finite, or has become zero."""

    on_all_ranks = True


class ExportError(SegNeXtError):
    """An exported file does not compute what its checkpoint does."""


def require(condition: bool, key: str, value: object, wanted: str) -> None:
    """Raises ConfigError naming ``key``, its ``value`` and what is ``wanted``, unless ``condition`` holds."""
    if not condition:
        raise ConfigError(f"{key}={value} is out of range: give {wanted}")


@contextmanager
def out_of_memory_explained(cure: str, kind: type[SegNeXtError] = SegNeXtError) -> Iterator[None]:
    """Turns what Jittor, CUDA or C++ say of missing memory into an error of this ``kind`` that names the ``cure``."""
    try:
        yield
    except SegNeXtError:
        raise
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
            raise kind(f"out of memory: {cure}; the log says more") from error
        raise
