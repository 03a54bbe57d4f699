"""Lets real trainings crash after their first checkpoint; on PYTHONPATH of the sweep under test alone.

``FAULTS`` maps overrides to what happens: {"seed=1": "raise"}, kill or exit.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path


def crash(fault: str, checkpoint: Path) -> None:
    while not checkpoint.exists():
        time.sleep(0.01)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "exit":
        os._exit(3)
    main = ctypes.c_ulong(threading.main_thread().ident)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(MemoryError))


faults = json.loads(os.environ.get("FAULTS", "{}"))
places = [text.partition("=")[2] for text in sys.orig_argv if text.startswith("run_folder=")]
for override, fault in faults.items():
    if places and override in sys.orig_argv:
        checkpoint = Path(json.loads(places[0]), "checkpoints", "latest.resume.safetensors")
        threading.Thread(target=crash, args=(fault, checkpoint), daemon=True).start()
