"""Charts: the curves of a run, a confusion matrix, mIoU over MACs. Colours after Okabe and Ito, safe for colour vision.

Every function draws on a Figure of its own (no pyplot, no global state, no window) and returns it; ``save`` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segnext.errors import DataError
from segnext.lazy import LazyModule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "Point",
    "Series",
    "heat_colour",
    "pareto_front",
    "plot_confusion",
    "plot_cost",
    "plot_curves",
    "save",
]

_matplotlib: Any = LazyModule("matplotlib")
_canvases: Any = LazyModule("matplotlib.backends.backend_agg")
_colors: Any = LazyModule("matplotlib.colors")
_figures: Any = LazyModule("matplotlib.figure")

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
_GREY = "#8a8a8a"
_MARKERS = "osD^vP"


Series: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Iterations and values, equally long."""


@dataclass(frozen=True)
class Point:
    """One model in the cost chart: ``macs`` multiply-accumulates, ``miou`` a fraction with its spread ``sd``."""

    label: str
    macs: float
    miou: float
    sd: float = 0.0


def save(figure: Figure, path: Path) -> None:
    """Writes ``figure`` as PNG (or by the ending of ``path``)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def plot_curves(*, loss: Series, rate: Series, miou: Series, title: str = "") -> Figure:
    """Loss, learning rate and mIoU (fractions in, per cent shown) over the iterations, one below the other.

    Raises:
        DataError: nothing has been logged yet.
    """
    if not any(len(values) for _, values in (loss, rate, miou)):
        raise DataError("there is nothing to draw: no loss, rate or mIoU has been logged yet")
    figure = _figure(8, 7)
    axes: list[Axes] = list(figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1.3, 3]}))
    figure.suptitle(title)

    top, middle, bottom = axes
    smooth = _smoothed(loss[1])
    many = len(loss[1]) > 20
    top.plot(*loss, color=BLUE, lw=0.8 if many else 2, alpha=0.35 if many else 1.0, marker="" if many else "o", ms=4)
    if many:
        top.plot(loss[0], smooth, color=BLUE, lw=2)
    _end_label(top, loss[0], smooth, "{:.3g}", BLUE)
    top.set_ylabel("loss")
    if len(loss[1]):
        finite = loss[1][np.isfinite(loss[1])]
        if len(finite):  # one early spike must not flatten the rest
            top.set_ylim(0, max(1e-6, 1.15 * float(np.quantile(finite, 0.99))))

    middle.plot(*rate, color=GREEN, lw=1.5)
    middle.set_ylabel("learning rate")
    middle.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))

    per_cent = 100 * miou[1]
    bottom.plot(miou[0], per_cent, color=VERMILION, lw=2, marker="o", ms=4)
    bottom.set_ylabel("validation mIoU, %")
    bottom.set_xlabel("iteration")
    bottom.set_ylim(bottom=0)
    if np.isfinite(per_cent).any():
        best = int(np.nanargmax(per_cent))
        bottom.plot(miou[0][best], per_cent[best], marker="*", ms=14, color=VERMILION, mec="white")
        text = f"best {per_cent[best]:.1f} % at {miou[0][best]}"
        bottom.annotate(
            text, (0.99, 0.06), xycoords="axes fraction", ha="right", va="bottom", color=VERMILION, weight="bold"
        )
        bottom.set_ylim(top=1.18 * float(np.nanmax(per_cent)) or 1)
    else:
        bottom.set_yticks([])
        bottom.annotate("no evaluation yet", (0.5, 0.5), xycoords="axes fraction", ha="center", color=_GREY)
    for axis in axes:
        _tidy(axis)
    return figure


def plot_confusion(matrix: NDArray[np.integer[Any]], names: Sequence[str], *, title: str = "") -> Figure:
    """Confusion matrix, each row (true class) in per cent of its pixels; ``matrix`` is (K, K) counts.

    Up to 25 classes the figures stand in the cells. Classes without pixels are grey.

    Raises:
        DataError: the matrix is not K × K for K names.
    """
    classes = len(names)
    if matrix.shape != (classes, classes):
        raise DataError(
            f"a {matrix.shape} matrix does not fit {classes} class names: give one row and column per class"
        )
    total = matrix.sum(axis=1, keepdims=True)
    share = np.full(matrix.shape, np.nan)
    np.divide(100.0 * matrix, total, out=share, where=total > 0)
    labels = [_short(name, 24) for name in names]
    longest = max(map(len, labels), default=0)

    cell, letters = (0.42, 8.0) if classes <= 25 else (0.135, 5.5)
    margin = 0.9 + longest * letters * 0.0085
    figure = _figure(max(4.2, classes * cell + margin + 0.8), max(3.8, classes * cell + margin + 0.4))
    axis: Axes = figure.subplots()
    colours = _colormap()
    # The square root lifts the rare confusions out of the dark.
    picture = axis.imshow(share, cmap=colours, norm=_colors.PowerNorm(0.5, vmin=0, vmax=100))
    axis.set_xticks(range(classes), labels, rotation=90, fontsize=letters)
    axis.set_yticks(range(classes), labels, fontsize=letters)
    axis.tick_params(length=0)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    axis.set_title(title)
    if classes <= 25:
        for row, column in zip(*np.nonzero(share >= 0.5), strict=True):
            ink = "white" if share[row, column] < 35 else "black"
            axis.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=7, color=ink)
    bar = figure.colorbar(picture, ax=axis, fraction=0.035, pad=0.02)
    bar.set_label("% of the pixels of the true class")
    return figure


def plot_cost(
    groups: Mapping[str, Sequence[Point]], *, reference: Mapping[str, Sequence[Point]] | None = None, title: str = ""
) -> Figure:
    """mIoU (per cent) over MACs (log scale), one colour per group (dataset), with each group's Pareto front as a line.

    ``reference`` holds points to compare with (the paper's), drawn hollow.
    """
    reference = reference or {}
    figure = _figure(8, 5)
    axis: Axes = figure.subplots()
    for place, name in enumerate(dict.fromkeys([*groups, *reference])):
        colour, marker = COLOURS[place % len(COLOURS)], _MARKERS[place % len(_MARKERS)]
        known = reference.get(name, ())
        if known:
            axis.plot(
                [p.macs / 1e9 for p in known],
                [100 * p.miou for p in known],
                color=colour,
                ls=":",
                marker=marker,
                mfc="white",
                ms=7,
                alpha=0.8,
                label=f"{name}, paper",
            )
        points = list(groups.get(name, ()))
        if not points:
            continue
        front = pareto_front(points)
        axis.plot([p.macs / 1e9 for p in front], [100 * p.miou for p in front], color=colour, lw=1.5)
        axis.errorbar(
            [p.macs / 1e9 for p in points],
            [100 * p.miou for p in points],
            yerr=[100 * p.sd for p in points],
            color=colour,
            ls="",
            marker=marker,
            ms=9,
            capsize=3,
            label=name,
        )
        for point in points:
            axis.annotate(
                point.label,
                (point.macs / 1e9, 100 * point.miou),
                textcoords="offset points",
                xytext=(9, -4),
                fontsize=9,
                color=colour,
            )
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = axis.get_xlim()
    digits = "123456789" if high < 8 * low else "25"  # which of the ticks between powers of ten get a number
    axis.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in digits else "")
    axis.set_xlabel("G multiply-accumulates (the paper's FLOPs), log scale")
    axis.set_ylabel("mIoU, %")
    axis.set_title(title)
    axis.margins(x=0.12, y=0.12)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, loc="lower right")
    else:
        axis.annotate("no evaluation yet", (0.5, 0.5), xycoords="axes fraction", ha="center", color=_GREY)
    _tidy(axis)
    return figure


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no cheaper or equally cheap one beats, from cheap to dear."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.macs, -p.miou)):
        if not front or point.miou > front[-1].miou:
            front.append(point)
    return front


def _figure(width: float, height: float) -> Figure:
    figure: Figure = _figures.Figure(figsize=(width, height), layout="constrained")
    _canvases.FigureCanvasAgg(figure)
    return figure


def _colormap() -> Any:
    return _matplotlib.colormaps["cividis"].with_extremes(bad="#d9d9d9")


def heat_colour(fraction: float) -> tuple[str, str]:
    """Background and ink of a table's cell that shows a fraction 0…1, as CSS colours."""
    red, green, blue, _ = _colormap()(fraction, bytes=True)
    return f"rgb({red},{green},{blue})", "#fff" if fraction < 0.5 else "#000"


def _tidy(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)


def _end_label(axis: Axes, x: NDArray[np.int64], y: NDArray[np.float64], pattern: str, colour: str) -> None:
    if len(y):
        axis.annotate(
            pattern.format(y[-1]), (x[-1], y[-1]), textcoords="offset points", xytext=(4, 6), color=colour, ha="right"
        )


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running median over about a fiftieth of the curve: a spike leaves no trace. Shorter windows at both ends."""
    half = len(values) // 100
    return np.array([np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))], np.float64)


def _short(name: str, length: int) -> str:
    name = name.strip()
    return name if len(name) <= length else name[: length - 1] + "…"
