"""Every setting that a verb shows in its help is read by its work; every other one is refused on the command line.

The verbs run on tiny data, with what is slow replaced: reads are recorded, not results.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from segnext.app.resolution import _refuse_without_effect
from segnext.app.schema import VERBS
from segnext.data.classes import SHAPES, ClassTable
from segnext.data.datasets import Dataset
from segnext.data.settings import InferenceSettings
from segnext.errors import ConfigError
from segnext.evaluation.evaluator import evaluate
from segnext.evaluation.metrics import Counts, PerImageCounts
from segnext.export.settings import ExportSettings
from segnext.export.video import VideoWriter
from segnext.models.segnext import SegNeXt
from segnext.models.settings import ModelSettings
from segnext.sweeps.settings import SweepSettings
from segnext.sweeps.sweep import Sweep
from segnext.weights import trained
from segnext.weights.checkpoint import CheckpointInfo
from tests.app.reads import recorded_reads, unread
from tests.evaluation.fakes import FakeModel
from tests.report.sweep import make_sweep
from tests.runners.commands import run

SLIDING = (
    "tta=true", "dataset.test.ratios=[1]", "dataset.test.windows=slide", "dataset.test.crop=[32,32]",
    "dataset.test.stride=[32,32]", "dataset.test.scale=[64,64]",
)  # fmt: skip
_DEFAULTS_OF_OTHERS = {"dataset.pretrained"}  # of model.pretrained, by interpolation: tests/app/test_config.py
MINE = ClassTable("folder", ("ground", "sky"), np.zeros((2, 3), np.uint8))
DRAWN = ("dataset=shapes", "dataset.image_size=[32,32]", "dataset.train_images=4", "dataset.val_images=2")


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that costs nothing, made of a checkpoint that nobody looks into."""

    def build(model: trained.TrainedModel, **settings: Any) -> FakeModel:
        assert model.settings.ham.rank
        return FakeModel(model.num_classes)

    monkeypatch.setattr(trained, "load_weights", lambda *args, **kwargs: None)
    monkeypatch.setattr(trained.TrainedModel, "build", build)


def checkpoint(place: Path, classes: ClassTable = SHAPES) -> Path:
    info = CheckpointInfo("tiny", classes.name, classes, 16, InferenceSettings())
    path = place / f"{classes.name}.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, path, metadata=info.to_metadata())
    return path


def film(place: Path) -> Path:
    """Two frames."""
    with VideoWriter(place / "film.mp4", size=(64, 64), fps=5.0) as video:
        for _ in range(2):
            video.write(np.zeros((64, 64, 3), np.uint8))
    return place / "film.mp4"


def read_interface(*args: Any, settings: ExportSettings, **others: Any) -> MagicMock:
    """In place of the graph, which reads the rest of its interface."""
    for key in ("size", "weights", "opset"):
        getattr(settings, key)
    return MagicMock(**{"SerializeToString.return_value": b""})


def cheap_model(classes: ClassTable, *_: Any) -> FakeModel:
    return FakeModel(len(classes))


def network(settings: ModelSettings, *, num_classes: int, **others: Any) -> FakeModel:
    """Reads what a network is made of, and makes a cheap one."""
    with pytest.MonkeyPatch.context() as patches:
        for part in ("MSCAN", "LightHamHead"):
            patches.setattr(f"segnext.models.segnext.{part}", MagicMock())
        SegNeXt.__init__(SimpleNamespace(modules=list), settings, num_classes=num_classes)  # type: ignore[arg-type]
    model = FakeModel(num_classes)
    model.parameters_to_train = lambda: dict.fromkeys(("backbone.x", "decode_head.x"))  # type: ignore[attr-defined]
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of one's own with a turned photo and a deep image in each part."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 3
    for number in range(8):
        deep = number % 2
        if deep:
            cv2.imwrite(str(root / f"images/{number}.png"), np.full((32, 32, 3), 9000 * number, np.uint16))
        else:
            Image.new("RGB", (32, 32), (30 * number, 0, 0)).save(root / f"images/{number}.jpg", exif=turned)
        label = np.zeros((32, 32), np.uint8)
        label[:16] = 1
        Image.fromarray(label).save(root / f"annotations/{number}.png")
    (root / "classes.yaml").write_text("names: [ground, sky]\n")
    (root / "lists").mkdir()  # not in the root, where they would always be taken
    for split, stems in (("train", "0 1 2 3"), ("val", "4 5"), ("test", "6 7")):
        (root / f"lists/{split}.txt").write_text(stems.replace(" ", "\n"))
    return root


def of_folder(root: Path, *, split_files: bool) -> tuple[str, ...]:
    lists = [f"dataset.split_files.{split}={root}/lists/{split}.txt" for split in ("train", "val", "test")]
    settings = ("dataset=folder", f"dataset.root={root}", f"dataset.classes={root}/classes.yaml")
    return (*settings, "dataset.image_range=[0,65535]", "dataset.exif=both", *(lists if split_files else ()))


@contextlib.contextmanager
def everything_is_read(verb: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Runs the verb in the block by what it gets; in the end all settings must have been read."""
    main, refused = importlib.import_module(f"runners.{verb}").main, VERBS[verb].UNREAD

    def succeed(*overrides: str) -> None:
        given = [text for text in overrides if text.partition("=")[0] not in refused]
        assert run(main, monkeypatch, *given) == 0

    with recorded_reads(VERBS[verb], monkeypatch) as found:
        yield succeed
    assert set(unread(VERBS[verb], found)) <= _DEFAULTS_OF_OTHERS


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")


def test_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = importlib.import_module("runners.report")
    monkeypatch.setattr(runner, "publish_dashboard", lambda entity, project: "address")
    monkeypatch.setattr(runner, "to_html", lambda *args, **kwargs: "")
    monkeypatch.setattr(runner, "serving", MagicMock())
    sweep = make_sweep(tmp_path / "sweep")
    counts = Counts(*np.ones((3, 2), np.int64))
    PerImageCounts.stack(["a", "b"], [counts, counts], num_classes=2).save(sweep / "per_image.npz")
    with everything_is_read("report", monkeypatch) as report:
        report(f"path={sweep}", f"output={tmp_path / 'page'}")
        report("dashboard=me/project")
        report(f"path={sweep}", "live=true")
        report(f"compare=[{sweep},{sweep}]")


def test_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runners.convert.convert", lambda *args, **kwargs: "written")
    with everything_is_read("convert", monkeypatch) as convert:
        convert("input=a.pth", "output=b.pth")


def test_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gtFine" / "train" / "town").mkdir(parents=True)
    (tmp_path / "gtFine" / "val").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "gtFine/train/town/town_000000_000000_gtFine_labelIds.png")
    with everything_is_read("prepare", monkeypatch) as prepare:
        prepare("dataset=cityscapes", f"dataset.root={tmp_path}")


def test_profile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with everything_is_read("profile", monkeypatch) as profile:
        profile("dataset=ade", "memory=true", "format=json")
        profile("dataset=folder", f"dataset.classes={folder}/classes.yaml")


def test_doctor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = importlib.import_module("runners.doctor")
    monkeypatch.setattr(runner, "examine_machine", lambda **settings: iter(()))
    monkeypatch.setattr(runner, "warm_cache", lambda *args, **settings: None)
    with everything_is_read("doctor", monkeypatch) as doctor:
        doctor("warm=true")
        doctor(*DRAWN, "browse=true", "dataset.crop=[32,32]")
        for split_files in (False, True):
            doctor(*of_folder(folder, split_files=split_files))


@pytest.mark.usefixtures("cheap")
def test_predict(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = of_folder(folder, split_files=False)
    with everything_is_read("predict", monkeypatch) as predict:
        predict(f"checkpoint={checkpoint(tmp_path, MINE)}", f"input={folder}/images/*.png", *SLIDING, *data)
        predict(f"checkpoint={checkpoint(tmp_path)}", f"input={film(tmp_path)}", "max_frames=1", "label_files=true")


@pytest.mark.usefixtures("cheap")
def test_evaluate(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with everything_is_read("evaluate", monkeypatch) as command:
        for split in ("train", "val"):
            command(f"checkpoint={checkpoint(tmp_path)}", "workers=0", f"split={split}", *SLIDING, *DRAWN)
        for split_files in (False, True):
            data = of_folder(folder, split_files=split_files)
            command(f"checkpoint={checkpoint(tmp_path, MINE)}", "workers=0", *data)


@pytest.mark.usefixtures("cheap")
def test_export(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = importlib.import_module("runners.export")
    monkeypatch.setattr("segnext.export.graph.build_graph", read_interface)
    monkeypatch.setattr("segnext.export.verify.verify", lambda *args, **kwargs: [])
    monkeypatch.setattr("segnext.export.quantise.quantise", lambda full, target, **others: target.write_text(""))
    int8 = ("quantise=int8", f"calibration={folder}/images/*.jpg", "size=[32,32]", "workers=0")
    with everything_is_read("export", monkeypatch) as export:
        for data in (DRAWN, *(of_folder(folder, split_files=split_files) for split_files in (False, True))):
            classes = SHAPES if data is DRAWN else MINE
            weights = checkpoint(tmp_path, classes)
            monkeypatch.setattr(runner, "OnnxModel", partial(cheap_model, classes))
            export(f"checkpoint={weights}", f"output={tmp_path / 'model.onnx'}", *int8, *data, *SLIDING[2:])


def test_benchmark(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = importlib.import_module("runners.benchmark")

    class Session(MagicMock):
        def train(self) -> None:
            network(self.model, num_classes=2)

        def data(self, batches: Iterator[Any]) -> None:
            next(batches)

        def evaluation(self, dataset: Dataset, settings: InferenceSettings, **others: Any) -> None:
            evaluate(FakeModel(len(dataset.classes)), dataset, settings=settings, workers=others["workers"])

    monkeypatch.setattr(runner, "Session", Session)
    monkeypatch.setattr(runner, "exported_models", lambda *args, **kwargs: {})
    for part in ("probe", "record", "print_summary"):
        monkeypatch.setattr(runner, part, MagicMock())
    monkeypatch.setattr(runner, "strict_json", lambda *args, **kwargs: "{}")
    monkeypatch.setattr(runner, "torch_interpreter", lambda: None)
    monkeypatch.setattr(runner, "backend", MagicMock(**{"device_name.return_value": "cuda"}))
    with everything_is_read("benchmark", monkeypatch) as benchmark:
        for data in (DRAWN, *(of_folder(folder, split_files=split_files) for split_files in (False, True))):
            what = (
                "what=[train,inference,evaluate,data]",
                *SLIDING,
                "workers=0",
                "batch=4",
                "dataset.crop=[32,32]",
                "against=torch",
            )
            benchmark(*what, "engines=[onnxruntime]", "num_classes=2", *data)
        benchmark("what=train", *DRAWN)


def run_a_job(place: Path) -> None:
    """As the launcher does it, up to the process."""
    sweep = Sweep("train", place, place, SweepSettings(), frozenset(), ())
    job = sweep.job((), {"group": None, "device": "cpu", "ranks": 1})
    sweep.scheduler([job], MagicMock(), slots=sweep.slots([job]))


@pytest.mark.usefixtures("cheap")
def test_train(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = importlib.import_module("runners.train")
    quick: dict[str, Any] = {
        "segnext.app.fit.Checkpoints": MagicMock(**{"return_value.begin.return_value": 0}),
        "segnext.app.fit.LossMeter": MagicMock(**{"return_value.read.return_value": {"train/loss": 1.0}}),
        "segnext.training.optimizer.AdamW": MagicMock(),
        "segnext.training.loop._forward_backward": MagicMock(),
        "segnext.app.fit.WandbSink": MagicMock(),
        "segnext.app.fit.TensorBoardSink": MagicMock(),
    }
    for name, stub in quick.items():
        monkeypatch.setattr(name, stub)

    def build_model(settings: ModelSettings, *, num_classes: int, **others: Any) -> FakeModel:
        return network(settings, num_classes=num_classes)

    monkeypatch.setattr(runner, "build_model", build_model)
    short = (
        "model.pretrained=null", "schedule.iterations=2", "schedule.batch_size=2", "schedule.warmup_iterations=1",
        "workers=0", "dataset.crop=[32,32]", "schedule.log_interval=1",
    )  # fmt: skip
    with everything_is_read("train", monkeypatch) as train:
        train(*short, *DRAWN, *SLIDING, f"checkpoint={checkpoint(tmp_path)}", "dataset.pretrained=null")
        for split_files in (False, True):
            train(*short, *of_folder(folder, split_files=split_files))
        train("-m", "seed=0", "sweep.dry_run=true", *DRAWN)
        run_a_job(tmp_path)


@pytest.mark.parametrize("verb", VERBS)
def test_a_setting_without_effect_is_refused(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = VERBS[verb]
    for name in schema.UNREAD:
        with pytest.raises(ConfigError, match="has no effect here"):
            _refuse_without_effect(schema, [f"{name}=1"])
    if schema.UNREAD:
        main = importlib.import_module(f"runners.{verb}").main
        assert run(main, monkeypatch, f"{schema.UNREAD[0]}=null") == 2
