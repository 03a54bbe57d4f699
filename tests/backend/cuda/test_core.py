"""Jittor's whole CUDA core, and a training step of tiny, compiled for sm_90 through our own CUDA home; nothing runs.

The CUDA machine takes the place of a GPU, without translating. Minutes; docs/gpu.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backend.cuda.machine import Machine

pytestmark = pytest.mark.long

EXTENSIONS = ("cub", "cublas", "cudnn", "curand", "cufft", "cusparse")

STEP = """
from segnext import backend
from segnext import create_model
from segnext.benchmark.workloads import TrainingStep, random_batch
from segnext.training.optimizer import AdamW, parameter_groups
model = create_model("tiny", num_classes=7, precision=sys.argv[1])
parameters = model.parameters_to_train()
TrainingStep(model, AdamW(parameters, parameter_groups(parameters)), *random_batch(2, (64, 96), 7))()
print("a step on", backend.device_name(), backend.start().flags.cuda_archs)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a machine whose core was just compiled for the first time, against the real libraries."""
    if problem := Machine.problem():
        pytest.skip(problem)
    folder = tmp_path_factory.mktemp("machine")
    done = Machine(folder, translated=False, libraries=False).run("", CUDA_MACHINE_REAL_LIBRARIES="1")
    # All is compiled and loaded by now; then the machine says that there is no GPU, and no library was opened on one.
    assert "Jittor came up without CUDA" in done.stderr, done.stderr + (folder / "jittor.log").read_text()
    return folder


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_core_and_its_extensions_compile_and_load(folder: Path, name: str) -> None:
    machine = Machine(folder, translated=False, libraries=False)
    assert machine.compiled("jittor_core*.so")
    assert machine.compiled(f"gen_ops_{name}_*.so")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_operator_of_a_training_step_compiles(folder: Path, precision: str) -> None:
    done = Machine(folder, translated=False).run(STEP, precision)
    assert done.returncode == 0, done.stderr + (folder / "jittor.log").read_text()[-4000:]
    assert done.stdout.strip() == "a step on cuda [90]"
