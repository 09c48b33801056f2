"""Risk-coverage curves of several detectors in one figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._axes import get_axes
from .._classes import check_class_labels
from .._foreign import detector_of, in_distribution_scores, run_to_predictions
from .._marks import in_distribution_rows, take_rows
from ..metrics import area_under_risk_coverage_score, risk_coverage_curve
from ._drawing import line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN_FROM = 0.05
"""Coverage from which on the whole curves are in view."""


class RiskCoverageDisplay:
    """Error rate of the accepted samples over the share that is accepted, for each detector.

    Create it by :meth:`from_estimator` or :meth:`from_scores`. The legend shows the area under
    each curve; lower is better.

    Parameters
    ----------
    coverage : dict of str to ndarray
        Coverages of each detector, ascending up to 1.
    risk : dict of str to ndarray
        Error rates at these, of the same lengths.
    area : dict of str to float
        Area under each curve.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The curve of each detector.
    best_line_ : matplotlib Line2D or None
        The curve of scores that rank every misclassified sample last, where all curves are of
        predictions with one error rate.
    risk_line_ : matplotlib Line2D or None
        The mark of ``plot(mark_risk=...)``.
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skood.metrics.risk_coverage_curve : One curve.
    skood.metrics.area_under_risk_coverage_score : The area.
    skood.calibration.RiskControlledDetector : Chooses a threshold that keeps its risk on new
        samples.

    Notes
    -----
    The error rate of a few samples varies much: below a coverage of 5 %, a curve may leave the
    axes. ``display.ax_.set_ylim(0, 1)`` shows all.

    Examples
    --------
    >>> from skood.inspection import RiskCoverageDisplay
    >>> is_correct = [True, True, True, False]
    >>> scores = {"one": [0.9, 0.8, 0.3, 0.2], "other": [0.9, 0.4, 0.3, 0.8]}
    >>> display = RiskCoverageDisplay.from_scores(is_correct, scores)
    >>> display.lines_["one"].get_label()
    'one (AURC 0.062)'
    """

    def __init__(
        self,
        *,
        coverage: Mapping[str, NDArray[np.float64]],
        risk: Mapping[str, NDArray[np.float64]],
        area: Mapping[str, float],
    ) -> None:
        self.coverage = coverage
        self.risk = risk
        self.area = area

    @classmethod
    def from_estimator(
        cls,
        estimators: Any,
        X: Any,
        y: ArrayLike,
        *,
        mark_risk: float | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the curves of fitted detectors.

        Parameters
        ----------
        estimators : estimator or dict of str to estimator
            A fitted detector or pipeline, of skood, scikit-learn or PyOD, or several by the names
            that the legend shows. Their ``decision_function`` scores the samples, or
            ``score_samples`` where there is none; that of PyOD enters with a minus.
        X : Activations with predictions, or inputs to pipelines that extract them
            Samples, the same for all detectors.
        y : array-like of shape (n_samples,)
            Class labels; rows marked -1 are left out.
        mark_risk : float, default=None
            An error rate to mark by a thin line, such as 0.05.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all curves.

        Returns
        -------
        display : RiskCoverageDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there are no predictions, labels do not fit, or a score is not finite.
        """
        if not isinstance(estimators, Mapping):
            estimators = {type(detector_of(estimators)).__name__: estimators}
        read = {name: _read(cls, estimator, X, y) for name, estimator in estimators.items()}
        correct = {name: is_correct for name, (is_correct, _) in read.items()}
        scores = {name: found for name, (_, found) in read.items()}
        return cls._of(correct, scores).plot(ax, mark_risk=mark_risk, **line_kw)

    @classmethod
    def from_scores(
        cls,
        is_correct: ArrayLike,
        scores: ArrayLike | Mapping[str, ArrayLike],
        *,
        mark_risk: float | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the curves of scores.

        Parameters
        ----------
        is_correct : array-like of bool of shape (n_samples,)
            Whether each sample is classified correctly, as in ``y == A.predictions``.
        scores : array-like of shape (n_samples,) or dict of str to array-like
            Confidence in each prediction, higher meaning more trusted, or several by the names that
            the legend shows.
        mark_risk : float, default=None
            An error rate to mark by a thin line, such as 0.05.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all curves.

        Returns
        -------
        display : RiskCoverageDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the lengths differ, a score is not finite, or ``is_correct`` holds anything but True
            and False or 1 and 0.
        """
        by_name = scores if isinstance(scores, Mapping) else {"detector": scores}
        correct = dict.fromkeys(by_name, is_correct)
        return cls._of(correct, by_name).plot(ax, mark_risk=mark_risk, **line_kw)

    @classmethod
    def _of(cls, correct: Mapping[str, ArrayLike], scores: Mapping[str, ArrayLike]) -> Self:
        curves = {name: risk_coverage_curve(correct[name], scores[name]) for name in scores}
        return cls(
            coverage={name: curve.coverage for name, curve in curves.items()},
            risk={name: curve.risk for name, curve in curves.items()},
            area={n: area_under_risk_coverage_score(correct[n], scores[n]) for n in scores},
        )

    def plot(
        self, ax: Axes | None = None, *, mark_risk: float | None = None, **line_kw: Any
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        mark_risk : float, default=None
            An error rate to mark by a thin line, such as 0.05.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all curves.

        Returns
        -------
        self : RiskCoverageDisplay
            The display.
        """
        self.figure_, self.ax_ = get_axes(ax, "RiskCoverageDisplay")
        self.lines_ = {}
        for number, (name, area) in enumerate(self.area.items()):
            style: dict[str, Any] = {
                **line_style(self.ax_, number),
                # A threshold that accepts all is a point, not a line.
                "marker": None if len(self.coverage[name]) > 1 else "o",
                "label": f"{name} (AURC {area:.3f})",
                **line_kw,
            }
            (self.lines_[name],) = self.ax_.plot(self.coverage[name], self.risk[name], **style)
        thin: dict[str, Any] = {"color": "#777777", "linewidth": 1, "zorder": 1}
        error_rates = {float(risk[-1]) for risk in self.risk.values()}
        self.best_line_ = None
        if len(error_rates) == 1:
            coverage = np.linspace(1e-3, 1, 500)
            best = _best_risk(coverage, *error_rates)
            label = "all errors ranked last"
            (self.best_line_,) = self.ax_.plot(coverage, best, linestyle=":", label=label, **thin)
        self.risk_line_ = None
        if mark_risk is not None:
            label = f"error rate {mark_risk:.3g}"
            self.risk_line_ = self.ax_.axhline(mark_risk, linestyle="-", label=label, **thin)
        self.ax_.set(
            xlabel="coverage: share of samples accepted",
            ylabel="risk: error rate of accepted samples",
            xlim=(-0.01, 1.01),
            ylim=_limits([mark_risk or 0, *map(self._largest_risk, self.risk)]),
        )
        self.ax_.legend(loc="best")
        return self

    def _largest_risk(self, name: str) -> float:
        is_shown = self.coverage[name] >= _SHOWN_FROM
        return float(self.risk[name][is_shown].max())


def _read(
    display: type, estimator: Any, X: Any, y: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    """Which in-distribution samples the network classifies correctly, and their scores."""
    detector, samples = run_to_predictions(estimator, X, display.__name__)
    rows = in_distribution_rows(y, len(samples))
    scored, labels = take_rows(samples, y, rows)
    check_class_labels(scored, labels, display.__name__)
    scores = in_distribution_scores(detector, scored, ("decision_function", "score_samples"))
    return np.asarray(scored.predictions == labels), scores


def _best_risk(coverage: NDArray[np.float64], error_rate: float) -> NDArray[np.float64]:
    """Error rate of the accepted samples where the misclassified ones are accepted last."""
    return np.maximum(coverage - (1 - error_rate), 0) / coverage


def _limits(risks: list[float]) -> tuple[float, float]:
    """The axis from just below 0, so that a line there is seen, to above all risks."""
    top = 1.08 * max(*risks, 1e-3)
    return -0.02 * top, top
