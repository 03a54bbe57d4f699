"""Some folder can always be written to, and the same versions always find the same cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import segnext
from segnext.backend import compile_cache, compiler
from segnext.backend.compile_cache import CompileCache, jittor_home
from segnext.files import assure_home, cache_home


def test_without_any_writable_home_a_temporary_folder_is_taken_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for name in ("SEGNEXT_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(blocked / name))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    home = cache_home()
    assert "cannot be written to: set SEGNEXT_HOME" in caplog.text
    assert home.parent == tmp_path
    assert os.access(home, os.W_OK)


def test_the_named_home_comes_first_and_then_that_of_the_desktop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "desktop"))
    monkeypatch.setenv("SEGNEXT_HOME", str(tmp_path / "named"))
    assert cache_home() == tmp_path / "named"
    monkeypatch.delenv("SEGNEXT_HOME")
    assert cache_home() == tmp_path / "desktop" / "segnext"


def test_a_named_home_that_cannot_be_written_to_is_told_of_before_another_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEGNEXT_HOME", str(tmp_path / "file" / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "desktop"))
    assert cache_home() == tmp_path / "desktop" / "segnext"
    assert f"since {tmp_path / 'file' / 'named'} cannot be written to: set SEGNEXT_HOME" in caplog.text


def test_a_compiled_cache_of_another_user_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for home in ("SEGNEXT_HOME", "JITTOR_HOME"):
        (tmp_path / home / ".cache").mkdir(parents=True)
        monkeypatch.setenv(home, str(tmp_path / home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "desktop"))
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != ".cache")
    assert jittor_home() == cache_home() == tmp_path / "desktop" / "segnext"
    assert f"JITTOR_HOME={tmp_path / 'JITTOR_HOME'} cannot be written to" in caplog.text


def test_a_user_without_a_home_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "own"))
    assure_home()
    assert os.environ["HOME"] == str(tmp_path / "own")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])  # as the system says of a number that it doesn't know
    assure_home()
    assert Path(os.environ["HOME"]).parent == tmp_path
    assert "there is no home" in caplog.text


def test_importing_jittors_utilities_writes_nothing_to_the_users_home(tmp_path: Path) -> None:
    user, home = tmp_path / "user", tmp_path / "caches"
    user.mkdir()
    code = (
        "import os; from segnext.backend.compile_cache import CompileCache\n"
        "cache = CompileCache.of_this_machine('cpu'); cache.enter(os.environ)\n"
        "with cache.jittor_found(): import jittor_utils\n"
        "print(jittor_utils.cache_path)"
    )
    environment = {**os.environ, "HOME": str(user), "JITTOR_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1].startswith(str(home))
    assert not list(user.iterdir())


def test_no_path_that_jittor_puts_into_command_lines_is_of_the_environment_or_clone(tmp_path: Path) -> None:
    cache = CompileCache.of_this_machine("cpu")
    for path in (cache.sources, cache.compiler, cache.python, cache.python_config):
        assert path.is_relative_to(cache.home)
    assert (cache.sources / "jittor").is_symlink()


def test_links_to_an_environment_that_is_gone_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path))
    link = CompileCache.of_this_machine("cpu").sources / "jittor"
    link.unlink()
    link.symlink_to(tmp_path / "gone")
    CompileCache.of_this_machine("cpu")
    assert (link / "__init__.py").is_file()


def test_another_clone_in_another_folder_finds_the_same_cache(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(Path(segnext.__file__).parent, clone / "segnext", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import segnext; from segnext.backend.compile_cache import CompileCache; print(segnext.__file__)\n"
        "cache = CompileCache.of_this_machine('cpu'); print(cache.name, cache.compiler, cache.python, cache.sources)"
    )
    environment = {**os.environ, "PYTHONPATH": str(clone), "HOSTNAME": "elsewhere"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    place, found = done.stdout.splitlines()
    assert place.startswith(str(clone))
    cache = CompileCache.of_this_machine("cpu")
    assert found == f"{cache.name} {cache.compiler} {cache.python} {cache.sources}"


def test_flags_for_another_processor_get_a_cache_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path))
    monkeypatch.delenv("cc_flags", raising=False)
    native = CompileCache.of_this_machine("cpu")
    monkeypatch.setenv("cc_flags", "-march=haswell")
    assert CompileCache.of_this_machine("cpu").name != native.name


def test_another_version_of_jittor_gets_a_cache_of_its_own_beside_the_former(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path))
    before = CompileCache.of_this_machine("cpu")
    with monkeypatch.context() as update:
        for module in (compile_cache, compiler):
            update.setattr(module, "JITTOR_VERSION", "9.9.9")
        after = CompileCache.of_this_machine("cpu")
    assert after.name != before.name
    assert after.compiler != before.compiler
    assert after.sources != before.sources
    assert CompileCache.of_this_machine("cpu") == before
    assert before.compiler.exists()
    assert (before.sources / "jittor/__init__.py").exists()
