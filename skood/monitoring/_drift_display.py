"""The last rows of a stream in a figure."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._axes import get_axes, ink
from ._drift_monitor import DriftMonitor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_COLUMNS = ("row", "p_value", "is_alarm", "martingale", "alarm_rate", "rate_lower_bound")
_BLUE, _ORANGE = "#3a9bd9", "#d55e00"
_N_UNSETTLED = 50


class DriftDisplay:
    """The last rows of a stream: p-values, rate of alarms and evidence, one below the other.

    Create it by :meth:`from_estimator`. On top each row is a point at its p-value, uniform between
    0 and 1 as long as nothing changes; alarms of the detector are marked. In the middle is the
    share of alarms since the first row with its lower bound, below the evidence against the
    scores. Dashed lines are what lower bound and evidence must reach for the alarm to ring, and a
    dotted line is where it rang.

    Parameters
    ----------
    history : dict of str to array-like of shape (n_rows,)
        ``row``, ``p_value``, ``is_alarm``, ``martingale``, ``alarm_rate`` and
        ``rate_lower_bound``, as ``DriftMonitor.history_``.
    rate_limit : float
        The rate of alarms that calibration can account for.
    martingale_limit : float
        The evidence at which the alarm rings.
    alarm_time : int, default=None
        The row at which it rang.

    Attributes
    ----------
    points_ : matplotlib Line2D
        The p-values of rows without an alarm.
    alarm_points_ : matplotlib Line2D
        The p-values of rows with an alarm.
    rate_line_, bound_line_, martingale_line_ : matplotlib Line2D
        The curves.
    limit_lines_ : list of matplotlib Line2D
        The two dashed lines, of the rate and of the evidence.
    alarm_lines_ : list of matplotlib Line2D
        Where the alarm rang, one in each of the axes; empty if that is not among the rows.
    axes_ : ndarray of matplotlib Axes of shape (3,)
        The axes, from top to bottom.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    DriftMonitor : What is drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.calibration import ConformalDetector
    >>> from skood.detectors import KNNDetector
    >>> from skood.monitoring import DriftDisplay, DriftMonitor
    >>> rng = np.random.default_rng(0)
    >>> detector = KNNDetector(normalize=False).fit(rng.normal(size=(500, 3)))
    >>> calibrated = ConformalDetector(detector).fit(rng.normal(size=(500, 3)))
    >>> drift = DriftMonitor(calibrated).update(rng.normal(size=(300, 3)))
    >>> display = DriftDisplay.from_estimator(drift)
    >>> len(display.rate_line_.get_xdata())
    300
    """

    points_: Line2D
    alarm_points_: Line2D
    rate_line_: Line2D
    bound_line_: Line2D
    martingale_line_: Line2D
    limit_lines_: list[Line2D]
    alarm_lines_: list[Line2D]

    def __init__(
        self,
        *,
        history: Mapping[str, ArrayLike],
        rate_limit: float,
        martingale_limit: float,
        alarm_time: int | None = None,
    ) -> None:
        self.history = history
        self.rate_limit = rate_limit
        self.martingale_limit = martingale_limit
        self.alarm_time = alarm_time

    @classmethod
    def from_estimator(
        cls, monitor: DriftMonitor, *, last: int | None = None, ax: Axes | None = None
    ) -> Self:
        """Draw the rows that a drift monitor remembers.

        Parameters
        ----------
        monitor : DriftMonitor
            A monitor that has seen rows, with ``n_history`` above 0.
        last : int, default=None
            How many of the last rows to draw; all that it remembers by default.
        ax : matplotlib Axes, default=None
            Axes whose place the three axes take; new ones by default.

        Returns
        -------
        display : DriftDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``monitor`` is no :class:`DriftMonitor`.
        ValueError
            If it remembers no rows, or ``last`` is no whole number of at least 1.
        """
        if not isinstance(monitor, DriftMonitor):
            raise TypeError(f"Expected a DriftMonitor, got {monitor!r}.")
        if last is not None and not (isinstance(last, Integral) and last >= 1):
            raise ValueError(f"last must be a whole number of at least 1, got {last!r}.")
        history = monitor.history_
        display = cls(
            history={name: values[-last if last else None :] for name, values in history.items()},
            rate_limit=monitor.rate_limit_,
            martingale_limit=monitor.martingale_limit_,
            alarm_time=monitor.alarm_time_,
        )
        return display.plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes whose place the three axes take; new ones by default.

        Returns
        -------
        self : DriftDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are no rows, or columns are missing or of different lengths.
        """
        history = _check_history(self.history)
        self._make_axes(ax)
        points, rates, evidence = self.axes_
        self._draw_points(points, history)
        self._draw_rates(rates, history)
        self._draw_evidence(evidence, history)
        self._mark_alarm(history["row"])
        for ax in self.axes_:
            ax.legend(
                loc="lower right",
                bbox_to_anchor=(1, 1),
                ncols=4,
                fontsize="small",
                frameon=False,
                borderpad=0,
            )
        return self

    def _make_axes(self, ax: Axes | None) -> None:
        self.figure_, ax = get_axes(ax, "DriftDisplay", (6.4, 6.4))
        self.axes_ = np.array(_three_of(ax))
        for upper in self.axes_[:-1]:
            upper.tick_params(labelbottom=False)

    def _draw_points(self, ax: Axes, history: dict[str, NDArray]) -> None:
        alarm = history["is_alarm"]
        style: dict[str, Any] = {"linestyle": "none", "markersize": 3}
        row, p_value = history["row"], history["p_value"]
        self.points_ = ax.plot(
            row[~alarm], p_value[~alarm], "o", color=_BLUE, label="accepted", **style
        )[0]
        self.alarm_points_ = ax.plot(
            row[alarm], p_value[alarm], "D", color=_ORANGE, label="rejected", **style
        )[0]
        ax.set(ylabel="p-value", ylim=(-0.03, 1.03))

    def _draw_rates(self, ax: Axes, history: dict[str, NDArray]) -> None:
        row, rate, bound = (history[name] for name in ("row", "alarm_rate", "rate_lower_bound"))
        style = _style_of_lines(row)
        self.rate_line_ = ax.plot(row, rate, color=_BLUE, label="since the first row", **style)[0]
        self.bound_line_ = ax.plot(row, bound, color=_ORANGE, label="lower bound", **style)[0]
        limit = ax.axhline(self.rate_limit, color=ink(ax), linestyle="--", label="limit")
        self.limit_lines_ = [limit]
        # The share of a few rows is all or nothing, and would be all that is seen.
        settled = rate[(row > _N_UNSETTLED) | (row == row[-1])]
        top = max(1.5 * self.rate_limit, 1.1 * max(settled.max(initial=0), bound.max()))
        ax.set(ylabel="alarm rate", ylim=(0, top))

    def _draw_evidence(self, ax: Axes, history: dict[str, NDArray]) -> None:
        self.martingale_line_ = ax.plot(
            history["row"],
            history["martingale"],
            color=_BLUE,
            label="martingale",
            **_style_of_lines(history["row"]),
        )[0]
        limit = ax.axhline(self.martingale_limit, color=ink(ax), linestyle="--", label="limit")
        self.limit_lines_.append(limit)
        ax.set(ylabel="evidence", xlabel="row of the stream", yscale="log")

    def _mark_alarm(self, row: NDArray) -> None:
        self.alarm_lines_ = []
        if self.alarm_time is not None and row[0] <= self.alarm_time <= row[-1]:
            self.alarm_lines_ = [
                ax.axvline(self.alarm_time, color=ink(ax), linestyle=":", label="alarm rings")
                for ax in self.axes_
            ]


def _style_of_lines(row: NDArray) -> dict[str, Any]:
    """Of one row, a line shows nothing but its marker."""
    return {"marker": "o", "markersize": 3} if len(row) == 1 else {}


def _three_of(ax: Axes) -> list[Axes]:
    """Axes one below the other, which share the rows, in the place of one."""
    place, parent = ax.get_subplotspec(), ax.figure
    if place is None:  # outside of a grid they stay in axes that show nothing themselves
        ax.axis("off")
        top = ax.inset_axes((0, 0.72, 1, 0.28))
        return [top, *(ax.inset_axes((0, low, 1, 0.28), sharex=top) for low in (0.36, 0))]
    grid = place.subgridspec(3, 1)
    ax.remove()
    top = parent.add_subplot(grid[0])
    return [top, *(parent.add_subplot(grid[i], sharex=top) for i in (1, 2))]


def _check_history(history: Mapping[str, ArrayLike]) -> dict[str, NDArray]:
    if missing := set(_COLUMNS) - set(history):
        raise ValueError(f"The history lacks {sorted(missing)}.")
    columns = {name: np.asarray(history[name]) for name in _COLUMNS}
    columns["is_alarm"] = columns["is_alarm"].astype(bool)
    lengths = {len(column) for column in columns.values()}
    if lengths == {0}:
        raise ValueError("There are no rows to draw: update the monitor, with n_history above 0.")
    if len(lengths) > 1:
        raise ValueError(f"The columns of the history have different lengths: {sorted(lengths)}.")
    return columns
