"""One compile cache for all tests and the processes that they start, whatever home these are given."""

from __future__ import annotations

import os

from segnext.files import cache_home

os.environ.setdefault("JITTOR_HOME", str(cache_home()))
