"""Modules say on top what they need. Inside a function only what an extra brings is imported, and in the doctor what
may be broken; what takes long to import is a ``LazyModule``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import segnext

ROOT = Path(segnext.__file__).parents[1]
FILES = [*sorted((ROOT / "segnext").rglob("*.py")), *sorted((ROOT / "runners").glob("*.py"))]
OF_EXTRAS = {
    "hydra_plugins", "mpi4py", "onnx", "optuna", "tensorboardX", "tifffile", "wandb_workspaces", "segnext.export",
    "segnext.benchmark.torch_evaluation",  # PyTorch's interpreter may lack OpenCV
}  # fmt: skip
OF_OPENCV = {"segnext.data", "segnext.doctor.browse"}  # the doctor answers where OpenCV can't be imported


def inner_imports(path: Path) -> Iterator[str]:
    """What the functions of a file import."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for node in ast.walk(function) if isinstance(function, functions) else ():
            if isinstance(node, ast.Import):
                yield from (name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module or ""


def test_functions_import_nothing_but_what_may_be_missing() -> None:
    found = []
    for path in FILES:
        allowed = OF_EXTRAS | (OF_OPENCV if "doctor" in str(path.relative_to(ROOT)) else set())
        for module in inner_imports(path):
            if not any(module == name or module.startswith(f"{name}.") for name in allowed):
                found.append(f"{path.relative_to(ROOT)}: {module}")
    assert found == []


def test_an_import_inside_a_function_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "late.py"
    file.write_text("import os\n\ndef late():\n    import json\n    from a.b import c\n")
    assert sorted(inner_imports(file)) == ["a.b", "json"]
