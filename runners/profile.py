"""Counts parameters and MACs: `python -m runners.profile -m model=tiny,small,base,large dataset=ade,cityscapes`."""

from __future__ import annotations

import json
import os
import tempfile

from rich import box
from rich.console import Console

from segnext.app.memory import memory_records, memory_table
from segnext.app.runner import runner
from segnext.app.schema import CountFormat, ProfileConfig
from segnext.data.classes import known_classes
from segnext.models.complexity import complexity
from segnext.models.variants import get_variant, published
from segnext.report.counts import CountedModel, counts_notes, counts_record, counts_table, modules_table

_PAPER_SIZES = {"ade": (512, 512), "cityscapes": (1024, 2048)}  # at which the official README counts
_rows: list[CountedModel] = []
_options: list[ProfileConfig] = []


def _print() -> None:
    """One answer to all jobs of a `-m` command."""
    if not _rows:
        return
    depth, form = _options[-1].depth, _options[-1].format
    if form is CountFormat.json:
        records = [counts_record(row, depth) for row in _rows]
        for record, config in zip(records, _options, strict=True):
            if config.memory:
                record["step_memory"] = memory_records(config, record["num_classes"])
        print(json.dumps(records, indent=2))
        return
    markdown = form is CountFormat.markdown
    console = Console(markup=False, emoji=False, width=200 if markdown else None, highlight=False)
    console.print(counts_table(_rows, markdown))
    for row in _rows if depth else ():
        console.print()
        console.print(modules_table(row, depth, markdown))
    for row, config in zip(_rows, _options, strict=True) if _options[-1].memory else ():
        console.print()
        console.print(memory_table(config, row.counted.num_classes, box.MARKDOWN if markdown else box.SIMPLE_HEAD))
    console.print()
    for note in counts_notes(_rows):
        console.print(note, soft_wrap=markdown)


@runner("profile", ProfileConfig, finish=_print)
def _profile(config: ProfileConfig) -> None:
    height = config.height or config.dataset.flops_size[0]
    width = config.width or config.dataset.flops_size[1]
    classes = config.num_classes or len(known_classes(config.dataset))
    counted = complexity(
        config.model.name, num_classes=classes, height=height, width=width, nmf_rank=config.model.nmf_rank
    )
    comparable = (
        (height, width) == _PAPER_SIZES.get(config.dataset.name)
        and config.num_classes is None
        and config.model.nmf_rank == get_variant(config.model.name).nmf_rank
    )
    paper = published(config.model.name, config.dataset.name) if comparable else None
    _rows.append(CountedModel(config.dataset.name, counted, paper))
    _options.append(config)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SEGNEXT_SCRATCH"] = scratch
        _profile()


if __name__ == "__main__":
    main()
