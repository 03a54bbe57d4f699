"""Names that settings had before. They keep working for one release, with a line that names the new one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["RENAMED", "modernised"]

RENAMED = {
    "evaluation.draws": "evaluation.repeats",
    "evaluation.window_batch": "dataset.test.window_batch",
    "model.recompute": "model.gradient_checkpointing",
    "model.head": "model.reset_classifier",
    "dataset.test.mode": "dataset.test.windows",
    "dataset.profile_size": "dataset.flops_size",
    "mode": "dataset.test.tta",
    "test_mode": "dataset.test.windows",
    "scale": "dataset.test.scale",
    "crop": "dataset.crop",
    "draws": "bootstrap_samples",
    "spelling": "key_format",
}
_VALUES = {
    "model.head": {"keep": "false", "new": "true"},
    "mode": {"ss": "false", "ms": "true"},
}
_SHORT = {"tta": "dataset.test.tta", "output": "output.path"}  # not old, but handy
_NAMES = {new: short for short, new in _SHORT.items()}


def modernised(arguments: Sequence[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Command-line arguments with today's names, and a line for each name that has changed.

    Args:
        known: the keys of the verb, which alone are renamed to.
    """
    keys, result, notes = set(known), list[str](), list[str]()
    for argument in arguments:
        match = re.fullmatch(r"(\+{0,2}|~)([\w.]+)=(.*)", argument, re.DOTALL)
        name = match[2] if match else ""
        new = _SHORT.get(name) or RENAMED.get(name)
        if match is None or new is None or new not in keys or (name in keys and name not in _SHORT):
            result.append(argument)
            continue
        value = match[3]
        if (values := _VALUES.get(name)) is not None:
            value = ",".join(values.get(part.strip(), part) for part in value.split(","))
        result.append(f"{new}={value}")
        if name not in _SHORT:
            shown = _NAMES.get(new, new)
            notes.append(f"{name}= is called {shown}= now: {shown}={value} (the old name works until the next release)")
    return result, notes
