"""What all classes of settings share.

A setting is written once: in the dataclass that the library works with, which is also what Hydra checks the command
line against (segnext/app composes a verb's settings of them) and where ``--help`` finds its explanation (``Attributes``
in the docstring). Making an object of one checks it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from segnext.errors import require

__all__ = ["MISSING", "Settings", "require"]

MISSING: Any = "???"
"""A value that has to be given, as OmegaConf writes it."""


@dataclass
class Settings:
    """Base of all settings."""

    def __post_init__(self) -> None:
        for item in fields(self):  # OmegaConf has lists alone
            if isinstance(item.default, tuple) and isinstance(value := getattr(self, item.name), list):
                setattr(self, item.name, tuple(value))
