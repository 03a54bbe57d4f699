"""Jittor as the rest of the library sees it: ``jt``, ``Module``, ``Function`` and ``Var``.

Importing these does not import Jittor. ``jt`` brings it up at the first use of one of its names, on the device that
``start()`` was told, and classes derived from ``Module`` and ``Function`` become Jittor's own when the first object of
them is made. So every module of the library can be imported anywhere, without a compiler and in a notebook.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["Function", "Module", "Var", "jt", "use"]

Var = Any  # a jt.Var; Jittor has no types

_start: Callable[[], Any]


def use(start: Callable[[], Any]) -> None:
    """Names the function that starts Jittor and returns its module."""
    global _start
    _start = start


class _LazyJittor:
    """Stands for the module ``jittor``."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(_start(), name)
        if name != "flags":  # an object that others may replace
            setattr(self, name, value)
        return value


jt: Any = _LazyJittor()


@functools.cache
def _joined(cls: type, base: str) -> type:
    """``cls`` with Jittor's class of this name as a further base."""
    return type(
        cls.__name__, (cls, getattr(jt, base)), {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    )


if TYPE_CHECKING:
    Module: Any
    Function: Any
else:

    class Module:
        """A ``jt.Module`` of whose kind the objects are, though not yet the class."""

        def __new__(cls, *args, **settings):
            return object.__new__(cls if issubclass(cls, jt.Module) else _joined(cls, "Module"))

    class Function:
        """A ``jt.Function``: an operation with a gradient of its own."""

        def __new__(cls, *args, **settings):
            return object.__new__(cls if issubclass(cls, jt.Function) else _joined(cls, "Function"))

        @classmethod
        def apply(cls, *inputs, **settings):
            return cls()(*inputs, **settings)
