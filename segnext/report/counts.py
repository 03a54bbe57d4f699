"""Parameters and multiply-accumulates (MACs) of models as tables and records, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from segnext.models.complexity import Complexity
from segnext.models.variants import Published

__all__ = ["CountedModel", "counts_notes", "counts_record", "counts_table", "modules_table"]

_FOOTNOTE = (
    "G: 10^9, M: 10^6. MACs: multiply-accumulates of one image, as torchprofile counts them; the paper calls them "
    "FLOPs. 2×MACs: multiplications and additions counted apart. Paper: parameters / FLOPs in the official README."
)
_NOT_REPRODUCED = (
    "* {}: no counting convention gives the README's figure (torchprofile of then and now, fvcore, mmcv; with or "
    "without the matrix factorisation, other ranks, other class counts, sliding windows)."
)


@dataclass(frozen=True)
class CountedModel:
    """What one network on one dataset costs, beside what the paper says where it is comparable."""

    dataset: str
    counted: Complexity
    paper: Published | None

    @property
    def reproduced(self) -> bool:
        """Whether the README's rounded figure is ours."""
        return self.paper is None or round(self.counted.macs / 1e9) == self.paper.flops_G


def counts_table(rows: Sequence[CountedModel], markdown: bool) -> Table:
    """One line per model: parameters, MACs, and the paper's figures."""
    table = Table(box=box.MARKDOWN) if markdown else Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("model", "dataset", "input"):
        table.add_column(title)
    for title in ("params", "MACs, G", "2×MACs, G", "paper: M / G"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
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


def modules_table(row: CountedModel, depth: int, markdown: bool) -> Table:
    """Parameters and MACs of the modules down to ``depth``."""
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


def counts_record(row: CountedModel, depth: int) -> dict[str, Any]:
    """All figures as whole numbers, of the modules as well with a ``depth``."""
    counted, paper = row.counted, row.paper
    figures = paper and {"params_M": paper.params_M, "flops_G": paper.flops_G, "reproduced": row.reproduced}
    record: dict[str, Any] = {"model": counted.name, "dataset": row.dataset}
    record |= {key: getattr(counted, key) for key in ("num_classes", "height", "width", "params", "macs")}
    record |= {"flops_2x": counted.flops, "paper": figures}
    if depth:
        modules = counted.modules.at_depth(depth)
        record["modules"] = [{"name": m.name, "params": m.params, "macs": m.macs.total} for m in modules]
    return record


def counts_notes(rows: Sequence[CountedModel]) -> list[str]:
    """What the figures mean, and which of the paper's are not ours."""
    odd = [f"{row.counted.name} on {row.dataset}" for row in rows if not row.reproduced]
    return [_FOOTNOTE, *([_NOT_REPRODUCED.format(" and ".join(odd))] if odd else [])]
