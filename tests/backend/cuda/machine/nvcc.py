"""Stands in for nvcc: operators that Jittor compiles at run time become C++ for the machine, all else goes to nvcc.

Called as ``python nvcc.py REAL_NVCC MACHINE_FOLDER arguments…`` by the script that takes the real nvcc's place in the
machine's CUDA home; the home's own ``nvcc.sh`` has been at the arguments before.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
_KEPT = ("-I", "-L", "-l", "-D")  # of nvcc's arguments
# -fpermissive: Jittor's operators use names before nvcc would look them up.
_FLAGS = ("-w", "-std=c++17", "-O1", "-fPIC", "-shared", "-fpermissive", "-ffp-contract=off")


def main(real: str, machine: Path, arguments: list[str]) -> int:
    source = next((argument for argument in arguments if argument.endswith(".checked.cc")), "")  # by nvcc.sh
    if not source:
        os.execv(real, [real, *arguments])
    sys.path.insert(0, str(HERE))
    from translate import translate

    name = Path(source).stem.removesuffix("_op.checked")
    translated = Path(source).with_suffix(".machine.cc")
    translated.write_text(translate(Path(source).read_text(), name=name))
    folders = (HERE, HERE / "include", machine / "include", machine / "cuda/include")
    command = [
        "g++",
        *_FLAGS,
        *(f"-I{folder}" for folder in folders),
        "-include",
        "device.h",
        str(translated),
        *_kept(arguments),
    ]
    return subprocess.run(command, check=False).returncode


def _kept(arguments: list[str]) -> list[str]:
    kept = []
    following = iter(arguments)
    for argument in following:
        if argument in ("-o", "-Xlinker", "-I", "-L", "-D"):
            kept += [argument, next(following)]
        elif argument.startswith(_KEPT):
            kept.append(argument)
    return kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
