"""The first things to see of a new GPU: `first_steps.py DEVICE launch | conv P | parity P | step P | memory P`.

One in a process; each prints its figures and fails where they are wrong; P is a precision.
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from segnext import backend
from segnext.kernels.cast import cast
from segnext.kernels.convolution import conv as convolve
from segnext.models.segnext import create_model
from segnext.models.settings import ModelSettings, Precision
from segnext.models.training_memory import training_memory
from segnext.training.loop import train
from segnext.training.loss import LossScale, segmentation_loss
from segnext.training.optimizer import create_optimizer
from segnext.training.schedule import ScheduleSettings

_WITHIN = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 3e-2, "fp16": 5e-3}  # of the largest value
_LIKE_TF32 = "fp16"  # what a CPU has of as few bits: there TF32 is float32
_GIB = 1 << 30


def launch(jt: Any) -> None:
    """One operator of Jittor's: a kernel is compiled, started, and gives what it should."""
    x = np.arange(4096, dtype=np.float32)
    doubled = (jt.array(x) * 2 + 1).numpy()
    print(f"doubled[-1] = {doubled[-1]}")
    assert (doubled == 2 * x + 1).all()


def conv(jt: Any, precision: str) -> None:
    """Values and gradients of a strided and a 1×1 convolution beside those of the project's operator on the CPU."""
    rng = np.random.default_rng(0)
    backend.allow_tf32(precision == "tf32")
    dtype = Precision(precision).compute_type
    for side, stride, padding in ((3, 2, 1), (1, 1, 0)):
        arrays = [
            rng.standard_normal(shape).astype(np.float32) for shape in ((2, 16, 32, 32), (32, 16, side, side), (32,))
        ]
        on_gpu, on_cpu = (
            _convolve(jt, arrays, dtype, stride, padding, use_cuda=use_cuda) for use_cuda in (jt.flags.use_cuda, 0)
        )
        for name, found, expected in zip(("y", "dx", "dw", "db"), on_gpu, on_cpu, strict=True):
            apart = np.abs(found - expected).max() / np.abs(expected).max()
            print(f"{side}×{side}, stride {stride}, {name}: {apart:.1e} of the largest apart")
            assert apart <= _WITHIN[precision], name


def _convolve(jt: Any, arrays: list[Any], dtype: str, stride: int, padding: int, *, use_cuda: int) -> list[Any]:
    before, jt.flags.use_cuda = jt.flags.use_cuda, use_cuda
    try:
        inputs = [jt.array(array) for array in arrays]
        narrow = [cast(each, dtype) for each in inputs]
        y = cast(convolve(*narrow, stride=stride, padding=padding), "float32")
        return [each.numpy() for each in (y, *jt.grad((y * y).sum() / 64, inputs))]
    finally:
        jt.flags.use_cuda = before


def parity(jt: Any, precision: str, images: int = 2, height: int = 64, width: int = 96) -> None:
    """Losses of three training steps of tiny, the first one's logits and gradients, and the last weights.

    Float32 is beside the CPU's. A narrower type rounds in another order there, so its logits and gradients may be as
    twice as far from float32 as the CPU's own in a type of as few bits. Weights are shown, not judged:
    AdamW moves by the full rate what is only noise, such as the bias before a norm.
    """
    size = images, height, width
    on_gpu = _three_steps(jt, precision, size, use_cuda=jt.flags.use_cuda)
    on_cpu = _three_steps(jt, precision, size, use_cuda=0)
    for step, (found, expected) in enumerate(zip(on_gpu.pop("losses"), on_cpu.pop("losses"), strict=True), start=1):
        print(f"loss of step {step}: {found:.7f}, on the CPU {expected:.7f}")
        assert abs(found - expected) <= _WITHIN[precision] * abs(expected), f"loss of step {step}"
    exact = on_cpu if precision == "fp32" else _three_steps(jt, "fp32", size, use_cuda=0)
    as_narrow = on_cpu if precision != "tf32" else _three_steps(jt, _LIKE_TF32, size, use_cuda=0)
    for kind in ("logits", "gradient", "weight"):
        names = [name for name in on_gpu if name.startswith(kind)]
        apart = sorted((_apart(on_gpu[name], exact[name]), name) for name in names)
        middle = apart[len(names) // 2][0]
        allowed = max(2 * float(np.median([_apart(as_narrow[name], exact[name]) for name in names])), _WITHIN["fp32"])
        print(f"{kind}: {middle:.1e} of the largest from float32 on the CPU in the middle of {len(names)}, ", end="")
        print(f"{apart[-1][0]:.1e} at most ({apart[-1][1]}); allowed {allowed:.1e}")
        assert kind == "weight" or middle <= allowed, kind


def _apart(found: Any, expected: Any) -> float:
    """Largest difference, of the largest value."""
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-6))


def _three_steps(jt: Any, precision: str, size: tuple[int, int, int], *, use_cuda: int) -> dict[str, Any]:
    before, jt.flags.use_cuda = jt.flags.use_cuda, use_cuda
    try:
        rng = np.random.default_rng(2)
        images = rng.standard_normal((size[0], 3, *size[1:])).astype(np.float32)
        labels = rng.integers(0, 7, size).astype(np.uint8)
        model = create_model("tiny", num_classes=7, precision=precision)
        optimizer = create_optimizer(model, ScheduleSettings(iterations=3, batch_size=2))
        scale = 1024 if precision == "fp16" else 1  # small gradients would be lost in it
        found: dict[str, Any] = {"losses": []}
        for iteration in range(3):
            model.seed_noise([(0, iteration, image) for image in range(len(images))])
            logits = model(jt.array(images))
            loss = segmentation_loss(logits, jt.array(labels))
            if iteration == 0:
                found["logits"] = cast(logits, "float32").numpy()
                parameters = model.parameters_to_train()
                gradients = [each / scale for each in jt.grad(loss * scale, list(parameters.values()))]
                found |= {f"gradient of {name}": g.numpy() for name, g in zip(parameters, gradients, strict=True)}
            optimizer.backward(loss * scale)
            optimizer.scale_gradients(1 / scale)
            optimizer.step(1e-3)
            found["losses"].append(float(loss.item()))
        return found | {f"weight {name}": var.numpy() for name, var in model.tensors().items()}
    finally:
        jt.flags.use_cuda = before


def step(jt: Any, precision: str) -> None:
    """Five training steps of tiny, 4 crops of 512², and what they spend their time with."""
    seconds, _ = _train("tiny", precision, images=4, crop=512, steps=5)
    print("seconds of each step: " + ", ".join(f"{each:.3f}" for each in seconds))
    with jt.profile_scope() as report:
        _train("tiny", precision, images=4, crop=512, steps=2)
    for row in report[:30]:
        print(*(str(cell)[:60] for cell in row[:6]), sep="\t")


def memory(jt: Any, precision: str) -> None:
    """Peak memory of large at 1024² with gradient checkpointing and without, beside what runners.profile counts."""
    for checkpointing in (True, False):
        settings = ModelSettings("large", gradient_checkpointing=checkpointing)
        _, held = _train(settings, precision, images=1, crop=1024, steps=2)
        counted = training_memory(
            settings,
            num_classes=19,
            crop=(1024, 1024),
            images=1,
            precision=Precision(precision),
            checkpointing=checkpointing,
        )
        print(f"checkpointing {checkpointing}: {held:.2f} GiB held, {counted / _GIB:.2f} GiB counted", flush=True)
        backend.release_memory()


def _train(
    model: ModelSettings | str, precision: str, *, images: int, crop: int, steps: int
) -> tuple[list[float], float]:
    """Seconds of each step on noise, and GiB of memory at their peak; raises DivergenceError as training does."""
    rng = np.random.default_rng(1)
    schedule = ScheduleSettings(iterations=steps, batch_size=images, log_interval=1)
    network = create_model(model, num_classes=19, precision=precision)
    batches = [
        SimpleNamespace(
            images=rng.standard_normal((images, 3, crop, crop)).astype(np.float32),
            labels=rng.integers(0, 19, (images, crop, crop)).astype(np.uint8),
            indices=range(images),
            iteration=iteration,
        )
        for iteration in range(steps)
    ]
    times, memory = [time.perf_counter()], [0.0]

    def log(done: int, figures: Any) -> None:
        times.append(time.perf_counter())
        memory.append(figures["train/device_memory_peak_gib"])
        print(done, dict(figures), flush=True)

    train(
        network,
        create_optimizer(network, schedule),
        batches,
        schedule=schedule,
        seed=0,
        log=log,
        evaluate=lambda *_: None,
        save=lambda _: None,
        loss_scale=LossScale() if precision == "fp16" else None,
    )
    return list(np.diff(times)), max(memory)


if __name__ == "__main__":
    device, what, *arguments = sys.argv[1:]
    checks = {"launch": launch, "conv": conv, "parity": parity, "step": step, "memory": memory}
    checks[what](backend.start(device), *arguments)
