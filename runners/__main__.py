"""The command `segnext VERB …`; every verb is `python -m runners.VERB …` as well."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
if not __package__:  # started by its folder (runner_command), which would hide Python's own `profile`
    sys.path[0] = str(_FOLDER.parent)

from segnext.app.console import chosen_verb  # noqa: E402


def main() -> None:
    """Runs the verb that the command line names, or answers what is none."""
    verbs = {name: _FOLDER / f"{name}.py" for _, name, _ in pkgutil.iter_modules([str(_FOLDER)]) if name[0] != "_"}
    if verb := chosen_verb(verbs):
        importlib.import_module(f"runners.{verb}").main()


if __name__ == "__main__":
    main()
