"""The page's interactive charts, as Plotly's JSON. Scores come in as fractions and are shown in per cent.

Colours that belong to the theme (ink, grid, paper) are the script's; here are those of the data alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segnext.plots.charts import COLOURS, Point, Series, heat_colour, pareto_front
from segnext.report.collect import setting_text, short_name
from segnext.report.search import Setting

__all__ = ["Curve", "Figure", "class_heat_map", "cost_chart", "importance_chart", "line_chart", "parallel_chart"]

Figure: TypeAlias = dict[str, Any]
"""{"data": traces, "layout": layout} of Plotly; "width", if any: the fewest pixels in which it can be read."""

_BEST = "#D55E00"
_GREY = "#8a8a8a"
_MOST_POINTS = 300  # of a curve
_SYMBOLS = ("circle", "square", "triangle-up", "cross", "pentagon", "star")


@dataclass(frozen=True)
class Curve:
    """One run's line; ``best`` is drawn thick."""

    label: str
    series: Series
    best: bool = False


def cost_chart(points: Sequence[Point], paper: Sequence[Point]) -> Figure | None:
    """mIoU over multiply-accumulates, the paper's points hollow and dotted; None where all runs cost the same."""
    if len({p.macs for p in [*points, *paper]}) < 2:
        return None
    points, front = sorted(points, key=lambda p: p.macs), pareto_front(points)
    traces: list[dict[str, Any]] = []
    if paper:
        traces.append({
            "name": "paper", "mode": "lines+markers", "x": _giga(paper), "y": _per_cent([p.miou for p in paper]),
            "text": [p.label for p in paper], "line": {"color": _GREY, "dash": "dot", "width": 1.5},
            "marker": {"symbol": "diamond-open", "size": 11, "line": {"width": 2}},
            "hovertemplate": "<b>%{text}, paper</b><br>mIoU %{y:.1f} %<br>%{x:.1f} G MACs<extra></extra>",
        })  # fmt: skip
    traces += [
        {
            "name": "Pareto front", "mode": "lines", "x": _giga(front), "y": _per_cent([p.miou for p in front]),
            "line": {"color": COLOURS[0], "width": 2}, "hoverinfo": "skip", "showlegend": False,
        },
        {
            "name": "these runs", "mode": "markers+text" if len(points) <= 12 else "markers",
            "x": _giga(points), "y": _per_cent([p.miou for p in points]),
            "text": [p.label for p in points], "textposition": "top center", "cliponaxis": False,
            "customdata": [f" ± {100 * p.sd:.1f}" if p.sd else "" for p in points],
            "error_y": {"type": "data", "array": _per_cent([p.sd for p in points]), "thickness": 1.5,
                        "visible": any(p.sd for p in points)},
            "marker": {"color": COLOURS[0], "size": 12},
            "hovertemplate": "<b>%{text}</b><br>mIoU %{y:.1f}%{customdata} %<br>%{x:.1f} G MACs<extra></extra>",
        },
    ]  # fmt: skip
    layout = {
        "xaxis": {"type": "log", "title": {"text": "G multiply-accumulates (the paper's FLOPs)"},
                  "minor": {"showgrid": False}, **_log_ticks([p.macs / 1e9 for p in [*points, *paper]])},
        "yaxis": {"title": {"text": "mIoU, %"}, "range": _padded(_per_cent([p.miou for p in [*points, *paper]]))},
        "hovermode": "closest", "height": 400,
    }  # fmt: skip
    return {"data": traces, "layout": layout}


def line_chart(curves: Sequence[Curve], *, title: str, per_cent: bool) -> Figure | None:
    """Values over the iterations, one line per run; None where there is nothing yet."""
    drawn = [curve for curve in curves if len(curve.series[1])]
    if not drawn:
        return None
    factor, digits = (100, ".1f") if per_cent else (1, ".3g")
    traces = []
    for place, curve in enumerate(drawn):
        x, y = _thinned(curve.series)
        traces.append({
            "name": curve.label, "mode": "lines+markers" if len(x) <= 50 else "lines",
            "x": x.tolist(), "y": _rounded(factor * y, 4), "opacity": 1 if curve.best or len(drawn) <= 6 else 0.75,
            "line": {"color": COLOURS[place % len(COLOURS)], "width": 3.5 if curve.best else 1.5,
                     "dash": ("solid", "dash", "dot", "dashdot")[place // len(COLOURS) % 4]},
            "marker": {"size": 7 if curve.best else 4, "symbol": _SYMBOLS[place % len(_SYMBOLS)]},
            "hovertemplate": f"<b>%{{fullData.name}}</b><br>iteration %{{x}}: %{{y:{digits}}}"
                             f"{' %' if per_cent else ''}<extra></extra>",
        })  # fmt: skip
    finite = [value for trace in traces for value in trace["y"] if value is not None]
    # One early spike must not flatten the rest.
    top = max(finite) if per_cent or not finite else 1.3 * float(np.quantile(finite, 0.98))
    layout = {
        "xaxis": {"title": {"text": "iteration"}}, "hovermode": "closest", "height": 380,
        "yaxis": {"title": {"text": title}, "range": [0, 1.08 * top if finite else 1]},
        "showlegend": len(drawn) > 1,
    }  # fmt: skip
    return {"data": traces, "layout": layout}


def parallel_chart(settings: Sequence[Setting], scores: Sequence[float], labels: Sequence[str]) -> Figure:
    """A line per run through its settings to its mIoU, the best one thick; runs without a score are left out."""
    rows = sorted((r for r, score in enumerate(scores) if not math.isnan(score)), key=lambda r: scores[r])
    best, worst = scores[rows[-1]], scores[rows[0]]
    axes = [*settings, Setting("mIoU, %", tuple(100 * s for s in scores))]
    names = [s.key for s in axes]
    marks, heights = [], []
    for place, axis in enumerate(axes):
        position, ticks = _axis(Setting(axis.key, tuple(axis.values[r] for r in rows)))
        heights.append(dict(zip(rows, position, strict=True)))
        title = {"x": place, "y": 1.13, "text": f"<b>{_wrapped(short_name(axis.key, names))}</b>", "yanchor": "bottom"}
        marks += [title, *({"x": place, "y": y, "text": text, "xanchor": "left", "xshift": 5} for y, text in ticks)]
    traces = []
    for row in rows:
        first = row == rows[-1]
        shade = (scores[row] - worst) / (best - worst) if best > worst else 1.0
        about = "<br>".join(f"{short_name(s.key, names)} {setting_text(s.values[row])}" for s in settings)
        traces.append({
            "name": labels[row], "mode": "lines+markers", "x": list(range(len(axes))),
            "y": [height[row] for height in heights],
            "line": {"color": _BEST if first else heat_colour(0.15 + 0.8 * shade)[0], "width": 4 if first else 1.6},
            "marker": {"size": 8 if first else 5}, "opacity": 1 if first else 0.8,
            "hovertemplate": f"<b>mIoU {100 * scores[row]:.1f} %{' (best)' if first else ''}</b><br>{about}"
                             "<extra></extra>",
        })  # fmt: skip
    layout = {
        "xaxis": {"range": [-0.15, len(axes) - 0.45], "tickvals": list(range(len(axes))), "showticklabels": False,
                  "gridwidth": 2, "zeroline": False},
        "yaxis": {"range": [-0.08, 1.32], "visible": False}, "hovermode": "closest", "showlegend": False,
        "annotations": [{"showarrow": False, **mark} for mark in marks], "height": 380,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
    }  # fmt: skip
    return {"data": traces, "layout": layout, "width": 84 * len(axes)}


def importance_chart(shares: Mapping[str, float]) -> Figure:
    """A bar per setting, the most important one on top."""
    keys = list(shares)[::-1]
    values = [round(100 * shares[key], 1) for key in keys]
    trace = {
        "type": "bar", "orientation": "h", "x": values, "y": [_wrapped(short_name(key, keys)) for key in keys],
        "text": [f"{value:.0f} %" for value in values], "textposition": "outside", "cliponaxis": False,
        "marker": {"color": COLOURS[0]},
        "hovertemplate": "<b>%{y}</b><br>explains %{x:.0f} % of the differences in mIoU<extra></extra>",
    }  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "% of the variance of mIoU"}, "range": [0, 1.15 * max(values)]},
        "yaxis": {"automargin": True},
        "height": max(200, 110 + 44 * len(keys)), "bargap": 0.35, "showlegend": False,
    }  # fmt: skip
    return {"data": [trace], "layout": layout}


def class_heat_map(scores: Mapping[str, Mapping[str, float]]) -> Figure | None:
    """IoU of each class (rows, the best class on top) for each of ``scores``, which map run → class → IoU."""
    names = list(dict.fromkeys(name for table in scores.values() for name in table))
    if not names:
        return None
    table = np.array([[run.get(name, math.nan) for name in names] for run in scores.values()]).T
    means = [float(np.mean(row[np.isfinite(row)])) if np.isfinite(row).any() else -1.0 for row in table]
    order = np.argsort(means, kind="stable")
    shown = [_rounded(100 * row, 1) for row in table[order]]
    figures = len(scores) <= 14 and len(names) <= 60
    trace = {
        "type": "heatmap", "z": shown, "x": list(range(len(scores))), "y": [names[k] for k in order],
        "zmin": 0, "zmax": 100, "colorscale": "Cividis", "xgap": 1, "ygap": 1, "hoverongaps": False,
        "customdata": [list(scores)] * len(names), "texttemplate": "%{z:.0f}" if figures else "",
        "hovertemplate": "<b>%{y}</b><br>%{customdata}<br>IoU %{z:.1f} %<extra></extra>",
        "colorbar": {"title": {"text": "IoU, %"}, "thickness": 12},
    }  # fmt: skip
    layout = {
        "xaxis": {"side": "top", "tickvals": list(range(len(scores))), "ticktext": list(map(_wrapped, scores)),
                  "tickangle": 0 if len(scores) <= 6 or max(map(len, scores)) <= 3 else -60, "showgrid": False,
                  "automargin": True},
        "yaxis": {"automargin": True, "showgrid": False},
        "height": 160 + max(len(names) * (26 if figures else 9), 120),
    }  # fmt: skip
    return {"data": [trace], "layout": layout, "width": 160 + 38 * len(scores)}


def _axis(setting: Setting) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights 0…1 of the values, and (height, text) of the marks beside the axis."""
    if not setting.numbers:
        levels = sorted(setting.levels)
        place = {text: (k + 0.5) / len(levels) for k, text in enumerate(levels)}
        return [place[setting_text(v)] for v in setting.values], [(y, _wrapped(text)) for text, y in place.items()]
    scale = math.log10 if setting.logarithmic else float
    low, high = scale(min(setting.values)), scale(max(setting.values))
    span = high - low or 1.0
    marks = [(k / 4, low + k / 4 * span) for k in range(5)] if high > low else [(0.0, low)]
    texts = [(y, setting_text(float(10**v if setting.logarithmic else v))) for y, v in marks]
    return [(scale(v) - low) / span for v in setting.values], texts


def _wrapped(text: str, width: int = 14) -> str:
    """``text`` broken after '_', '.' or a space into lines of about ``width`` letters, at most three."""
    lines = [""]
    for part in text.replace("_", "_\0").replace(".", ".\0").replace(" ", " \0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "<br>".join(lines[:3]) + ("…" if len(lines) > 3 else "")


def _log_ticks(values: Sequence[float]) -> dict[str, Any]:
    """Round numbers within the range of ``values``, which Plotly would leave without any if it is narrow."""
    low, high = min(values) / 1.2, max(values) * 1.2
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if high > 4 * low else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    marks = [digit * 10.0**power for power in powers for digit in digits]
    return {
        "tickvals": [mark for mark in marks if low <= mark <= high],
        "ticktext": [f"{mark:g}" for mark in marks if low <= mark <= high],
        "range": [math.log10(low), math.log10(high)],
    }


def _padded(values: Sequence[float | None]) -> list[float]:
    known = [value for value in values if value is not None]
    room = 0.2 * (max(known) - min(known)) + 1
    return [min(known) - room, max(known) + room]


def _thinned(series: Series) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    x, y = series
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).round().astype(int))
    return x[chosen], y[chosen]


def _giga(points: Sequence[Point]) -> list[float]:
    return [round(p.macs / 1e9, 4) for p in points]


def _per_cent(values: Sequence[float]) -> list[float | None]:
    return _rounded(100 * np.array(values, np.float64), 3)


def _rounded(values: NDArray[np.float64], digits: int) -> list[float | None]:
    """JSON has no nan."""
    return [round(float(v), digits) if math.isfinite(v) else None for v in values]
