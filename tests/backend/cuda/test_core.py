"""Jittor's whole CUDA core, and a training step of tiny, compiled for sm_90 through our own CUDA home; nothing runs.

A stand-in for NVIDIA's driver and for the libraries that need one takes the place of a GPU. Minutes; docs/gpu.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segnext.backend.cuda.home import assemble
from segnext.backend.cuda.pieces import Survey, survey
from tests.backend.cuda.machine import build_driver

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[3]
LIBRARIES = ("libcudart.so.13", "libcublas.so.13", "libcudnn.so.9", "libcurand.so.10", "libcusparse.so.12")
EXTENSIONS = ("cub", "cublas", "cudnn", "curand", "cufft", "cusparse")

IMPORT = "from segnext import backend; backend.start('cuda', log=Path('jittor.log'))"
STEP = f"""
import sys; from pathlib import Path; {IMPORT}
from segnext import create_model
from segnext.benchmark.workloads import TrainingStep, random_batch
from segnext.training.optimizer import AdamW, parameter_groups
model = create_model("tiny", num_classes=7, precision=sys.argv[1])
parameters = model.parameters_to_train()
TrainingStep(model, AdamW(parameters, parameter_groups(parameters)), *random_batch(2, (64, 96), 7))()
print("a step on", backend.device_name(), backend.start().flags.cuda_archs)
"""


class Machine:
    """A machine with the real compiler and wheels, and a GPU that computes nothing."""

    def __init__(self, folder: Path, pieces: Survey) -> None:
        self.folder = folder
        self.cuda = assemble(pieces, folder / "segnext/backend/cuda")
        build_driver(folder / "driver")
        self.stand_in(LIBRARIES[0])

    def build(self, source: Path, library: Path) -> None:
        flags = ["-shared", "-fPIC", f"-I{self.cuda}/include", f"-Wl,-soname,{library.name}"]
        subprocess.run(["g++", *flags, "-o", str(library), str(source)], check=True)

    def stand_in(self, name: str) -> None:
        library = self.folder / name
        self.build(Path(__file__).with_name("stand_in.cc"), library)
        for link in (self.cuda / "lib64" / name, self.cuda / "lib64" / f"{name.partition('.so')[0]}.so"):
            link.unlink()
            link.symlink_to(library)

    def run(self, code: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name not in ("cc_flags", "JITTOR_HOME")}
        environment |= {
            "HOME": str(self.folder),  # of Jittor's compile cache, too
            "SEGNEXT_HOME": str(self.folder / "segnext"),
            "LD_LIBRARY_PATH": str(self.folder / "driver"),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
            **settings,
        }
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.folder, check=False)

    def compiled(self, pattern: str) -> list[str]:
        return [path.name for path in (self.folder / ".cache/jittor").rglob(pattern)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The machine after Jittor's core was compiled for the first time, against the real libraries."""
    pieces = survey()
    if pieces.toolkit is None or pieces.missing:
        pytest.skip(pieces.problem() or "no nvcc 13")
    machine = Machine(tmp_path_factory.mktemp("machine"), pieces)
    done = machine.run(f"from pathlib import Path; {IMPORT}")
    # All is compiled and loaded by now; then the stand-in says that there is no GPU, and no library was opened on one.
    assert "Jittor came up without CUDA" in done.stderr, done.stderr + (machine.folder / "jittor.log").read_text()
    return machine


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_core_and_its_extensions_compile_and_load(machine: Machine, name: str) -> None:
    assert machine.compiled("jittor_core*.so")
    assert machine.compiled(f"gen_ops_{name}_*.so")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_operator_of_a_training_step_compiles(machine: Machine, precision: str) -> None:
    for name in LIBRARIES[1:]:
        machine.stand_in(name)
    done = machine.run(STEP, precision, STAND_IN_LIBRARIES="1")
    assert done.returncode == 0, done.stderr + (machine.folder / "jittor.log").read_text()[-4000:]
    assert done.stdout.strip() == "a step on cuda [90]"
