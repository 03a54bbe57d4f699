"""Ten training steps of tiny on drawn shapes, alone or as several ranks: ``python train_steps.py FOLDER BATCH``.

Rank 0 writes losses, gradient norms and every tensor to FOLDER/steps.npz, every rank a checksum of its own tensors.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import numpy as np

from segnext import backend
from segnext.backend.world import current_world
from segnext.data.augmentation import TrainingTransform
from segnext.data.catalog import create_dataset
from segnext.data.loader import TrainingLoader
from segnext.data.settings import AugmentationSettings
from segnext.distributed.communicator import Communicator

world = current_world()
jt = backend.start("cpu")

from segnext.models.segnext import create_model  # noqa: E402
from segnext.training.loop import train  # noqa: E402
from segnext.training.optimizer import AdamW, parameter_groups  # noqa: E402
from segnext.training.schedule import ScheduleSettings  # noqa: E402

STEPS = 10
folder, batch = Path(sys.argv[1]), int(sys.argv[2])
communicator = Communicator.join()
dataset = create_dataset("shapes", split="train", image_size=(48, 48), train_images=32)
model = create_model("tiny", num_classes=len(dataset.classes), seed=3)
parameters = model.parameters_to_train()
optimizer = AdamW(parameters, parameter_groups(parameters))
logged: list[tuple[float, float]] = []
loader = TrainingLoader(
    dataset,
    TrainingTransform(AugmentationSettings(crop=(48, 48), scale=(48, 48))),
    batch_size=batch,
    seed=5,
    first_iteration=0,
    last_iteration=STEPS,
    workers=0,
    rank=world.rank,
    world_size=world.size,
)
with loader as batches:
    train(
        model,
        optimizer,
        batches,
        schedule=ScheduleSettings(
            iterations=160_000,
            batch_size=batch,
            micro_batch=int(sys.argv[3]) if len(sys.argv) > 3 else None,
            log_interval=1,
        ),
        seed=5,
        log=lambda done, metrics: logged.append((metrics["train/loss"], metrics["train/grad_norm"])),
        evaluate=lambda done, check: None,
        save=lambda done: None,
        communicator=communicator,
    )
tensors = {name: var.numpy() for name, var in model.tensors().items()}
checksum = zlib.crc32(b"".join(array.tobytes() for array in tensors.values()))
(folder / f"checksum-{world.rank}").write_text(str(checksum))
if communicator.is_main:
    moments = {name: var.numpy() for name, var in optimizer.moments().items()}
    np.savez(folder / "steps.npz", logged=np.array(logged), **tensors, **moments)
