"""Counts parameters and MACs: `python -m runners.profile -m model=tiny,small,base,large dataset=ade,cityscapes`."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from segnext.app.memory import memory_records, memory_table
from segnext.app.runner import runner
from segnext.app.schema import CountFormat, ProfileConfig
from segnext.data.classes import known_classes
from segnext.models.complexity import Complexity, complexity
from segnext.models.published import Published, published
from segnext.models.variants import get_variant

_PAPER_SIZES = {"ade": (512, 512), "cityscapes": (1024, 2048)}  # at which the official README counts
_FOOTNOTE = (
    "G: 10^9, M: 10^6. MACs: multiply-accumulates of one image, as torchprofile counts them; the paper calls them "
    "FLOPs. 2×MACs: multiplications and additions counted apart. Paper: parameters / FLOPs in the official README."
)
_NOT_REPRODUCED = (
    "* {}: no counting convention gives the README's figure (torchprofile of then and now, fvcore, mmcv; with or "
    "without the matrix factorisation, other ranks, other class counts, sliding windows)."
)


@dataclass(frozen=True)
class _Row:
    dataset: str
    counted: Complexity
    paper: Published | None

    @property
    def reproduced(self) -> bool:
        """Whether the README's rounded figure is ours."""
        return self.paper is None or round(self.counted.macs / 1e9) == self.paper.flops_G


_rows: list[_Row] = []
_options: list[ProfileConfig] = []


def _print() -> None:
    """One answer to all jobs of a `-m` command."""
    if not _rows:
        return
    depth, form = _options[-1].depth, _options[-1].format
    if form is CountFormat.json:
        print(json.dumps([_record(row, config) for row, config in zip(_rows, _options, strict=True)], indent=2))
        return
    markdown = form is CountFormat.markdown
    console = Console(markup=False, emoji=False, width=200 if markdown else None, highlight=False)
    console.print(_summary(markdown))
    for row in _rows if depth else ():
        console.print()
        console.print(_modules(row, depth, markdown))
    for row, config in zip(_rows, _options, strict=True) if _options[-1].memory else ():
        console.print()
        console.print(memory_table(config, row.counted.num_classes, box.MARKDOWN if markdown else box.SIMPLE_HEAD))
    odd = [f"{row.counted.name} on {row.dataset}" for row in _rows if not row.reproduced]
    console.print()
    for note in [_FOOTNOTE, *([_NOT_REPRODUCED.format(" and ".join(odd))] if odd else [])]:
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
    _rows.append(_Row(config.dataset.name, counted, paper))
    _options.append(config)


def _summary(markdown: bool) -> Table:
    table = Table(box=box.MARKDOWN) if markdown else Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("model", "dataset", "input"):
        table.add_column(title)
    for title in ("params", "MACs, G", "2×MACs, G", "paper: M / G"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in _rows:
        counted, paper = row.counted, row.paper
        figures = f"{paper.params_M:g} / {paper.flops_G:g}" if paper else "–"
        table.add_row(
            counted.name,
            row.dataset,
            f"{counted.height}×{counted.width}",
            f"{counted.params:,}",
            f"{counted.macs / 1e9:.2f}",
            f"{counted.flops / 1e9:.2f}",
            figures + (" " if row.reproduced else "*"),
        )
    return table


def _modules(row: _Row, depth: int, markdown: bool) -> Table:
    counted = row.counted
    title = f"{counted.name}, {counted.num_classes} classes, {counted.height}×{counted.width}"
    table = Table(title=title, title_justify="left", box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    table.add_column("module")
    for heading in ("params", "MACs", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    for module in counted.modules.at_depth(depth):
        share = f"{module.macs.total / counted.macs:.1%}"
        table.add_row(module.name or "whole", f"{module.params:,}", f"{module.macs.total:,}", share)
    return table


def _record(row: _Row, config: ProfileConfig) -> dict[str, Any]:
    depth, counted, paper = config.depth, row.counted, row.paper
    figures = paper and {"params_M": paper.params_M, "flops_G": paper.flops_G, "reproduced": row.reproduced}
    record: dict[str, Any] = {"model": counted.name, "dataset": row.dataset}
    record |= {key: getattr(counted, key) for key in ("num_classes", "height", "width", "params", "macs")}
    record |= {"flops_2x": counted.flops, "paper": figures}
    if depth:
        modules = counted.modules.at_depth(depth)
        record["modules"] = [{"name": m.name, "params": m.params, "macs": m.macs.total} for m in modules]
    if config.memory:
        record["step_memory"] = memory_records(config, counted.num_classes)
    return record


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SEGNEXT_SCRATCH"] = scratch
        _profile()


if __name__ == "__main__":
    main()
