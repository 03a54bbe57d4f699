"""Non-negative matrix factorisation by multiplicative updates (Lee and Seung, 2001), with the gradient through them.

Shapes: B images, D channels, N pixels, R bases. Jittor has no batched product on the CPU; there, all updates are one
operator and their gradient another. On CUDA it is ``factorise_reference``, whose products are cuBLAS's.
"""

from __future__ import annotations

from pathlib import Path

from segnext.backend import Function, Var, jt

__all__ = ["factorise", "factorise_reference"]


_HEADER = "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("product_cpu.h", "nmf_cpu.h"))
_FACTORS = 'const segnext::Factors factors{(int)in0_shape1, (int)in0_shape2, (int)RANK, (int)data["steps"]};\n'
_FORWARD = _FACTORS.replace("RANK", "in1_shape2") + (
    "segnext::factorise(in0_p, in1_p, out0_p, TRACES, (int)in0_shape0, factors);\n"
)
_GRADIENT = _FACTORS.replace("RANK", 'data["rank"]') + (
    'segnext::factorise_gradient(in0_p, in1_p, in2_p, out0_p, (int)in0_shape0, factors, data["full"] != 0);\n'
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
    if jt.flags.use_cuda or x_BDN.dtype != "float32" or bases_BDR.dtype != "float32":
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
        data = {"steps": self.steps}
        if jt.flags.no_grad:
            return jt.code(
                x.shape,
                x.dtype,
                [x, bases],
                cpu_header=_HEADER,
                cpu_src=_FORWARD.replace("TRACES", "nullptr"),
                data=data,
            )
        # As Trace::size: values and two factors of each update, and the last values.
        trace = rank * pixels * (3 * self.steps + 4) + rank * dim * (3 * self.steps + 1)
        source = _FORWARD.replace("TRACES", "out1_p")
        shapes, dtypes = [x.shape, (batch, trace)], [x.dtype, x.dtype]
        y, traces = jt.code(shapes, dtypes, [x, bases], cpu_header=_HEADER, cpu_src=source, data=data)
        self.saved = x, traces, rank
        return y

    def grad(self, dy: Var) -> tuple[Var, None]:
        x, traces, rank = self.saved
        data = {"steps": self.steps, "rank": rank, "full": int(self.full_gradient)}
        return jt.code(x.shape, x.dtype, [x, dy, traces], cpu_header=_HEADER, cpu_src=_GRADIENT, data=data), None
