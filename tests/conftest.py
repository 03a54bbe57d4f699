"""One compile cache for all tests and the processes that they start, whatever home these are given."""

from __future__ import annotations

import os
import signal

from segnext.files import cache_home

os.environ.setdefault("JITTOR_HOME", str(cache_home()))

# A shell starts what runs in the background with interrupts ignored, and child processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
