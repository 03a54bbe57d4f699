"""Bringing Jittor up: refusals with a cure, and the screen and signals left alone."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from segnext import backend
from segnext.backend.compiler import find_compiler
from segnext.backend.packages import check_packages, lay_onednn
from segnext.errors import BackendError


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_importing_the_package_does_not_import_jittor() -> None:
    done = run_python("import segnext, sys; print('jittor' in sys.modules or 'jittor_utils' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_python_messages_reach_the_screen_and_compiler_output_does_not(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from segnext import backend\n"
        f"backend.start('cpu', log=Path({str(tmp_path / 'jittor.log')!r}))\n"
        "os.write(2, b'from the C++ side\\n'); print('message', file=sys.stderr); print('result')"
    )
    done = run_python(code)
    assert done.stdout == "result\n"
    assert done.stderr == "message\n"
    assert "from the C++ side" in (tmp_path / "jittor.log").read_text()


def test_a_child_that_dies_does_not_end_the_process() -> None:
    code = (
        "import subprocess; from segnext import backend; backend.start('cpu')\n"
        "subprocess.run(['sh', '-c', 'kill -9 $$']); print('alive')"
    )
    assert run_python(code).stdout == "alive\n"


def test_a_child_process_finds_the_compile_cache_of_its_parent() -> None:
    backend.start()
    name = os.environ["cache_name"]
    child = run_python("import os; from segnext import backend; backend.start(); print(os.environ['cache_name'])")
    assert child.stdout.strip() == name


def test_interrupts_raise_keyboard_interrupt_again() -> None:
    backend.start()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_cpu_mode_ignores_an_nvcc_on_the_path(tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    done = run_python(
        "from segnext import backend; print(backend.start('cpu').compiler.nvcc_path == '')",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
    )
    assert done.stdout.strip() == "True", done.stderr


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BackendError, match="choose one of auto, cpu, cuda"):
        backend.start("tpu")


@pytest.mark.parametrize(
    ("package", "version", "message"),
    [("numpy", "2.1.0", 'pip install "numpy<2"'), ("jittor", "1.3.9.14", "tested on 1.3.11.0")],
)
def test_a_version_known_to_be_wrong_is_refused(
    monkeypatch: pytest.MonkeyPatch, package: str, version: str, message: str
) -> None:
    installed = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == package else installed(name))
    with pytest.raises(BackendError) as error:
        check_packages()
    assert message in str(error.value)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("cc_path", "/nowhere/g++")
    with pytest.raises(BackendError, match="install g\\+\\+"):
        find_compiler()


def test_one_dnn_from_its_wheel_is_laid_where_jittor_looks(tmp_path: Path) -> None:
    lay_onednn(tmp_path)
    folder = tmp_path / ".cache/jittor/mkl/dnnl_lnx_2.2.0_cpu_gomp"
    assert (folder / "include/dnnl.hpp").is_file()
    assert (folder / "lib/libmkldnn.so").is_file()
    assert (folder / "lib/libdnnl.so.2").is_file()


def test_jittor_keeps_no_idle_processes_after_the_start() -> None:
    code = "from segnext import backend; backend.start('cpu'); import psutil; print(psutil.Process().children())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_recursion_and_certificates_stay_as_they_are_in_python() -> None:
    backend.start()
    assert sys.getrecursionlimit() < 10_000
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED
    assert ssl._create_default_https_context().verify_mode is ssl.CERT_REQUIRED
