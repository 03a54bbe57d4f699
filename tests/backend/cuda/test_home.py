"""A simulated set of wheels gives a complete CUDA home on a machine without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segnext.backend.cuda.home import assemble
from segnext.backend.cuda.pieces import PIECES, Piece, Survey, survey
from segnext.backend.cuda.toolkit import read_toolkit
from segnext.errors import BackendError
from tests.backend.cuda.simulated import add_nvcc, add_piece, add_wheels

LIBRARIES = ("cudart", "cublas", "cublasLt", "cudnn", "curand", "cufft", "cusparse", "nvrtc", "nvJitLink")
CUDNN_8 = ("cudnn_ops_infer", "cudnn_ops_train", "cudnn_cnn_infer", "cudnn_cnn_train")
HEADERS = ("cuda_runtime.h", "cublas_v2.h", "cudnn_nvidia.h", "curand.h", "cufft.h", "cufftXt.h", "cusparse.h")


def look(site: Path) -> Survey:
    toolkit = read_toolkit(site / "nvidia/cu13/bin/nvcc")
    return survey(sites=[site], toolkits=[toolkit] if toolkit else [])


@pytest.fixture
def site(tmp_path: Path) -> Path:
    add_wheels(tmp_path / "site")
    return tmp_path / "site"


def test_the_wheels_give_a_home_with_nothing_missing(site: Path, tmp_path: Path) -> None:
    found = look(site)
    assert found.problem() == ""
    home = assemble(found, tmp_path / "cuda")
    for name in (*LIBRARIES, *CUDNN_8):
        assert (home / f"lib64/lib{name}.so").is_file(), name
    for name in (*HEADERS, "cudnn.h", "npp.h", "cub/cub.cuh"):
        assert (home / "include" / name).is_file(), name
    assert (home / "lib64/libcudnn_ops_infer.so").resolve().name == "libcudnn_ops.so.9"
    assert (home / "lib64/libcudnn_cnn_train.so").resolve().name == "libcudnn_cnn.so.9"


def test_shims_are_files_and_everything_else_is_a_link(site: Path, tmp_path: Path) -> None:
    home = assemble(look(site), tmp_path / "cuda")
    files = {str(file.relative_to(home)) for file in home.rglob("*") if file.is_file() and not file.is_symlink()}
    assert files == {
        "bin/nvcc",
        "include/npp.h",
        "include/cudnn.h",
        "include/cub/cub.cuh",
        "include/segnext_launch_check.h",
    }


def test_the_compiler_is_asked_for_cpp_17(site: Path, tmp_path: Path) -> None:
    nvcc = assemble(look(site), tmp_path / "cuda") / "bin/nvcc"
    done = subprocess.run([nvcc, "-c", "-std=c++14", "a file.cu"], capture_output=True, text=True, check=True)
    assert done.stdout == "-c -std=c++17 a file.cu\n"


def test_operators_are_compiled_for_the_card_with_ptx_for_newer_ones(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = assemble(look(site), tmp_path / "cuda") / "bin/nvcc"
    monkeypatch.setenv("SEGNEXT_CUDA_ARCHITECTURE", "120")
    done = subprocess.run([nvcc, "-arch=compute_90", "-code=sm_90"], capture_output=True, text=True, check=True)
    assert done.stdout == "-gencode=arch=compute_120,code=[sm_120,compute_120]\n"


def test_operators_are_asked_whether_their_kernels_were_started(site: Path, tmp_path: Path) -> None:
    nvcc = assemble(look(site), tmp_path / "cuda") / "bin/nvcc"
    operator = tmp_path / "jit/sum_op.cc"
    operator.parent.mkdir()
    operator.write_text("void jittor::FusedOp::jit_run() {\n    kernel<<<1, 32>>>();\n}\n")
    done = subprocess.run([nvcc, operator], capture_output=True, text=True, check=True)
    checked = Path(done.stdout.strip())
    assert checked == tmp_path / "jit/sum_op.checked.cc"
    first, _, inside = checked.read_text().splitlines()[:3]
    assert first == '#include "segnext_launch_check.h"'
    assert "LaunchCheck" in inside


def test_a_child_process_that_gets_our_compiler_assembles_the_same_home(site: Path, tmp_path: Path) -> None:
    home = assemble(look(site), tmp_path / "cuda")
    toolkit = read_toolkit(home / "bin/nvcc")
    assert toolkit is not None
    assert assemble(survey(sites=[site], toolkits=[toolkit]), tmp_path / "cuda") == home


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.wheel)
def test_a_missing_piece_is_named_with_its_cure(tmp_path: Path, piece: Piece) -> None:
    wheel, version = piece.wheel, piece.version
    add_wheels(tmp_path, without=wheel)
    found = look(tmp_path)
    assert f"{wheel} missing: pip install {wheel}=={version}" in found.lines()
    with pytest.raises(BackendError, match=wheel):
        assemble(found, tmp_path / "cuda")


def test_one_command_brings_several_missing_pieces(tmp_path: Path) -> None:
    assert 'pip install "segnext-jittor[cuda13]"' in survey(sites=[tmp_path], toolkits=[]).problem()


def test_cudnn_for_cuda_12_is_not_taken_though_it_has_the_same_folder(site: Path) -> None:
    (site / "nvidia_cudnn_cu13-9.19.0.56.dist-info").rename(site / "nvidia_cudnn_cu12-9.19.0.56.dist-info")
    assert [piece.wheel for piece in look(site).missing] == ["nvidia-cudnn-cu13"]


def test_an_older_compiler_is_told_of(site: Path, tmp_path: Path) -> None:
    add_nvcc(tmp_path / "old/bin/nvcc", version="12.4.131")
    old = read_toolkit(tmp_path / "old/bin/nvcc")
    assert old is not None
    problem = survey(sites=[tmp_path], toolkits=[old]).problem()
    assert "nvidia-cuda-nvcc" in problem
    assert "old/bin/nvcc is CUDA 12.4.131" in problem


def test_a_toolkit_of_the_system_completes_the_wheels(site: Path, tmp_path: Path) -> None:
    system = tmp_path / "system"
    for piece in PIECES:
        if piece.of_compiler:
            for name in piece.files:
                file = system / name.replace("lib/", "lib64/")
                file.parent.mkdir(parents=True, exist_ok=True)
                (site / "nvidia/cu13" / name).rename(file)
    add_nvcc(system / "bin/nvcc", version="13.0.88")
    toolkit = read_toolkit(system / "bin/nvcc")
    assert toolkit is not None
    home = assemble(survey(sites=[site], toolkits=[toolkit]), tmp_path / "cuda")
    assert (home / "lib64/libcudart.so").resolve() == system / "lib64/libcudart.so.13"
    assert (home / "lib64/libcublas.so").resolve().is_relative_to(site)


def test_a_home_is_kept_until_a_version_changes(site: Path, tmp_path: Path) -> None:
    home = assemble(look(site), tmp_path / "cuda")
    made = home.stat().st_mtime_ns
    assert assemble(look(site), tmp_path / "cuda") == home
    assert home.stat().st_mtime_ns == made
    cublas = next(piece for piece in PIECES if piece.wheel == "nvidia-cublas")
    add_piece(site, cublas, version="13.2.0.9")
    newer = look(site)
    assert "nvidia-cublas 13.2.0.9, compiled against 13.1.0.3" in "\n".join(newer.lines())
    assert assemble(newer, tmp_path / "cuda") != home


def test_two_processes_assemble_at_once_and_leave_one_home(site: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from segnext.backend.cuda.home import assemble; from tests.backend.cuda.test_home import look\n"
        "found = look(Path(sys.argv[1])); print('ready', flush=True); input()\n"
        "print(assemble(found, Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, str(site), str(tmp_path / "cuda")]
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    homes = {process.communicate()[0].strip() for process in both}
    assert [str(path) for path in (tmp_path / "cuda").iterdir()] == list(homes)


def test_a_folder_that_cannot_be_written_is_named(site: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackendError, match="set SEGNEXT_HOME"):
        assemble(look(site), tmp_path / "file" / "cuda")
    assert not list((tmp_path).glob(".assembling*"))
