from __future__ import annotations

import numpy as np
import pytest

from segnext.data.resize import keep_ratio_size, resize_image, resize_label, resize_to_multiple_size


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((960, 1280), (2048, 512), (512, 683)),
        ((256, 256), (2048, 512), (512, 512)),  # small images are enlarged
        ((512, 4096), (2048, 512), (256, 2048)),  # here the long side is the tighter limit
        ((1280, 960), (2048, 512), (683, 512)),
        ((1024, 2048), (2048, 1024), (1024, 2048)),
        ((5, 10), (5, 5), (3, 5)),  # 2.5 rounds up
        ((1, 1000), (100, 50), (1, 100)),  # never less than a pixel
    ],
)
def test_an_image_fits_the_scale_and_keeps_its_shape(
    size: tuple[int, int], scale: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert keep_ratio_size(*size, scale) == expected
    assert keep_ratio_size(*size, scale[::-1]) == expected


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 683), (512, 704)), ((512, 512), (512, 512)), ((1, 33), (32, 64))]
)
def test_sides_go_up_to_a_multiple_of_32(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize_to_multiple_size(*size) == expected


def test_bilinear_halving_averages_four_pixels() -> None:
    image = np.repeat(np.array([[0, 10], [20, 30]], np.uint8)[..., None], 3, axis=-1)
    assert resize_image(image, (1, 1)).tolist() == [[[15, 15, 15]]]


def test_labels_are_never_mixed() -> None:
    label = np.array([[0, 255], [7, 7]], np.uint8)
    assert resize_label(label, (4, 4)).tolist() == [[0, 0, 255, 255]] * 2 + [[7] * 4] * 2


def test_the_right_size_costs_nothing() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    assert resize_image(image, (4, 6)) is image
