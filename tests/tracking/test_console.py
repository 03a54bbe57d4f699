from __future__ import annotations

import io
import logging
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from rich.cells import cell_len
from rich.console import Console

from segnext.tracking.console import Pace, ProgressDisplay, compiling, duration
from segnext.tracking.events import Event


def train(iteration: int, *, time: float = 0.0) -> Event:
    metrics = {"train/loss": 1.5, "train/lr": 6e-5, "train/grad_norm": 2.0, "train/images_per_second": 33.123}
    return Event(iteration, "train", metrics, time=time)


def validation(iteration: int, miou: float) -> Event:
    return Event(iteration, "val", {"val/mIoU": miou, "val/aAcc": 0.9, "val/IoU/sky": 0.1})


@pytest.fixture
def plain() -> Console:
    return Console(file=io.StringIO(), width=80)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_piped_output_has_one_line_per_record_with_scores_in_per_cent(plain: Console) -> None:
    with ProgressDisplay(total_iterations=400, console=plain) as display:
        display.show(train(100, time=10.0))
        display.show(train(200, time=20.0))
        display.show(validation(200, 0.4123))
    assert text(plain).splitlines() == [
        "100/400  loss 1.5  lr 6.00e-05  grad 2  33.1 images/s",
        "200/400  loss 1.5  lr 6.00e-05  grad 2  33.1 images/s  0:20 left",
        "200/400  val: mIoU 41.23  aAcc 90.00 %  (best 41.23 at 200)",
    ]


def test_the_best_score_of_earlier_sessions_is_known(plain: Console) -> None:
    display = ProgressDisplay(total_iterations=400, console=plain)
    display.start([validation(100, 0.5)])
    display.show(validation(200, 0.4))
    display.stop()
    assert "(best 50.00 at 100)" in text(plain)


def test_every_line_is_in_the_log_file_too(plain: Console, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    with ProgressDisplay(total_iterations=400, console=plain, log_file=log) as display:
        display.show(train(100))
        logging.getLogger("segnext.data").warning("a broken image")
    assert "loss 1.5" in log.read_text()
    assert log.read_text().endswith("a broken image\n")


def test_lines_are_not_doubled_where_logging_writes_the_file_already(plain: Console, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    handler = logging.FileHandler(log)
    logging.getLogger().addHandler(handler)
    try:
        with ProgressDisplay(total_iterations=400, console=plain, log_file=log) as display:
            display.show(train(100))
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert log.read_text().count("loss 1.5") == 1


def test_a_dumb_terminal_gets_plain_lines() -> None:
    with patch.dict("os.environ", {"TERM": "dumb"}):
        console = Console(file=io.StringIO(), force_terminal=True, width=80)
        assert not ProgressDisplay(total_iterations=4, console=console).live


def test_the_live_display_fits_80_columns_and_keeps_log_lines_above() -> None:
    with patch.dict("os.environ", {"TERM": "xterm"}):
        console = Console(file=io.StringIO(), force_terminal=True, width=80)
    display = ProgressDisplay(total_iterations=160_000, title="large on cityscapes", console=console)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        with patch.object(sys, "__stdout__", stream), display:
            display.show(train(150_000, time=10.0))
            display.show(train(159_000, time=1_000_000.0))
            display.show(validation(159_000, 0.5))
            logging.getLogger("segnext.data").warning("a broken image")
            page = Console(file=io.StringIO(), width=80)
            page.print(display)
        assert handler.stream is stream
    finally:
        logging.getLogger().removeHandler(handler)
    lines = text(page).splitlines()
    assert len(lines) == 2
    assert max(cell_len(line) for line in lines) <= 80
    assert all(part in lines[0] for part in ("large on cityscapes", "159000/160000", "left"))
    assert all(part in lines[1] for part in ("loss 1.5", "lr", "33.1 images/s", "mIoU 50.0 % (best 50.0 %)"))
    assert "a broken image" in text(console)
    assert "loss 1.5" not in stream.getvalue()


def test_above_the_live_lines_stand_evaluations_and_messages_but_no_training_records() -> None:
    with patch.dict("os.environ", {"TERM": "xterm"}):
        console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with ProgressDisplay(total_iterations=400, console=console) as display:
        display.show(train(100))
        display.show(validation(100, 0.4123))
        logging.getLogger("segnext.tracking").info("W&B: offline")
    lines = [line for line in text(console).splitlines() if "W&B: offline" in line or "/400  " in line]
    assert any("100/400  val: mIoU 41.23" in line for line in lines)
    assert any("W&B: offline" in line for line in lines)
    assert not any("100/400  loss" in line for line in lines)


def test_a_note_is_shown_until_it_is_cleared() -> None:
    display = ProgressDisplay(total_iterations=10, console=Console(file=io.StringIO(), width=80))

    def drawn() -> str:
        page = Console(file=io.StringIO(), width=80)
        page.print(display)
        return text(page)

    display.note("evaluating 120/500")
    assert "evaluating 120/500" in drawn()
    display.note("")
    assert "evaluating" not in drawn()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(9, "0:09"), (3723, "1:02:03"), (3 * 86400 + 4 * 3600 + 300, "3 d 04:05"), (math.nan, "?")]
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def drawn(display: ProgressDisplay) -> list[str]:
    page = Console(file=io.StringIO(), width=80)
    page.print(display)
    return text(page).splitlines()


def test_the_bar_moves_with_each_step(plain: Console) -> None:
    display = ProgressDisplay(total_iterations=10, console=plain)
    display.step(3)
    assert "3/10 30 %" in drawn(display)[0]


def test_compiling_is_shown_only_while_something_compiles(plain: Console) -> None:
    busy = ["compiling operators"]
    display = ProgressDisplay(total_iterations=10, console=plain, compiling=lambda: busy[0])
    assert "compiling operators" in drawn(display)[1]
    busy[0] = ""
    assert "starting" in drawn(display)[1]


def test_a_compiler_among_the_children_of_this_process_is_noticed(tmp_path: Path) -> None:
    assert compiling() == ""
    compiler = tmp_path / "cc1plus"
    compiler.symlink_to(shutil.which("sleep") or "/bin/sleep")
    with subprocess.Popen([compiler, "20"]) as child:
        deadline = time.monotonic() + 10
        while not compiling() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert compiling() == "compiling operators"
        child.kill()


def test_rate_and_gradient_norm_are_visible_beside_the_speed(plain: Console) -> None:
    display = ProgressDisplay(total_iterations=400, console=plain)
    display.show(train(100))
    display.show(validation(100, 0.4123))
    for part in ("lr 6.00e-05", "grad 2", "33.1 images/s", "mIoU 41.2 %"):
        assert part in drawn(display)[1]


def test_an_evaluation_has_its_own_bar_until_its_record(plain: Console) -> None:
    display = ProgressDisplay(total_iterations=400, console=plain)
    display.evaluating(120, 500)
    assert "evaluating" in drawn(display)[1]
    assert "120/500" in drawn(display)[1]
    display.show(validation(100, 0.4))
    assert "evaluating" not in drawn(display)[1]


def test_what_follows_the_last_image_of_an_evaluation_is_named(plain: Console) -> None:
    display = ProgressDisplay(total_iterations=400, console=plain)
    display.evaluating(500, 500)
    display.note("keeping the best and the worst images")
    assert "keeping the best and the worst images" in drawn(display)[1]
    assert "500/500" not in drawn(display)[1]


def test_evaluations_are_part_of_the_time_left_and_not_of_the_pace(
    plain: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("segnext.tracking.console.time.time", lambda: now[0])
    display = ProgressDisplay(total_iterations=40, evaluation_interval=10, console=plain)
    for iteration in range(1, 11):
        now[0] += 1
        display.step(iteration)
    display.evaluating(0, 100)
    now[0] += 10
    display.evaluating(50, 100)
    # 30 steps of a second, half of this evaluation, and three more of twenty seconds
    assert "1:40 left" in drawn(display)[0]
    now[0] += 10
    display.show(Event(10, "val", {"val/mIoU": 0.4}, time=now[0]))
    for iteration in range(11, 21):
        now[0] += 1
        display.step(iteration)
    assert "1:00 left" in drawn(display)[0]  # 20 steps and two evaluations


def test_the_pace_of_an_evaluation_leaves_its_first_images_out(plain: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("segnext.tracking.console.time.time", lambda: now[0])
    display = ProgressDisplay(total_iterations=20, evaluation_interval=10, console=plain)
    for iteration in range(1, 11):
        now[0] += 1
        display.step(iteration)
    now[0] += 500  # compiling
    display.evaluating(20, 100)
    assert "left" not in drawn(display)[0]  # nothing is known of evaluations yet
    now[0] += 8
    display.evaluating(100, 100)
    display.show(Event(10, "val", {"val/mIoU": 0.4}, time=now[0]))
    assert "0:20 left" in drawn(display)[0]  # ten steps of a second and an evaluation of ten


def test_one_slow_step_does_not_change_the_pace() -> None:
    pace = Pace()
    for iteration, seconds in enumerate([0.0, 1.0, 2.0, 62.0, 63.0, 64.0]):
        pace.take(iteration, seconds)
    assert pace.step == 1.0


def test_what_is_piped_is_not_silent_for_long(plain: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segnext.tracking.console._SILENCE", 0.0)
    with ProgressDisplay(total_iterations=10, console=plain, compiling=lambda: "compiling operators"):
        deadline = time.monotonic() + 10
        while "compiling" not in text(plain) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "0/10  compiling operators" in text(plain)
