"""ROC curves of several detectors in one figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve
from sklearn.pipeline import Pipeline

from .._axes import get_axes
from .._foreign import in_distribution_scores
from .._marks import check_mark_is_no_class, in_distribution_mask
from ..metrics import ood_roc_auc_score
from ._drawing import line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AXIS_LABELS = {
    "ood": (
        "false positive rate: in-distribution samples flagged",
        "true positive rate: OOD samples flagged",
    ),
    "id": (
        "false positive rate: OOD samples accepted",
        "true positive rate: in-distribution samples accepted",
    ),
}


class OODRocCurveDisplay:
    """ROC curves of discriminating OOD from in-distribution samples, one for each detector.

    Create it by :meth:`from_estimator` or :meth:`from_predictions`. The axes name the positive
    samples, the legend shows the area under each curve.

    Parameters
    ----------
    fpr : dict of str to ndarray
        False positive rates of each detector, ascending.
    tpr : dict of str to ndarray
        True positive rates, of the same lengths.
    roc_auc : dict of str to float
        Area under each curve.
    positive : {"ood", "id"}, default="ood"
        The samples that are positive.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The curve of each detector.
    chance_line_ : matplotlib Line2D
        The curve of scores that say nothing.
    tpr_line_ : matplotlib Line2D or None
        The mark of ``plot(mark_tpr=...)``.
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skood.metrics.ood_roc_auc_score : The area.
    skood.metrics.fpr_at_tpr_score : One point of a curve.
    sklearn.metrics.RocCurveDisplay : For classifiers.

    Notes
    -----
    Low rates of false positives are seen better with ``display.ax_.set(xscale="log",
    xlim=(1e-3, 1))``.

    Examples
    --------
    >>> from skood.inspection import OODRocCurveDisplay
    >>> y_true = [0, 1, 1, -1, -1]
    >>> y_score = {"one": [0.9, 0.8, 0.7, 0.2, 0.1], "other": [0.9, 0.4, 0.1, 0.3, 0.2]}
    >>> display = OODRocCurveDisplay.from_predictions(y_true, y_score)
    >>> display.lines_["one"].get_label()
    'one (AUROC 1.00)'
    """

    def __init__(
        self,
        *,
        fpr: Mapping[str, NDArray[np.float64]],
        tpr: Mapping[str, NDArray[np.float64]],
        roc_auc: Mapping[str, float],
        positive: str = "ood",
    ) -> None:
        self.fpr = fpr
        self.tpr = tpr
        self.roc_auc = roc_auc
        self.positive = positive

    @classmethod
    def from_estimator(
        cls,
        estimators: Any,
        X: Any,
        y: ArrayLike,
        *,
        positive: str = "ood",
        mark_tpr: float | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the ROC curves of fitted detectors.

        Parameters
        ----------
        estimators : estimator or dict of str to estimator
            A fitted detector or pipeline, of skood, scikit-learn or PyOD, or several by the names
            that the legend shows. Their ``decision_function`` scores the samples, or
            ``score_samples`` where there is none; that of PyOD enters with a minus.
        X : Activations or array-like of shape (n_samples, n_features)
            Samples, the same for all detectors.
        y : array-like of shape (n_samples,)
            Labels; -1 marks an OOD sample, any other value an in-distribution one.
        positive : {"ood", "id"}, default="ood"
            The samples that are positive.
        mark_tpr : float, default=None
            A true positive rate to mark by a thin line, such as 0.95.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all curves.

        Returns
        -------
        display : OODRocCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If ``positive`` is unknown, the lengths differ, a score is not finite, or one of the
            two kinds of samples is missing.
        """
        if not isinstance(estimators, Mapping):
            last = estimators[-1] if isinstance(estimators, Pipeline) else estimators
            estimators = {type(last).__name__: estimators}
        check_mark_is_no_class(X)
        methods = ("decision_function", "score_samples")
        scores = {
            name: in_distribution_scores(estimator, X, methods)
            for name, estimator in estimators.items()
        }
        return cls.from_predictions(
            y, scores, positive=positive, mark_tpr=mark_tpr, ax=ax, **line_kw
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_score: ArrayLike | Mapping[str, ArrayLike],
        *,
        positive: str = "ood",
        mark_tpr: float | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the ROC curves of scores.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels; -1 marks an OOD sample, any other value an in-distribution one.
        y_score : array-like of shape (n_samples,) or dict of str to array-like
            Scores, higher meaning more in-distribution, or several by the names that the
            legend shows.
        positive : {"ood", "id"}, default="ood"
            The samples that are positive.
        mark_tpr : float, default=None
            A true positive rate to mark by a thin line, such as 0.95.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all curves.

        Returns
        -------
        display : OODRocCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If ``positive`` is unknown, the lengths differ, a score is not finite, or one of the
            two kinds of samples is missing.
        """
        if positive not in _AXIS_LABELS:
            raise ValueError(f"positive must be one of {tuple(_AXIS_LABELS)}, got {positive!r}.")
        by_name = y_score if isinstance(y_score, Mapping) else {"detector": y_score}
        # The metric refuses what no curve can be drawn of.
        roc_auc = {name: ood_roc_auc_score(y_true, scores) for name, scores in by_name.items()}
        fpr, tpr = {}, {}
        for name, scores in by_name.items():
            fpr[name], tpr[name] = _curve(y_true, scores, positive)
        display = cls(fpr=fpr, tpr=tpr, roc_auc=roc_auc, positive=positive)
        return display.plot(ax, mark_tpr=mark_tpr, **line_kw)

    def plot(
        self, ax: Axes | None = None, *, mark_tpr: float | None = None, **line_kw: Any
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        mark_tpr : float, default=None
            A true positive rate to mark by a thin line, such as 0.95.
        **line_kw : dict
            Keyword arguments of matplotlib's ``plot``, for all curves.

        Returns
        -------
        self : OODRocCurveDisplay
            The display.
        """
        self.figure_, self.ax_ = get_axes(ax, "OODRocCurveDisplay")
        self.lines_ = {}
        for number, (name, area) in enumerate(self.roc_auc.items()):
            style: dict[str, Any] = {
                **line_style(self.ax_, number),
                "marker": None,
                "label": f"{name} (AUROC {area:.2f})",
                **line_kw,
            }
            (self.lines_[name],) = self.ax_.plot(self.fpr[name], self.tpr[name], **style)
        # So many points that it is right on a logarithmic axis too.
        rates = np.concatenate([[0], np.geomspace(1e-6, 1, 200)])
        thin: dict[str, Any] = {"color": "#777777", "linewidth": 1, "zorder": 1}
        (self.chance_line_,) = self.ax_.plot(rates, rates, linestyle=":", label="chance", **thin)
        self.tpr_line_ = None
        if mark_tpr is not None:
            label = f"true positive rate {mark_tpr:.0%}"
            self.tpr_line_ = self.ax_.axhline(mark_tpr, linestyle="-", label=label, **thin)
        xlabel, ylabel = _AXIS_LABELS[self.positive]
        self.ax_.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        self.ax_.legend(loc="lower right")
        return self


def _curve(
    y_true: ArrayLike, scores: ArrayLike, positive: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at every threshold, without points on straight lines."""
    scores = np.asarray(scores, dtype=np.float64)
    is_in = in_distribution_mask(y_true, len(scores))
    if positive == "id":
        return roc_curve(is_in, scores, drop_intermediate=True)[:2]
    return roc_curve(~is_in, -scores, drop_intermediate=True)[:2]
