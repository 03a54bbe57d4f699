from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from loader_datasets import Imports, Numbered

from segnext.data import loader as loader_module
from segnext.data.augmentation import TrainingTransform
from segnext.data.loader import Batch, EvaluationLoader, TrainingLoader
from segnext.data.settings import AugmentationSettings
from segnext.data.shapes import ShapesDataset
from segnext.data.workers import LoaderWorkerError
from segnext.errors import ConfigError, DataError, SegNeXtError

REPOSITORY = Path(__file__).parents[2]
TRANSFORM = TrainingTransform(AugmentationSettings(crop=(32, 32), scale=(48, 48)))
AS_IS = TrainingTransform(
    AugmentationSettings((32, 32), (32, 32), (1, 1), cat_max_ratio=1, flip_probability=0, photometric=False)
)


def training(dataset: Any = None, transform: TrainingTransform = TRANSFORM, **settings: Any) -> TrainingLoader:
    defaults: dict[str, Any] = {
        "batch_size": 4,
        "seed": 3,
        "first_iteration": 0,
        "last_iteration": 6,
        "workers": 0,
    }
    return TrainingLoader(
        ShapesDataset("train", 10, (48, 48)) if dataset is None else dataset, transform, **(defaults | settings)
    )


def assert_equal(left: list[Batch], right: list[Batch]) -> None:
    assert [batch.iteration for batch in left] == [batch.iteration for batch in right]
    for one, other in zip(left, right, strict=True):
        for field in ("images", "labels", "passes", "indices"):
            assert np.array_equal(getattr(one, field), getattr(other, field)), (field, one.iteration)


def processes_of(loader: TrainingLoader | EvaluationLoader) -> list[psutil.Process]:
    return [psutil.Process(pid) for pool in loader._open for pid in pool.process_ids]


class TestOrder:
    def test_each_pass_goes_through_its_own_permutation(self) -> None:
        batches = list(training(last_iteration=5))
        indices = np.concatenate([batch.indices for batch in batches])
        passes = np.concatenate([batch.passes for batch in batches])
        assert passes.tolist() == [0] * 10 + [1] * 10
        assert indices[:10].tolist() == np.random.default_rng([3, 0]).permutation(10).tolist()
        assert indices[10:].tolist() == np.random.default_rng([3, 1]).permutation(10).tolist()

    def test_a_sample_is_augmented_from_seed_pass_and_index(self) -> None:
        batch = list(training(last_iteration=3))[2]
        dataset = ShapesDataset("train", 10, (48, 48))
        for row in range(4):
            rng = np.random.default_rng([3, batch.passes[row], batch.indices[row]])
            image, label = TRANSFORM(dataset.read(int(batch.indices[row])), rng)
            assert np.array_equal(batch.images[row], image)
            assert np.array_equal(batch.labels[row], label)

    def test_a_batch_has_the_shapes_and_types_of_the_contract(self) -> None:
        batch = next(iter(training()))
        assert (batch.images.shape, batch.images.dtype) == ((4, 3, 32, 32), np.float32)
        assert (batch.labels.shape, batch.labels.dtype) == ((4, 32, 32), np.uint8)
        assert (batch.passes.shape, batch.indices.shape, batch.iteration) == ((4,), (4,), 0)

    @pytest.mark.parametrize("workers", [1, 3])
    def test_the_number_of_workers_changes_nothing(self, workers: int) -> None:
        with training(workers=workers) as loader:
            assert_equal(list(loader), list(training()))

    def test_a_resumed_run_gets_the_batches_it_would_have_got(self) -> None:
        assert_equal(list(training(first_iteration=4)), list(training())[4:])

    def test_ranks_divide_the_total_batch(self) -> None:
        whole = list(training())
        ranks = [list(training(rank=rank, world_size=2)) for rank in range(2)]
        for iteration, batch in enumerate(whole):
            halves = [rank[iteration] for rank in ranks]
            assert np.array_equal(np.concatenate([half.images for half in halves]), batch.images)
            assert np.array_equal(np.concatenate([half.indices for half in halves]), batch.indices)

    def test_a_dataset_smaller_than_a_batch_is_gone_through_more_than_once(self) -> None:
        batch = next(iter(training(ShapesDataset("train", 3, (48, 48)), batch_size=7)))
        assert batch.passes.tolist() == [0, 0, 0, 1, 1, 1, 2]

    def test_no_iterations_give_no_batches(self) -> None:
        with training(first_iteration=6, workers=1) as loader:
            assert len(loader) == 0
            assert list(loader) == []


class TestSharedMemory:
    def test_batches_that_are_kept_stay_as_they_were(self) -> None:
        with training(workers=2, last_iteration=12) as loader:
            kept = list(loader)
        assert_equal(kept, list(training(last_iteration=12)))

    def test_a_view_of_a_batch_keeps_its_memory_alive(self) -> None:
        expected = list(training(last_iteration=12))
        with training(workers=2, last_iteration=12) as loader:
            corners = [batch.images[1, :, 4:8] for batch in loader]
        for corner, batch in zip(corners, expected, strict=True):
            assert np.array_equal(corner, batch.images[1, :, 4:8])

    def test_memory_is_used_again_when_batches_are_let_go(self) -> None:
        addresses = set()
        with training(workers=1, last_iteration=20) as loader:
            for batch in loader:
                addresses.add(batch.images.ctypes.data)
        assert len(addresses) <= 4

    def test_a_temporary_file_serves_where_memory_files_are_forbidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbidden(name: str) -> int:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(os, "memfd_create", forbidden)
        with training(workers=1) as loader:
            assert_equal(list(loader), list(training()))


class TestTrouble:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_broken_image_is_named_after_the_batches_before_it(self, workers: int) -> None:
        order = np.random.default_rng([3, 0]).permutation(10).tolist()
        dataset = Numbered(10, broken=(order[6], order[7]))
        seen: list[int] = []
        with (
            training(dataset, AS_IS, workers=workers) as loader,
            pytest.raises(DataError, match=rf"^image /photos/{order[6]}\.jpg cannot be decoded$"),
        ):
            seen.extend(batch.iteration for batch in loader)
        assert seen == [0]

    def test_a_bug_in_a_worker_comes_with_its_traceback(self) -> None:
        with (
            training(Numbered(10, buggy=(0, 1, 2)), AS_IS, workers=2) as loader,
            pytest.raises(LoaderWorkerError, match=r"^ZeroDivisionError: a bug at"),
        ):
            list(loader)

    def test_workers_that_die_again_and_again_are_an_error_not_a_hang(self) -> None:
        with (
            training(Numbered(10, deadly=(5,)), AS_IS, workers=2) as loader,
            pytest.raises(SegNeXtError, match=r"loader worker \d+ was killed by signal 9, and so did others before"),
        ):
            list(loader)

    @pytest.mark.parametrize("kills", [1, 2])
    def test_killed_workers_are_replaced_and_no_sample_is_lost(
        self, kills: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        with training(workers=2, last_iteration=50) as loader:
            iterator = iter(loader)
            batches = [next(iterator)]
            for _ in range(kills):
                processes_of(loader)[0].kill()
                batches += [next(iterator) for _ in range(10)]
            batches += iterator
        assert_equal(batches, list(training(last_iteration=50)))
        assert caplog.text.count("was killed by signal 9: workers start again") == kills

    def test_a_class_that_workers_cannot_import_is_refused(self) -> None:
        class Local(Numbered):
            pass

        with pytest.raises(ConfigError, match="workers=0"):
            iter(training(Local(10), AS_IS, workers=1)).__next__()

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ({"batch_size": 0}, "batch size 0"),
            ({"batch_size": 4, "world_size": 3}, "their number, 3"),
            ({"workers": -1}, "-1"),
        ],
    )
    def test_impossible_settings_are_refused(self, settings: dict[str, Any], named: str) -> None:
        with pytest.raises(ConfigError, match=named):
            training(**settings)

    def test_an_empty_dataset_is_refused(self) -> None:
        with pytest.raises(DataError, match="empty"):
            training(Numbered(0))


class TestProcesses:
    def test_workers_import_nothing_heavy(self) -> None:
        with training(Imports(4), AS_IS, workers=1, last_iteration=1) as loader:
            assert next(iter(loader)).labels.max() == 0

    def test_workers_start_on_entering_and_end_on_leaving(self) -> None:
        with training(workers=2) as loader:
            processes = processes_of(loader)
            assert len(processes) == 2
            assert all(process.is_running() for process in processes)
        assert not any(process.is_running() for process in processes)

    def test_workers_end_when_the_iteration_is_broken_off(self) -> None:
        loader = training(workers=2)
        for _ in loader:
            processes = processes_of(loader)
            break
        loader.close()
        assert not any(process.is_running() for process in processes)

    def test_workers_end_when_the_consumer_is_interrupted(self) -> None:
        processes = []

        def consume() -> None:
            with training(workers=2) as loader:
                for _ in loader:
                    processes.extend(processes_of(loader))
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            consume()
        assert len(processes) == 2
        assert not any(process.is_running() for process in processes)

    def test_a_worker_that_is_stuck_does_not_hold_up_the_end(self) -> None:
        with training(Numbered(10, stuck=tuple(range(10))), AS_IS, workers=2) as loader:
            iterator = iter(loader)
            start = time.monotonic()
            del iterator
        assert time.monotonic() - start < 2

    def test_interrupts_are_the_parents_business(self) -> None:
        with training(workers=1, last_iteration=30) as loader:
            iterator = iter(loader)
            batches = [next(iterator)]
            os.kill(processes_of(loader)[0].pid, signal.SIGINT)
            batches.extend(iterator)
        assert_equal(batches, list(training(last_iteration=30)))

    def test_a_loader_can_be_gone_through_twice(self) -> None:
        with training(workers=1, last_iteration=2) as loader:
            assert_equal(list(loader), list(loader))

    def test_a_process_that_forgets_to_close_still_ends(self) -> None:
        script = _SCRIPT + "iterator = iter(loader); next(iterator); print('read one')"
        done = _run(script)
        assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, "read one", "")

    def test_the_main_module_is_not_imported_by_workers(self) -> None:
        # a script without the guard `if __name__ == "__main__"` would start workers without end under spawn
        done = _run(_SCRIPT + "print('main runs'); print(sum(len(b.images) for b in loader))")
        assert done.stdout.split("\n")[:2] == ["main runs", "40"]

    def test_workers_die_with_a_parent_that_is_killed(self) -> None:
        script = _SCRIPT + (
            "import os, signal; iterator = iter(loader); next(iterator)\n"
            "print(*[pid for pool in loader._open for pid in pool.process_ids], flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = _run(script)
        assert done.returncode == -signal.SIGKILL
        orphans = []
        for pid in map(int, done.stdout.split()):
            try:
                orphans.append(psutil.Process(pid))
            except psutil.NoSuchProcess:
                continue
        _, alive = psutil.wait_procs(orphans, timeout=10)
        assert alive == []


_SCRIPT = """
from segnext.data.loader import TrainingLoader
from segnext.data.shapes import ShapesDataset
from segnext.data.augmentation import TrainingTransform
from segnext.data.settings import AugmentationSettings

loader = TrainingLoader(
    ShapesDataset("train", 10), TrainingTransform(AugmentationSettings((32, 32), (96, 96))),
    batch_size=2, seed=0, first_iteration=0, last_iteration=20, workers=2,
)
"""


def _run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )


class TestEvaluationLoader:
    @pytest.mark.parametrize("workers", [0, 1, 3])
    def test_whole_samples_come_in_the_order_asked_for(self, workers: int) -> None:
        dataset = ShapesDataset("val", 9, (40, 64))
        indices = [4, 8, 0, 1, 7, 2, 3]
        with EvaluationLoader(dataset, indices=indices, workers=workers) as loader:
            assert len(loader) == 7
            seen = list(loader)
        assert [index for index, _ in seen] == indices
        for index, sample in seen:
            assert np.array_equal(sample.image, dataset.read(index).image)
            assert np.array_equal(sample.label, dataset.read(index).label)

    def test_a_sample_too_large_for_its_slot_is_read_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loader_module, "_EVALUATION_SLOT_BYTES", 4096)
        dataset = Numbered(3, size=(32, 33))
        with EvaluationLoader(dataset, indices=range(3), workers=1) as loader:
            assert [sample.image[-1, -1, 0] for _, sample in loader] == [0, 1, 2]

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_broken_image_is_named_in_its_turn(self, workers: int) -> None:
        seen: list[int] = []
        with (
            EvaluationLoader(Numbered(9, broken=(5, 6)), indices=range(9), workers=workers) as loader,
            pytest.raises(DataError, match=r"/photos/5\.jpg"),
        ):
            seen.extend(index for index, _ in loader)
        assert seen == [0, 1, 2, 3, 4]
