"""Measures speed and memory: `python -m runners.benchmark model=tiny dataset=ade against=torch`."""

from __future__ import annotations

from rich.console import Console

from segnext import backend
from segnext.app.runner import runner
from segnext.app.runs import assemble, open_run_folder, recorded
from segnext.app.schema import BenchmarkConfig
from segnext.benchmark.profiling import probe
from segnext.benchmark.session import Session
from segnext.benchmark.summary import print_summary, record
from segnext.benchmark.torch_process import default_settings, torch_interpreter
from segnext.data.augmentation import TrainingTransform
from segnext.data.catalog import create_dataset
from segnext.data.classes import known_classes
from segnext.data.datasets import Dataset
from segnext.data.loader import TrainingLoader
from segnext.distributed.communicator import Communicator
from segnext.export.workload import ExportedInference, exported_models
from segnext.files import strict_json, write_atomically
from segnext.progress import progress
from segnext.tracking.run_supervisor import open_session


@runner("benchmark", BenchmarkConfig)
def main(config: BenchmarkConfig) -> None:
    console = Console(markup=False, emoji=False, highlight=False)

    # Whatever is missing shows here, before any work.
    classes = config.num_classes or len(known_classes(config.dataset))
    training_set = create_dataset(config.dataset, split="train") if "data" in config.what else None
    validation_set = create_dataset(config.dataset, split="val") if "evaluate" in config.what else None
    if config.against:
        torch_interpreter()

    console.print(f"measuring {', '.join(config.what)} of {config.model.name}")
    communicator, folder, members = assemble(config, lambda: open_run_folder(config, config.name), console)
    with open_session(communicator, folder.path, members), recorded(folder, by=communicator):
        machine = probe()
        session = measure(config, communicator, classes, training_set, validation_set, console)
        machine = machine.best(probe())
        figures = record(session, machine)
        if communicator.is_main:
            write_atomically(folder.path / "benchmark.json", strict_json(figures, indent=2) + "\n")
    print_summary(session, machine, console)
    console.print(f"results: {folder.path / 'benchmark.json'}", soft_wrap=True)


def measure(
    config: BenchmarkConfig,
    communicator: Communicator,
    classes: int,
    training_set: Dataset | None,
    validation_set: Dataset | None,
    console: Console,
) -> Session:
    """Runs every workload of ``what``."""
    device = backend.device_name()
    exported = exported_models(config.engines, config.model, num_classes=classes)
    with progress(console, "starting") as report:
        session = Session(
            model=config.model,
            num_classes=classes,
            batch=config.batch or (config.dataset.batch_size if device == "cuda" else 2),
            crop=config.dataset.crop,
            precision=config.precision.value,
            rounds=(config.warmup, config.repeats),
            torch_settings=(config.torch_settings or default_settings(device)) if config.against else [],
            communicator=communicator,
            progress=lambda what, done, total: report(done, total, what),
        )
        for what in config.what:
            if what == "train":
                session.train()
            elif what == "inference":
                session.inference(
                    lambda images: {name: ExportedInference(model, images) for name, model in exported.items()}
                )
            elif what == "logits":
                session.logits()
            elif what == "evaluate":
                assert validation_set is not None
                session.evaluation(validation_set, config.dataset.test, workers=config.workers, rivals=exported)
            elif what == "data":
                assert training_set is not None
                _measure_data(config, session, training_set)
            else:
                session.start_up(cold=what == "cold_start")
    return session


def _measure_data(config: BenchmarkConfig, session: Session, training_set: Dataset) -> None:
    """The loader as training uses it, with nobody else at work."""
    loader = TrainingLoader(
        training_set,
        TrainingTransform(config.dataset),
        batch_size=session.batch,
        seed=config.seed,
        first_iteration=0,
        last_iteration=config.warmup + config.repeats,
        workers=config.workers,
    )
    with loader as batches:
        session.data(iter(batches))


if __name__ == "__main__":
    main()
