"""What compiles Jittor's core, in a process of its own: ``python -m segnext.backend.core DEVICE``."""

from __future__ import annotations

import importlib
import sys

from segnext.backend.compile_cache import CompileCache

if __name__ == "__main__":
    with CompileCache.of_this_machine(sys.argv[1]).jittor_found():
        importlib.import_module("jittor")
    print("ready")
