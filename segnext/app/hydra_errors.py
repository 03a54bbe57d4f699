"""Hydra's and OmegaConf's errors as one line that a user can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from hydra.errors import MissingConfigException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from segnext.app.resolution import unknown_key

__all__ = ["explain"]


def explain(error: Exception, schema: type[Any]) -> str:
    """Hydra's message in one line, with the nearest option or key where a name is unknown."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return f"{group}={option} does not exist: {_nearest(option, error.options)}"
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    key = str(getattr(root, "full_key", None) or "")
    if isinstance(root, ConfigAttributeError | ConfigKeyError) and key:
        return unknown_key(key, schema)
    if isinstance(root, OmegaConfBaseException) and key:
        return f"{key}: {str(root.msg or root).splitlines()[0]}"
    text = " ".join(str(error).split())
    if missing := re.search(r"To append to your default list use (\+\S+)", text):
        return f"{missing[1].lstrip('+')}: nothing of this group is chosen by default, add it by {missing[1]}"
    match = re.match(r"Could not override '([^']+)'", text)
    if match:
        return unknown_key(match.group(1), schema)
    return text


def _nearest(option: str, options: Sequence[str]) -> str:
    close = difflib.get_close_matches(option, options, n=1)
    listing = ", ".join(sorted(options))
    return f"did you mean {close[0]}? (options: {listing})" if close else f"choose one of {listing}"
