"""Exported models in the benchmark do the work that predict does."""

from __future__ import annotations

from segnext.export.workload import ExportedInference, exported_models
from segnext.models.settings import ModelSettings
from tests.models.drawn import drawn_images


def test_every_engine_labels_every_image_of_the_batch_alike() -> None:
    images = drawn_images((2, 3, 64, 96), 0)
    models = exported_models(["onnxruntime", "openvino"], ModelSettings("tiny"), num_classes=7)
    contestants = {name: ExportedInference(model, images) for name, model in models.items()}
    assert list(contestants) == ["onnxruntime", "openvino"]
    first, second = (contestant.labels() for contestant in contestants.values())
    assert [labels.shape for labels in first] == [(64, 96), (64, 96)]
    assert len({int(label) for label in first[0].ravel()}) > 1
    assert all((a == b).mean() > 0.999 for a, b in zip(first, second, strict=True))
    assert all(contestant() > 0 for contestant in contestants.values())
