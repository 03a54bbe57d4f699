from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from segnext import backend
from segnext.backend.cuda.pieces import survey
from segnext.doctor import State, machine
from segnext.errors import BackendError
from tests.backend.cuda.simulated import add_wheels


def program(folder: Path, name: str, script: str) -> Path:
    """An executable shell script."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def test_a_compiler_that_works_is_named_with_its_version() -> None:
    finding = machine.check_compiler()
    assert finding.state is State.ok
    assert "with OpenMP and Python's headers" in finding.text


def test_a_missing_compiler_is_a_problem_with_its_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("cc_path", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = machine.check_compiler()
    assert finding.state is State.problem
    assert "apt install g++" in finding.cure


@pytest.mark.parametrize(
    ("complaint", "text", "cure"),
    [
        ("trial.cc:2:10: fatal error: Python.h: No such file", "Python.h", "-dev"),
        ("trial.cc:3:10: fatal error: omp.h: No such file", "no OpenMP", "libgomp"),
        ("cc1plus: fatal error: out of luck", "out of luck", "reinstall"),
    ],
)
def test_what_the_compiler_lacks_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, complaint: str, text: str, cure: str
) -> None:
    script = f"""case "$1" in -dump*) echo 9.9 ;; *) echo "{complaint}" >&2; exit 1 ;; esac"""
    monkeypatch.setenv("cc_path", str(program(tmp_path, "g++", script)))
    finding = machine.check_compiler()
    assert finding.state is State.problem
    assert finding.text.startswith("g++ 9.9")
    assert text in finding.text
    assert cure in finding.cure


def test_a_busy_processor_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (999.0, 0.0, 0.0))
    assert machine.check_processor().state is State.warning
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.0, 0.0))
    assert machine.check_processor().state is State.ok


def test_a_containers_limit_counts_as_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(total=64_000_000_000, available=32_000_000_000)
    )
    monkeypatch.setattr(machine, "_container_limit", lambda: 1_500_000_000)
    finding = machine.check_memory()
    assert finding.state is State.warning
    assert finding.text.startswith("1.5 of 1.5 GB free (this container's limit")
    monkeypatch.setattr(machine, "_container_limit", lambda: None)
    assert machine.check_memory().text == "32.0 of 64.0 GB free"


CARD = "NVIDIA H100 80GB HBM3, 81559, 80000, 550.54"


def test_no_gpu_is_well_unless_one_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(backend, "cuda_problem", lambda: "no NVIDIA driver is installed")
    assert machine.check_gpu("auto").state is State.ok
    assert "no NVIDIA driver" in machine.check_gpu("auto").text
    assert machine.check_gpu("cuda").state is State.problem


def test_a_gpu_is_named_with_its_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path, "nvidia-smi", f"echo '{CARD}'")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(backend, "cuda_problem", lambda: "")
    finding = machine.check_gpu()
    assert finding.state is State.ok
    assert finding.text == "NVIDIA H100 80GB HBM3, 78 of 80 GiB free, driver 550.54"


def test_a_gpu_that_cannot_be_used_is_a_warning_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(tmp_path, "nvidia-smi", f"echo '{CARD}'")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(backend, "cuda_problem", lambda: "a GPU is present, but no nvcc")
    finding = machine.check_gpu()
    assert finding.state is State.warning
    assert "no nvcc" in finding.text
    assert "H100" in finding.text


def test_nvcc_and_cudnn_are_found_with_their_versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "include").mkdir()
    nvcc = program(tmp_path / "bin", "nvcc", "echo 'Cuda compilation tools, release 12.4, V12.4.131'")
    header = "#define CUDNN_MAJOR 8\n#define CUDNN_MINOR 9\n#define CUDNN_PATCHLEVEL 7\n"
    (tmp_path / "include/cudnn_version.h").write_text(header)
    monkeypatch.setenv("nvcc_path", str(nvcc))
    finding = machine.check_cuda()
    assert finding.state is State.ok
    assert finding.text.startswith("nvcc 12.4.131, cuDNN 8.9.7")


def test_complete_pieces_of_cuda_13_are_named_with_their_versions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_wheels(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("nvcc_path", str(tmp_path / "nvidia/cu13/bin/nvcc"))
    finding = machine.check_cuda()
    assert finding.state is State.ok
    assert "nvidia-cublas 13.1.0.3, nvidia-cudnn-cu13 9.19.0.56" in finding.text


@pytest.mark.parametrize("gpu", [True, False])
def test_missing_pieces_of_cuda_13_matter_with_a_gpu_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpu: bool
) -> None:
    def read_card() -> None:
        if not gpu:
            raise BackendError("no NVIDIA driver is installed")

    monkeypatch.setattr(machine, "read_card", read_card)
    monkeypatch.setattr(machine, "survey", lambda: survey(sites=[tmp_path], toolkits=[]))
    finding = machine.check_cuda()
    assert finding.state is (State.warning if gpu else State.ok)
    assert ("nvidia-cublas" in finding.text) is gpu
    assert ("segnext-jittor[cuda13]" in finding.cure) is gpu


def test_an_nvcc_that_does_not_run_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("nvcc_path", str(program(tmp_path, "nvcc", "exit 1")))
    assert machine.check_cuda().state is State.warning
