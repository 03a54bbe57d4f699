"""The graph computes what the model computes, whatever its interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from segnext.backend import jt
from segnext.data.augmentation import normalize
from segnext.errors import ConfigError
from segnext.export.graph import build_graph
from segnext.export.settings import (
    ExportSettings,
    InputKind,
    InputSettings,
    OutputKind,
    OutputSettings,
    Storage,
)
from segnext.kernels.resize import resize
from segnext.models.segnext import create_model
from segnext.models.tensor_shapes import tensor_shapes
from segnext.models.variants import get_variant
from tests.models.drawn import drawn_bases, drawn_images, drawn_tensors

CLASSES = 5
Run = Callable[[NDArray[Any]], NDArray[Any]]


def bases(model: str) -> NDArray[np.float32]:
    variant = get_variant(model)
    return drawn_bases(1, variant.decoder_channels, variant.nmf_rank)[0]


def exported(settings: ExportSettings, *, model: str = "tiny", threads: int = 1) -> Run:
    tensors = drawn_tensors(tensor_shapes(model, num_classes=CLASSES))
    graph = build_graph(tensors, model=model, bases_DR=bases(model), settings=settings, metadata={})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"images": x})[0]


def jittor_logits(images: NDArray[np.float32], *, model: str = "tiny") -> NDArray[np.float32]:
    network = create_model(model, num_classes=CLASSES)
    tensors = network.tensors()
    for name, array in drawn_tensors({name: tuple(var.shape) for name, var in tensors.items()}).items():
        tensors[name].assign(array)
    network.decode_head.hamburger.ham.draw_bases = lambda batch, *_: np.repeat(bases(model)[None], batch, axis=0)
    network.eval()
    with jt.no_grad():
        result: NDArray[np.float32] = network(jt.array(images)).numpy()
    return result


def assert_close(actual: NDArray[Any], expected: NDArray[Any], tolerance: float = 2e-5) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("model", ["tiny", "small", "base", "large"])
def test_a_free_size_takes_batches_of_even_and_odd_sizes(model: str) -> None:
    run = exported(ExportSettings(), model=model)
    for shape in ((1, 3, 32, 32), (2, 3, 45, 67)):
        images = drawn_images(shape, 3)
        assert_close(run(images), jittor_logits(images, model=model))


def test_a_fixed_size_gives_the_same_logits_and_takes_no_other() -> None:
    run = exported(ExportSettings(size=(45, 67)))
    images = drawn_images((2, 3, 45, 67), 3)
    assert_close(run(images), jittor_logits(images))
    with pytest.raises(Exception, match="Got invalid dimensions"):
        run(drawn_images((1, 3, 64, 64), 3))


@pytest.mark.parametrize("opset", [17, 21])
def test_every_opset_gives_the_same_logits(opset: int) -> None:
    images = drawn_images((1, 3, 45, 67), 3)
    assert_close(exported(ExportSettings(opset=opset))(images), jittor_logits(images))


def test_an_image_is_normalised_in_the_graph_and_comes_back_without_a_batch() -> None:
    image = np.random.default_rng(0).integers(0, 256, (45, 67, 3)).astype(np.uint8)
    logits = exported(ExportSettings(input=InputSettings(InputKind.image)))(image)
    assert_close(logits, jittor_logits(normalize(image)[None])[0])


def test_labels_and_probabilities_have_the_size_of_the_input() -> None:
    images = drawn_images((2, 3, 45, 67), 3)
    scores = resize(jt.array(jittor_logits(images)), (45, 67))
    probabilities = exported(ExportSettings(output=OutputSettings(kind=OutputKind.probabilities)))(images)
    np.testing.assert_allclose(probabilities, jt.nn.softmax(scores, dim=1).numpy(), atol=1e-5)
    labels = exported(ExportSettings(output=OutputSettings(kind=OutputKind.labels)))(images)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, jt.argmax(scores, 1)[0].numpy())


def test_float16_weights_halve_the_file_and_change_the_logits_little() -> None:
    tensors = drawn_tensors(tensor_shapes("tiny", num_classes=CLASSES))
    full, half = (
        build_graph(tensors, model="tiny", bases_DR=bases("tiny"), settings=ExportSettings(weights=kind), metadata={})
        for kind in (Storage.float32, Storage.float16)
    )
    assert half.ByteSize() < 0.55 * full.ByteSize()
    images = drawn_images((1, 3, 45, 67), 3)
    assert_close(exported(ExportSettings(weights=Storage.float16))(images), jittor_logits(images), tolerance=5e-3)


def test_labels_repeat_in_every_run_and_for_any_number_of_threads() -> None:
    settings = ExportSettings(output=OutputSettings(kind=OutputKind.labels))
    images = drawn_images((1, 3, 96, 128), 3)
    runs = [exported(settings, threads=threads)(images) for threads in (1, 1, 1, 2, 4)]
    assert all(np.array_equal(run, runs[0]) for run in runs)


def test_metadata_is_in_the_file() -> None:
    tensors = drawn_tensors(tensor_shapes("tiny", num_classes=CLASSES))
    graph = build_graph(
        tensors, model="tiny", bases_DR=bases("tiny"), settings=ExportSettings(), metadata={"classes": '["straße"]'}
    )
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"classes": '["straße"]'}


@pytest.mark.parametrize(("wrong", "message"), [({"size": (16, 64)}, "size="), ({"opset": 16}, "opset=16")])
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(ExportSettings(), **wrong)
