"""Fixtures of the evaluation tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def shared() -> Path:
    """The folder of real images; the test is skipped where it is missing."""
    default = Path(__file__).resolve().parents[2].parent / "shared"
    folder = Path(os.environ.get("SEGNEXT_SHARED") or default) / "data"
    if not folder.is_dir():
        pytest.skip(f"real images are not in {folder}")
    return folder
