"""Child processes of the tests that compile operators into a folder of their own, beside the shared core.

``python -m tests.backend.operators FOLDER WHAT [BYTES]``; BYTES limits the size of files, like a disk that is full.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path
from typing import Any

from segnext import backend
from segnext.backend.compiling import failed_operator

__all__ = ["compile_into"]


def compile_into(folder: Path) -> Any:
    """Jittor with an empty cache of operators in ``folder``; its log is there, too."""
    jt = backend.start("cpu", log=folder / "log")
    for name in ("jit", "obj_files", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):  # of another process
        (folder / "gen").symlink_to(Path(jt.flags.cache_path, "gen"))
    jt.flags.cache_path = str(folder)
    return jt


def main(folder: Path, lines: int, limit: int) -> None:
    """Compiles one operator of so many ``lines`` and prints what it gives."""
    jt = compile_into(folder)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    source = "\n".join(f"@out({i % 3}) = {i}.0f + std::abs(@out({(i + 1) % 3}));" for i in range(lines))
    operator = jt.code([3], "float32", [], cpu_src=f"@out(0) = @out(1) = @out(2) = 0;\n{source}")
    try:
        print(*operator.numpy().tolist())
    except RuntimeError as error:
        raise SystemExit(str(failed_operator(error))) from None


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
