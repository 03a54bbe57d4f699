"""Loaders: training batches and evaluation samples, made ready by worker processes while the model computes.

What a loader yields is a function of the seed and the position alone: the same for any number of workers, of ranks and
of restarts.
"""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segnext.data.augmentation import TrainingTransform
from segnext.data.datasets import Dataset, Sample
from segnext.data.workers import Outcome, PoolOwner, WorkerPool
from segnext.errors import ConfigError, DataError

__all__ = ["Batch", "EvaluationLoader", "TrainingLoader"]

Int64 = npt.NDArray[np.int64]

_BATCHES_AHEAD = 2
_EVALUATION_SLOT_BYTES = 256 << 20
"""Room of one evaluation sample: 64 megapixels; address space only, memory is used as far as samples fill it."""


class Batch(NamedTuple):
    """Training samples of one iteration on one rank.

    Attributes:
        images: (B, 3, h, w) float32, normalised.
        labels: (B, h, w) uint8, 255 = ignore.
        passes: (B,) int64, how often the dataset had been gone through before each sample.
        indices: (B,) int64, positions of the samples in the dataset.
        iteration: 0-based number of the iteration.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    passes: Int64
    indices: Int64
    iteration: int


@dataclass(frozen=True)
class _TrainingJob:
    dataset: Dataset
    transform: TrainingTransform
    seed: int
    rows: int

    @property
    def slot_bytes(self) -> int:
        height, width = self.transform.crop
        # multiples of 64 keep the images of every slot aligned
        return -(-self.rows * height * width * 13 // 64) * 64

    def arrays(self, slot: memoryview) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        height, width = self.transform.crop
        pixels = self.rows * height * width
        images = np.frombuffer(slot, np.float32, pixels * 3).reshape(self.rows, 3, height, width)
        labels = np.frombuffer(slot, np.uint8, pixels, offset=pixels * 12).reshape(self.rows, height, width)
        return images, labels

    def write(
        self,
        images: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint8],
        row: int,
        pass_number: int,
        index: int,
    ) -> None:
        sample = self.dataset.read(index)
        rng = np.random.default_rng([self.seed, pass_number, index])
        self.transform.write(sample, rng, images[row], labels[row])

    def work(self, slot: memoryview, row: int, pass_number: int, index: int) -> tuple[int, int]:
        self.write(*self.arrays(slot), row, pass_number, index)
        return 0, 0


class TrainingLoader(PoolOwner):
    """Yields the batches of iterations ``first_iteration`` … ``last_iteration - 1``.

    Sample j of iteration i has the global number n = i·batch_size + j. Pass p = n // len(dataset) goes through
    ``permutation(default_rng([seed, p]))``, and the sample with index k is augmented from
    ``default_rng([seed, p, k])``. Rank r of ``world_size`` gets the r-th run of B = batch_size / world_size samples.

    Use it as a context manager: workers start on entering, so that they get ready while the model compiles. With
    workers, ``images`` and ``labels`` lie in memory shared with them, which is used again as soon as no array refers
    to it. Keeping batches is safe: when slots run short, a batch is copied out.

    Args:
        batch_size: images per iteration over all ranks.
        workers: processes; 0 makes batches in the caller's own thread.

    Raises:
        ConfigError: sizes or counts that do not fit each other.
        DataError: while iterating, from the first broken sample in the order of samples.
        SegNeXtError: while iterating, when a worker process died.
    """

    def __init__(
        self,
        dataset: Dataset,
        transform: TrainingTransform,
        *,
        batch_size: int,
        seed: int,
        first_iteration: int,
        last_iteration: int,
        workers: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ConfigError(
                f"batch size {batch_size} is the total over all devices and must be a positive multiple of their "
                f"number, {world_size}"
            )
        if not len(dataset):
            raise DataError("the training dataset is empty; check dataset.root and the split")
        self._rows = batch_size // world_size
        self._job = _TrainingJob(dataset, transform, seed, self._rows)
        # beside the batches ahead: one slot for the batch being handed out, one for that still in the caller's hand
        super().__init__(self._job, workers=workers, slots=_BATCHES_AHEAD + 2)
        self._batch_size, self._seed = batch_size, seed
        self._iterations = range(first_iteration, last_iteration)
        self._first_row = rank * self._rows
        self._count = len(dataset)
        self._order = functools.lru_cache(maxsize=2)(self._permutation)

    def __len__(self) -> int:
        return len(self._iterations)

    def __iter__(self) -> Iterator[Batch]:
        return self._collect() if self._workers else map(self._make, self._iterations)

    def _permutation(self, pass_number: int) -> Int64:
        return np.random.default_rng([self._seed, pass_number]).permutation(self._count)

    def _samples(self, iteration: int) -> tuple[Int64, Int64]:
        """The passes and indices, (B,) each, of this rank's samples."""
        first = iteration * self._batch_size + self._first_row
        numbers = range(first, first + self._rows)
        passes = [n // self._count for n in numbers]
        indices = [self._order(n // self._count)[n % self._count] for n in numbers]
        return np.array(passes, np.int64), np.array(indices, np.int64)

    def _make(self, iteration: int) -> Batch:
        height, width = self._job.transform.crop
        images = np.empty((self._rows, 3, height, width), np.float32)
        labels = np.empty((self._rows, height, width), np.uint8)
        passes, indices = self._samples(iteration)
        for row in range(self._rows):
            self._job.write(images, labels, row, int(passes[row]), int(indices[row]))
        return Batch(images, labels, passes, indices, iteration)

    def _collect(self) -> Iterator[Batch]:
        pool = self.acquire_pool()
        try:
            free = deque(range(_BATCHES_AHEAD + 2))
            upcoming = deque(self._iterations)
            ahead: deque[_Ordered] = deque()

            def order_more() -> bool:
                """Keeps the workers supplied; False when that failed for want of a free slot."""
                while upcoming and len(ahead) < _BATCHES_AHEAD:
                    if not free:
                        return False
                    ahead.append(self._submit(pool, free.popleft(), upcoming.popleft()))
                return True

            order_more()
            while ahead:
                pool.keep_alive()
                _await(pool, ahead, self._rows)
                done = ahead.popleft()
                if done.errors:
                    raise done.errors[min(done.errors)]
                images, labels = self._job.arrays(pool.slot(done.slot))
                if order_more():
                    _return_when_unused(free, done.slot, images, labels)
                else:
                    images, labels = images.copy(), labels.copy()
                    free.append(done.slot)
                    order_more()
                batch = Batch(images, labels, done.passes, done.indices, done.iteration)
                del images, labels
                yield batch
                del batch
        finally:
            self.release_pool(pool)

    def _submit(self, pool: WorkerPool, slot: int, iteration: int) -> _Ordered:
        passes, indices = self._samples(iteration)
        for row in range(self._rows):
            pool.submit(slot, row, int(passes[row]), int(indices[row]))
        return _Ordered(slot, iteration, passes, indices)


@dataclass
class _Ordered:
    """A batch that workers are filling."""

    slot: int
    iteration: int
    passes: Int64
    indices: Int64
    finished: int = 0
    errors: dict[int, Exception] = field(default_factory=dict)


def _await(pool: WorkerPool, ahead: deque[_Ordered], rows: int) -> None:
    """Takes in outcomes until the first batch is complete."""
    by_slot = {ordered.slot: ordered for ordered in ahead}
    while ahead[0].finished < rows:
        outcome = pool.next_outcome()
        ordered = by_slot[outcome.slot]
        ordered.finished += 1
        if outcome.error is not None:
            ordered.errors[outcome.row] = outcome.error


def _return_when_unused(free: deque[int], slot: int, *arrays: npt.NDArray[Any]) -> None:
    """Puts ``slot`` back once no array, nor any view of one, refers to its memory any more."""
    in_use = set(range(len(arrays)))

    def release(number: int) -> None:
        in_use.discard(number)
        if not in_use:
            free.append(slot)

    for number, array in enumerate(arrays):
        # views of views all refer to the one array that was made from the buffer
        weakref.finalize(array.base, release, number).atexit = False


@dataclass(frozen=True)
class _EvaluationJob:
    dataset: Dataset
    slot_bytes: int

    def work(self, slot: memoryview, row: int, pass_number: int, index: int) -> tuple[int, int]:
        """Returns (height, width), or (0, 0) for a sample that is too large for the slot."""
        sample = self.dataset.read(index)
        height, width = sample.label.shape
        if height * width * 4 > len(slot):
            return 0, 0
        image, label = self.arrays(slot, height, width)
        image[:], label[:] = sample
        return height, width

    def arrays(self, slot: memoryview, height: int, width: int) -> Sample:
        pixels = height * width
        image = np.frombuffer(slot, np.uint8, pixels * 3).reshape(height, width, 3)
        label = np.frombuffer(slot, np.uint8, pixels, offset=pixels * 3).reshape(height, width)
        return Sample(image, label)


class EvaluationLoader(PoolOwner):
    """Yields ``(index, Sample)`` for ``indices`` in their order, whole images, read ahead by worker processes.

    Args:
        indices: positions in the dataset; a rank passes its own share.
        workers: processes; 0 reads in the caller's own thread.

    Raises:
        DataError: while iterating, from the first broken sample in the order of ``indices``.
        SegNeXtError: while iterating, when a worker process died.
    """

    def __init__(self, dataset: Dataset, *, indices: Sequence[int], workers: int) -> None:
        self._dataset = dataset
        self._indices = tuple(int(index) for index in indices)
        self._job = _EvaluationJob(dataset, _EVALUATION_SLOT_BYTES)
        self._slots = 2 * workers
        super().__init__(self._job, workers=workers, slots=self._slots)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[tuple[int, Sample]]:
        return self._collect() if self._workers else ((i, self._dataset.read(i)) for i in self._indices)

    def _collect(self) -> Iterator[tuple[int, Sample]]:
        pool = self.acquire_pool()
        try:
            free = deque(range(self._slots))
            upcoming = deque(self._indices)
            ahead: deque[tuple[int, int]] = deque()  # index and slot, in order
            outcomes: dict[int, Outcome] = {}
            while upcoming or ahead:
                while upcoming and free:
                    index, slot = upcoming.popleft(), free.popleft()
                    pool.submit(slot, 0, 0, index)
                    ahead.append((index, slot))
                index, slot = ahead.popleft()
                pool.keep_alive()
                while slot not in outcomes:
                    outcome = pool.next_outcome()
                    outcomes[outcome.slot] = outcome
                sample = self._take(pool, outcomes.pop(slot), index)
                free.append(slot)
                yield index, sample
        finally:
            self.release_pool(pool)

    def _take(self, pool: WorkerPool, outcome: Outcome, index: int) -> Sample:
        if outcome.error is not None:
            raise outcome.error
        height, width = outcome.figures
        if not height:
            return self._dataset.read(index)
        image, label = self._job.arrays(pool.slot(outcome.slot), height, width)
        return Sample(image.copy(), label.copy())
