"""How a value out of range is refused."""

from __future__ import annotations

from segnext.errors import ConfigError

__all__ = ["require"]


def require(condition: bool, key: str, value: object, wanted: str) -> None:
    """Raises ConfigError naming ``key``, its ``value`` and what is ``wanted``, unless ``condition`` holds."""
    if not condition:
        raise ConfigError(f"{key}={value} is out of range: give {wanted}")
