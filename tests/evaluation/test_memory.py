"""A huge image is predicted in memory far below that of its scores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segnext.data.settings import InferenceSettings
from segnext.evaluation.dense import DenseLogits
from segnext.evaluation.inference import SegmentationPredictor
from tests.evaluation.fakes import FakeModel

PROGRAM = """
import resource
import numpy as np
from segnext.data.settings import InferenceSettings, Windows
from segnext.evaluation.inference import SegmentationPredictor
from tests.evaluation.fakes import FakeModel

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

settings = InferenceSettings(windows=Windows.slide, scale=None, size_divisor=1, window_batch=1)
predictor = SegmentationPredictor(FakeModel(19), settings)
image = np.random.default_rng(0).integers(0, 256, (2048, 4096, 3), np.uint8)
predictor.predict(image[:1100, :1100])  # compile first: what the compiler takes is not ours
before = peak_mib()
assert predictor.predict(image).shape == (2048, 4096)
print(peak_mib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_4096_by_2048_pixels_take_a_fraction_of_their_608_mib_of_scores() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 250


@pytest.mark.parametrize("tta", [False, True])
def test_no_strip_exceeds_the_limit_of_scores(tta: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    compute = DenseLogits.strip

    def spy(self: DenseLogits, size: tuple[int, int], start: int, stop: int) -> object:
        sizes.append(7 * (stop - start) * max(size[1], self.width))
        return compute(self, size, start, stop)

    monkeypatch.setattr(DenseLogits, "strip", spy)
    settings = InferenceSettings(tta=tta, scale=(128, 64), ratios=(0.5, 1.5))
    image = np.zeros((90, 130, 3), np.uint8)
    SegmentationPredictor(FakeModel(7), settings, strip_floats=20_000).predict(image)
    assert len(sizes) > 4
    assert max(sizes) <= 20_000
