from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segnext.benchmark.evaluation import as_files
from segnext.benchmark.torch_process import TorchTwin, torch_interpreter
from segnext.data.augmentation import MEAN, STD
from segnext.data.classes import IGNORE_LABEL
from segnext.data.shapes import ShapesDataset
from segnext.errors import ConfigError


def test_a_drawn_dataset_becomes_files_of_the_same_samples_until_the_end() -> None:
    drawn = ShapesDataset("val", 2, (32, 48))
    with as_files(drawn) as files:
        assert [files.name(number) for number in range(len(files))] == [drawn.name(0), drawn.name(1)]
        for number in range(2):
            found, expected = files.read(number), drawn.read(number)
            np.testing.assert_array_equal(found.image, expected.image)
            np.testing.assert_array_equal(found.label, expected.label)
        with as_files(files) as same:
            assert same is files
    assert not Path(files.root).exists()


@pytest.mark.torch
@pytest.mark.parametrize("windows", ["whole", "slide"])
def test_pytorch_evaluates_the_same_pixels(windows: str) -> None:
    try:
        torch_interpreter()
    except ConfigError as error:
        pytest.skip(str(error))
    settings = {"windows": windows, "scale": [96, 64], "crop": [64, 64], "stride": [32, 32], "tta": True, "ratios": [1]}
    drawn = ShapesDataset("val", 3, (40, 60))
    labels = np.concatenate([drawn.read(number).label.ravel() for number in range(3)])
    counts = np.bincount(labels[labels != IGNORE_LABEL], minlength=len(drawn.classes))
    with as_files(drawn) as files, TorchTwin() as twin:
        twin.prepare(
            what="evaluate", setting="channels_last", model="tiny", num_classes=len(drawn.classes), device="cpu",
            files=[(str(files.image_path(number)), str(files.label_path(number))) for number in range(3)],
            reduce_zero_label=False, settings=settings, mean=MEAN, std=STD, workers=1,
        )  # fmt: skip
        assert twin.run() > 0
        assert twin.result == counts.tolist()
