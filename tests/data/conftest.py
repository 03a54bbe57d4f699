from __future__ import annotations

import os
from pathlib import Path

import pairs
import pytest


@pytest.fixture
def write_pair() -> pairs.WritePair:
    return pairs.write_pair


@pytest.fixture
def shared_data() -> Path:
    """The folder of real images; skips the test where it is missing."""
    shared = Path(os.environ.get("SEGNEXT_SHARED", Path(__file__).parents[3] / "shared"))
    if not (shared / "data").is_dir():
        pytest.skip("no real images here (SEGNEXT_SHARED or ../shared)")
    return shared / "data"
