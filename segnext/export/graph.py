"""The ONNX file of a SegNeXt, built from its weights alone.

What evaluation computes, with what is constant multiplied out: batch norm goes into the convolution before it or the
1×1 convolution behind it, layer scale into the one before it, and the first convolution of the head is applied to each
stage before the stages are brought to one size: the same sum for a quarter of the work. Equal up to rounding.

Legend: B images, C channels, H W height and width, N = H·W pixels, D channels and R bases of the factorisation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from segnext.data.augmentation import MEAN, STD
from segnext.errors import ExportError
from segnext.evaluation.inference import fixed_bases_seed
from segnext.export.settings import ExportSettings, InputKind, OutputKind, Storage
from segnext.files import write_atomically
from segnext.kernels.norm import EPSILON
from segnext.models.ham_head import EVALUATION_STEPS
from segnext.models.noise import Noise
from segnext.models.variants import STRIPS, get_variant
from segnext.weights.checkpoint import CheckpointInfo

__all__ = ["Tensors", "build_graph", "fixed_bases", "write_onnx"]

Array = NDArray[Any]
Tensors = Mapping[str, NDArray[np.float32]]

_INPUT = "images"
_GROUPS = 32  # of the group norms
_NMF_EPSILON = 1e-6
_IR_VERSION = 10  # read by ONNX Runtime 1.18, TensorRT 10, OpenVINO 2024 and later


def write_onnx(
    tensors: Tensors, path: Path, *, info: CheckpointInfo, settings: ExportSettings, revision: str | None = None
) -> Path:
    """Writes the model as an ONNX file, whole or not at all.

    Args:
        tensors: the complete weights by their official names.
        path: of the file; its folder is created.
        info: of the checkpoint; it goes into the file's metadata.
        settings: the interface and how weights are stored.
        revision: of the source, for the metadata.
    """
    metadata = info.to_metadata() | {
        "model": info.model,
        "classes": json.dumps(info.classes.names, ensure_ascii=False),
        "palette": json.dumps(info.classes.palette.tolist()),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "mIoU": json.dumps(info.mIoU),
        "revision": revision or "",
        "seed": str(settings.seed),
        "input": settings.input.kind.value,
        "output": settings.output.kind.value,
    }
    bases = fixed_bases(settings.seed, dim=get_variant(info.model).decoder_channels, rank=info.nmf_rank)
    graph = build_graph(tensors, model=info.model, bases_DR=bases, settings=settings, metadata=metadata)
    write_atomically(path, graph.SerializeToString(), error=ExportError)
    return path


def fixed_bases(seed: int, *, dim: int, rank: int) -> NDArray[np.float32]:
    """The bases (dim, rank) themselves, as the network draws them."""
    noise = Noise()
    noise.seed([fixed_bases_seed(seed)])
    noise.start(1, training=False)
    bases: NDArray[np.float32] = noise.bases(dim, rank)[0]
    return bases


def build_graph(
    tensors: Tensors,
    *,
    model: str,
    bases_DR: NDArray[np.float32],
    settings: ExportSettings,
    metadata: Mapping[str, str],
) -> ModelProto:
    """Builds the graph and has ``onnx.checker`` look at it.

    Args:
        tensors: the complete weights by their official names.
        model: tiny, small, base or large.
        bases_DR: where the factorisation of every image starts.
        settings: input, output, size, storage and opset.
        metadata: texts to keep in the file.
    """
    graph = _Graph(tensors, half=settings.weights is Storage.float16)
    of_image = settings.input.kind is InputKind.image
    images = graph.normalised(_INPUT) if of_image else _INPUT
    logits = _head(graph, _backbone(graph, images, get_variant(model).depths), bases_DR)
    output = settings.output.kind
    result = {
        OutputKind.logits: lambda: logits,
        OutputKind.probabilities: lambda: graph.add("Softmax", graph.resize(logits, images), axis=1),
        OutputKind.labels: lambda: graph.labels(graph.resize(logits, images)),
    }[output]()
    if of_image:
        result = graph.add("Squeeze", result, graph.integers(0))
    graph.add("Identity", result, output=output.value)
    built = helper.make_model(
        helper.make_graph(graph.nodes, "segnext", *_interface(settings, graph.classes), initializer=graph.constants),
        opset_imports=[helper.make_opsetid("", settings.opset)],
        ir_version=_IR_VERSION,
        producer_name="segnext-jittor",
    )
    helper.set_model_props(built, dict(metadata))
    checker.check_model(built, full_check=True)
    return built


def _interface(settings: ExportSettings, classes: int) -> tuple[list[Any], list[Any]]:
    """What goes in and comes out, with the sizes that are fixed; without the batch for a single image."""
    height, width = settings.size or ("height", "width")
    small = [-(-side // 8) for side in settings.size] if settings.size else ["height/8", "width/8"]
    output = settings.output.kind
    rest: tuple[Any, ...] = {
        OutputKind.logits: (classes, *small),
        OutputKind.probabilities: (classes, height, width),
        OutputKind.labels: (height, width),
    }[output]
    value = helper.make_tensor_value_info
    kind = TensorProto.INT32 if output is OutputKind.labels else TensorProto.FLOAT
    if settings.input.kind is InputKind.image:
        return [value(_INPUT, TensorProto.UINT8, (height, width, 3))], [value(output.value, kind, rest)]
    return (
        [value(_INPUT, TensorProto.FLOAT, ("batch", 3, height, width))],
        [value(output.value, kind, ("batch", *rest))],
    )


class _Graph:
    """Nodes and constants so far. Methods take and return names of values (B,C,H,W)."""

    def __init__(self, tensors: Tensors, *, half: bool) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._tensors = tensors
        self._half = half
        self.classes = len(tensors["decode_head.conv_seg.bias"])

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """A weight, in double precision so that multiplying out adds no rounding."""
        return self._tensors[name].astype(np.float64)

    def scale_and_shift(self, norm: str) -> tuple[Array, Array]:
        """The batch norm with running statistics as a factor and a summand per channel."""
        scale = self[f"{norm}.weight"] / np.sqrt(self[f"{norm}.running_var"] + EPSILON)
        return scale, self[f"{norm}.bias"] - self[f"{norm}.running_mean"] * scale

    def add(self, operator: str, *inputs: str, output: str = "", name: str = "", **attributes: Any) -> str:
        output = output or f"{name or operator}:{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name or output, **attributes))
        return output

    def constant(self, array: Array, name: str = "") -> str:
        """A float32 constant."""
        name = name or f"constant:{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def integers(self, *values: int) -> str:
        name = f"integers:{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def weight(self, array: Array, name: str) -> str:
        """A constant that may be stored in half the bytes."""
        if not self._half:
            return self.constant(array, name)
        self.constants.append(numpy_helper.from_array(array.astype(np.float16), name))
        return self.add("Cast", name, to=TensorProto.FLOAT)

    def per_channel(self, values: Array) -> str:
        return self.constant(values.reshape(-1, 1, 1))

    def conv(
        self, x: str, name: str, weight: Array, bias: Array | None = None, *, stride: int = 1, groups: int = 1
    ) -> str:
        """A convolution that pads by half its kernel."""
        pads = [side // 2 for side in weight.shape[2:]] * 2
        inputs = [x, self.weight(weight, f"{name}.weight")]
        if bias is not None:
            inputs.append(self.constant(bias, f"{name}.bias"))
        return self.add("Conv", *inputs, name=name, pads=pads, strides=[stride, stride], group=groups,
                        kernel_shape=weight.shape[2:])  # fmt: skip

    def depthwise(self, x: str, name: str) -> str:
        weight = self[f"{name}.weight"]
        return self.conv(x, name, weight, self[f"{name}.bias"], groups=len(weight))

    def normed_conv(self, x: str, conv: str, norm: str) -> str:
        """The convolution of stride 2 and the batch norm behind it."""
        scale, shift = self.scale_and_shift(norm)
        weight = self[f"{conv}.weight"] * scale[:, None, None, None]
        return self.conv(x, conv, weight, self[f"{conv}.bias"] * scale + shift, stride=2)

    def gelu(self, x: str) -> str:
        """Of the form that ONNX Runtime, OpenVINO and TensorRT know as one operator."""
        erf = self.add("Erf", self.add("Div", x, self.constant(np.array(math.sqrt(2)))))
        return self.add("Mul", self.add("Mul", x, self.add("Add", erf, self.constant(np.array(1.0)))),
                        self.constant(np.array(0.5)))  # fmt: skip

    def resize(self, x: str, like: str) -> str:
        """Bilinear, half-pixel centres, to the height and width of ``like``."""
        size = self.add("Concat", self.add("Shape", x, start=0, end=2), self.add("Shape", like, start=2, end=4), axis=0)
        return self.add("Resize", x, "", "", size, mode="linear", coordinate_transformation_mode="half_pixel")

    def layer_norm(self, x: str, name: str) -> str:
        """Over the channels of each pixel."""
        last = self.add("Transpose", x, perm=[0, 2, 3, 1])
        affine = [self.constant(self[f"{name}.{part}"], f"{name}.{part}") for part in ("weight", "bias")]
        normal = self.add("LayerNormalization", last, *affine, axis=-1, epsilon=EPSILON, name=name)
        return self.add("Transpose", normal, perm=[0, 3, 1, 2])

    def group_norm(self, x: str, name: str) -> str:
        ones, zeros = self.constant(np.ones(_GROUPS)), self.constant(np.zeros(_GROUPS))
        grouped = self.add("Reshape", x, self.integers(0, _GROUPS, -1))
        normal = self.add("InstanceNormalization", grouped, ones, zeros, epsilon=EPSILON, name=name)
        normal = self.add("Reshape", normal, self.add("Shape", x))
        scaled = self.add("Mul", normal, self.per_channel(self[f"{name}.weight"]))
        return self.add("Add", scaled, self.per_channel(self[f"{name}.bias"]))

    def normalised(self, image: str) -> str:
        """(H,W,3) uint8 to (1,3,H,W), by evaluation's own arithmetic."""
        planes = self.add("Transpose", self.add("Cast", image, to=TensorProto.FLOAT), perm=[2, 0, 1])
        centred = self.add("Sub", planes, self.per_channel(np.array(MEAN)))
        return self.add("Unsqueeze", self.add("Div", centred, self.per_channel(np.array(STD))), self.integers(0))

    def labels(self, scores: str) -> str:
        return self.add("Cast", self.add("ArgMax", scores, axis=1, keepdims=0), to=TensorProto.INT32)


def _backbone(graph: _Graph, x: str, depths: Sequence[int]) -> list[str]:
    """The maps of stages 2 to 4."""
    outputs = []
    for stage, depth in enumerate(depths, start=1):
        embed = f"backbone.patch_embed{stage}"
        if stage == 1:
            x = graph.gelu(graph.normed_conv(x, f"{embed}.proj.0", f"{embed}.proj.1"))
            x = graph.normed_conv(x, f"{embed}.proj.3", f"{embed}.proj.4")
        else:
            x = graph.normed_conv(x, f"{embed}.proj", f"{embed}.norm")
        for number in range(depth):
            block = f"backbone.block{stage}.{number}"
            x = _mlp(graph, _attention(graph, x, block), block)
        x = graph.layer_norm(x, f"backbone.norm{stage}")
        outputs.append(x)
    return outputs[1:]


def _attention(graph: _Graph, x: str, block: str) -> str:
    """x + ls·(proj_2(gate(gelu(proj_1(z)))) + z) with z = scale·x + shift, as proj_2'(…) + (1 + ls·scale)·x."""
    scale, shift = graph.scale_and_shift(f"{block}.norm1")
    strength = graph[f"{block}.layer_scale_1"]
    attention, unit = f"{block}.attn", f"{block}.attn.spatial_gating_unit"
    u = graph.gelu(_conv_of_normed(graph, x, f"{attention}.proj_1", scale, shift))
    sum_ = first = graph.depthwise(u, f"{unit}.conv0")
    for i in range(len(STRIPS)):
        strip = graph.depthwise(graph.depthwise(first, f"{unit}.conv{i}_1"), f"{unit}.conv{i}_2")
        sum_ = graph.add("Add", sum_, strip)
    mixed = graph.conv(sum_, f"{unit}.conv3", graph[f"{unit}.conv3.weight"], graph[f"{unit}.conv3.bias"])
    gated = graph.add("Mul", mixed, u)
    name = f"{attention}.proj_2"
    weight = graph[f"{name}.weight"] * strength[:, None, None, None]
    out = graph.conv(gated, name, weight, strength * (graph[f"{name}.bias"] + shift))
    return graph.add("Add", out, graph.add("Mul", x, graph.per_channel(1 + strength * scale)))


def _mlp(graph: _Graph, x: str, block: str) -> str:
    """x + ls·fc2(gelu(dwconv(fc1(norm2(x)))))."""
    strength = graph[f"{block}.layer_scale_2"]
    name = f"{block}.mlp"
    hidden = _conv_of_normed(graph, x, f"{name}.fc1", *graph.scale_and_shift(f"{block}.norm2"))
    hidden = graph.gelu(graph.depthwise(hidden, f"{name}.dwconv.dwconv"))
    weight = graph[f"{name}.fc2.weight"] * strength[:, None, None, None]
    return graph.add("Add", x, graph.conv(hidden, f"{name}.fc2", weight, graph[f"{name}.fc2.bias"] * strength))


def _conv_of_normed(graph: _Graph, x: str, name: str, scale: Array, shift: Array) -> str:
    """The 1×1 convolution of scale·x + shift."""
    weight = graph[f"{name}.weight"]
    bias = graph[f"{name}.bias"] + weight[:, :, 0, 0] @ shift
    return graph.conv(x, name, weight * scale[None, :, None, None], bias)


def _head(graph: _Graph, stages: Sequence[str], bases_DR: Array) -> str:
    """The logits (B, classes, ⌈H/8⌉, ⌈W/8⌉)."""
    name = "decode_head.squeeze.conv"
    weight = graph[f"{name}.weight"]
    parts: list[str] = []
    start = 0
    for number, stage in enumerate(stages, start=2):
        stop = start + len(graph[f"backbone.norm{number}.weight"])
        part = graph.conv(stage, f"{name}.stage{number}", weight[:, start:stop])
        parts.append(part if not parts else graph.resize(part, parts[0]))
        start = stop
    total = graph.add("Add", graph.add("Add", parts[0], parts[1]), parts[2])
    x = graph.add("Relu", graph.group_norm(total, "decode_head.squeeze.gn"))

    ham = "decode_head.hamburger"
    inner = graph.conv(x, f"{ham}.ham_in", graph[f"{ham}.ham_in.conv.weight"], graph[f"{ham}.ham_in.conv.bias"])
    inner = _factorise(graph, graph.add("Relu", inner), bases_DR)
    inner = graph.conv(inner, f"{ham}.ham_out", graph[f"{ham}.ham_out.conv.weight"])
    x = graph.add("Relu", graph.add("Add", x, graph.group_norm(inner, f"{ham}.ham_out.gn")))

    x = graph.conv(x, "decode_head.align", graph["decode_head.align.conv.weight"])
    x = graph.add("Relu", graph.group_norm(x, "decode_head.align.gn"))
    name = "decode_head.conv_seg"
    return graph.conv(x, name, graph[f"{name}.weight"], graph[f"{name}.bias"])


def _factorise(graph: _Graph, x: str, bases_DR: Array) -> str:
    """The reconstruction of ``segnext.kernels.nmf.factorise``."""

    def transposed(y: str) -> str:
        return graph.add("Transpose", y, perm=[0, 2, 1])

    def updated(y: str, numerator: str, denominator: str) -> str:
        return graph.add("Div", graph.add("Mul", y, numerator), graph.add("Add", denominator, epsilon))

    def update_coefficients() -> str:
        gram = graph.add("MatMul", transposed(bases), bases)
        numerator = graph.add("MatMul", x_BND, bases)
        return updated(coefficients, numerator, graph.add("MatMul", coefficients, gram))

    epsilon = graph.constant(np.array(_NMF_EPSILON))
    x_BDN = graph.add("Reshape", x, graph.integers(0, len(bases_DR), -1))
    x_BND = transposed(x_BDN)
    bases = graph.constant(bases_DR[None], "bases")
    coefficients = graph.add("Softmax", graph.add("MatMul", x_BND, bases), axis=-1)
    for _ in range(EVALUATION_STEPS):
        coefficients = update_coefficients()
        gram = graph.add("MatMul", transposed(coefficients), coefficients)
        bases = updated(bases, graph.add("MatMul", x_BDN, coefficients), graph.add("MatMul", bases, gram))
    product = graph.add("MatMul", bases, transposed(update_coefficients()))
    return graph.add("Reshape", product, graph.add("Shape", x))
