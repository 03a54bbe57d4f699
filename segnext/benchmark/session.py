"""Measures the workloads of one model on one device, ours and PyTorch's in turns, and collects the figures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from segnext import backend, complexity
from segnext.backend.world import World
from segnext.benchmark.evaluation import Evaluation, as_files, evaluation_macs
from segnext.benchmark.measuring import Timing, forget_peak, peak_bytes, take_turns
from segnext.benchmark.profiling import Machine, OperatorKind, profile_operators
from segnext.benchmark.torch_process import TorchTwin
from segnext.benchmark.workloads import Inference, Logits, Pipeline, TrainingStep, random_batch, seconds_to_first_step
from segnext.data.augmentation import MEAN, STD
from segnext.data.datasets import Dataset
from segnext.data.settings import InferenceSettings
from segnext.distributed.all_reduce import without_communication
from segnext.distributed.communicator import Communicator
from segnext.evaluation.inference import SegmentationModel
from segnext.models.segnext import create_model
from segnext.models.settings import ModelSettings
from segnext.training.optimizer import AdamW, parameter_groups

__all__ = ["InStep", "Row", "Scaling", "Session", "contestants", "scaling"]

_LR = 6e-5
_OURS = "Jittor"

Rivals = Callable[[Any], Mapping[str, Callable[[], float]]]


@dataclass(frozen=True)
class Row:
    """One workload of one contestant.

    Attributes:
        what: train, inference, logits, evaluate, data, start or cold_start.
        runs_on: Jittor, or PyTorch and its setting.
        peak_bytes: largest memory of the process (CPU) or the device (CUDA); None where not measured.
        macs: multiply-accumulates of one call; None where there are none.
        bytes: read and written by all operators of one call; None where not known.
        ratio: our speed over this one's, 1 for ourselves.
    """

    what: str
    runs_on: str
    timing: Timing
    peak_bytes: int | None = None
    macs: int | None = None
    bytes: float | None = None
    ratio: float | None = None

    def fractions(self, machine: Machine) -> tuple[float | None, float | None]:
        """(of the matrix-product rate, of the memory bandwidth) that the machine was measured to have."""
        macs = None if self.macs is None else self.macs / self.timing.median / machine.macs_per_second
        moved = None if self.bytes is None else self.bytes / self.timing.median / machine.bytes_per_second
        return macs, moved

    def record(self, machine: Machine) -> dict[str, Any]:
        """Everything for benchmark.json."""
        macs, moved = self.fractions(machine)
        return asdict(self) | {
            "median_seconds": self.timing.median,
            "images_per_second": self.timing.images_per_second,
            "spread": self.timing.spread,
            "fraction_of_macs_rate": macs,
            "fraction_of_bandwidth": moved,
        }


@dataclass
class Session:
    """What is measured, and what was measured so far.

    Attributes:
        model: the network.
        batch, crop: images at a time, and their (height, width).
        precision: ours; PyTorch's is in its settings.
        rounds: (warm-up, repeats).
        torch_settings: PyTorch's contestants; empty: we run alone.
        progress: called with the workload, the rounds done and their total.
        communicator: several ranks measure what they gain over one, and no operators.
        rows, operators, versions, scaling: results; operators and scaling by workload.
        evaluated: how many images an evaluation has; 0 where none was measured.
    """

    model: ModelSettings
    num_classes: int
    batch: int
    crop: tuple[int, int]
    precision: str
    rounds: tuple[int, int]
    torch_settings: Sequence[str]
    progress: Callable[[str, int, int], None]
    communicator: Communicator = field(default_factory=lambda: Communicator(World()))
    rows: list[Row] = field(default_factory=list)
    operators: dict[str, list[OperatorKind]] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    scaling: dict[str, Scaling] = field(default_factory=dict)
    evaluated: int = 0

    def train(self) -> None:
        """A step of the recipe on random images: forward, loss, backward, AdamW."""
        model = create_model(self.model, num_classes=self.num_classes, precision=self.precision)
        parameters = model.parameters_to_train()
        groups = parameter_groups(parameters)
        images, labels = random_batch(self.batch, self.crop, self.num_classes)
        step = TrainingStep(model, AdamW(parameters, groups), images, labels)
        theirs = [(_LR * group.lr_factor, group.weight_decay, names) for group, names in groups.items()]
        self._network("train", step, groups=theirs)

    def inference(self, rivals: Rivals) -> None:
        """Labels at full resolution of random images, evaluation mode.

        Args:
            rivals: given the images (B,3,H,W), others that label them: by name, what returns the seconds it took.
        """
        model = create_model(self.model, num_classes=self.num_classes, precision=self.precision)
        images, _ = random_batch(self.batch, self.crop, self.num_classes)
        self._network("inference", Inference(model, images), rivals(images))

    def logits(self) -> None:
        """The forward pass on random images alone, evaluation mode: no labels, nothing at full resolution."""
        model = create_model(self.model, num_classes=self.num_classes, precision=self.precision)
        images, _ = random_batch(self.batch, self.crop, self.num_classes)
        self._network("logits", Logits(model, images))

    def data(self, batches: Iterator[Any]) -> None:
        """Training batches from the loader, with nobody else at work."""
        self.rows.append(Row("data", "NumPy", self._turns("data", {"": Pipeline(batches)}, self.batch)[""]))

    def start_up(self, *, cold: bool) -> None:
        """From the start of Python to the end of the first training step; measured once, it takes up to minutes."""
        what = "cold_start" if cold else "start"
        self.progress(what, 0, 1)
        seconds = seconds_to_first_step(
            self.model.name,
            num_classes=self.num_classes,
            batch=self.batch,
            crop=self.crop,
            device=backend.device_name(),
            cold=cold,
        )
        self.progress(what, 1, 1)
        self.rows.append(Row(what, _OURS, Timing((seconds,), 0)))

    def evaluation(
        self,
        dataset: Dataset,
        settings: InferenceSettings,
        *,
        workers: int,
        rivals: Mapping[str, SegmentationModel] | None = None,
    ) -> None:
        """All images of ``dataset``, from decoding to the confusion matrix.

        Args:
            settings: how images are shown to the model.
            workers: processes that read images ahead, ours and PyTorch's.
            rivals: other models, by name.
        """
        ours = create_model(self.model, num_classes=self.num_classes, precision=self.precision)
        self.evaluated = len(dataset)
        with as_files(dataset) as files:
            macs = evaluation_macs(self.model, files, settings, num_classes=self.num_classes)
            models = {_OURS: ours, **(rivals or {})}
            contestants = {name: Evaluation(each, files, settings, workers=workers) for name, each in models.items()}
            paths = [(str(files.image_path(number)), str(files.label_path(number))) for number in range(len(files))]
            timings, peaks = self._against_torch(
                "evaluate", contestants, images=len(files), files=paths, reduce_zero_label=files.reduce_zero_label,
                settings=asdict(settings), mean=MEAN, std=STD, workers=workers,
            )  # fmt: skip
        for name, timing in timings.items():
            ratio = timings[_OURS].ratio(timing) if len(timings) > 1 else None
            self.rows.append(Row("evaluate", name, timing, peak_bytes=peaks[name], macs=macs, ratio=ratio))

    def _network(
        self,
        what: str,
        ours: Callable[[], float],
        rivals: Mapping[str, Callable[[], float]] | None = None,
        **workload: Any,
    ) -> None:
        if self.communicator.size > 1:
            self._ranks(what, ours)
            return
        contestants = {_OURS: ours, **(rivals or {})}
        workload |= {"batch": self.batch, "crop": self.crop}
        timings, peaks = self._against_torch(what, contestants, images=self.batch, **workload)
        self.operators[what] = profile_operators(ours)
        moved = sum(kind.bytes for kind in self.operators[what])
        macs = self._macs(what)
        for name, timing in timings.items():
            self.rows.append(
                Row(
                    what,
                    name,
                    timing,
                    peak_bytes=peaks[name],
                    macs=macs,
                    bytes=moved if name == _OURS else None,
                    ratio=timings[_OURS].ratio(timing) if len(timings) > 1 else None,
                )
            )

    def _against_torch(
        self, what: str, contestants: Mapping[str, Callable[[], float]], *, images: int, **workload: Any
    ) -> tuple[dict[str, Timing], dict[str, int | None]]:
        """Timing and peak memory of ``contestants``, the first of which is ours, and of PyTorch, by name."""
        with ExitStack() as stack:
            twins = {f"torch {setting}": stack.enter_context(TorchTwin()) for setting in self.torch_settings}
            for setting, twin in zip(self.torch_settings, twins.values(), strict=True):
                self.versions |= twin.prepare(
                    what=what,
                    setting=setting,
                    model=self.model.name,
                    num_classes=self.num_classes,
                    device=backend.device_name(),
                    **workload,
                )
            forget_peak()
            timings = self._turns(what, {**contestants, **{name: twin.run for name, twin in twins.items()}}, images)
            peaks: dict[str, int | None] = dict.fromkeys(contestants)
            if len(contestants) == 1:  # several work in this process: its peak is nobody's own
                peaks[_OURS] = self._our_peak()
            return timings, peaks | {name: twin.peak_bytes for name, twin in twins.items()}

    def _ranks(self, what: str, ours: Callable[[], float]) -> None:
        timings = self._turns(what, dict(contestants(what, ours, self.communicator)), self.batch)
        for name, timing in timings.items():
            images = self.batch * (1 if name == "1 alone" else self.communicator.size)
            self.rows.append(Row(what, name, Timing(timing.seconds, images)))
        self.scaling[what] = scaling(timings, self.communicator.size)

    def _turns(self, what: str, contestants: dict[str, Callable[[], float]], images: int) -> dict[str, Timing]:
        warmup, repeats = self.rounds
        return take_turns(
            contestants,
            images=images,
            warmup=warmup,
            repeats=repeats,
            progress=lambda done, total: self.progress(what, done, total),
        )

    def _macs(self, what: str) -> int:
        """Of one call. A backward pass costs two forward passes: gradients of the inputs and of the weights."""
        counted = complexity(
            self.model.name,
            num_classes=self.num_classes,
            height=self.crop[0],
            width=self.crop[1],
            nmf_rank=self.model.nmf_rank,
            nmf_steps=6 if what == "train" else 7,
        )
        return int((3 if what == "train" else 1) * self.batch * counted.macs)

    @staticmethod
    def _our_peak() -> int | None:
        """Jittor does not tell the peak of a device's memory."""
        return peak_bytes() if backend.device_name() == "cpu" else None


@dataclass(frozen=True)
class Scaling:
    """Of ``ranks`` ranks, each with as many images as the one that works alone.

    Attributes:
        efficiency: images per second of all, over ``ranks`` times those of the one.
        communication: share of a training step that averaging takes, waiting for the slowest rank included; None where
            nothing is averaged.
    """

    ranks: int
    efficiency: float
    communication: float | None

    def __str__(self) -> str:
        text = f"{self.ranks} ranks: {self.ranks * self.efficiency:.2f} × the images of one"
        text += f" (efficiency {100 * self.efficiency:.0f} %)"
        if self.communication is not None:
            text += f"; communication and waiting take {100 * self.communication:.0f} % of a step"
        return text


class InStep:
    """Lets ranks begin together and counts until the slowest has finished.

    Args:
        run: does a rank's work and returns the seconds that it took.
        working: whether this rank works; else it waits.
        averaging: whether gradients and statistics are averaged over the ranks.
    """

    def __init__(self, run: Callable[[], float], communicator: Communicator, *, working: bool, averaging: bool) -> None:
        self._run, self._communicator = run, communicator
        self._working, self._averaging = working, averaging

    def __call__(self) -> float:
        self._communicator.barrier()
        seconds = 0.0
        if self._working:
            with contextlib.nullcontext() if self._averaging else without_communication():
                seconds = self._run()
        self._communicator.hang_timer.reset("measuring")
        return self._communicator.all_reduce_max(int(seconds * 1e9)) / 1e9


def contestants(what: str, run: Callable[[], float], communicator: Communicator) -> dict[str, InStep]:
    """What to measure of ``what``, by the name of its row: all ranks first, one alone second."""
    measured = {
        f"{communicator.size} ranks": InStep(run, communicator, working=True, averaging=True),
        "1 alone": InStep(run, communicator, working=communicator.is_main, averaging=False),
    }
    if what == "train":
        measured[f"{communicator.size} not averaging"] = InStep(run, communicator, working=True, averaging=False)
    return measured


def scaling(timings: dict[str, Timing], ranks: int) -> Scaling:
    """From the rounds of ``contestants``, which ran side by side."""
    together, one, *apart = timings.values()
    # ratio: how many times as fast as the other; here, the share of the step that is left without averaging
    communication = max(0.0, 1 - together.ratio(apart[0])) if apart else None
    return Scaling(ranks, together.ratio(one), communication)
