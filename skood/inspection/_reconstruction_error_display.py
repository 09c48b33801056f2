"""How well a decoder draws the images of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_consistent_length
from sklearn.utils.validation import column_or_1d

from .._axes import get_axes, ink
from .._optional import import_optional
from ._drawing import split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import PathPatch

_KNOWN, _UNKNOWN = "#0072b2", "#d55e00"


class ReconstructionErrorDisplay:
    """Reconstruction errors of a denoising classifier by class, a box for each class.

    Create it by :meth:`from_estimator` or :meth:`from_errors`. A box reaches from the 25th to the
    75th percentile of the errors of a class, its line is the median, its whiskers reach from the
    5th to the 95th percentile. A dot is the mean and a triangle the largest error. Classes that the
    classifier does not know have another colour.

    Parameters
    ----------
    errors : array-like of shape (n_samples,)
        Reconstruction error of each image.
    y : array-like of shape (n_samples,)
        Class of each image.
    known : array-like of shape (n_classes,), default=None
        The classes that the classifier knows; by default all but -1, the mark of
        out-of-distribution images.
    threshold : float, default=None
        Largest error that is accepted.

    Attributes
    ----------
    classes_ : list
        The classes in the order of the boxes, ascending.
    boxes_ : list of matplotlib PathPatch
        The box of each class.
    means_ : ndarray of shape (n_boxes,)
        Mean error of each class.
    largest_ : ndarray of shape (n_boxes,)
        Largest error of each class.
    counts_ : ndarray of shape (n_boxes,)
        Number of images of each class.
    threshold_line_ : matplotlib Line2D or None
        The threshold.
    ax_ : matplotlib Axes
        Axes with the boxes.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    ReconstructionDisplay : The images behind the largest errors.
    skood.training.DenoisingClassifier : Rejects images that are drawn with a large error.

    Notes
    -----
    These are figures 7 and 8 of [1]_, the error by class and the largest error by class, in one.

    References
    ----------
    .. [1] Y. Song, "Deep Learning Lab, final project report", Yonsei University.

    Examples
    --------
    >>> from skood.inspection import ReconstructionErrorDisplay
    >>> display = ReconstructionErrorDisplay.from_errors(
    ...     [0.01, 0.03, 0.02, 0.05, 0.07], [7, 7, 3, -1, -1], threshold=0.04
    ... )
    >>> display.classes_, display.largest_
    ([-1, 3, 7], array([0.07, 0.02, 0.03]))
    """

    classes_: list[Any]
    boxes_: list[PathPatch]

    def __init__(
        self,
        *,
        errors: ArrayLike,
        y: ArrayLike,
        known: ArrayLike | None = None,
        threshold: float | None = None,
    ) -> None:
        self.errors = errors
        self.y = y
        self.known = known
        self.threshold = threshold

    @classmethod
    def from_estimator(
        cls,
        classifier: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        ax: Axes | None = None,
        **boxplot_kw: Any,
    ) -> Self:
        """Draw the errors that a fitted classifier makes, with its threshold.

        Parameters
        ----------
        classifier : estimator
            Fitted :class:`~skood.training.DenoisingClassifier`, or a fitted pipeline that ends in
            one.
        X : array-like of shape (n_samples, height, width) or (n_samples, channels, height, width)
            Images, as the classifier or pipeline takes them.
        y : array-like of shape (n_samples,)
            Their classes, which the classifier may not know, or -1 for out-of-distribution images.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **boxplot_kw : dict
            Keyword arguments of matplotlib's ``boxplot``.

        Returns
        -------
        display : ReconstructionErrorDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``classifier`` does not reconstruct images.
        ValueError
            If the lengths differ, or an error is not finite.
        """
        classifier, X = split_pipeline(classifier, X, "reconstruction_error")
        # Infinite where only the classifier decides.
        threshold = classifier.error_threshold_
        display = cls(
            errors=classifier.reconstruction_error(X),
            y=y,
            known=classifier.classes_,
            threshold=threshold if np.isfinite(threshold) else None,
        )
        return display.plot(ax, **boxplot_kw)

    @classmethod
    def from_errors(
        cls,
        errors: ArrayLike,
        y: ArrayLike,
        *,
        known: ArrayLike | None = None,
        threshold: float | None = None,
        ax: Axes | None = None,
        **boxplot_kw: Any,
    ) -> Self:
        """Draw errors of images.

        Parameters
        ----------
        errors : array-like of shape (n_samples,)
            Reconstruction error of each image.
        y : array-like of shape (n_samples,)
            Class of each image.
        known : array-like of shape (n_classes,), default=None
            The classes that the classifier knows; by default all but -1.
        threshold : float, default=None
            Largest error that is accepted.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **boxplot_kw : dict
            Keyword arguments of matplotlib's ``boxplot``.

        Returns
        -------
        display : ReconstructionErrorDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the lengths differ, or an error is not finite.
        """
        return cls(errors=errors, y=y, known=known, threshold=threshold).plot(ax, **boxplot_kw)

    def plot(self, ax: Axes | None = None, **boxplot_kw: Any) -> Self:
        """Draw the boxes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **boxplot_kw : dict
            Keyword arguments of matplotlib's ``boxplot``.

        Returns
        -------
        self : ReconstructionErrorDisplay
            The display.

        Raises
        ------
        ValueError
            If the lengths differ, or an error is not finite.
        """
        errors, labels = _check_errors(self.errors, self.y)
        classes = np.unique(labels)
        by_class = [errors[labels == label] for label in classes]
        self.classes_ = classes.tolist()
        self.means_ = np.array([some.mean() for some in by_class])
        self.largest_ = np.array([some.max() for some in by_class])
        self.counts_ = np.array([len(some) for some in by_class])
        self.figure_, self.ax_ = get_axes(ax, "ReconstructionErrorDisplay")
        known = {-1} if self.known is None else set(np.asarray(self.known).tolist())
        is_known = [(label in known) == (self.known is not None) for label in self.classes_]
        colors = [_KNOWN if one else _UNKNOWN for one in is_known]
        self._draw_boxes(by_class, colors, boxplot_kw)
        self._mark_threshold()
        self._describe(colors)
        return self

    def _draw_boxes(
        self, by_class: list[NDArray], colors: list[str], boxplot_kw: dict[str, Any]
    ) -> None:
        style: dict[str, Any] = {
            "positions": np.arange(len(by_class)),
            "widths": 0.6,
            "whis": (5, 95),
            "showfliers": False,
            "boxprops": {"edgecolor": ink(self.ax_)},
            **{f"{part}props": {"color": ink(self.ax_)} for part in ("median", "whisker", "cap")},
            "patch_artist": True,
        }
        drawn = self.ax_.boxplot(by_class, **(style | boxplot_kw))
        self.boxes_ = drawn["boxes"]
        for box, color in zip(self.boxes_, colors, strict=True):
            box.set(facecolor=color, alpha=0.6)
        places = np.arange(len(by_class))
        marks: dict[str, Any] = {"color": ink(self.ax_), "linestyle": "none"}
        self.ax_.plot(places, self.means_, marker="o", markersize=4, label="mean", **marks)
        self.ax_.plot(places, self.largest_, marker="^", markersize=5, label="largest", **marks)

    def _mark_threshold(self) -> None:
        self.threshold_line_ = None
        if self.threshold is not None:
            self.threshold_line_ = self.ax_.axhline(
                self.threshold, color=ink(self.ax_), linestyle=":", label="largest error accepted"
            )

    def _describe(self, colors: list[str]) -> None:
        patches = import_optional("matplotlib.patches", "plot", "ReconstructionErrorDisplay")
        names = {_KNOWN: "known class", _UNKNOWN: "unknown class"}
        handles = [
            patches.Patch(facecolor=color, alpha=0.6, label=name)
            for color, name in names.items()
            if color in colors
        ]
        self.ax_.set_xticks(np.arange(len(self.classes_)), [str(c) for c in self.classes_])
        self.ax_.set(xlabel="class", ylabel="reconstruction error", ylim=(0, None))
        self.ax_.legend(handles=handles + self.ax_.get_legend_handles_labels()[0], fontsize="small")


def _check_errors(errors: ArrayLike, y: ArrayLike) -> tuple[NDArray, NDArray]:
    values = column_or_1d(errors, dtype=np.float64)
    labels = column_or_1d(y)
    check_consistent_length(values, labels)
    assert_all_finite(values, input_name="errors")
    return values, labels
