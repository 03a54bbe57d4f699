"""The depthwise convolutions of MSCAN's attention: a 5×5 and three pairs of strips, added up (paper, equation 1).

On the CPU, all seven are one operator, which keeps none of the maps between them. On CUDA they are seven; there a
block's attention is an operator of its own (attention.py), and what is here serves models whose norms are folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segnext.backend import Function, Var, jt
from segnext.kernels.cast import cast
from segnext.kernels.depthwise import depthwise_conv
from segnext.kernels.elementwise import add

__all__ = ["multi_scale_depthwise", "multi_scale_depthwise_reference"]


_KERNELS = [(5, 5), (1, 7), (7, 1), (1, 11), (11, 1), (1, 21), (21, 1)]
_HEADER = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("product_cpu.h", "blocks_cpu.h", "multi_scale_depthwise_cpu.h")
)


def _pointers(kind: str, first: int) -> str:
    """Those of the seven weights, then of the seven biases, from the given input or output on."""
    weights, biases = (", ".join(f"{kind}{first + offset + i}_p" for i in range(7)) for offset in (0, 7))
    return f"{{{{{weights}}}, {{{biases}}}}}"


_MAPS = "const segnext::Maps maps{(int)in0_shape0, (int)in0_shape1, (int)in0_shape2, (int)in0_shape3};\n"
_FORWARD = f"{_MAPS}segnext::multi_scale_depthwise(in0_p, {_pointers('in', 1)}, out0_p, maps);\n"
_GRADIENT = (
    f"{_MAPS}segnext::multi_scale_depthwise_gradient(in0_p, in1_p, {_pointers('in', 2)}, out0_p, "
    f"{_pointers('out', 1)}, maps);\n"
)


def multi_scale_depthwise(x: Var, weights: Sequence[Var], biases: Sequence[Var]) -> Var:
    """a + Σ column(row(a)), where a is x convolved with the square.

    Args:
        x: (B,C,H,W) float32, bfloat16 or float16.
        weights: seven, (C,1,kh,kw): the 5×5, then 1×k and k×1 for k = 7, 11, 21; float32.
        biases: seven, (C,); float32.

    Returns:
        (B,C,H,W) of the type of ``x``.
    """
    if jt.flags.use_cuda:
        return multi_scale_depthwise_reference(x, weights, biases)
    return cast(_MultiScaleDepthwise()(cast(x, "float32"), *weights, *biases), x.dtype)


def multi_scale_depthwise_reference(x: Var, weights: Sequence[Var], biases: Sequence[Var]) -> Var:
    """The same, convolution by convolution: what the kernels are tested against."""
    base = depthwise_conv(x, weights[0], biases[0])
    rows = [depthwise_conv(base, weights[i], biases[i]) for i in range(1, len(weights), 2)]
    columns = [depthwise_conv(row, weights[2 * i + 2], biases[2 * i + 2]) for i, row in enumerate(rows)]
    return add(base, *columns)


class _MultiScaleDepthwise(Function):
    def execute(self, x: Var, *parameters: Var) -> Var:
        assert [tuple(weight.shape[2:]) for weight in parameters[:7]] == _KERNELS
        self.saved = x, parameters
        return jt.code(x.shape, x.dtype, [x, *parameters], cpu_header=_HEADER, cpu_src=_FORWARD)

    def grad(self, dy: Var) -> tuple[Var, ...]:
        x, parameters = self.saved
        results = [x, *parameters]
        shapes, dtypes = [result.shape for result in results], [result.dtype for result in results]
        return tuple(jt.code(shapes, dtypes, [x, dy, *parameters], cpu_header=_HEADER, cpu_src=_GRADIENT))
