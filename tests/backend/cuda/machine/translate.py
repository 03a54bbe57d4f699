"""CUDA source into C++ for ``device.h``: launches become calls, ``__shared__`` variables references.

Everything else of CUDA that kernels use is a macro or a function of ``device.h``.
"""

from __future__ import annotations

import re

__all__ = ["translate"]

_LAUNCH = re.compile(r"([\w:]+(?:<[\w:, ]+>)?)\s*<<<")
_BEGIN = re.compile(r"segnext::LaunchCheck launch_check\{__FILE__\};")  # of an operator, by nvcc.sh
_SHARED = re.compile(r"__shared__\s+((?:typename\s+)?[\w:<>, ]+?)\s+(\w+)\s*((?:\[[^\]]*\])*)\s*;")


def translate(source: str, *, name: str) -> str:
    """Returns C++ that runs the kernels of ``source``; ``name`` is what the launches are recorded under."""
    parts, place = [], 0
    for launch in _LAUNCH.finditer(source):
        end = source.index(">>>", launch.end())
        grid, block = _split(source[launch.end() : end])[:2]
        opening = source.index("(", end)
        closing = _closing(source, opening)
        kernel = launch[1]
        label = f"{name} {kernel.partition('<')[0]}"
        arguments = source[opening + 1 : closing]
        passed = f", {arguments}" if arguments.strip() else ""
        call = f'cuda_machine::launch("{label}", {grid}, {block}, [&] {{ {kernel}({arguments}); }}{passed})'
        parts += [source[place : launch.start()], call]
        place = closing + 1
    text = _BEGIN.sub(rf'\g<0> cuda_machine::begin("{name}", this);', "".join(parts) + source[place:])
    numbers = iter(range(1_000_000))
    return _SHARED.sub(lambda found: _reference(found, next(numbers)), text)


def _reference(variable: re.Match[str], number: int) -> str:
    kind, name, sizes = variable.groups()
    alias = f"shared_{number}_t"
    return f"typedef {kind} {alias} {sizes}; auto& {name} = cuda_machine::shared<{alias}>({number});"


def _split(arguments: str) -> list[str]:
    """At the commas that no bracket encloses."""
    parts, depth = [""], 0
    for character in arguments:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _closing(source: str, opening: int) -> int:
    depth = 0
    for place in range(opening, len(source)):
        depth += (source[place] == "(") - (source[place] == ")")
        if depth == 0:
            return place
    raise ValueError("a launch whose arguments don't end")
