"""A training that tells which files of its run folder each rank writes: ``python audited_train.py LIST OVERRIDES…``.

Rank N leaves their relative paths, sorted, in LIST-N.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

from segnext.backend.world import current_world

place = Path(f"{sys.argv.pop(1)}-{current_world().rank}")
root = str(next(text for text in sys.argv if text.startswith("run_folder=")).partition("=")[2])
written: set[str] = set()


def audit(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(root + "/"):
        mode, flags = arguments[1], arguments[2]
        if (isinstance(mode, str) and set(mode) & set("wax+")) or int(str(flags)) & (os.O_WRONLY | os.O_RDWR):
            written.add(os.path.relpath(arguments[0], root))
    if event == "os.rename" and str(arguments[1]).startswith(root + "/"):
        written.add(os.path.relpath(str(arguments[1]), root))


if __name__ == "__main__":
    from runners.train import main

    sys.addaudithook(audit)
    atexit.register(lambda: place.write_text("\n".join(sorted(written))))
    main()
