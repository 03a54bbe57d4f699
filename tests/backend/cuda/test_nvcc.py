"""Real CUDA sources through the compiler of a real home, for sm_90; no GPU is needed. Figures on a GPU: docs/gpu.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from segnext import backend
from segnext.backend.cuda.home import assemble
from segnext.backend.cuda.pieces import Survey, survey
from tests.backend.cuda.machine import Machine

pytestmark = pytest.mark.slow

KERNELS = Path(backend.__file__).parents[1] / "kernels"


@pytest.fixture(scope="module")
def pieces() -> Survey:
    found = survey()
    if found.toolkit is None:
        pytest.skip("no nvcc 13")
    return found


@pytest.fixture(scope="module")
def nvcc(pieces: Survey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home's compiler; where libraries are missing, that of a home with what the compiler itself needs."""
    compiler = Survey(pieces.toolkit, tuple(found for found in pieces.found if found.piece.of_compiler), (), ())
    missing = [piece.wheel for piece in pieces.missing if piece.of_compiler]
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}")
    return assemble(compiler if pieces.missing else pieces, tmp_path_factory.mktemp("cuda")) / "bin/nvcc"


def build(nvcc: Path, source: str, folder: Path, *flags: str) -> str:
    """Compiles as Jittor calls the compiler and returns what it says."""
    file = folder / "source.cu"
    file.write_text(source)
    include = nvcc.parents[1] / "include"
    command = [nvcc, "-std=c++14", "--use_fast_math", "-arch=sm_90", f"-I{include}", *flags]
    done = subprocess.run([*command, "-c", file, "-o", folder / "out.o"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_names_that_cub_dropped_are_back(nvcc: Path, tmp_path: Path) -> None:
    source = """
#include <cub/cub.cuh>
struct Twice { __host__ __device__ int operator()(int value) const { return 2 * value; } };
__global__ void kernel(int* out) {
    cub::CountingInputIterator<int> counting(3);
    cub::TransformInputIterator<int, Twice, cub::CountingInputIterator<int>> twice(counting, Twice());
    typedef cub::BlockReduce<int, 32> Reduce;
    __shared__ typename Reduce::TempStorage storage;
    out[cub::LaneId()] = Reduce(storage).Reduce(twice[threadIdx.x], cub::Max());
}
"""
    build(nvcc, source, tmp_path)


def test_numeric_limits_of_npp_are_there(nvcc: Path, tmp_path: Path) -> None:
    build(nvcc, "#include <npp.h>\n__device__ long long least = NPP_MIN_64S, most = NPP_MAX_32U;", tmp_path)


def test_members_that_cuda_13_dropped_compile_under_our_flags(nvcc: Path, tmp_path: Path) -> None:
    from segnext.backend.cuda.environment import enter

    environment: dict[str, str] = {}
    enter(nvcc.parents[1], environment, capability=(9, 0))
    source = "int figure(cudaDeviceProp& card) { return card.computeMode + card.clockRate; }"
    build(nvcc, source, tmp_path, *environment["cc_flags"].split())


def test_calls_of_cudnn_8_compile_against_cudnn_9(pieces: Survey, nvcc: Path, tmp_path: Path) -> None:
    if problem := Machine.problem():
        pytest.skip(problem)
    source = """
#include <cudnn.h>
int calls(cudnnConvolutionDescriptor_t convolution, cudnnRNNDescriptor_t network) {
    int one[2] = {1, 1};
    cudnnSetRNNDescriptor_v6(nullptr, network, 1, 1);
    return cudnnSetConvolutionNdDescriptor(convolution, 2, one, one, one, CUDNN_CROSS_CORRELATION, CUDNN_DATA_BFLOAT16);
}
"""
    build(nvcc, source, tmp_path)


@pytest.mark.parametrize("pixel", ["float", "__half", "__nv_bfloat16"])
def test_the_depthwise_kernels_compile_and_stay_in_registers(nvcc: Path, tmp_path: Path, pixel: str) -> None:
    from segnext.kernels import depthwise

    sizes = [(3, 3), (5, 5), (1, 7), (7, 1), (1, 11), (11, 1), (1, 21), (21, 1), (3, 9)]
    functions = []
    for i, instance in enumerate(depthwise._instance((1, 1, *size), side) for size in sizes for side in (16, 32)):
        convolve = depthwise._CUDA_CONVOLVE.replace("FLIP", "true")
        for name, source in (("convolve", convolve), ("correlate", depthwise._CUDA_CORRELATE)):
            body = re.sub("@alias.*", "", source).replace("INSTANCE", instance)
            outputs = {"convolve": ("out0",), "correlate": ()}[name]
            functions.append(f"void {name}{i}({parameters(pixel, 'x', 'dy', *outputs)}) {{ {body} }}")
    includes = "".join(f"#include <{name}>\n" for name in ("cuda_fp16.h", "cuda_bf16.h", "depthwise_cuda.h"))
    source = includes + "".join(functions)
    said = build(nvcc, source, tmp_path, f"-I{KERNELS}", "-Xptxas", "-v")
    spills = [int(size) for size in re.findall(r"(\d+) bytes spill stores", said)]
    assert len(spills) >= 2 * 2 * len(sizes)
    assert max(spills) <= (0 if pixel == "float" else 4)  # of narrow pixels some keep one figure of the loop aside


def operators() -> dict[str, tuple[str, str, list[str], list[str]]]:
    """Header, source, and the inputs and outputs, each as a type and a number of dimensions, of CUDA operators."""
    from segnext.kernels import adamw as adamw_kernel
    from segnext.kernels import (
        attention,
        convolution,
        cross_entropy,
        depthwise,
        gradient_norm,
        labels,
        mlp,
        nmf,
        norm,
        products,
        residual,
        resize,
        sums,
    )

    correlate = depthwise._CUDA_CORRELATE.replace("INSTANCE", "5, 5, 32")
    gradient = resize._GRADIENT.replace("RESULTS", "out1_p, out0_p")
    slopes = cross_entropy._GRADIENT
    f4, losses = "float32 4", ["float32 3", "float32 3"]
    count = adamw_kernel.TOGETHER
    adamw = (adamw_kernel._HEADER, adamw_kernel._SOURCE, [f4] * 4 * count, [f4] * 3 * count)
    found = {"AdamW": adamw, "depthwise": (depthwise._CUDA_HEADER, correlate, [f4, f4], [f4, "float32 1", "float32 3"])}
    for kind in resize._CUDA_TYPES:
        header = resize._CUDA_HEADER
        found[f"resize {kind}"] = (header, resize._FORWARD, [f"{kind} 4"], [f"{kind} 4"])
        found[f"resize {kind}, gradient"] = (header, gradient, [f"{kind} 4"], [f"{kind} 4", f4])
    f1 = "float32 1"
    narrow = "bfloat16 4"
    moving = norm._FORWARD.replace("MOVING", f"in3_p, in4_p, out3_p, out4_p, {norm._MOVING}")
    for name, source, inputs, outputs in (
        ("statistics", norm._STATISTICS, [narrow], [f1] * 3),
        ("values", norm._NORMALISE, [f4, *[f1] * 4], [narrow]),
        ("values by its own statistics", moving, [f4, *[f1] * 4], [narrow, *[f1] * 5]),
        ("gradients", norm._GRADIENTS, [f4, narrow, *[f1] * 3, f4], [f4, *[f1] * 3]),
        ("parameters", norm._PARAMETER_GRADIENTS, [f4, narrow, *[f1] * 3], [f1] * 5),
        ("input", norm._INPUT_GRADIENT, [f4, narrow, *[f1] * 5, f4], [f4]),
        ("running", norm._MOVE, [f1] * 4, [f1] * 2),
    ):
        code = source.replace("INDEX", "int").replace("MEMORY", f"out{len(outputs) - 1}_p,")
        code = code.replace("BESIDE", f"in{len(inputs) - 1}_p")
        found[f"norm, {name}"] = (norm._CUDA_HEADER, code, inputs, outputs)
    f2 = "float32 2"
    code = residual._FORWARD_CUDA.replace("SHORTCUT", "in4_p")
    found["residual"] = (residual._CUDA_HEADER, code, [f4, narrow, f1, f2, narrow], [f4])
    code = residual._GRADIENT_CUDA.replace("SHORTCUT", "nullptr")
    found["residual, gradient"] = (residual._CUDA_HEADER, code, [f4, f4, f1, f2], [f4, f1, f2])
    for kind in ("float32", "bfloat16", "float16"):
        wide, wides = f"{kind} 4", f"{kind} 5"
        parameters = [f1, wide, f1, *[f4] * 7, *[f1] * 7, wide, f1, wide, f1]
        inputs, header = [f4, wide, f2, *parameters], products.PRODUCTS_CUDA + attention._HEADER
        found[f"attention, {kind}"] = (header, attention._FORWARD.replace("SIDE", "32"), inputs, [f4, *[wide] * 6])
        gradients = [wide, *(each.replace(kind, "float32") for each in parameters), wides, f1]
        code = attention._GRADIENT.replace("SIDE", "32")
        found[f"attention, {kind}, gradient"] = (header, code, [*inputs, *[wide] * 5], gradients)
        found[f"product, {kind}"] = (
            convolution._CUDA_HEADER,
            convolution._CUDA_FORWARD + convolution._CUDA_ADD_BIAS,
            [wide, wide, f"{kind} 1"],
            [wide],
        )
        code = convolution._CUDA_GRADIENTS.replace("ROOM", "out3").replace("BIAS", convolution._CUDA_BIAS_GRADIENT)
        found[f"product, {kind}, gradient"] = (convolution._CUDA_HEADER, code, [wide] * 3, [wide, f4, f1, f1])
        parameters = [f1, wide, f1, f4, f1, wide, f1]
        inputs, header = [f4, wide, f2, *parameters], products.PRODUCTS_CUDA + mlp._HEADER
        found[f"MLP, {kind}"] = (header, mlp._FORWARD.replace("SIDE", "16"), inputs, [f4, *[wide] * 3])
        gradients = [wide, *(each.replace(kind, "float32") for each in parameters), wide, wides, f1]
        code = mlp._GRADIENT.replace("SIDE", "16")
        found[f"MLP, {kind}, gradient"] = (header, code, [*inputs, wide, wide], gradients)
    for kind in resize._CUDA_TYPES:
        found[f"sum of channels, {kind}"] = (sums.PLANES_CUDA, sums._CHANNELS, [f"{kind} 4"], [f"{kind} 1", f1])
    found["mean"] = (sums.PLANES_CUDA, sums._ALL, [f4], [f1, f1])
    f3, header = "float32 3", products.PRODUCTS_CUDA + nmf._CUDA_HEADER
    found["factorisation"] = (header, nmf._CUDA_FORWARD, [f3, f3], [f3, f2, f1])
    found["factorisation, gradient"] = (header, nmf._CUDA_GRADIENT, [f3, f3, f2], [f3, f1])
    code = gradient_norm._SOURCE.replace("RESULTS", "out0_p, out1_p, (int)out1_shape1")
    found["gradient norm"] = (gradient_norm._CUDA_HEADER, code, [f1, *[f4] * gradient_norm.TOGETHER], [f1, f2])
    windows = ", ".join(f"in{2 + i}_p" for i in range(labels.MOST_WINDOWS))
    code = labels._CUDA_SOURCE.replace("COUNT", str(labels.MOST_WINDOWS)).replace("WINDOWS", windows)
    inputs = ["int32 1", f1, *["float32 3"] * labels.MOST_WINDOWS]
    found["labels"] = (labels._CUDA_HEADER, code, inputs, ["int32 2", f2])
    header = cross_entropy._CUDA_HEADER
    found["loss"] = (header, cross_entropy._FORWARD, [f4, "int32 3"], losses)
    found["loss, gradient"] = (header, slopes, [f4, "int32 3", *losses], [f4, "float32 3"])
    return found


def families() -> dict[str, list[str]]:
    """Names of the operators with one header, by the first of them: they are compiled together, which takes as long
    as one of them, since nearly all the compiler's time goes into Jittor's headers."""
    found: dict[str, list[str]] = {}
    for name, (header, *_) in operators().items():
        found.setdefault(header, []).append(name)
    return {names[0]: names for names in found.values()}


@pytest.mark.parametrize("family", families().values(), ids=families())
def test_operators_compile_as_jittor_writes_them(nvcc: Path, tmp_path: Path, family: list[str]) -> None:
    """Jittor's template of such an operator, with the macros expanded by Jittor itself, against Jittor's headers."""
    from segnext.backend.cuda.environment import enter

    if "<cublas_v2.h>" in operators()[family[0]][0] and not (nvcc.parents[1] / "include/cublas_v2.h").exists():
        pytest.skip("missing: nvidia-cublas")
    jt = backend.start()
    template = Path(jt.flags.jittor_path, "src/ops/code_op.cc").read_text()
    before, after = template.split("#else // JIT")
    lines = [*re.findall("^#include.*", before, re.MULTILINE), "#define index_t int32"]
    lines.append('#include "type/fp16_compute.h"')  # Jittor adds it for narrow types
    for number, name in enumerate(family):
        header, code, inputs, outputs = operators()[name]
        values = {"IN_SIZE": str(len(inputs)), "OUT_SIZE": str(len(outputs)), "CODE": code}
        values["HEADER"] = header if number == 0 else ""
        macros = []
        for prefix, variables in (("in", inputs), ("out", outputs)):
            for i, variable in enumerate(variables):
                kind, dimensions = variable.split()
                values[f"{prefix}{i}_dim"] = dimensions
                lines.append(f"#define {prefix}{i}_type {kind}")
                macros += [f"{prefix}{i}_type", f"{prefix}{i}_stride{int(dimensions) - 1}"]
        expanded = jt.core.op_compiler.precompile(values, after[: after.index("#endif // JIT")])
        assert "CodeOp::jit_run" in expanded
        lines.append(f"namespace jittor {{ struct Operator{number} : CodeOp {{ void jit_run(); }}; }}")
        lines.append(expanded.replace("CodeOp::jit_run", f"Operator{number}::jit_run"))
        lines += [f"#undef {macro}" for macro in macros]
    environment: dict[str, str] = {}
    enter(nvcc.parents[1], environment, capability=(9, 0))
    flags = [flag.replace('"', "") for flag in jt.flags.cc_flags.split() if flag.startswith("-I")]
    flags += [f"-I{jt.flags.jittor_path}/extern/cuda/inc", "-DHAS_CUDA", "-DIS_CUDA", "-DJIT", "-DJIT_cuda", "-w"]
    build(nvcc, "\n".join(lines), tmp_path, *environment["cc_flags"].split(), *flags)


def parameters(pixel: str, *narrow: str) -> str:
    """What Jittor names in an operator: pointers, to ``pixel`` those of ``narrow``, and sizes."""
    names = ("x", "kernels", "bias", "dy", "out0", "out1", "out2")
    pointers = [f"{pixel if name in narrow else 'float'}* {name}_p" for name in names]
    return ", ".join(
        pointers + [f"long {name}_shape{i}" for name in ("x", "kernels", "out0", "out2") for i in range(4)]
    )
