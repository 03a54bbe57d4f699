"""How a value out of range is refused."""

from __future__ import annotations

from segnext.errors import require

__all__ = ["require"]
