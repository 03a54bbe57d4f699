"""One compile cache for all tests and the processes that they start, whatever home these are given."""

from __future__ import annotations

import os
import signal

import pytest

from segnext.files import cache_home

os.environ.setdefault("JITTOR_HOME", str(cache_home()))

# A shell starts what runs in the background with interrupts ignored, nohup with hang-ups; child processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
