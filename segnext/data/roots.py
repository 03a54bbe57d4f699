"""Where the published datasets lie on this machine, said once for all commands."""

from __future__ import annotations

import os
from pathlib import Path

from segnext.errors import ConfigError
from segnext.files import read_yaml

__all__ = ["ROOTS", "data_root", "how_to_say"]

ROOTS = {"ade": "data/ADEChallengeData2016", "camvid": "data/camvid", "cityscapes": "data/cityscapes"}
"""Where they are looked for when nothing is said."""


def data_root(name: str) -> str:
    """The folder of a dataset: ``SEGNEXT_ADE`` and so on, else ``data: {ade: …}`` in the user's
    ``segnext.yaml`` (in ``XDG_CONFIG_HOME`` or ``~/.config``), else ``ROOTS``.

    Raises:
        ConfigError: the user's file is no such yaml.
    """
    return os.environ.get(_variable(name)) or _said_by_the_user().get(name) or ROOTS[name]


def how_to_say(name: str) -> str:
    """What tells all commands where a dataset lies, for a message."""
    return f"{_variable(name)}=FOLDER or `data: {{{name}: FOLDER}}` in {_user_file()} says so for good"


def _variable(name: str) -> str:
    return f"SEGNEXT_{name.upper()}"


def _user_file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")) / "segnext.yaml"


def _said_by_the_user() -> dict[str, str]:
    path = _user_file()
    try:
        content = read_yaml(path) or {"data": {}}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict) or set(content) != {"data"} or not set(data) <= set(ROOTS):
        raise ConfigError(f"{path}: write `data:` with a folder each for any of {', '.join(ROOTS)}, and nothing else")
    roots = {name: os.path.expanduser(str(root)) for name, root in data.items()}
    for name, root in roots.items():
        if not os.path.isabs(root):  # from where would it count?
            raise ConfigError(f"{path}: data.{name}={root} must begin with / or ~")
    return roots
