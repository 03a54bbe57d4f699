"""The proof accepts what is exported and refuses a file that computes something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from segnext.errors import ExportError
from segnext.evaluation.inference import fixed_bases_seed
from segnext.export.settings import ExportSettings, InputKind, InputSettings, OutputKind, OutputSettings, Storage
from segnext.export.verify import verify
from tests.export.drawn_model import export, network

KINDS = [(source, target) for source in InputKind for target in OutputKind]


@pytest.mark.parametrize(("source", "target"), KINDS)
def test_every_interface_is_proven_on_an_even_and_an_odd_size(
    source: InputKind, target: OutputKind, tmp_path: Path
) -> None:
    settings = ExportSettings(input=InputSettings(source), output=OutputSettings(kind=target))
    path = export(tmp_path / "x.onnx", settings)
    found = verify(path, network(), settings=settings, bases_seed=fixed_bases_seed(0))
    assert [agreement.size for agreement in found] == [(96, 128), (75, 101)]
    assert all(agreement.holds for agreement in found)


def test_a_fixed_size_and_an_image_of_the_users_are_what_it_is_proven_on(tmp_path: Path) -> None:
    settings = ExportSettings(size=(40, 50), weights=Storage.float16, seed=5)
    path = export(tmp_path / "x.onnx", settings)
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3)).astype(np.uint8)
    (found,) = verify(path, network(), settings=settings, bases_seed=fixed_bases_seed(5), image=image)
    assert found.size == (40, 50)
    assert found.difference is not None
    assert 1e-6 < found.difference < 5e-3
    assert str(found).startswith("40×50: largest difference")


def test_other_bases_than_the_stored_ones_are_noticed(tmp_path: Path) -> None:
    path = export(tmp_path / "x.onnx")
    with pytest.raises(ExportError, match="does not compute what the checkpoint does"):
        verify(path, network(), settings=ExportSettings(), bases_seed=fixed_bases_seed(1))


def test_a_changed_weight_is_noticed_in_the_labels_alone(tmp_path: Path) -> None:
    settings = replace(ExportSettings(), output=OutputSettings(kind=OutputKind.labels))
    path = export(tmp_path / "x.onnx", settings)
    model = onnx.load(path)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "decode_head.conv_seg.bias")
    changed = np.frombuffer(bias.raw_data, np.float32) + np.array([0, 1, 0], np.float32)
    bias.raw_data = changed.tobytes()
    onnx.save(model, path)
    with pytest.raises(ExportError, match="labels differ"):
        verify(path, network(), settings=settings, bases_seed=fixed_bases_seed(0))
