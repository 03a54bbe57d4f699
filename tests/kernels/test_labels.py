"""Labels without scores at full size equal those of the scores."""

from __future__ import annotations

import numpy as np
import pytest

from segnext import backend
from segnext.evaluation.dense import DenseLogits
from segnext.kernels.labels import View, labels

jt = backend.start()

CASES = {  # (height, width) of the network's input, of the windows, of the image
    "the image's own size": ((64, 80), (64, 80), (64, 80)),
    "another size": ((64, 80), (64, 80), (77, 131)),
    "windows": ((96, 128), (64, 64), (96, 128)),
    "windows and another size": ((96, 128), (64, 64), (61, 83)),
    "one cell": ((8, 8), (8, 8), (3, 70)),
}


def dense_logits(case: str, classes: int, *, flipped: bool = False, seed: int = 0) -> DenseLogits:
    (height, width), window, _ = CASES[case]
    dense = DenseLogits(height, width, window, flipped)
    rng = np.random.default_rng(seed)
    for top in range(0, height - window[0] + 1, 16):
        for left in range(0, width - window[1] + 1, 16):
            logits = rng.standard_normal((classes, window[0] // 8, window[1] // 8)).astype(np.float32)
            dense.parts.append((top, left, jt.array(logits)))
    return dense


@pytest.mark.parametrize("classes", [1, 5, 19, 150])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_labels_of_one_view_equal_those_of_its_resized_logits(case: str, flipped: bool, classes: int) -> None:
    dense, size = dense_logits(case, classes, flipped=flipped), CASES[case][2]
    scores = dense.strip(size, 0, size[0]).numpy()
    assert np.array_equal(labels([dense.view()], size), scores.argmax(0))


@pytest.mark.parametrize("classes", [2, 19])
def test_labels_of_several_views_equal_those_of_their_mean_probability(classes: int) -> None:
    size = (77, 131)
    views = [
        dense_logits(case, classes, flipped=flipped, seed=seed)
        for seed, (case, flipped) in enumerate([("another size", False), ("windows", True), ("one cell", False)])
    ]
    scores = sum(np.asarray(jt.nn.softmax(view.strip(size, 0, size[0]), dim=0).numpy()) for view in views)
    best = np.sort(scores, axis=0)[-2:]
    clear = best[1] - best[0] > 1e-5
    assert clear.mean() > 0.9
    found = labels([view.view() for view in views], size)
    assert np.array_equal(found[clear], scores.argmax(0)[clear])


def test_of_equal_scores_the_first_class_wins() -> None:
    logits = np.zeros((40, 2, 3), np.float32)
    logits[[7, 23, 39]] = 1
    assert (labels([View([jt.array(logits)], [(0, 0)], (16, 24), (16, 24))], (16, 24)) == 7).all()
