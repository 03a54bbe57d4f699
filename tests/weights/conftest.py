from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.weights.server import Site, serve


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A local server with one file of a million random bytes."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(np.random.default_rng(0).bytes(1_000_000)) as site:
        yield site
