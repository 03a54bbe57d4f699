"""Stands in for a training in tests of sweeps: `stand_in.py FOLDER BEHAVIOUR [MIOU]`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


def write_status(folder: Path, state: str, error: "str | None" = None) -> None:
    now, place = time.time(), folder / "status.json"
    before = json.loads(place.read_text()) if place.exists() else {}
    own = {"state": state, "error": error, "exit_reason": None, "pid": os.getpid(), "host": socket.gethostname()}
    place.write_text(json.dumps(before | own | {"started": now, "updated": now}))


def finish(folder: Path) -> None:
    (folder / "metrics.json").write_text(json.dumps({"best_mIoU": float((sys.argv[3:] or ["0.5"])[0])}))
    write_status(folder, "finished")


def save_and_end(number: int, frame: object) -> None:
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "latest.resume.safetensors").touch()
    write_status(folder, "interrupted")
    os._exit(128 + number)


folder, behaviour = Path(sys.argv[1]), sys.argv[2]
can_go_on = (folder / "checkpoints" / "latest.resume.safetensors").exists()
(folder / "arguments").write_text(" ".join(sys.argv[1:]))
(folder / "environment.json").write_text(json.dumps(dict(os.environ)))
if behaviour == "finish":
    finish(folder)
elif behaviour == "raise":
    raise ValueError("the loss was nan")
elif behaviour == "refuse":
    print("error: data are missing", file=sys.stderr)
    sys.exit(2)
elif behaviour == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif behaviour == "exit":
    os._exit(3)
elif behaviour == "vanish":
    os._exit(0)
elif behaviour == "fail_once":
    if not (folder / "tried").exists():
        (folder / "tried").touch()
        write_status(folder, "failed", "out of luck")
        sys.exit(1)
    finish(folder)
elif behaviour == "meet":  # ends when another job is there at the same time
    (folder.parent / "met").mkdir(exist_ok=True)
    (folder.parent / "met" / folder.name).touch()
    while len(list((folder.parent / "met").iterdir())) < 2:
        time.sleep(0.02)
    finish(folder)
elif behaviour == "wait" and can_go_on:
    finish(folder)
elif behaviour in ("wait", "stubborn", "litter"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "stubborn" else save_and_end)
    pids = [os.getpid()]
    if behaviour == "litter":  # a process that leaves the job's group and does not listen
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
        child.stdout.readline()
        pids.append(child.pid)
    (folder / "pids.part").write_text(json.dumps(pids))
    (folder / "pids.part").rename(folder / "pids")
    time.sleep(600)
