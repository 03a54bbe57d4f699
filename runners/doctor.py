"""Tells what works here and whether a dataset is sound: `python -m runners.doctor dataset=ade dataset.root=DATA`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

try:
    from rich.console import Console

    from segnext.app.runner import runner
    from segnext.app.schema import DoctorConfig
    from segnext.backend.logs import decoders_into_log
    from segnext.doctor import Finding, State, problem
    from segnext.doctor.dataset import DatasetExamination, examine_dataset
    from segnext.doctor.machine import examine_machine
    from segnext.doctor.screen import class_table, finding_line, verdict
    from segnext.doctor.warm import warm_cache
    from segnext.files import cache_home
    from segnext.progress import progress
except ImportError as error:  # what the doctor itself stands on
    raise SystemExit(f"error: {error}; install the project with its packages: pip install -e .") from None

_WIDTH = 80


@runner("doctor", DoctorConfig)
def main(config: DoctorConfig) -> int:
    console = Console(markup=False, emoji=False, highlight=False)
    console.width = min(console.width, _WIDTH)
    if config.warm:
        height, width = config.warm_crop
        warm_cache(config.warm_model, (height, width), device=config.device.value, announce=console.print)
        console.print(f"compiled ahead for model={config.warm_model}, crop {height}×{width}: {cache_home()}")
        return 0
    counts: Counter[State] = Counter()

    def show(findings: Iterable[Finding]) -> None:
        for finding in findings:
            counts[finding.state] += 1
            console.print(finding_line(finding))

    with progress(console, "looking around"):
        show(
            examine_machine(
                device=config.device.value,
                output_dir=config.output_dir,
                trial=config.trial,
                announce=console.print,
            )
        )
    if config.dataset.name != "none":
        console.print(f"\ndataset={config.dataset.name} {config.dataset.root or ''}", style="bold", soft_wrap=True)
        examination = _examine(config, console)
        show(examination.findings)
        if examination.reports:
            console.print(class_table(examination))
        if config.browse and examination.reports:
            console.print(f"page: {_browse(config, examination)}", soft_wrap=True)
    console.print(verdict(counts))
    return 1 if counts[State.problem] else 0


def _examine(config: DoctorConfig, console: Console) -> DatasetExamination:
    """Looks at the dataset behind a progress bar."""
    try:
        from segnext.data.catalog import create_dataset  # here, since it imports OpenCV
    except ImportError as error:
        cure = "pip install opencv-python-headless, and no other OpenCV beside it"
        return DatasetExamination(findings=[problem("images", str(error), cure)])
    with decoders_into_log(), progress(console, "listing files") as report:
        return examine_dataset(
            lambda split: create_dataset(config.dataset, split=split),
            limit=config.max_images,
            workers=config.workers,
            progress=lambda split, done, total: report(done, total, split),
        )


def _browse(config: DoctorConfig, examination: DatasetExamination) -> Path:
    """Writes the page of the dataset and returns where."""
    from segnext.doctor.browse import browse_page  # here, since it imports OpenCV

    page = Path(config.output_dir) / f"browse_{config.dataset.name}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    title = f"{config.dataset.name} {config.dataset.root or ''}".strip()
    html = browse_page(examination, title=title, augmentation=config.dataset)
    page.write_text(html, encoding="utf-8", errors="backslashreplace")
    return page


if __name__ == "__main__":
    main()
