"""Many variables in one piece of memory, and back: one message between ranks instead of hundreds.

Jittor's own concatenation copies the whole result once per piece.
"""

from __future__ import annotations

from collections.abc import Sequence

from segnext.backend import Var, jt

__all__ = ["pack", "unpack"]


_CPU_COPY = "std::memcpy(TO, FROM, VAR->size); "
_CUDA_COPY = "cudaMemcpyAsync(TO, FROM, VAR->size, cudaMemcpyDeviceToDevice, 0); "


def pack(variables: Sequence[Var]) -> Var:
    """The elements of all ``variables`` (float32, of any shape) one after the other, shape (N,)."""
    size = sum(variable.numel() for variable in variables)
    return _code([[size]], variables, [f"in{i}" for i in range(len(variables))], packed="out0")[0]


def unpack(packed: Var, shapes: Sequence[Sequence[int]]) -> list[Var]:
    """The variables of these shapes that ``pack`` has put into ``packed`` (N,)."""
    return _code([list(shape) for shape in shapes], [packed], [f"out{i}" for i in range(len(shapes))], packed="in0")


def _code(shapes: list[list[int]], inputs: Sequence[Var], pieces: Sequence[str], *, packed: str) -> list[Var]:
    lines = ["size_t first = 0;"]
    for piece in pieces:
        whole, part = f"{packed}_p + first", f"{piece}_p"
        to, source = (whole, part) if packed == "out0" else (part, whole)
        copy = _CUDA_COPY if jt.flags.use_cuda else _CPU_COPY
        lines.append(copy.replace("TO", to).replace("FROM", source).replace("VAR", piece) + f"first += {piece}->num;")
    language = "cuda" if jt.flags.use_cuda else "cpu"
    code = {f"{language}_header": "#include <cstring>", f"{language}_src": "\n".join(lines)}
    outputs = jt.code(shapes, ["float32"] * len(shapes), list(inputs), **code)
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
