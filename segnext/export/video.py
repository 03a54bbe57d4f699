"""Segmentation of films, cameras and streams: frames are read ahead and written behind while the model works.

Queues of a few frames lie between reading, predicting and writing, so memory is bounded. A camera or stream that
delivers faster than the model works loses its oldest waiting frames instead of falling behind.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segnext.errors import DataError

__all__ = ["VideoReader", "VideoResult", "VideoWriter", "is_video", "segment_video"]

Frame = NDArray[np.uint8]

_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
_WAITING = 4  # frames in each queue
_BROKEN_IN_A_ROW = 30  # after so many a source has ended
_DEFAULT_FPS = 25.0  # of sources that do not tell theirs


def is_video(source: str) -> bool:
    """Whether ``source`` is a film, ``camera:N``, or the address of a stream."""
    return bool(re.fullmatch(r"camera:\d+|(rtsps?|rtmp|https?)://.+", source)) or source.lower().endswith(_SUFFIXES)


class VideoReader:
    """Frames (H,W,3) uint8 RGB of a film, a camera or a stream.

    Attributes:
        size: (height, width) of the frames.
        fps: frames per second.
        frames: how many a film says it has; None of a camera or stream.
        broken: numbers of the frames that could not be decoded or had another size, so far.
    """

    def __init__(self, source: str) -> None:
        """Opens the source and looks at its first frame.

        Raises:
            DataError: it does not exist, is no video, or has no frames.
        """
        self.source = source
        camera = re.fullmatch(r"camera:(\d+)", source)
        self.live = camera is not None or "://" in source
        path = Path(source).expanduser()
        if not self.live and not path.is_file():
            raise DataError(f"input={source} does not exist: name a film, camera:0, or the address of a stream")
        self._capture = cv2.VideoCapture(int(camera[1]) if camera else source if self.live else str(path))
        self.broken: list[int] = []
        self._number = -1  # of the last frame taken
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frames = count if count > 0 and not self.live else None
        first = next(self._decoded(), None) if self._capture.isOpened() else None
        if first is None:
            self._capture.release()
            cure = "check the camera or address" if self.live else "it is empty, damaged, or of an unknown format"
            raise DataError(f"input={source} has no frames that can be read: {cure}")
        self._first: Frame | None = first
        self.size = (first.shape[0], first.shape[1])
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else _DEFAULT_FPS

    def __iter__(self) -> Iterator[Frame]:
        if self._first is not None:
            yield self._first
            self._first = None
        for frame in self._decoded():
            if frame.shape[:2] == self.size:
                yield frame
            else:
                self.broken.append(self._number)

    def _decoded(self) -> Iterator[Frame]:
        misses = 0
        while misses < _BROKEN_IN_A_ROW:
            if not self._capture.grab():
                # A film goes on behind a damaged frame, unless its end was reached.
                if self.frames is None or self._number + 1 >= self.frames:
                    return
                misses += 1
                self._number += 1
                self.broken.append(self._number)
                continue
            self._number += 1
            found, frame = self._capture.retrieve()
            if not found or frame is None or frame.ndim != 3:
                misses += 1
                self.broken.append(self._number)
                continue
            misses = 0
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        self._capture.release()


class VideoWriter:
    """Writes frames (H,W,3) uint8 RGB to an mp4 file, which is playable once closed, whatever ended the writing."""

    def __init__(self, path: Path, *, size: tuple[int, int], fps: float) -> None:
        """Raises DataError when OpenCV cannot write there."""
        height, width = size
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
        if not self._writer.isOpened():
            raise DataError(f"{path} cannot be written: check the folder, and that OpenCV has FFmpeg")

    def write(self, frame: Frame) -> None:
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.release()


@dataclass
class VideoResult:
    """What became of a video.

    Attributes:
        frames: how many were segmented and written.
        broken: numbers of the frames that were left out.
        dropped: frames of a live source that came faster than they could be segmented.
        seconds: from the first frame to the last.
        interrupted: stopped by the user.
    """

    frames: int = 0
    broken: list[int] = field(default_factory=list)
    dropped: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds > 0 else float("nan")


def segment_video(
    reader: VideoReader,
    *,
    predict: Callable[[Frame], NDArray[np.int32]],
    write: Callable[[int, Frame, NDArray[np.int32]], None],
    progress: Callable[[VideoResult], None] | None = None,
    max_frames: int | None = None,
) -> VideoResult:
    """Runs ``predict`` on every frame and ``write`` on its number, pixels and labels, each in a thread of its own.

    Ctrl-C ends it: frames that wait are let go, those predicted are written, and ``interrupted`` is set.
    """
    result = VideoResult(broken=reader.broken)
    frames, labelled = _Queue(drop_oldest=reader.live), _Queue()
    threads = [
        _Worker(lambda: _read(reader, frames), on_error=frames.end),
        _Worker(lambda: _write(labelled, write), on_error=labelled.stop),
    ]
    for thread in threads:
        thread.start()
    start = time.perf_counter()
    try:
        for frame in frames:
            if not labelled.put((result.frames, frame, predict(frame))):
                break
            result.frames += 1
            result.seconds = time.perf_counter() - start
            result.dropped = frames.dropped
            if progress is not None:
                progress(result)
            if result.frames == max_frames:
                break
    except KeyboardInterrupt:
        result.interrupted = True
    finally:
        frames.stop()
        labelled.end()
        for thread in threads:
            thread.join()
        reader.close()
    for thread in threads:
        if thread.error is not None:
            raise thread.error
    return result


def _read(reader: VideoReader, frames: _Queue) -> None:
    for frame in reader:
        if not frames.put(frame):
            return
    frames.end()


def _write(labelled: _Queue, write: Callable[[int, Frame, NDArray[np.int32]], None]) -> None:
    for item in labelled:
        write(*item)


class _Queue:
    """A few items between two threads; iterating takes them until the end."""

    _END = object()

    def __init__(self, *, drop_oldest: bool = False) -> None:
        self._items: queue.Queue[Any] = queue.Queue(_WAITING)
        self._stopped = threading.Event()
        self._drop_oldest = drop_oldest
        self.dropped = 0

    def put(self, item: Any) -> bool:
        """False once the other side has stopped taking."""
        while not self._stopped.is_set():
            try:
                self._items.put(item, timeout=0.05)
                return True
            except queue.Full:
                if self._drop_oldest and item is not self._END:
                    try:
                        self._items.get_nowait()
                        self.dropped += 1
                    except queue.Empty:
                        continue
        return False

    def end(self) -> None:
        """Nothing comes after what is waiting."""
        self.put(self._END)

    def stop(self) -> None:
        """Nothing more is taken."""
        self._stopped.set()

    def __iter__(self) -> Iterator[Any]:
        while not self._stopped.is_set():
            try:
                item = self._items.get(timeout=0.05)
            except queue.Empty:
                continue
            if item is self._END:
                return
            yield item


class _Worker(threading.Thread):
    """Keeps the error that ended it."""

    def __init__(self, work: Callable[[], Any], *, on_error: Callable[[], None] | None = None) -> None:
        super().__init__(daemon=True)
        self._work, self._on_error = work, on_error
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.error = error
            if self._on_error is not None:
                self._on_error()
