"""The command `segnext`: which verb is meant, help and version, and completion in a shell by Hydra's own mechanism."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import segnext

__all__ = ["SHELLS", "chosen_verb"]

SHELLS = ("bash", "zsh", "fish")
_HELP = """Trains, evaluates and compares SegNeXt semantic segmentation on Jittor.

  segnext VERB [SETTING=VALUE …]
  segnext VERB --help                  what a verb does, and its settings

{verbs}

  segnext board [FOLDER]               the report over all runs below a folder,
                                       renewed while they train
  segnext --version
  segnext completion bash|zsh|fish     completion of verbs and settings, by
      eval "$(segnext completion bash)"       at the end of ~/.bashrc
      eval "$(segnext completion zsh)"        at the end of ~/.zshrc
      segnext completion fish | source        in ~/.config/fish/config.fish

Every verb is `python -m runners.VERB` as well."""
_FOR_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit"


def chosen_verb(verbs: Mapping[str, Path]) -> str | None:
    """The verb that the command line names, or that a shell asks about; ``sys.argv`` is then as the verb expects it.

    Everything else is answered here, with None.

    Args:
        verbs: their modules' files, whose first words explain them.
    """
    if sys.argv[1:2] == ["board"]:
        sys.argv[1:] = ["report", *(sys.argv[2:] or ["outputs"]), "live=true"]
    words = sys.argv[1:] or ["--help"]
    if words[0] in verbs:
        del sys.argv[1]
        return words[0]
    if words[0] == "completion" and words[1:] in [[shell] for shell in SHELLS]:
        if words[1] == "zsh":
            print(_FOR_ZSH)
        sys.argv[:] = ["segnext", "-sc", f"install={words[1].replace('zsh', 'bash')}"]
        return next(iter(verbs))  # any of them: Hydra's script is the same
    if words[0] == "-sc":
        return _asked_about(verbs)
    if words[0] in ("--version", "-V"):
        print(f"segnext {segnext.__version__}")
    elif words[0] in ("--help", "-h"):
        print(_HELP.format(verbs="\n".join(f"  {verb:<10} {_first_words(file)}" for verb, file in verbs.items())))
    else:
        print(f"error: {' '.join(words[:2])}: `segnext --help` lists the verbs", file=sys.stderr)
        sys.exit(2)
    return None


def _asked_about(verbs: Mapping[str, Path]) -> str | None:
    """Completes a verb's name, or leaves the rest of ``COMP_LINE`` to the verb."""
    typed = re.match(r"\s*\S+\s+(?:(\S+)\s+)?(.*)$", os.environ["COMP_LINE"])
    verb, rest = typed.groups() if typed else (None, "")
    if verb in verbs:
        os.environ["COMP_LINE"] = f"segnext {rest}"
        return verb
    known = {None: [*verbs, "board", "completion"], "completion": list(SHELLS)}.get(verb, [])
    print("\n".join(word for word in known if word.startswith(rest)))
    return None


def _first_words(file: Path) -> str:
    """What a module's docstring says before its colon or question mark; the module is not imported."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.split(": ")[0]
