from __future__ import annotations

from itertools import pairwise

import pytest

from segnext.models.settings import ModelSettings, Precision
from segnext.models.training_memory import divisions, training_memory


def peak(images: int, *, checkpointing: bool = False, precision: Precision = Precision.fp32) -> int:
    model = ModelSettings("tiny")
    return training_memory(
        model, num_classes=150, crop=(512, 512), images=images, precision=precision, checkpointing=checkpointing
    )


def test_memory_grows_by_the_same_amount_with_every_image() -> None:
    assert peak(3) - peak(2) == pytest.approx(peak(2) - peak(1), abs=2)
    assert peak(2) > peak(1)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_narrow_types_and_computing_blocks_again_take_less(checkpointing: bool) -> None:
    assert peak(4, checkpointing=checkpointing, precision=Precision.bf16) < peak(4, checkpointing=checkpointing)
    assert peak(4, checkpointing=True) < peak(4)


def test_divisions_go_from_the_whole_batch_to_one_image() -> None:
    ways = list(divisions(ModelSettings("tiny"), num_classes=19, crop=(64, 64), batch=6, precision=Precision.fp32))
    assert [(way.micro_batch, way.checkpointing) for way in ways] == [
        (size, checkpointing) for size in (6, 3, 2, 1) for checkpointing in (False, True)
    ]
    assert all(after.memory < before.memory for before, after in pairwise(ways[::2]))
