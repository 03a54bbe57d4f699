from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from segnext.errors import ConfigError
from segnext.sweeps import process
from segnext.sweeps.settings import OnFailure, parse_slots
from segnext.tracking.run_folder import RunFolder, Status

from .conftest import StandInSweep

SIX = ["finish-a", "raise-b", "finish-c", "kill-d", "exit-e", "finish-f"]


def test_three_kinds_of_crash_lose_those_jobs_alone(sweep: StandInSweep) -> None:
    assert sweep.run(SIX, slots=2) is None
    assert sweep.states(*SIX) == ["finished", "failed", "finished", "failed", "failed", "finished"]


def test_the_run_folder_says_why_each_job_failed(sweep: StandInSweep) -> None:
    sweep.run(SIX, slots=2)
    raised, killed, left = (sweep.record(name) for name in ("raise-b", "kill-d", "exit-e"))
    assert (raised.error, raised.exit_code) == ("ValueError: the loss was nan", 1)
    assert (killed.signal, killed.exit_code) == ("SIGKILL", None)
    assert killed.error == "killed by SIGKILL (out of memory?)"
    assert (left.exit_code, left.error) == (3, "ended with exit code 3 without a word")


def test_the_same_command_again_runs_the_failed_jobs_alone_and_then_nothing(sweep: StandInSweep) -> None:
    sweep.run(SIX, slots=2)
    sweep.run(SIX, slots=2, behave=dict.fromkeys(SIX, "finish"))
    assert sorted(sweep.display.started()) == ["exit-e", "kill-d", "raise-b"]
    assert sweep.states(*SIX) == ["finished"] * 6
    assert sweep.record("raise-b").attempts == 2
    sweep.run(SIX, slots=2)
    assert sweep.display.started() == []


def test_two_slots_run_two_jobs_at_a_time_and_never_three(sweep: StandInSweep) -> None:
    names = ["meet-a", "meet-b", "finish-c", "finish-d"]
    sweep.run(names, slots=2)
    assert sweep.states(*names) == ["finished"] * 4
    assert sweep.display.most_at_once() == 2


def test_one_slot_runs_one_job_at_a_time(sweep: StandInSweep) -> None:
    sweep.run(["finish-a", "finish-b", "finish-c"])
    assert sweep.display.most_at_once() == 1


def test_a_job_finds_its_slot_in_its_environment(sweep: StandInSweep) -> None:
    sweep.run(["finish-a"])
    assert json.loads((sweep.folder / "finish-a" / "environment.json").read_text())["SLOT"] == "0"


def test_exit_code_0_without_a_finished_run_is_a_failure(sweep: StandInSweep) -> None:
    sweep.run(["vanish-a"])
    record = sweep.record("vanish-a")
    assert record.state == "failed"
    assert record.error == "ended with exit code 0 before the run was finished"


def test_an_error_line_is_preferred_to_other_output(sweep: StandInSweep) -> None:
    sweep.run(["refuse-a"])
    assert sweep.record("refuse-a").error == "data are missing"


def test_the_error_of_the_run_folder_comes_first(sweep: StandInSweep) -> None:
    sweep.run(["fail_once-a"])
    assert sweep.record("fail_once-a").error == "out of luck"


def test_an_old_error_of_the_run_folder_is_not_taken_for_a_new_one(sweep: StandInSweep) -> None:
    sweep.run(["fail_once-a"])
    sweep.run(["fail_once-a"], behave={"fail_once-a": "exit"})
    assert sweep.record("fail_once-a").error == "ended with exit code 3 without a word"


def test_a_job_that_cannot_be_started_fails_alone(sweep: StandInSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    start = process.run_under_supervision

    def refuse(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        if any("finish-a" in text for text in command):
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return start(command, **options)

    monkeypatch.setattr(process, "run_under_supervision", refuse)
    sweep.run(["finish-a", "finish-b"])
    assert sweep.states("finish-a", "finish-b") == ["failed", "finished"]
    assert "Resource temporarily unavailable" in (sweep.record("finish-a").error or "")


def test_retry_runs_a_failed_job_again_in_the_same_sweep(sweep: StandInSweep) -> None:
    sweep.run(["fail_once-a"], on_failure=OnFailure.parse("retry:1"))
    record = sweep.record("fail_once-a")
    assert (record.state, record.attempts) == ("finished", 2)


def test_retry_gives_up_after_its_number(sweep: StandInSweep) -> None:
    sweep.run(["exit-a"], on_failure=OnFailure.parse("retry:2"))
    record = sweep.record("exit-a")
    assert (record.state, record.attempts) == ("failed", 3)


def test_wrong_settings_are_not_retried(sweep: StandInSweep) -> None:
    sweep.run(["refuse-a"], on_failure=OnFailure.parse("retry:2"))
    assert sweep.record("refuse-a").attempts == 1


def test_stop_leaves_the_jobs_after_a_failure_pending_and_interrupts_those_that_run(sweep: StandInSweep) -> None:
    names = ["wait-a", "exit-b", "finish-c"]
    sweep.run(names, slots=2, on_failure=OnFailure.parse("stop"))
    assert sweep.states(*names) == ["interrupted", "failed", "pending"]
    assert sweep.record("wait-a").error == "stopped because exit-b failed"


def test_a_job_that_has_saved_goes_on_from_its_checkpoint(sweep: StandInSweep) -> None:
    pids = sweep.folder / "wait-a" / "pids"
    sweep.run(["wait-a", "exit-b"], slots=2, verdict=lambda job: "enough" if pids.exists() else None)
    run = RunFolder(sweep.folder / "wait-a")
    status = run.read_status()
    assert status is not None
    run.complete_status(status, "interrupted")
    sweep.run(["wait-a", "exit-b"])
    assert sweep.states("wait-a") == ["finished"]


def test_a_job_with_a_hopeless_curve_is_pruned_and_stays_so(sweep: StandInSweep) -> None:
    def verdict(job: object) -> str | None:
        return "mIoU too low" if (sweep.folder / "wait-a" / "pids").exists() else None

    sweep.run(["wait-a"], verdict=verdict)
    record = sweep.record("wait-a")
    assert (record.state, record.error) == ("pruned", "mIoU too low")
    sweep.run(["wait-a"])
    assert sweep.display.started() == []


def test_a_stubborn_job_is_killed_when_its_grace_is_over(sweep: StandInSweep) -> None:
    def verdict(job: object) -> str | None:
        return "enough" if (sweep.folder / "stubborn-a" / "pids").exists() else None

    sweep.run(["stubborn-a"], verdict=verdict, grace=0.2)
    record = sweep.record("stubborn-a")
    assert (record.state, record.signal) == ("pruned", "SIGKILL")


def test_what_a_job_leaves_behind_ends_with_it(sweep: StandInSweep) -> None:
    pids = sweep.folder / "litter-a" / "pids"
    sweep.run(["litter-a"], verdict=lambda job: "enough" if pids.exists() else None)
    assert not any(psutil.pid_exists(pid) for pid in json.loads(pids.read_text()))


def test_a_record_left_running_by_a_killed_sweep_counts_as_interrupted(sweep: StandInSweep) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    run = RunFolder.adopt(sweep.folder / "finish-a")
    run.put_status(Status("running", None, None, child.pid, socket.gethostname(), time.time(), time.time()))
    assert sweep.states("finish-a") == ["interrupted"]
    sweep.run(["finish-a"])
    assert sweep.states("finish-a") == ["finished"]


def test_a_finished_record_without_its_run_is_run_again(sweep: StandInSweep) -> None:
    sweep.run(["finish-a"])
    (sweep.folder / "finish-a" / "metrics.json").unlink()
    sweep.run(["finish-a"])
    assert sweep.display.started() == ["finish-a"]


def test_the_common_command_is_over_before_several_jobs_start(sweep: StandInSweep) -> None:
    mark = sweep.folder / "mark"
    code = f"import pathlib; pathlib.Path({str(mark)!r}).touch()"
    started: list[bool] = []
    sweep.display.update = lambda record: started.append(mark.exists())  # type: ignore[method-assign]
    sweep.run(["finish-a", "finish-b"], slots=2, first=([sys.executable, "-c", code], sweep.folder / "log"))
    assert mark.exists()
    assert (sweep.folder / "finish-a" / "arguments").stat().st_mtime >= mark.stat().st_mtime


def test_ten_jobs_leave_the_memory_of_the_sweep_as_it_was(sweep: StandInSweep) -> None:
    sweep.run(["finish-warm"])
    process = psutil.Process()
    memory, descriptors = process.memory_info().rss, process.num_fds()
    sweep.run([f"finish-{i}" for i in range(10)])
    assert process.memory_info().rss - memory < 2 << 20
    assert process.num_fds() <= descriptors


@pytest.mark.parametrize("text", ["retry", "retry:0", "retry:x", "ignore"])
def test_an_unknown_policy_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="retry:N"):
        OnFailure.parse(text)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", None])
def test_slots_are_auto_or_a_number_from_1(value: object) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.slots"):
        parse_slots(value)


def test_a_path_with_spaces_and_quotes_is_fine(tmp_path: Path) -> None:
    sweep = StandInSweep(tmp_path / 'it\'s a = sweep, "really"')
    sweep.run(["finish-a"])
    assert sweep.states("finish-a") == ["finished"]
