from __future__ import annotations

import os
from pathlib import Path

import pytest

from segnext.errors import ConfigError
from segnext.files import FileLock
from segnext.sweeps import slots
from segnext.sweeps.slots import plan_slots


@pytest.fixture(autouse=True)
def _no_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("SEGNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(slots, "available_cores", lambda: 12)


def use_gpus(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(slots, "visible_gpus", lambda: list(names))


def release(locks: list[FileLock]) -> None:
    for lock in locks:
        lock.release()


def gpus_of(planned: list[slots.Slot]) -> list[str]:
    return [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in planned]


def test_auto_is_one_slot_per_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_gpus(monkeypatch, "2", "5")
    assert gpus_of(plan_slots(None, device="auto", folder=tmp_path)) == ["2", "5"]


def test_fewer_slots_than_gpus_use_the_first_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_gpus(monkeypatch, "0", "1", "2")
    assert gpus_of(plan_slots(2, device="auto", folder=tmp_path)) == ["0", "1"]


def test_more_slots_than_gpus_share_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_gpus(monkeypatch, "0", "1")
    planned = plan_slots(3, device="cuda", folder=tmp_path)
    assert gpus_of(planned) == ["0", "1", "0"]
    assert len({slot.lock_files for slot in planned}) == 3


def test_two_sweeps_respect_each_others_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_gpus(monkeypatch, "0")
    [one], [other] = (plan_slots(None, device="auto", folder=tmp_path / name) for name in ("a", "b"))
    locks = one.take()
    assert locks is not None
    assert other.take() is None
    release(locks)
    again = other.take()
    assert again is not None
    release(again)


def test_a_job_of_several_ranks_takes_so_many_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_gpus(monkeypatch, "0", "1", "4", "5", "6")
    planned = plan_slots(None, device="auto", folder=tmp_path, ranks=2)
    assert gpus_of(planned) == ["0,1", "4,5"]
    assert [slot.name for slot in planned] == ["GPU 0+1", "GPU 4+5"]


def test_jobs_of_one_and_of_two_ranks_respect_each_others_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_gpus(monkeypatch, "0", "1")
    [pair] = plan_slots(None, device="auto", folder=tmp_path, ranks=2)
    first, second = plan_slots(None, device="auto", folder=tmp_path)
    locks = second.take()
    assert locks is not None
    assert pair.take() is None  # and gives the first GPU back
    again = first.take()
    assert again is not None
    release([*locks, *again])
    both = pair.take()
    assert both is not None
    assert first.take() is None
    release(both)


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_gpus(monkeypatch, "0", "1")
    with pytest.raises(ConfigError, match="ranks=4 needs 4 GPUs and 2 are visible"):
        plan_slots(None, device="auto", folder=tmp_path, ranks=4)


def test_ranks_of_several_jobs_share_the_cores_and_stay_unbound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_gpus(monkeypatch)
    planned = plan_slots(2, device="cpu", folder=tmp_path, ranks=3)
    assert [slot.environment for slot in planned] == [{"OMP_NUM_THREADS": "2", "SEGNEXT_PIN": "0"}] * 2


def test_the_cpu_is_one_slot_with_all_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_gpus(monkeypatch)
    [slot] = plan_slots(None, device="auto", folder=tmp_path)
    assert slot.environment == {"OMP_NUM_THREADS": "12"}


def test_jobs_share_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_gpus(monkeypatch, "0")
    planned = plan_slots(4, device="cpu", folder=tmp_path)
    assert [slot.environment for slot in planned] == [{"OMP_NUM_THREADS": "3"}] * 4


def test_cores_are_shared_among_no_more_jobs_than_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_gpus(monkeypatch)
    assert plan_slots(8, device="cpu", folder=tmp_path, jobs=2)[0].environment == {"OMP_NUM_THREADS": "6"}


def test_a_number_of_threads_that_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_gpus(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert plan_slots(2, device="cpu", folder=tmp_path)[0].environment == {}


def test_a_job_that_is_killed_leaves_its_slot_free(tmp_path: Path) -> None:
    slot = slots.Slot("x", (tmp_path / "lock",))
    pid = os.fork()
    if pid == 0:
        slot.take()
        os._exit(1)
    os.waitpid(pid, 0)
    locks = slot.take()
    assert locks is not None
    release(locks)


def test_devices_hidden_from_the_process_are_no_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segnext.backend.cuda_problem", lambda: "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-1f2e")
    assert list(slots.visible_gpus()) == ["3", "GPU-1f2e"]
