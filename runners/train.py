"""Trains SegNeXt: `python -m runners.train model=tiny dataset=shapes schedule=demo`."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from segnext.app.fit import Run, fit
from segnext.app.memory import fit_step
from segnext.app.resolution import to_yaml
from segnext.app.runner import runner
from segnext.app.runs import assemble
from segnext.app.schema import TrainConfig
from segnext.app.training import (
    changed_settings,
    check_files,
    describe_changes,
    finished_run,
    new_run_folder,
    run_to_resume,
)
from segnext.backend.world import current_world
from segnext.data.catalog import create_dataset
from segnext.tracking.run_folder import RunFolder
from segnext.tracking.run_supervisor import open_session
from segnext.training.training_state import require_state
from segnext.weights.trained import build_model, initial_weights


@runner("train", TrainConfig, isolated=True, from_run=True)
def main(config: TrainConfig) -> None:
    console = Console(markup=False, emoji=False, soft_wrap=True, highlight=False)
    if finished_run(config) is not None:
        console.print(f"Nothing to do: the run in {config.run_folder} has finished")
        return

    # What can be wrong with data and weights shows here, before any work.
    training_set = create_dataset(config.dataset, split="train")
    validation_set = create_dataset(config.dataset, split="val")
    is_main = current_world().is_main  # the other ranks get folder and weights from rank 0
    if is_main:
        check_files(training_set, validation_set, console)
    num_classes = len(training_set.classes)
    resumed = run_to_resume(config) if is_main else None
    starts = is_main and resumed is None
    weights = initial_weights(config.model, num_classes=num_classes, checkpoint=config.checkpoint) if starts else {}

    changed: dict[str, tuple[Any, Any]] = {}

    def open_folder() -> RunFolder:
        folder = resumed or new_run_folder(config)
        if config.memory is not None:
            console.print(fit_step(config, num_classes=num_classes, run=resumed))
        if advice := config.schedule.rate_advice(config.dataset.batch_size):
            console.print(f"warning: {advice}")
        if resumed:
            changed.update(changed_settings(folder, config, training_set.classes))
        folder.claim()
        console.print(f"{'Resuming' if resumed else 'Run folder'} {folder.path}")
        if changed:
            console.print(f"  with other settings than before: {describe_changes(changed)}")
        if resumed:
            require_state(folder.checkpoints)
        folder.write_config(to_yaml(config))
        return folder

    communicator, folder, members = assemble(config, open_folder, console)
    chosen = config.schedule.micro_batch, config.model.gradient_checkpointing
    config.schedule.micro_batch, config.model.gradient_checkpointing = communicator.broadcast(chosen)
    with open_session(communicator, folder.path, members) as log:
        model = build_model(
            config.model, num_classes=num_classes, precision=config.precision, seed=config.seed, weights=weights
        )
        resume = communicator.broadcast(resumed is not None)
        run = Run(config, communicator, folder, log, resume=resume, changed=changed)
        figures = fit(run, model, training_set, validation_set)

    if "best_mIoU" in figures:  # it is missing where no validation pixel has a label
        console.print(f"best mIoU {100 * figures['best_mIoU']:.2f} % at iteration {figures['best_iteration']}")
    for name, path in (("run folder", folder.path), ("curves", folder.curves), ("overlays", folder.samples)):
        console.print(f"  {name:<10}  {path}")


if __name__ == "__main__":
    main()
