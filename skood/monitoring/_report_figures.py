"""The figures of a report, as PNG files in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from .._optional import import_optional
from .._values import Floats
from ._report_fields import ReportFields, looks_for_errors
from ._report_markup import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


NewFigure = Callable[..., "Figure"]

_TEST, _OTHER, _LINE = "#0072b2", "#d55e00", "#333333"
_TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
_N_PANELS = 12
"""As many sets are drawn; the table of the report has all."""


def figures_of(report: ReportFields) -> dict[str, Callable[[], bytes]]:
    """What draws each figure that there are numbers for; nothing where matplotlib is missing."""
    try:
        # Not pyplot, which would keep the figures and may open windows.
        module = import_optional("matplotlib.figure", "plot", "A report with figures")
    except ImportError:
        return {}
    new = partial(module.Figure, layout="constrained")
    found = {"scores": partial(_scores, report.scores, report.limit)}
    if report.calibration_curve is not None and report.false_alarms["n_rows"]:
        found["calibration_curve"] = partial(_calibration_curve, report.calibration_curve)
    if report.risk_coverage is not None and looks_for_errors(report):
        point = (report.errors or {}).get("coverage", 1.0)
        found["risk_coverage"] = partial(_risk_coverage, report.risk_coverage, point)
    return {name: partial(_as_png, draw, new) for name, draw in found.items()}


def _as_png(draw: Callable[[NewFigure], Figure], new: NewFigure) -> bytes:
    buffer = BytesIO()
    with warnings.catch_warnings():
        # A name in letters that the font lacks is in the table all the same.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        draw(new).savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _scores(scores: Sequence[tuple[str, Floats]], limit: float | None, new: NewFigure) -> Figure:
    """The scores of the test rows in each panel, and in front of them those of another set."""
    (test_name, test), *others = scores
    panels = others[:_N_PANELS] or [("", np.empty(0))]
    figure = new(figsize=(7, 0.9 + 1.1 * len(panels)))
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    bins = _bins([test, *(values for _, values in panels)])
    for ax, (name, values) in zip(axes, panels, strict=True):
        if len(test):
            _bars(ax, bins, test, color=_TEST, alpha=0.6, label=test_name)
        if len(values):
            _bars(ax, bins, values, color=_OTHER, alpha=0.6, label="other set")
        if limit is not None:
            ax.axvline(limit, color=_LINE, linewidth=1, linestyle="--", label="threshold")
        ax.set_title(_short(name), loc="left", fontsize="small", parse_math=False)
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("score; higher: more to be trusted")
    figure.supylabel("share of the rows", fontsize="medium")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def _bins(values: Sequence[Floats]) -> Floats:
    """Edges that hold all but the outermost scores of each set."""
    finite = [part[np.isfinite(part)] for part in values]
    edges = [np.percentile(part, [1, 99]) for part in finite if len(part)]
    edges = edges or [np.zeros(2)]
    low, high = np.min(edges), np.max(edges)
    spread = (high - low) or 1.0
    return np.linspace(low - 0.02 * spread, high + 0.02 * spread, 51)


def _bars(ax: Axes, bins: Floats, values: Floats, **style: Any) -> None:
    """Shares of the scores in each bin, of which the outer two hold all beyond them."""
    inside = np.clip(values, bins[0], bins[-1])
    ax.hist(inside, bins.tolist(), weights=np.full(len(values), 1 / max(len(values), 1)), **style)


def _short(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= 60 else f"{name[:57]}..."


def _calibration_curve(entries: Sequence[dict[str, Any]], new: NewFigure) -> Figure:
    figure = new(figsize=(4.6, 4.2))
    ax = figure.subplots()
    asked, measured, low, high = (
        np.array([entry[key] for entry in entries]) for key in ("asked", "rejected", "low", "high")
    )
    # A logarithmic axis has no place for zero.
    floor = 0.5 * asked.min()
    ends = [asked.min(), asked.max()]
    ax.plot(ends, ends, color=_LINE, linewidth=1, linestyle="--", label="as asked for")
    ax.fill_between(asked, np.maximum(low, floor), high, color=_TEST, alpha=0.2, label="interval")
    ax.plot(asked, np.maximum(measured, floor), color=_TEST, marker="o", label="measured")
    ax.set(xscale="log", yscale="log")
    ax.set(xlabel="rate of false alarms asked for", ylabel="rate on the test rows")
    for axis in (ax.xaxis, ax.yaxis):
        labels = [f"{100 * rate:g} %" for rate in _TICKS]
        axis.set_ticks([floor, *_TICKS], ["0 %", *labels])
        axis.set_ticks([], minor=True)
    ax.set(xlim=(0.9 * asked.min(), 1.1 * asked.max()), ylim=(floor, 1))
    ax.grid(alpha=0.3)
    ax.legend(loc="upper left")
    return figure


def _risk_coverage(curve: dict[str, Floats], coverage: float, new: NewFigure) -> Figure:
    figure = new(figsize=(4.6, 3.6))
    ax = figure.subplots()
    ax.plot(curve["coverage"], curve["risk"], color=_TEST)
    ax.axvline(coverage, color=_LINE, linewidth=1, linestyle="--", label="at the threshold")
    ax.set(xlabel="coverage: share of the rows accepted", ylabel="errors among those accepted")
    ax.set(xlim=(0, 1.02), ylim=(0, None))
    ax.grid(alpha=0.3)
    ax.legend(loc="upper left")
    return figure
