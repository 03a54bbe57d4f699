"""`python -m runners.predict`: any image in, pictures out; bad files don't stop the others."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from safetensors.numpy import save_file

import runners.predict
import segnext
from segnext.app import prediction
from segnext.data.classes import CAMVID, SHAPES
from segnext.data.reading import read_image
from segnext.data.settings import InferenceSettings, ReadingSettings
from segnext.evaluation.predictor import Segmenter
from segnext.models.settings import Precision
from segnext.tracking.run_folder import RunFolder
from segnext.weights import trained
from segnext.weights.checkpoint import CheckpointInfo
from tests.evaluation.fakes import FakeModel
from tests.runners.commands import run

SIZE = (40, 64)  # height, width
RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8))
SETTINGS = InferenceSettings(scale=(64, 64), size_divisor=1)


@pytest.fixture
def cheap_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "load_weights", lambda *args, **kwargs: None)
    monkeypatch.setattr(trained.TrainedModel, "build", lambda *args, **kwargs: FakeModel(len(CAMVID)))


@pytest.mark.usefixtures("cheap_model")
def test_a_checkpoint_of_deep_images_knows_their_range(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = CheckpointInfo("tiny", "camvid", CAMVID, 16, SETTINGS, image_range=(0, 65535))
    weights = tmp_path / "weights.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, weights, metadata=info.to_metadata())
    sixteen_bit(tmp_path / "deep.png")
    assert predict(monkeypatch, tmp_path, weights, f"input={tmp_path / 'deep.png'}")[0] == 0


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    info = CheckpointInfo("tiny", "camvid", CAMVID, 16, SETTINGS)
    path = tmp_path / "weights.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, path, metadata=info.to_metadata())
    return path


def predict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Path, *overrides: str) -> tuple[int, Path]:
    folder = tmp_path / "run"
    return run(runners.predict.main, monkeypatch, f"checkpoint={weights}", f"run_folder={folder}", *overrides), folder


def sixteen_bit(path: Path) -> None:
    Image.fromarray((np.asarray(RGB.convert("L")).astype(np.uint16)) * 257).save(path)


def turned_by_exif(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    RGB.rotate(90, expand=True).save(path, exif=exif)


def with_alpha(path: Path) -> None:
    picture = RGB.copy()
    picture.putalpha(128)
    picture.save(path)


KINDS: dict[str, Callable[[Path], None]] = {
    "grey.png": lambda path: RGB.convert("L").save(path),
    "palette.png": lambda path: RGB.quantize(16).save(path),
    "rgba.png": with_alpha,
    "bilevel.png": lambda path: RGB.convert("1").save(path),
    "sixteen_bit.png": sixteen_bit,
    "sixteen_bit.tif": sixteen_bit,
    "turned.jpg": turned_by_exif,
    "cmyk.jpg": lambda path: RGB.convert("CMYK").save(path),
    "moving.gif": lambda path: RGB.quantize(16).save(path),
    "picture.webp": RGB.save,
}


@pytest.mark.usefixtures("cheap_model")
@pytest.mark.parametrize("name", KINDS)
def test_any_image_that_pillow_opens_is_segmented(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    KINDS[name](tmp_path / name)
    deep = ["dataset.image_range=[0,65535]"] if name.startswith("sixteen") else []
    code, folder = predict(monkeypatch, tmp_path, weights, f"input={tmp_path / name}", *deep)
    assert code == 0
    stem = name.partition(".")[0]
    label = Image.open(folder / f"{stem}_label.png")
    assert label.mode == "P"
    assert label.size == (SIZE[1], SIZE[0])
    assert np.asarray(label).max() < len(CAMVID)


@pytest.mark.usefixtures("cheap_model")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_done_when_a_signal_comes_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path, number: signal.Signals
) -> None:
    for k in range(4):
        RGB.save(tmp_path / f"photo-{k}.png")

    def stopped(path: Path, settings: ReadingSettings) -> object:
        if path.name == "photo-1.png":
            os.kill(os.getpid(), number)
        return read_image(path, settings)

    monkeypatch.setattr(prediction, "read_image", stopped)
    code, folder = predict(monkeypatch, tmp_path, weights, f"input={tmp_path}/photo-*.png")
    assert code == 128 + number
    assert [Path(image["input"]).name for image in json.loads((folder / "predictions.json").read_text())["images"]] == [
        "photo-0.png",
        "photo-1.png",
    ]
    status = RunFolder(folder).read_status()
    assert status is not None
    assert (status.state, status.exit_reason) == ("interrupted", number.name)


@pytest.mark.usefixtures("cheap_model")
def test_label_png_overlay_and_class_shares_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    RGB.save(tmp_path / "photo.png")
    _, folder = predict(monkeypatch, tmp_path, weights, f"input={tmp_path / 'photo.png'}")
    labels = np.asarray(Image.open(folder / "photo_label.png"))
    (record,) = json.loads((folder / "predictions.json").read_text())["images"]
    expected = {CAMVID.names[k]: (labels == k).mean() for k in np.unique(labels)}
    assert record["shares"] == pytest.approx(expected)
    assert list(record["shares"].values()) == sorted(record["shares"].values(), reverse=True)
    assert (record["height"], record["width"]) == SIZE
    colours = np.asarray(Image.open(folder / "photo_label.png").convert("RGB"))
    assert np.array_equal(colours, CAMVID.palette[labels])
    with Image.open(folder / record["overlay"]) as picture:
        assert picture.height > SIZE[0]  # the legend is below


IN_WINDOWS = (
    "dataset.test.windows=slide", "dataset.test.scale=null", "dataset.test.crop=[32,32]", "dataset.test.stride=[24,24]",
)  # fmt: skip


@pytest.mark.usefixtures("cheap_model")
def test_a_tiff_above_the_limit_is_segmented_in_parts_with_the_same_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    tifffile.imwrite(tmp_path / "photo.tif", np.asarray(RGB), tile=(16, 16), photometric="rgb", compression="zlib")
    _, whole = predict(monkeypatch, tmp_path, weights, f"input={tmp_path / 'photo.tif'}", *IN_WINDOWS)
    monkeypatch.setattr(prediction, "_OVERLAY_SIDE", 20)
    parts = tmp_path / "parts"
    limit = f"dataset.max_megapixels={SIZE[0] * SIZE[1] / 2e6}"
    options = (f"input={tmp_path / 'photo.tif'}", *IN_WINDOWS, limit, f"run_folder={parts}")
    assert run(runners.predict.main, monkeypatch, f"checkpoint={weights}", *options) == 0
    expected, labels = (Image.open(folder / "photo_label.png") for folder in (whole, parts))
    assert (labels.mode, labels.getpalette()) == (expected.mode, expected.getpalette())
    assert np.array_equal(labels, expected)
    records = [json.loads((folder / "predictions.json").read_text())["images"] for folder in (whole, parts)]
    assert records[0] == records[1]
    with Image.open(parts / "photo_overlay.png") as picture:
        assert picture.height < 2 * SIZE[0]
    assert [path.name for path in parts.glob(".*unfinished")] == []


@pytest.mark.usefixtures("cheap_model")
@pytest.mark.parametrize(
    ("name", "cure"), [("photo.tif", "set dataset.test.windows=slide dataset.test.scale=null"), ("photo.png", "cut it")]
)
def test_an_image_above_the_limit_that_cannot_be_taken_in_parts_is_refused_with_a_cure(
    name: str, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if name.endswith("tif"):
        tifffile.imwrite(tmp_path / name, np.asarray(RGB), tile=(16, 16), photometric="rgb")
    else:
        RGB.save(tmp_path / name)
    limit = "dataset.max_megapixels=0.002"
    code, _ = predict(monkeypatch, tmp_path, weights, f"input={tmp_path / name}", limit)
    assert code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "above dataset.max_megapixels=0.002" in line
    assert cure in line


@pytest.mark.usefixtures("cheap_model")
def test_a_bad_file_is_reported_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_text("this is text")
    RGB.save(photos / "b.png")
    (photos / "notes.txt").write_text("no image, and not named like one")
    code, folder = predict(monkeypatch, tmp_path, weights, f"input={photos}")
    assert code == 1
    record = json.loads((folder / "predictions.json").read_text())
    assert [Path(image["input"]).name for image in record["images"]] == ["b.png"]
    assert [Path(image["input"]).name for image in record["failed"]] == ["a.jpg"]
    streams = capsys.readouterr()
    assert "a.jpg cannot be decoded" in streams.err
    assert "1 of 2 images segmented" in streams.out


@pytest.mark.usefixtures("cheap_model")
def test_files_of_one_stem_keep_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    for folder, name in (("x", "a.png"), ("x", "a.bmp"), ("y", "a.png"), ("y", "b.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        RGB.save(tmp_path / folder / name)
    _, results = predict(monkeypatch, tmp_path, weights, f"input='{tmp_path}/[xy]/*'")
    names = sorted(path.name for path in results.glob("*_label.png"))
    assert names == ["a_bmp_label.png", "b_label.png", "x_a_png_label.png", "y_a_png_label.png"]


@pytest.mark.usefixtures("cheap_model")
def test_scale_and_window_of_the_checkpoint_can_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    seen: list[InferenceSettings] = []

    def spy(*args: Any, settings: InferenceSettings, **options: Any) -> Segmenter:
        seen.append(settings)
        return Segmenter(*args, settings=settings, **options)

    monkeypatch.setattr(runners.predict, "Segmenter", spy)
    RGB.save(tmp_path / "a.png")
    changes = ("dataset.test.windows=slide", "dataset.test.scale=[128,64]")
    predict(monkeypatch, tmp_path, weights, f"input={tmp_path / 'a.png'}", *changes)
    assert (seen[0].windows, seen[0].scale, seen[0].size_divisor) == ("slide", (128, 64), 1)


def test_the_model_is_built_in_the_precision_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    asked: list[dict[str, Any]] = []

    def build(*_: Any, **options: Any) -> FakeModel:
        asked.append(options)
        return FakeModel(len(CAMVID))

    monkeypatch.setattr(trained, "load_weights", lambda *args, **kwargs: None)
    monkeypatch.setattr(trained.TrainedModel, "build", build)
    RGB.save(tmp_path / "a.png")
    predict(monkeypatch, tmp_path, weights, f"input={tmp_path / 'a.png'}", "precision=bf16", "seed=3")
    assert asked == [{"precision": Precision.bf16, "seed": 3}]


@pytest.mark.usefixtures("cheap_model")
@pytest.mark.parametrize(
    ("pattern", "message"),
    [("*.jpg", "matches no images"), ("empty", "holds no images"), ("a.png", "does not exist")],
)
def test_nothing_to_segment_ends_in_exit_code_2_and_one_line(
    pattern: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    code, folder = predict(monkeypatch, tmp_path, weights, f"input='{tmp_path}/{pattern}'")
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not folder.exists()


def test_a_real_network_is_loaded_and_gives_what_the_segmenter_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = segnext.create_model("tiny", num_classes=len(SHAPES))
    info = CheckpointInfo("tiny", "shapes", SHAPES, 16, SETTINGS)
    weights = tmp_path / "weights.safetensors"
    segnext.save_weights(model, weights, metadata=info.to_metadata())
    RGB.save(tmp_path / "photo.png")
    code, folder = predict(monkeypatch, tmp_path, weights, f"input={tmp_path / 'photo.png'}")
    assert code == 0
    expected = segnext.Segmenter.from_checkpoint(weights).predict(np.asarray(RGB))
    assert np.array_equal(np.asarray(Image.open(folder / "photo_label.png")), expected)


def test_weights_of_another_size_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "foreign.safetensors"
    segnext.save_weights(segnext.create_model("tiny", num_classes=len(SHAPES)), weights)
    RGB.save(tmp_path / "photo.png")
    options = (f"input={tmp_path / 'photo.png'}", "dataset=shapes", "model=small")
    code, folder = predict(monkeypatch, tmp_path, weights, *options)
    assert code == 2
    assert "foreign.safetensors" in capsys.readouterr().err
    assert not folder.exists()
