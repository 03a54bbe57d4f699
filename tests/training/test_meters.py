"""How much memory is taken."""

from __future__ import annotations

from segnext import backend
from segnext.training.meters import MemoryMeter

backend.start()


def test_memory_now_is_at_most_the_peak_and_more_than_the_libraries_take() -> None:
    memory = MemoryMeter().read()
    assert 0.03 < memory["train/device_memory_gib"] <= 1.01 * memory["train/device_memory_peak_gib"] < 1000
