"""Hydra's and OmegaConf's errors as one line that a user can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from segnext.app.overrides import quoted_override, unreadable
from segnext.app.suggestions import unknown_key

__all__ = ["explain"]


def explain(error: Exception, schema: type[Any], overrides: Sequence[str] = ()) -> str:
    """Hydra's message in one line, with the nearest option or key where a name is unknown.

    An override that Hydra can't parse is shown in the quotes that let it pass.
    """
    settings = [text for text in overrides if not text.startswith("-")]
    if isinstance(error, HydraException) and (culprit := unreadable(settings)) is not None:
        if "=" not in culprit:
            return f"{culprit} is no setting: give KEY=VALUE"
        return (
            f"{culprit} has characters that are special to Hydra: if it is a name, quote it, {quoted_override(culprit)}"
        )
    if comma := re.search(r"Ambiguous value for argument '(.*)'", str(error)):
        key, _, value = comma[1].partition("=")
        return (
            f"{comma[1]} has a comma: if it is a name, quote it, {quoted_override(comma[1])}; if it is a list, write "
            f"'{key}=[{value}]'; if these are several runs, add -m"
        )
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
