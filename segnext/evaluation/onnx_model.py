"""An exported model, run by ONNX Runtime or OpenVINO: what inference needs of a model, without Jittor or a compiler."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segnext.errors import ConfigError, WeightsError
from segnext.evaluation.arrays import NumpyArrays
from segnext.weights.checkpoint import EXPORTED, CheckpointInfo

__all__ = ["Engine", "OnnxModel", "run_onnx"]


class Engine(str, Enum):
    """What computes a model: Jittor from a checkpoint, the others from an exported file."""

    jittor = "jittor"
    onnxruntime = "onnxruntime"
    openvino = "openvino"


class Session(Protocol):
    """A loaded graph of one input and one output."""

    metadata: Mapping[str, str]

    def run(self, images: NDArray[Any]) -> NDArray[Any]: ...


class OnnxModel:
    """Maps normalised images (B,3,H,W) float32 to logits (B, classes, ⌈H/8⌉, ⌈W/8⌉), both NumPy arrays.

    The bases are in the file and the same for every image, so ``seed_noise`` changes nothing.

    Attributes:
        info: what the checkpoint says that was exported.
        seed: the one that chose the bases.
    """

    arrays = NumpyArrays()

    def __init__(
        self, path: str | Path, *, engine: Engine | str = Engine.onnxruntime, device: str = "auto", threads: int = 0
    ) -> None:
        """Loads a file of ``runners.export`` with ``input.kind=tensor output.kind=logits``, its defaults.

        Args:
            path: of the file.
            engine: onnxruntime or openvino.
            device: auto (CUDA where the library has it), cpu or cuda.
            threads: of the processor; 0: as many as the library thinks best.

        Raises:
            ConfigError: the engine is not installed, or has no such device.
            WeightsError: the file is missing, no ONNX file, not of ours, of a newer opset than the engine knows, or of
                another kind.
        """
        self.path = Path(path)
        if self.path.suffix != EXPORTED:
            raise WeightsError(
                f"engine={Engine(engine).value} runs exported files, and {path} is none: "
                "python -m runners.export checkpoint=… output=model.onnx makes one"
            )
        self._session = run_onnx(self.path, engine=engine, device=device, threads=threads)
        metadata = self._session.metadata
        info = CheckpointInfo.from_metadata(metadata, origin=str(path))
        if info is None:
            raise WeightsError(f"{path} was not written by runners.export, or lost its metadata: export it again")
        kinds = metadata.get("input"), metadata.get("output")
        if kinds != ("tensor", "logits"):
            raise WeightsError(
                f"{path} maps {kinds[0]} to {kinds[1]}, which serves other programs: "
                "export it with input.kind=tensor output.kind=logits to use it here"
            )
        self.info = info
        self.seed = int(metadata.get("seed", 0))

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return self._session.run(images)
        except Exception as error:  # of the engine's own kinds
            height, width = images.shape[2:]
            raise WeightsError(
                f"{self.path} takes no input of {height}×{width} pixels ({_first_line(error)}): "
                "export it without size=, or for this size"
            ) from error

    def seed_noise(self, seeds: Sequence[int] | None) -> None: ...

    def eval(self) -> None: ...

    def train(self) -> None: ...

    def is_training(self) -> bool:
        return False


def run_onnx(path: str | Path, *, engine: Engine | str, device: str = "auto", threads: int = 0) -> Session:
    """Loads any ONNX file; arguments and errors as of ``OnnxModel``."""
    engine = Engine(engine)
    if engine is Engine.jittor:
        raise ConfigError(f"{path} is an exported file: give engine=onnxruntime or engine=openvino")
    try:
        library = importlib.import_module(engine.value)
    except ImportError as error:
        extra = "deploy" if engine is Engine.onnxruntime else "deploy,openvino"
        raise ConfigError(
            f"engine={engine.value} is not installed ({error}): pip install 'segnext-jittor[{extra}]'"
        ) from error
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(f"{path} does not exist: name a file that runners.export wrote")
    session = _OnnxRuntime if engine is Engine.onnxruntime else _OpenVino
    try:
        return session(library, path, device=device, threads=threads)
    except ConfigError:
        raise
    except Exception as error:  # of the engine's own kinds
        raise WeightsError(
            f"{path} cannot be run by {engine.value} {library.__version__} ({_first_line(error)}): "
            "export it again, with a lower opset= if this one is unknown, or upgrade the engine"
        ) from error


class _OnnxRuntime:
    def __init__(self, library: Any, path: Path, *, device: str, threads: int) -> None:
        providers = ["CPUExecutionProvider"]
        if device != "cpu" and "CUDAExecutionProvider" in library.get_available_providers():
            providers.insert(0, "CUDAExecutionProvider")
        elif device == "cuda":
            raise ConfigError("device=cuda: this onnxruntime has no CUDA, install onnxruntime-gpu in its place")
        options = library.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors, which are raised as well
        self._session = library.InferenceSession(str(path), options, providers=providers)
        self._input = self._session.get_inputs()[0].name
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, images: NDArray[Any]) -> NDArray[Any]:
        result: NDArray[Any] = self._session.run(None, {self._input: images})[0]
        return result


class _OpenVino:
    def __init__(self, library: Any, path: Path, *, device: str, threads: int) -> None:
        if device == "cuda":
            raise ConfigError("device=cuda: OpenVINO runs on processors and Intel's devices, give device=cpu")
        core = library.Core()
        model = core.read_model(path)
        kept = model.get_rt_info()
        self.metadata: Mapping[str, str] = (
            {key: str(value.value) for key, value in kept["framework"].items()} if "framework" in kept else {}
        )
        # As written: OpenVINO would otherwise compute in bfloat16 where the processor can.
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = str(threads)
        self._compiled = core.compile_model(model, "CPU", options)

    def run(self, images: NDArray[Any]) -> NDArray[Any]:
        result: NDArray[Any] = self._compiled(images)[0]
        return result


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
