from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from segnext.errors import TrainingError
from segnext.tracking.events import Event, EventLog, all_events, read_events, series


def write(path: Path, *events: Event) -> None:
    log = EventLog(path)
    for event in events:
        log.append(event)
    log.close()


def test_each_record_is_one_line_of_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, Event(1, "train", {"train/loss": 2.0}), Event(2, "train", {"train/loss": math.inf}))
    first, second = (json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines())
    assert set(first) == {"time", "iteration", "kind", "metrics"}
    assert (first["iteration"], first["kind"], first["metrics"]) == (1, "train", {"train/loss": 2.0})
    assert second["metrics"] == {"train/loss": None}


def test_a_record_is_in_the_file_before_the_log_is_closed(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append(Event(1, "train", {"train/loss": 2.0}))
    assert len(read_events(tmp_path / "events.jsonl")) == 1
    log.close()


def test_what_was_not_finite_is_read_as_nan(tmp_path: Path) -> None:
    write(tmp_path / "e", Event(1, "val", {"val/IoU/bus": math.nan}))
    assert math.isnan(read_events(tmp_path / "e")[0].metrics["val/IoU/bus"])


def test_a_half_written_last_line_is_skipped_and_does_not_swallow_the_next_record(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, Event(1, "train", {"train/loss": 2.0}))
    with path.open("a") as file:
        file.write('{"time": 1.0, "iteration": 2, "ki')
    assert [event.iteration for event in read_events(path)] == [1]
    write(path, Event(3, "train", {"train/loss": 1.0}))
    assert [event.iteration for event in read_events(path)] == [1, 3]


@pytest.mark.parametrize(
    "line", ["[]", "7", "{}", '{"iteration": 1, "kind": "x", "time": 0, "metrics": 5}', "nonsense"]
)
def test_lines_that_are_no_records_are_skipped(tmp_path: Path, line: str) -> None:
    (tmp_path / "e").write_text(line + "\n" + Event(4, "train").to_json() + "\n")
    assert [event.iteration for event in read_events(tmp_path / "e")] == [4]


def test_after_a_resume_the_curve_has_one_value_per_iteration(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, Event(0, "start"), *(Event(i, "train", {"train/loss": 10.0 + i}) for i in (1, 2, 3, 4)))
    write(path, Event(2, "start"), *(Event(i, "train", {"train/loss": 20.0 + i}) for i in (3, 4, 5)))
    iterations, losses = series(read_events(path), "train/loss")
    assert iterations.tolist() == [1, 2, 3, 4, 5]
    assert losses.tolist() == [11.0, 12.0, 23.0, 24.0, 25.0]
    assert path.read_text().count("\n") == 9  # nothing is ever taken out of the file


def test_records_that_a_resume_took_back_can_still_be_read(tmp_path: Path) -> None:
    write(tmp_path / "e", Event(9, "train"), Event(4, "start"), Event(5, "train"))
    assert [event.iteration for event in all_events(tmp_path / "e")] == [9, 4, 5]
    assert [event.iteration for event in read_events(tmp_path / "e")] == [4, 5]
    assert read_events(tmp_path / "missing") == []


def test_a_missing_metric_gives_an_empty_series() -> None:
    iterations, values = series([Event(1, "train", {"train/loss": 1.0})], "val/mIoU")
    assert len(iterations) == len(values) == 0


def test_a_log_that_cannot_be_written_names_the_file_and_the_cure(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="free disk space"):
        EventLog(tmp_path / "missing" / "events.jsonl")
