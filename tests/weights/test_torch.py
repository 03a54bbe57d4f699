"""PyTorch itself reads what we write and writes what we read; it runs in a process of its own, beside no Jittor."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segnext.weights.file_formats import open_container
from segnext.weights.loading import load_weights
from segnext.weights.saving import save_weights
from tests.weights.fakes import FakeModel, assert_same_bits

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def torch_python() -> str:
    """The interpreter that has PyTorch: SEGNEXT_TORCH_PYTHON, or this one where the extra `parity` is installed."""
    if python := os.environ.get("SEGNEXT_TORCH_PYTHON"):
        return python
    if importlib.util.find_spec("torch") is None:
        pytest.skip("no PyTorch: install the extra `parity` or set SEGNEXT_TORCH_PYTHON to a Python that has it")
    return sys.executable


def run(python: str, code: str, *arguments: Path) -> None:
    result = subprocess.run([python, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


READ = """
import sys, numpy, torch
content = torch.load(sys.argv[1], weights_only=True)
state = content["state_dict"]
assert content["meta"]["CLASSES"] == ["road", "sky"]
counters = {name: state.pop(name) for name in list(state) if name.endswith("num_batches_tracked")}
assert len(counters) == 31
assert all(value.dtype == torch.int64 and value.shape == () and value == 0 for value in counters.values())
assert all(value.is_contiguous() and not value.requires_grad for value in state.values())
numpy.savez(sys.argv[2], **{name: value.numpy() for name, value in state.items()})
"""


@pytest.mark.parametrize("key_format", ["official", "mmseg"])
def test_pytorch_loads_our_file_safely_and_bit_for_bit(key_format: str, torch_python: str, tmp_path: Path) -> None:
    source = FakeModel("tiny", num_classes=2)
    metadata = {"classes": ["road", "sky"], "palette": [[1, 2, 3], [4, 5, 6]]}
    path = save_weights(source, tmp_path / "x.pth", key_format=key_format, metadata=metadata)
    run(torch_python, READ, path, tmp_path / "x.npz")
    short = {".mlp.dwconv.dwconv.": ".mlp.dwconv."} if key_format == "mmseg" else {}
    expected = source.arrays()
    for long, name in short.items():
        expected = {key.replace(long, name): array for key, array in expected.items()}
    with np.load(tmp_path / "x.npz") as read:
        assert_same_bits(dict(read), expected)


TRAIN = """
import sys, numpy, torch
zipped = sys.argv[3] == "zip"
with numpy.load(sys.argv[1]) as arrays:
    state = {f"module.{name}": torch.from_numpy(arrays[name]) for name in arrays}
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.AdamW([{"params": [model.weight]}, {"params": [model.bias], "lr": 1.0}])
model(torch.ones(1, 3)).sum().backward()
optimizer.step()
state["module.backbone.norm1.num_batches_tracked"] = torch.tensor(7)
parameter = torch.nn.Parameter(state["module.backbone.norm4.bias"])
state["module.backbone.norm4.bias"] = parameter
meta = {"iter": 8, "size": torch.Size([1, 2]), "dtype": torch.float32, "device": torch.device("cpu"),
        "score": numpy.float64(0.5), "mean": numpy.ones(3)}
content = {"state_dict": state, "optimizer": optimizer.state_dict(), "meta": meta}
torch.save(content, sys.argv[2], _use_new_zipfile_serialization=zipped)
"""


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_a_training_checkpoint_of_pytorch_loads(container: str, torch_python: str, tmp_path: Path) -> None:
    source, model = FakeModel("tiny", num_classes=19, seed=1), FakeModel("tiny", num_classes=19, seed=2)
    np.savez(tmp_path / "x.npz", **source.arrays())
    run(torch_python, TRAIN, tmp_path / "x.npz", tmp_path / "x.pth", Path(container))
    report = load_weights(model, tmp_path / "x.pth")
    assert report.complete
    assert_same_bits(model.arrays(), source.arrays())
    meta = open_container(tmp_path / "x.pth")["meta"]
    assert meta["score"] == 0.5
    assert meta["size"] == (1, 2)


ODD = """
import sys, torch
base = torch.arange(24, dtype=torch.float32)
content = {
    "transposed": base.reshape(4, 6).t(), "slice": base[5:20:3], "scalar": base[7], "expanded": base[:2].expand(3, 2),
    "empty": torch.zeros(0, 3), "half": base[:3].half(), "bfloat16": base[:3].bfloat16(), "double": base[:3].double(),
    "bool": base[:3] > 1, "channels_last": base.reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
}
torch.save(content, sys.argv[1], _use_new_zipfile_serialization=sys.argv[2] == "zip")
"""


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_views_and_number_formats_of_pytorch_are_read(container: str, torch_python: str, tmp_path: Path) -> None:
    run(torch_python, ODD, tmp_path / "x.pth", Path(container))
    base = np.arange(24, dtype=np.float32)
    expected = {
        "transposed": base.reshape(4, 6).T,
        "slice": base[5:20:3],
        "scalar": base[7],
        "expanded": np.broadcast_to(base[:2], (3, 2)),
        "empty": np.zeros((0, 3), np.float32),
        "half": base[:3].astype(np.float16),
        "bfloat16": base[:3],
        "double": base[:3].astype(np.float64),
        "bool": base[:3] > 1,
        "channels_last": base.reshape(1, 2, 3, 4),
    }
    loaded = {name: tensor.read() for name, tensor in open_container(tmp_path / "x.pth").items()}
    assert_same_bits(loaded, expected)
