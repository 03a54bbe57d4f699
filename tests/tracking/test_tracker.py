from __future__ import annotations

import errno
import io
import logging
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from segnext.errors import DataError, TrainingError
from segnext.tracking.console import ProgressDisplay
from segnext.tracking.events import Event, all_events, read_events, series
from segnext.tracking.images import StoredImage, ValidationImage
from segnext.tracking.run_folder import RunFolder, State
from segnext.tracking.tracker import Tracker, git_revision

NAMES = ("sky", "road")
PALETTE = np.array([[70, 130, 180], [128, 64, 128]], np.uint8)


class Recorder:
    """A sink that remembers what it was told."""

    name = "recorder"

    def __init__(self) -> None:
        self.history: list[Event] = []
        self.events: list[Event] = []
        self.pictures: list[tuple[int, list[str]]] = []
        self.figures: dict[str, Any] = {}
        self.state: State | None = None

    def start(self, history: Sequence[Event]) -> None:
        self.history = list(history)

    def log(self, event: Event) -> None:
        self.events.append(event)

    def images(self, iteration: int, images: Sequence[ValidationImage]) -> None:
        self.pictures.append((iteration, [image.name for image in images]))

    def summary(self, figures: Mapping[str, Any]) -> None:
        self.figures.update(figures)

    def finish(self, state: State) -> None:
        self.state = state


class Broken(Recorder):
    name = "broken"

    def log(self, event: Event) -> None:
        raise ConnectionError("no route to host")


class Hanging(Recorder):
    name = "hanging"

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def log(self, event: Event) -> None:
        self.release.wait()


def tracker(folder: RunFolder, **kwargs: Any) -> Tracker:
    return Tracker(folder, class_names=NAMES, palette=PALETTE, **kwargs)


def sample(name: str = "city/a.b", size: tuple[int, int] = (6, 8)) -> ValidationImage:
    truth = np.zeros(size, np.uint8)
    truth[0] = 255
    return ValidationImage(name, np.full((*size, 3), 90, np.uint8), truth, np.ones(size, np.int64))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "run")


def test_an_error_that_comes_up_at_work_does_not_end_with_the_exit_code_of_wrong_settings(tmp_path: Path) -> None:
    error = DataError("image 7.png cannot be decoded (any more)")
    with (
        pytest.raises(DataError),
        Tracker(RunFolder.create(tmp_path, "x"), class_names=["a"], palette=np.zeros((1, 3), np.uint8)),
    ):
        raise error
    assert error.exit_code == 1


def test_a_run_that_ends_well_is_finished_and_its_figures_are_in_metrics_json(folder: RunFolder) -> None:
    with tracker(folder) as track:
        status = folder.read_status()
        assert status is not None
        assert status.state == "running"
        track.summary({"params": 4_200_000, "macs": 6})
        track.log(10, {"train/loss": 1.5})
        track.log(10, {"val/mIoU": 0.6, "val/mAcc": 0.7, "val/aAcc": 0.8})
        track.log(20, {"val/mIoU": 0.4, "val/mAcc": 0.5, "val/aAcc": 0.6})
    status = folder.read_status()
    assert status is not None
    assert status.state == "finished"
    assert folder.read_metrics() == {
        "params": 4_200_000,
        "macs": 6,
        "iteration": 20,
        "mIoU": 0.4,
        "mAcc": 0.5,
        "aAcc": 0.6,
        "best_mIoU": 0.6,
        "best_iteration": 10,
    }


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (RuntimeError("boom"), "failed", "RuntimeError"),
        (SystemExit(143), "interrupted", "signal 15"),
        (SystemExit(1), "failed", "SystemExit"),
        (KeyboardInterrupt(), "interrupted", "SIGINT"),
    ],
)
def test_how_a_run_ends_is_in_its_status(folder: RunFolder, error: BaseException, state: str, reason: str) -> None:
    with pytest.raises(type(error)), tracker(folder):
        raise error
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.exit_reason) == (state, reason)
    assert (status.error == "boom") == isinstance(error, RuntimeError)


def test_the_first_finish_counts(folder: RunFolder) -> None:
    with tracker(folder) as track:
        track.finish("interrupted", exit_reason="SIGUSR1")
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.exit_reason) == ("interrupted", "SIGUSR1")


def test_metrics_are_recorded_under_their_kind(folder: RunFolder) -> None:
    with tracker(folder) as track:
        track.log(5, {"train/loss": np.float32(0.5), "val/mIoU": 0.25})
    assert [(e.kind, dict(e.metrics)) for e in read_events(folder.events) if e.metrics] == [
        ("train", {"train/loss": 0.5}),
        ("val", {"val/mIoU": 0.25}),
    ]


def test_mirrors_hear_everything_in_order(folder: RunFolder) -> None:
    sink = Recorder()
    with tracker(folder, sinks=[sink]) as track:
        track.log(1, {"train/loss": 3.0})
        track.images(1, [sample()])
        track.log(2, {"val/mIoU": 0.5})
        track.summary({"params": 3})
    assert [(e.iteration, dict(e.metrics)) for e in sink.events] == [(1, {"train/loss": 3.0}), (2, {"val/mIoU": 0.5})]
    assert sink.pictures == [(1, ["city/a.b"])]
    assert sink.figures == folder.read_metrics()
    assert sink.state == "finished"


def test_a_mirror_that_raises_is_switched_off_with_one_warning(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    sink, other = Broken(), Recorder()
    with caplog.at_level(logging.WARNING), tracker(folder, sinks=[sink, other]) as track:
        for i in range(5):
            track.log(i, {"train/loss": 1.0})
    assert len(other.events) == 5
    assert len(read_events(folder.events)) == 6
    assert sink.state is None
    assert [r.getMessage().split(".")[0] for r in caplog.records] == [
        "broken is switched off: ConnectionError: no route to host"
    ]


def test_a_mirror_that_hangs_neither_blocks_the_run_nor_its_end(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Hanging()
    with caplog.at_level(logging.WARNING), tracker(folder, sinks=[sink], finish_timeout=0.05) as track:
        for i in range(20_000):  # more than the queue holds
            track.log(i, {"train/loss": 1.0})
    sink.release.set()
    assert len(series(read_events(folder.events), "train/loss")[0]) == 20_000
    assert len(caplog.records) == 1
    assert "does not keep up" in caplog.text


def test_the_display_still_shows_what_mirrors_say_at_the_end(folder: RunFolder) -> None:
    console = Console(file=io.StringIO(), width=80)

    class Talkative(Recorder):
        def finish(self, state: State) -> None:
            logging.getLogger("segnext.tracking").info("uploaded as %s", state)

    display = ProgressDisplay(total_iterations=10, console=console)
    with tracker(folder, sinks=[Talkative()], display=display):
        pass
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "uploaded as finished\n"


def test_a_resumed_run_knows_its_best_and_tells_the_mirrors_what_went_before(folder: RunFolder) -> None:
    with tracker(folder) as track:
        track.summary({"params": 3})
        track.log(10, {"val/mIoU": 0.6})
        track.log(20, {"val/mIoU": 0.9})
    sink = Recorder()
    with tracker(RunFolder.open(folder.path), sinks=[sink], first_iteration=10) as track:
        track.log(20, {"val/mIoU": 0.5})
    assert [e.iteration for e in sink.history if e.kind == "val"] == [10]
    figures = folder.read_metrics()
    assert (figures["best_mIoU"], figures["best_iteration"], figures["mIoU"], figures["params"]) == (0.6, 10, 0.5, 3)


def test_validation_images_are_kept_with_their_class_numbers(folder: RunFolder) -> None:
    with tracker(folder) as track:
        track.images(7, [sample(size=(6, 2048))])
        track.images(9, [sample(size=(6, 2048))])
    event = next(e for e in read_events(folder.events) if e.kind == "images")
    (stored,) = (StoredImage(**record) for record in event.extra["images"])
    image = stored.load(folder)
    assert image.image.shape == (3, 1024, 3)
    assert set(np.unique(image.truth)) <= {0, 255}
    assert (image.prediction == 1).all()
    with Image.open(folder.path / stored.prediction) as file:
        assert file.convert("RGB").getpixel((0, 0)) == tuple(PALETTE[1])
    assert len(list(folder.images.rglob("prediction_*.png"))) == 2


def test_a_run_leaves_its_curves_and_samples_of_the_best_evaluation(folder: RunFolder) -> None:
    with tracker(folder) as track:
        for step, miou, prediction in ((10, 0.6, 1), (20, 0.4, 0)):
            track.log(step, {"train/loss": 1.0, "val/mIoU": miou})
            track.images(step, [replace(sample(), prediction=np.full((6, 8), prediction))])
    (picture,) = folder.samples.iterdir()
    with Image.open(folder.curves) as curves, Image.open(picture) as page:
        assert curves.width == 960
        colours = {colour for _, colour in page.getcolors(page.width * page.height) or []}
        assert tuple(PALETTE[1]) in colours  # in the legend: predicted at the best evaluation alone


def test_a_picture_that_cannot_be_drawn_costs_a_warning_and_not_the_run(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), tracker(folder) as track:
        track.log(10, {"train/loss": 1.0})
        folder.curves.mkdir()
    status = folder.read_status()
    assert status is not None
    assert status.state == "finished"
    assert "cannot draw" in caplog.text


def test_the_git_revision_tells_a_changed_tree_from_a_clean_one(tmp_path: Path) -> None:
    assert git_revision(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (tmp_path / "a").write_text("1")
    for command in (["init", "-q"], ["add", "a"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    clean = git_revision(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert git_revision(tmp_path) == f"{clean}-dirty"


def test_a_full_disk_ends_the_run_with_one_line_and_the_status_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def train_until_the_disk_is_full(folder: RunFolder) -> None:
        with Tracker(folder, class_names=NAMES, palette=PALETTE) as track:
            monkeypatch.setattr("segnext.files._write_and_rename", full)
            monkeypatch.setattr("segnext.tracking.events.os.write", full)
            monkeypatch.setattr("segnext.tracking.images.save", full)
            track.log(1, {"train/loss": 1.0})

    folder = RunFolder.adopt(tmp_path)
    with pytest.raises(TrainingError, match=r"cannot write .*events\.jsonl \(No space left on device\): free disk"):
        train_until_the_disk_is_full(folder)
    status = folder.read_status()
    assert status is not None
    assert status.state == "failed"
    assert "No space left" in str(status.error)


def test_a_disk_that_is_full_at_the_start_is_a_failure_too(tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path)
    folder.events.symlink_to("/dev/full")
    with pytest.raises(TrainingError, match="free disk space"), Tracker(folder, class_names=NAMES, palette=PALETTE):
        pass
    status = folder.read_status()
    assert status is not None
    assert status.state == "failed"


def test_settings_that_a_resumed_run_changes_are_noted_where_it_goes_on(folder: RunFolder) -> None:
    with tracker(folder, first_iteration=2, changed={"schedule.lr": (6e-05, 1e-4)}):
        pass
    [start] = [event for event in all_events(folder.events) if event.kind == "start"]
    assert (start.iteration, start.extra["changed"]) == (2, {"schedule.lr": [6e-05, 1e-4]})


def test_curves_are_drawn_anew_at_every_evaluation(tmp_path: Path) -> None:
    folder = RunFolder.adopt(tmp_path)
    with Tracker(folder, class_names=NAMES, palette=PALETTE) as track:
        track.log(1, {"train/loss": 1.0, "val/mIoU": 0.1})
        first = folder.curves.read_bytes()
        track.log(2, {"train/loss": 0.5})
        assert folder.curves.read_bytes() == first
        track.log(2, {"val/mIoU": 0.3})
        assert folder.curves.read_bytes() != first
