"""What is said of a GPU, its driver and its CUDA; a small library stands in for NVIDIA's driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backend.cuda.machine import build_driver
from tests.backend.cuda.simulated import add_nvcc, add_wheels

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine") / "driver"
    build_driver(folder)
    return folder


class Machine:
    """A simulated machine: its driver, its site-packages, its nvcc."""

    def __init__(self, folder: Path, driver: Path) -> None:
        self.site = folder / "site"
        self.site.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "cc_flags")},
            "LD_LIBRARY_PATH": str(driver),
            "PYTHONPATH": f"{REPOSITORY}:{self.site}",
            "SEGNEXT_HOME": str(folder / "home"),
            "nvcc_path": "",
        }

    def run(self, code: str, **settings: object) -> str:
        # No compiler and no wheel of the real machine may be found.
        before = (
            "import shutil; from pathlib import Path; from segnext.backend.cuda import pieces, toolkit\n"
            "toolkit.USUAL = Path('/nowhere'); shutil.which = lambda name: None; found = pieces.site_folders\n"
            f"pieces.site_folders = lambda: [folder for folder in found() if folder == Path({str(self.site)!r})]\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", before + code],
            capture_output=True,
            text=True,
            env={**self.environment, **{name: str(value) for name, value in settings.items()}},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def problem(self, **settings: object) -> str:
        return self.run("from segnext import backend; print(backend.cuda_problem())", **settings)


@pytest.fixture
def machine(tmp_path: Path, driver: Path) -> Machine:
    return Machine(tmp_path, driver)


CHOOSE = """
import os; from segnext.backend.device import choose_device; from segnext.errors import BackendError
try:
    print(choose_device({device!r}, lambda line: print('announced:', line)))
except BackendError as error:
    print('refused:', error)
print(os.environ['nvcc_path']); print(os.environ.get('cc_flags', 'no flags'))
"""


def test_with_a_gpu_and_all_wheels_jittor_gets_the_assembled_home(machine: Machine) -> None:
    add_wheels(machine.site)
    assert machine.problem() == ""
    chosen, nvcc, flags = machine.run(CHOOSE.format(device="auto")).splitlines()
    assert chosen == "cuda"
    assert Path(nvcc).is_file()
    assert Path(nvcc).is_relative_to(Path(machine.environment["SEGNEXT_HOME"]) / "cuda")
    assert "-DcomputeMode=major" in flags


def test_without_wheels_auto_takes_the_cpu_and_says_why_in_one_line(machine: Machine) -> None:
    announced, chosen, nvcc, flags = machine.run(CHOOSE.format(device="auto"), nvcc_path="").split("\n")
    assert announced.startswith("announced: No GPU is used, but the CPU: a GPU is present, but parts of CUDA 13")
    assert 'pip install "segnext-jittor[cuda13]"' in announced
    assert (chosen, nvcc, flags) == ("cpu", "", "no flags")


def test_without_wheels_cuda_is_refused(machine: Machine) -> None:
    refused = machine.run(CHOOSE.format(device="cuda")).splitlines()[0]
    assert refused.startswith("refused: device=cuda: a GPU is present, but parts of CUDA 13 are missing")
    assert refused.endswith("device=cpu trains on the processor")


def test_without_a_driver_the_cpu_is_taken_silently(machine: Machine) -> None:
    absent = "import ctypes\ndef absent(name): raise OSError(name)\nctypes.CDLL = absent\n"
    assert machine.run(absent + CHOOSE.format(device="auto")).split("\n") == ["cpu", "", "no flags"]


def test_cuda_12_with_cudnn_8_is_used_as_it_is(machine: Machine, tmp_path: Path) -> None:
    add_nvcc(tmp_path / "old/bin/nvcc", version="12.4.131")
    (tmp_path / "old/include").mkdir()
    (tmp_path / "old/include/cudnn_version.h").write_text("#define CUDNN_MAJOR 8\n")
    add_wheels(machine.site)
    old = str(tmp_path / "old/bin/nvcc")
    assert machine.run(CHOOSE.format(device="cuda"), nvcc_path=old).splitlines() == ["cuda", old, "no flags"]
    assert machine.problem(nvcc_path=old, FAKE_CUDA=12020) == ""  # minor version compatibility
    assert "install a newer NVIDIA driver" in machine.problem(nvcc_path=old, FAKE_CUDA=11080)


def test_cuda_12_with_cudnn_9_leaves_the_choice_to_the_wheels(machine: Machine, tmp_path: Path) -> None:
    add_nvcc(tmp_path / "old/bin/nvcc", version="12.4.131")
    (tmp_path / "old/include").mkdir()
    (tmp_path / "old/include/cudnn_version.h").write_text("#define CUDNN_MAJOR 9\n")
    old = str(tmp_path / "old/bin/nvcc")
    assert "(cuDNN 9 is there)" in machine.problem(nvcc_path=old)
    add_wheels(machine.site)
    assert machine.problem(nvcc_path=old) == ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"FAKE_INIT": 999}, ("cuInit returned 999, a reason", "nvidia-smi")),
        ({"FAKE_INIT": 100}, ("no CUDA device is visible",)),
        ({"FAKE_COUNT": 0, "CUDA_VISIBLE_DEVICES": "-1"}, ("no CUDA device is visible (CUDA_VISIBLE_DEVICES='-1')",)),
        ({"FAKE_CUDA": 12080}, ("runs CUDA up to 12.8", "driver 580 or newer", "CUDA 12 toolkit with cuDNN 8")),
        ({"FAKE_CAPABILITY": 70}, ("compute capability 7.0", "CUDA 11 or 12 toolkit")),
        ({"FAKE_FREE_MIB": 512}, ("Simulated GPU has only 0.5 of 80 GiB free", "CUDA_VISIBLE_DEVICES")),
    ],
    ids=["driver does not start", "no device", "hidden", "old driver", "old card", "full memory"],
)
def test_what_stands_in_the_way_is_named_with_its_cure(
    machine: Machine, settings: dict[str, object], words: tuple[str, ...]
) -> None:
    add_wheels(machine.site)
    problem = machine.problem(**settings)
    for word in words:
        assert word in problem


def test_cards_of_different_capability_have_caches_of_their_own(machine: Machine) -> None:
    names = (
        "shutil.which = lambda name: '/bin/true'; from segnext.backend.compile_cache import CompileCache as C; "
        "print(C.of_this_machine('cpu').name, C.of_this_machine('cuda').name)"
    )
    (cpu, old), (cpu_again, new) = (machine.run(names, FAKE_CAPABILITY=c).split() for c in (80, 90))
    assert cpu == cpu_again
    assert (old, new) == (f"{cpu}-sm80", f"{cpu}-sm90")
