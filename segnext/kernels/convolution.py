"""Convolution with a square stride and padding: the 1×1 convolutions of the blocks and the strided ones between stages.

Through Jittor, oneDNN converts images, weights and results to a layout of its own and back in every call. On the CPU
the operator here multiplies straight from the maps, and needs no oneDNN. On CUDA a 1×1 convolution is cuBLAS's products
of the maps as they lie, where cuDNN would turn them around; the others are cuDNN's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segnext.backend import Function, Var, jt
from segnext.kernels.cast import cast
from segnext.kernels.products import PRODUCTS_CUDA
from segnext.kernels.sums import PLANES_CUDA, add_bias

__all__ = ["conv", "conv_reference"]


_HEADER = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("product_cpu.h", "convolution_cpu.h")
)

# in0 is x or its gradient, in1 the weights or dy.
_SHAPE = """
const segnext::Convolution shape{
    (int)@X_shape0, (int)@X_shape1, (int)@X_shape2, (int)@X_shape3, (int)@Y_shape1, (int)@W_shape2, (int)@W_shape3,
    (int)@Y_shape2, (int)@Y_shape3, (int)data["stride"], (int)data["padding"]};
"""


def _source(call: str, *, x: str, w: str, y: str) -> str:
    return _SHAPE.replace("@X", x).replace("@W", w).replace("@Y", y) + f"segnext::{call};\n"


_FORWARD = _source("convolve(in0_p, in1_p, BIAS, out0_p, shape)", x="in0", w="in1", y="out0")
_INPUT_GRADIENT = _source("input_gradient(in0_p, in1_p, out0_p, shape)", x="out0", w="in1", y="in0")
_GRADIENTS = _source(
    "input_gradient(in1_p, in2_p, out0_p, shape);\nsegnext::weight_gradient(in0_p, in1_p, out1_p, BIAS, shape)",
    x="in0",
    w="in2",
    y="in1",
)
_WEIGHT_GRADIENT = _source("weight_gradient(in0_p, in1_p, out0_p, BIAS, shape)", x="in0", w="out0", y="in1")


def conv(x: Var, weight: Var, bias: Var | None = None, *, stride: int = 1, padding: int = 0) -> Var:
    """Convolves all channels with each filter.

    Args:
        x: (B,C,H,W) float32, bfloat16 or float16.
        weight: (K,C,kh,kw) of the same type.
        bias: (K,) of the same type, or None.
        stride, padding: of rows and columns.

    Returns:
        (B, K, (H + 2·padding − kh)//stride + 1, likewise W) of the same type; sums are float32, whatever it is.
    """
    if jt.flags.use_cuda and weight.shape[2:] == [1, 1] and (stride, padding) == (1, 0):
        return _CudaProduct()(*(each for each in (x, weight, bias) if each is not None))
    if jt.flags.use_cuda:
        if getattr(jt.compile_extern, "cudnn_ops", None) is None:  # left out by conv_opt=1
            return conv_reference(x, weight, bias, stride=stride, padding=padding)
        y = _CudnnConvolution(stride, padding)(x, weight)
        return y if bias is None else add_bias(y, bias)
    arguments = [cast(each, "float32") for each in (x, weight, bias) if each is not None]
    return cast(_Convolution(stride, padding)(*arguments), x.dtype)


def conv_reference(x: Var, weight: Var, bias: Var | None = None, *, stride: int = 1, padding: int = 0) -> Var:
    """The same in plain Jittor: what the kernels are tested against."""
    return jt.nn.conv2d(x, weight, bias, stride=stride, padding=padding)


_CUDA_BIAS = PLANES_CUDA + "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("parts_cuda.h", "bias_cuda.h")
)
_CUDA_HEADER = PRODUCTS_CUDA + _CUDA_BIAS
_PRODUCTS = """
const int batch = in0_shape0, channels = in0_shape1, results = @Y_shape1, pixels = in0_shape2 * in0_shape3;
const segnext::MapProducts products{batch, channels, results, pixels, data["tf32"] != 0};
"""
_CUDA_FORWARD = _PRODUCTS.replace("@Y", "out0") + "products.forward(in0_p, in1_p, out0_p);\n"
_CUDA_ADD_BIAS = "segnext::add_bias(out0_p, in2_p, batch, results, pixels);\n"
# The last result holds what is added up.
_CUDA_GRADIENTS = (
    _PRODUCTS.replace("@Y", "in1")
    + """
segnext::Room room{ROOM_p};
segnext::Sums sums;
float* weight_parts = room.take(batch * channels * results);
products.input_gradient(in1_p, in2_p, out0_p);
products.weight_gradient(in0_p, in1_p, weight_parts);
sums.add(weight_parts, out1_p, channels * results, batch);
BIAS
segnext::launch(sums);
"""
)
_CUDA_BIAS_GRADIENT = """
float* bias_parts = room.take(batch * results);
segnext::sum_planes(in1_p, bias_parts, batch * results, pixels);
sums.add(bias_parts, out2_p, results, batch);
"""


class _CudaProduct(Function):
    """A 1×1 convolution; gradients of weight and bias are float32."""

    def execute(self, x: Var, weight: Var, *bias: Var) -> Var:
        self.data = {"tf32": float(jt.flags.use_tensorcore != 0)}
        self.saved = x, weight, bias
        b, _, h, w = x.shape
        source = _CUDA_FORWARD + (_CUDA_ADD_BIAS if bias else "")
        return self._code([[b, weight.shape[0], h, w]], [x.dtype], [x, weight, *bias], source)[0]

    def grad(self, dy: Var) -> tuple[Var, ...]:
        x, weight, bias = self.saved
        parts = x.shape[0] * weight.shape[0] * (weight.shape[1] + len(bias))
        shapes = [x.shape, weight.shape, *(each.shape for each in bias), [parts]]
        source = _CUDA_GRADIENTS.replace("ROOM", f"out{2 + len(bias)}")
        source = source.replace("BIAS", _CUDA_BIAS_GRADIENT if bias else "")
        gradients = self._code(shapes, [x.dtype, *["float32"] * (len(shapes) - 1)], [x, dy, weight], source)
        return tuple(gradients[:-1])

    def _code(self, shapes: list[Any], dtypes: list[Any], inputs: list[Var], source: str) -> list[Var]:
        return list(jt.code(shapes, dtypes, inputs, cuda_header=_CUDA_HEADER, cuda_src=source, data=self.data))


class _CudnnConvolution(Function):
    """cuDNN's own operators.

    Jittor finds them itself in products over seven dimensions, but not where only a part of the gradients is computed,
    as with checkpointing: then such a product, thousands of times the size of the maps, comes to be.
    """

    def __init__(self, stride: int, padding: int) -> None:
        super().__init__()
        self.settings = [stride] * 2 + [padding] * 2 + [1, 1, 1]  # dilation and groups

    def execute(self, x: Var, weight: Var) -> Var:
        self.saved = x, weight
        return jt.compile_extern.cudnn_ops.cudnn_conv(x, weight, *self.settings)

    def grad(self, dy: Var) -> tuple[Var, Var]:
        (x, weight), cudnn = self.saved, jt.compile_extern.cudnn_ops
        dx = cudnn.cudnn_conv_backward_x(weight, dy, *x.shape[2:], *self.settings)
        return dx, cudnn.cudnn_conv_backward_w(x, dy, *weight.shape[2:], *self.settings)


class _Convolution(Function):
    def __init__(self, stride: int, padding: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding

    def execute(self, x: Var, weight: Var, bias: Var | None = None) -> Var:
        self.saved = x, weight, bias
        (b, _, h, w), (k, _, kh, kw) = x.shape, weight.shape
        shape = [b, k, *((n + 2 * self.padding - side) // self.stride + 1 for n, side in ((h, kh), (w, kw)))]
        inputs = [x, weight] if bias is None else [x, weight, bias]
        return self._code(shape, x.dtype, inputs, _FORWARD.replace("BIAS", "nullptr" if bias is None else "in2_p"))

    def grad(self, dy: Var) -> tuple[Var, ...]:
        x, weight, bias = self.saved
        if bias is not None and self.stride == 1:  # of a strided one, the input may be the images, which need none
            shapes, inputs = [x.shape, weight.shape, bias.shape], [x, dy, weight]
            return tuple(self._code(shapes, ["float32"] * 3, inputs, _GRADIENTS.replace("BIAS", "out2_p")))
        dx = self._code(x.shape, x.dtype, [dy, weight], _INPUT_GRADIENT)
        if bias is None:
            source = _WEIGHT_GRADIENT.replace("BIAS", "nullptr")
            return dx, self._code(weight.shape, weight.dtype, [x, dy], source)
        shapes, dtypes = [weight.shape, bias.shape], [weight.dtype, bias.dtype]
        dweight, dbias = self._code(shapes, dtypes, [x, dy], _WEIGHT_GRADIENT.replace("BIAS", "out1_p"))
        return dx, dweight, dbias

    def _code(self, shape: Any, dtype: Any, inputs: list[Var], source: str) -> Any:
        data = {"stride": self.stride, "padding": self.padding}
        return jt.code(shape, dtype, inputs, cpu_header=_HEADER, cpu_src=source, data=data)
