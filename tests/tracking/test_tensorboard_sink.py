from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segnext.errors import ConfigError
from segnext.tracking.images import ValidationImage
from segnext.tracking.mirrors import TensorBoardSink
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.tracker import Tracker

NAMES = ("sky", "road")
PALETTE = np.array([[70, 130, 180], [128, 64, 128]], np.uint8)


def tracker(folder: RunFolder, **settings: Any) -> Tracker:
    sink = TensorBoardSink(folder, class_names=NAMES, palette=PALETTE)
    return Tracker(folder, class_names=NAMES, palette=PALETTE, sinks=[sink], **settings)


def records(folder: RunFolder) -> Iterator[Any]:
    """The events in TensorBoard's files: length, checksum, message, checksum."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2")
    for file in sorted((folder.path / "tensorboard").iterdir()):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield proto.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def test_scalars_and_pictures_arrive_at_their_iteration(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    folder = RunFolder.create(tmp_path, "x")
    label = np.zeros((6, 8), np.uint8)
    with tracker(folder) as track:
        track.log(100, {"train/loss": 0.5})
        track.images(200, [ValidationImage("a", np.zeros((6, 8, 3), np.uint8), label, label)])
        track.summary({"params": 3})
    values = [(event.step, value) for event in records(folder) for value in event.summary.value]
    assert [(step, v.simple_value) for step, v in values if v.tag == "train/loss"] == [(100, 0.5)]
    assert [(step, v.tag) for step, v in values if v.HasField("image")] == [(200, "val/a")]


def test_a_resumed_run_hides_what_it_does_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    folder = RunFolder.create(tmp_path, "x")
    with tracker(folder) as track:
        track.log(100, {"train/loss": 0.5})
        track.log(200, {"train/loss": 0.4})
    with tracker(folder, first_iteration=100) as track:
        track.log(200, {"train/loss": 0.3})
    starts = [event.step for event in records(folder) if event.HasField("session_log")]
    assert starts[-1] == 101


def test_without_the_library_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[tensorboard\]'"):
        TensorBoardSink(RunFolder.create(tmp_path, "x"), class_names=NAMES, palette=PALETTE)
