"""Makes a downloaded dataset ready: `python -m runners.prepare dataset=cityscapes dataset.root=/data/cityscapes`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from segnext.app.runner import runner
from segnext.app.schema import PrepareConfig
from segnext.data.preparation import convert_labels, take_inventory
from segnext.errors import ConfigError
from segnext.progress import progress

_FAILURES_SHOWN = 10


@runner("prepare", PrepareConfig)
def main(config: PrepareConfig) -> int:
    console = Console(markup=False, emoji=False, soft_wrap=True, highlight=False)
    root = config.dataset.root
    if config.dataset.name not in ("cityscapes", "ade"):
        raise ConfigError(f"dataset={config.dataset.name} needs no preparation: choose cityscapes or ade")
    if root is None:
        raise ConfigError("dataset.root is not set: give dataset.root=FOLDER, where the dataset is unpacked")
    if config.dataset.name == "ade":
        return _check_ade(root, console)
    return _prepare_cityscapes(root, config, console)


def _prepare_cityscapes(root: str, config: PrepareConfig, console: Console) -> int:
    with progress(console, "labelTrainIds") as tell:
        report = convert_labels(root, workers=config.workers, overwrite=config.overwrite, progress=tell)
    console.print(f"{report.converted} converted, {report.present} present before, {len(report.failed)} failed")
    for message in report.failed[:_FAILURES_SHOWN]:
        console.print(f"failed: {message}")
    if len(report.failed) > _FAILURES_SHOWN:
        console.print(f"… and {len(report.failed) - _FAILURES_SHOWN} more")
    if report.failed:
        console.print("Repair these files and give the same command again; the others are not converted twice.")
        return 1
    console.print(f"Ready: python -m runners.train dataset=cityscapes dataset.root={root}")
    return 0


def _check_ade(root: str, console: Console) -> int:
    inventory = take_inventory(root)
    table = Table("folder", "files", "published", "", title=f"ADE20K in {root}")
    for folder, found in inventory.found.items():
        published = inventory.published[folder]
        state = (
            "complete" if found == published else f"{published - found} missing" if found < published else "too many"
        )
        table.add_row(folder, str(found), str(published), state)
    console.print(table)
    if inventory.unpaired:
        console.print(f"{len(inventory.unpaired)} images have no label, the first is {inventory.unpaired[0]}")
    if inventory.complete:
        console.print(f"Ready: python -m runners.train dataset=ade dataset.root={root}")
        return 0
    console.print("To complete it (0.9 GB to download):")
    for command in inventory.instructions:
        console.print(f"  {command}")
    return 2


if __name__ == "__main__":
    main()
