"""Runs the steps of the Dockerfile without Docker: python .ci/dockerfile.py FOLDER [cpu|cuda] [NAME=VALUE ...]

What the image has at / lies in FOLDER, pip's packages in a virtual environment there; a NAME=VALUE takes the place of
an ARG. Debian's packages are not installed: what they bring has to be here already.
"""

from __future__ import annotations

import os
import re
import shutil
import string
import subprocess
import sys
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
_OURS = ("/opt/", "/work")  # places of the image; all others are the machine's own

Step = tuple[str, str]


def stages(text: str) -> dict[str, list[Step]]:
    """The instructions of each stage, those of the stages that it is built from included."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    found: dict[str, list[Step]] = {}
    steps: list[Step] = []
    for instruction, _, rest in (line.partition(" ") for line in lines if line.strip()):
        if instruction == "FROM":
            origin, _, name = rest.partition(" AS ")
            steps = found[name] = list(found.get(origin, []))
        else:
            steps.append((instruction, rest.strip()))
    return found


def run(steps: list[Step], root: Path, given: dict[str, str]) -> None:
    """Takes the steps one after the other; CalledProcessError if one fails, ValueError if one is unknown."""
    environment = dict(os.environ, PATH=f"{root}/venv/bin:{os.environ['PATH']}")
    folder = root

    def place(path: str) -> str:
        return f"{root}{path}" if path.startswith(_OURS) else path

    def value(text: str) -> str:
        return place(string.Template(text.strip('"')).safe_substitute(environment))

    for instruction, rest in steps:
        print(f"{instruction} {rest}", flush=True)
        if instruction == "ENV":
            environment.update((name, value(text)) for name, _, text in (p.partition("=") for p in rest.split()))
        elif instruction == "ARG":
            name, _, default = rest.partition("=")
            environment[name] = given.get(name, default)
        elif instruction == "WORKDIR":
            folder = Path(place(rest))
            folder.mkdir(parents=True, exist_ok=True)
        elif instruction == "COPY":
            *sources, target = rest.split()
            for source in sources:
                _copy(REPOSITORY / source, folder / target, into=target.endswith("/"))
        elif instruction == "RUN":
            commands = [part for part in rest.split(" && ") if not re.match(r"apt-get |rm -rf /var/", part)]
            if commands:
                subprocess.run(["sh", "-ec", " && ".join(commands)], cwd=folder, env=environment, check=True)
        elif instruction not in ("CMD", "VOLUME"):
            raise ValueError(f"an instruction that is not known here: {instruction}")


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target / source.name if into else target)


def main(root: Path, target: str, given: dict[str, str]) -> None:
    if not (root / "venv").exists():
        venv.create(root / "venv", with_pip=True, symlinks=True)
    run(stages((REPOSITORY / "Dockerfile").read_text())[target], root, given)


if __name__ == "__main__":
    folder, *others = sys.argv[1:]
    given = dict(other.split("=", 1) for other in others if "=" in other)
    main(Path(folder).resolve(), next((other for other in others if "=" not in other), "cpu"), given)
