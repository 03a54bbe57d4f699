"""Non-negative matrix factorisation by multiplicative updates (Lee and Seung, 2001), with the gradient through them.

Shapes: B images, D channels, N pixels, R bases. All updates are one operator and their gradient another. In plain
Jittor each of the two products with x in an update would leave a gradient as large as x, all of which are held until
the last one is there: here they are one product. On CUDA products are cuBLAS's, in float32 in every precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segnext.backend import Function, Var, jt
from segnext.kernels.products import PRODUCTS_CUDA

__all__ = ["factorise", "factorise_reference"]


_CPU_HEADER, _CUDA_HEADER = (
    "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names)
    for names in (("product_cpu.h", "nmf.h", "nmf_cpu.h"), ("each.h", "parts_cuda.h", "nmf.h", "nmf_cuda.h"))
)
_FACTORS = """
const segnext::Factors factors{(int)in0_shape1, (int)in0_shape2, (int)data["rank"], (int)data["steps"]};
const int batch = (int)in0_shape0;
"""
_CPU_FORWARD = _FACTORS + 'segnext::factorise(in0_p, in1_p, out0_p, out1_p, batch, factors, data["keeps"] != 0);\n'
_CPU_GRADIENT = _FACTORS + (
    'segnext::factorise_gradient(in0_p, in1_p, in2_p, out0_p, batch, factors, data["full"] != 0);\n'
)
_CUDA_FORWARD = _FACTORS + (
    'const segnext::Factorisation all(in0_p, batch, factors, out1_p, out2_p, data["keeps"] != 0);\n'
    "all.forward(in1_p, out0_p);\n"
)
_CUDA_GRADIENT = _FACTORS + (
    "const segnext::Factorisation all(in0_p, batch, factors, in2_p, out1_p, true);\n"
    'all.gradient(in1_p, out0_p, data["full"] != 0);\n'
)


def factorise(x_BDN: Var, bases_BDR: Var, *, steps: int, full_gradient: bool = True) -> Var:
    """The rank-R reconstruction of each image: ``steps`` updates of coefficients and bases, then one of coefficients.

    Args:
        x_BDN: ≥ 0, float32; another type takes the plain operators.
        bases_BDR: where the bases start, ≥ 0; they get no gradient.
        steps: ≥ 0.
        full_gradient: through all updates; else through the last one of the coefficients alone.

    Returns:
        (B,D,N).
    """
    if x_BDN.dtype != "float32" or bases_BDR.dtype != "float32":
        return factorise_reference(x_BDN, bases_BDR, steps=steps, full_gradient=full_gradient)
    return _Factorise(steps, full_gradient)(x_BDN, bases_BDR.stop_grad())


def factorise_reference(x_BDN: Var, bases_BDR: Var, *, steps: int, full_gradient: bool = True) -> Var:
    """The same in plain Jittor: what the kernels are tested against."""
    if full_gradient:
        coefficients, bases = _take_steps(x_BDN, bases_BDR, steps)
    else:
        with jt.no_grad():
            coefficients, bases = _take_steps(x_BDN, bases_BDR, steps)
    coefficients = _update_coefficients(x_BDN, bases, coefficients)
    return _bmm(bases, coefficients, transpose_b=True)


def _take_steps(x_BDN: Var, bases_BDR: Var, steps: int) -> tuple[Var, Var]:
    coefficients_BNR = jt.nn.softmax(_bmm(x_BDN, bases_BDR, transpose_a=True), dim=-1)
    for _ in range(steps):
        coefficients_BNR = _update_coefficients(x_BDN, bases_BDR, coefficients_BNR)
        bases_BDR = _update_bases(x_BDN, bases_BDR, coefficients_BNR)
    return coefficients_BNR, bases_BDR


def _update_coefficients(x_BDN: Var, bases_BDR: Var, coefficients_BNR: Var) -> Var:
    numerator = _bmm(x_BDN, bases_BDR, transpose_a=True)
    denominator = _bmm(coefficients_BNR, _bmm(bases_BDR, bases_BDR, transpose_a=True))
    return coefficients_BNR * numerator / (denominator + 1e-6)


def _update_bases(x_BDN: Var, bases_BDR: Var, coefficients_BNR: Var) -> Var:
    numerator = _bmm(x_BDN, coefficients_BNR)
    denominator = _bmm(bases_BDR, _bmm(coefficients_BNR, coefficients_BNR, transpose_a=True))
    return bases_BDR * numerator / (denominator + 1e-6)


def _bmm(a: Var, b: Var, *, transpose_a: bool = False, transpose_b: bool = False) -> Var:
    """Products of matrices, by flags of cuBLAS where it is there: Jittor transposes such arrays on the host."""
    if jt.flags.use_cuda and jt.compile_extern.cublas_ops:
        return jt.compile_extern.cublas_ops.cublas_batched_matmul(a, b, int(transpose_a), int(transpose_b))
    a, b = (x.transpose(0, 2, 1) if turned else x for x, turned in ((a, transpose_a), (b, transpose_b)))
    return jt.nn.bmm(a, b)


class _Factorise(Function):
    def __init__(self, steps: int, full_gradient: bool) -> None:
        super().__init__()
        self.steps, self.full_gradient = steps, full_gradient

    def execute(self, x: Var, bases: Var) -> Var:
        (batch, dim, pixels), rank = x.shape, bases.shape[2]
        keeps = not jt.flags.no_grad
        self.data = {"rank": rank, "steps": self.steps, "full": int(self.full_gradient), "keeps": int(keeps)}
        shapes = [x.shape, [batch, _trace(dim, pixels, rank, self.steps, keeps)]]
        y, traces = self._code(shapes, [x, bases], _CPU_FORWARD, _CUDA_FORWARD, scratch=batch * rank * rank)
        self.saved = x, traces
        return y

    def grad(self, dy: Var) -> tuple[Var, None]:
        x, traces = self.saved
        batch, dim, pixels = x.shape
        rank, through = self.data["rank"], (self.steps if self.full_gradient else 0)
        own = 2 * rank + (through + 2) * pixels + (through + 1) * dim + max(pixels, dim)
        scratch = batch * rank * own
        (dx,) = self._code([x.shape], [x, dy, traces], _CPU_GRADIENT, _CUDA_GRADIENT, scratch=scratch)
        return dx, None

    def _code(self, shapes: list[Any], inputs: list[Var], cpu: str, cuda: str, *, scratch: int) -> list[Var]:
        """An operator with results of these ``shapes``; that of CUDA is given so many figures to use besides."""
        if not jt.flags.use_cuda:
            dtypes = ["float32"] * len(shapes)
            return list(jt.code(shapes, dtypes, inputs, cpu_header=_CPU_HEADER, cpu_src=cpu, data=self.data))
        shapes, header = [*shapes, [scratch]], PRODUCTS_CUDA + _CUDA_HEADER
        return list(
            jt.code(shapes, ["float32"] * len(shapes), inputs, cuda_header=header, cuda_src=cuda, data=self.data)
        )[:-1]


def _trace(dim: int, pixels: int, rank: int, steps: int, keeps: bool) -> int:
    """As Trace::size: values, and two factors of each update; without ``keeps`` the last two and one."""
    if not keeps:
        return rank * 4 * (dim + pixels)
    return rank * ((3 * steps + 1) * dim + (3 * steps + 4) * pixels)
