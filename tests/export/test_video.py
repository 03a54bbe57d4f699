"""Films are segmented frame by frame; what is broken is left out, and what was written stays playable."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segnext.errors import DataError
from segnext.export.video import VideoReader, VideoWriter, is_video, segment_video

Frame = NDArray[np.uint8]
SIZE = (48, 64)


def make_clip(path: Path, *, frames: int = 12, fps: float = 10.0) -> Path:
    """Frame k is one grey of 20·k."""
    with VideoWriter(path, size=SIZE, fps=fps) as writer:
        for k in range(frames):
            writer.write(np.full((*SIZE, 3), 20 * k, np.uint8))
    return path


def read_clip(path: Path) -> list[Frame]:
    return list(VideoReader(str(path)))


def brightness(frame: Frame) -> NDArray[np.int32]:
    return np.full(frame.shape[:2], round(frame.mean() / 20), np.int32)


def test_every_frame_comes_once_and_in_order(tmp_path: Path) -> None:
    reader = VideoReader(str(make_clip(tmp_path / "clip.mp4")))
    assert (reader.size, reader.fps, reader.frames) == (SIZE, 10.0, 12)
    seen: list[tuple[int, int]] = []
    result = segment_video(
        reader, predict=brightness, write=lambda number, _, labels: seen.append((number, int(labels[0, 0])))
    )
    assert seen == [(k, k) for k in range(12)]
    assert (result.frames, result.broken, result.dropped, result.interrupted) == (12, [], 0, False)
    assert result.fps > 0


def test_a_damaged_film_gives_the_frames_that_can_be_read(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.avi", frames=40)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)
    seen: list[int] = []
    result = segment_video(VideoReader(str(path)), predict=brightness, write=lambda number, *_: seen.append(number))
    assert seen == list(range(result.frames))
    assert 10 <= result.frames <= 40


class Decoder:
    """Stands in for OpenCV's: of ``frames``, None cannot be decoded."""

    def __init__(self, frames: list[Frame | None]) -> None:
        self.frames, self.at = frames, -1

    def isOpened(self) -> bool:
        return True

    def get(self, what: int) -> float:
        return len(self.frames) if what == cv2.CAP_PROP_FRAME_COUNT else 10.0

    def grab(self) -> bool:
        self.at += 1
        return self.at < len(self.frames)

    def retrieve(self) -> tuple[bool, Frame | None]:
        return self.frames[self.at] is not None, self.frames[self.at]

    def release(self) -> None: ...


def test_broken_frames_are_left_out_and_reported_by_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good, other_size = np.zeros((*SIZE, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: Decoder([good, None, good, other_size, good]))
    (tmp_path / "clip.mp4").touch()
    result = segment_video(VideoReader(str(tmp_path / "clip.mp4")), predict=brightness, write=lambda *_: None)
    assert (result.frames, result.broken) == (3, [1, 3])


def test_an_interrupt_leaves_a_playable_file_of_the_frames_so_far(tmp_path: Path) -> None:
    def stopped_at_five(frame: Frame) -> NDArray[np.int32]:
        if round(frame.mean() / 20) == 5:
            raise KeyboardInterrupt
        return brightness(frame)

    reader = VideoReader(str(make_clip(tmp_path / "clip.mp4")))
    with VideoWriter(tmp_path / "out.mp4", size=SIZE, fps=10) as writer:
        result = segment_video(reader, predict=stopped_at_five, write=lambda _, frame, __: writer.write(frame))
    assert (result.interrupted, result.frames) == (True, 5)
    assert [round(frame.mean() / 20) for frame in read_clip(tmp_path / "out.mp4")] == [0, 1, 2, 3, 4]


def test_no_more_than_a_few_frames_wait(tmp_path: Path) -> None:
    read = 0

    class Counted(VideoReader):
        def _decoded(self):  # type: ignore[no-untyped-def]
            nonlocal read
            for frame in super()._decoded():
                read += 1
                yield frame

    ahead: list[int] = []

    def slow(frame: Frame) -> NDArray[np.int32]:
        deadline = time.monotonic() + 0.05
        while time.monotonic() < deadline and read < 12:
            threading.Event().wait(0.005)
        ahead.append(read - len(ahead))
        return brightness(frame)

    segment_video(Counted(str(make_clip(tmp_path / "clip.mp4"))), predict=slow, write=lambda *_: None)
    assert max(ahead) <= 7  # 4 in the queue, one in each hand


def test_an_error_while_writing_ends_the_work_and_is_raised(tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise DataError("the disk is full")

    with pytest.raises(DataError, match="the disk is full"):
        segment_video(VideoReader(str(make_clip(tmp_path / "clip.mp4"))), predict=brightness, write=fail)


def test_a_file_without_frames_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"has no frames that can be read: it is empty, damaged"):
        VideoReader(str(tmp_path / "empty.mp4"))
    with pytest.raises(DataError, match="does not exist"):
        VideoReader(str(tmp_path / "gone.mp4"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("movie.MP4", True), ("camera:0", True), ("rtsp://10.0.0.1/stream", True),
        ("photo.jpg", False), ("photos/*.png", False), ("camera", False),
    ],
)  # fmt: skip
def test_what_counts_as_a_video(source: str, expected: bool) -> None:
    assert is_video(source) == expected
