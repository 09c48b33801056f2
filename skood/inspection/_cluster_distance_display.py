"""Cluster distances by the confidence of the prediction, for sets of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import column_or_1d

from .._axes import get_axes
from .._classes import check_class_labels
from .._marks import in_distribution_mask, read_labels
from .._optional import import_optional
from ..activations import Activations
from ..calibration import confidence_categories, prediction_confidence
from ._drawing import line_style, rows_by_set, split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import PathPatch

_FEW = 10
"""Number of samples below which a box says little, and is drawn faintly."""
_FAINT = 0.3
_LINE_HEIGHT = 11  # points


class ClusterDistanceDisplay:
    """Cluster distance coefficients by confidence category, one row of boxes for each set.

    Create it by :meth:`from_estimator` or :meth:`from_predictions`. A box reaches from the 25th to
    the 75th percentile of the samples of a set in a category, its line is the median, and its
    whiskers reach from the 5th to the 95th percentile. Fewer than 10 samples give a faint box, none
    a gap. The rows of numbers under the axis are the samples behind the boxes.

    Parameters
    ----------
    cluster_distance : array-like of shape (n_samples,)
        Cluster distance coefficient of each sample.
    confidence : array-like of shape (n_samples,)
        Confidence of the network in each prediction, from 0 to 1.
    groups : array-like of shape (n_samples,), default=None
        Name of the set that each sample belongs to. By default all are one set.
    n_categories : int, default=10
        Number of categories of equal width between 0 and 1.

    Attributes
    ----------
    boxes_ : dict of str to dict of int to matplotlib PathPatch
        For each set, the box of each category that has samples.
    counts_ : dict of str to ndarray of shape (n_categories,)
        For each set, the number of samples in each category.
    ax_ : matplotlib Axes
        Axes with the boxes.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    skood.ClusterDistanceDetector : Scores samples by these distances.
    skood.calibration.confidence_categories : Makes the categories.
    ProgressionDisplay : Groups of nearest patterns through the layers.

    Notes
    -----
    At 1, a sample is as far from the centre of its cluster as the cluster's training samples are
    on average [1]_. Where a network is mostly confident, nearly all samples are in the last
    category, and the boxes of the others stand for few. To draw only the samples that match their
    cluster, pass ``X[detector.matches(X)]``.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> from skood.inspection import ClusterDistanceDisplay
    >>> display = ClusterDistanceDisplay.from_predictions(
    ...     cluster_distance=[0.9, 1.0, 1.4, 1.7],
    ...     confidence=[0.99, 0.91, 0.95, 0.55],
    ...     groups=["right", "right", "wrong", "wrong"],
    ... )
    >>> display.counts_["wrong"]
    array([0, 0, 0, 0, 0, 1, 0, 0, 0, 1])
    """

    boxes_: dict[str, dict[int, PathPatch]]
    counts_: dict[str, NDArray[np.intp]]

    def __init__(
        self,
        *,
        cluster_distance: ArrayLike,
        confidence: ArrayLike,
        groups: ArrayLike | None = None,
        n_categories: int = 10,
    ) -> None:
        self.cluster_distance = cluster_distance
        self.confidence = confidence
        self.groups = groups
        self.n_categories = n_categories

    @classmethod
    def from_estimator(
        cls,
        detector: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        n_categories: int = 10,
        ax: Axes | None = None,
        **box_kw: Any,
    ) -> Self:
        """Draw the cluster distances of samples by the confidence of their predictions.

        Parameters
        ----------
        detector : estimator
            Fitted :class:`~skood.ClusterDistanceDetector`, or a fitted pipeline
            that ends in one.
        X : Activations
            Samples with logits. A pipeline may also take other samples, if one of its steps
            makes activations with logits of them.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution sample. They divide the samples into the
            sets "correct", "misclassified" and "out-of-distribution", where ``groups`` does not.
        groups : array-like of shape (n_samples,), default=None
            Name of the set that each sample belongs to, drawn in the order of their first
            samples.
        n_categories : int, default=10
            Number of categories of equal width between 0 and 1.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **box_kw : dict
            Keyword arguments of matplotlib's ``boxplot``.

        Returns
        -------
        display : ClusterDistanceDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If ``X`` carries no logits, ``y`` or ``groups`` has another length, or a label is not
            among the classes of the network.
        TypeError
            If ``detector`` is not of the kind above, or gets no activations.
        """
        detector, X = split_pipeline(detector, X, "cluster_distance")
        if not isinstance(X, Activations):
            raise TypeError(
                f"{cls.__name__} needs Activations with logits, got {type(X).__name__}."
            )
        confidence = prediction_confidence(X)
        if groups is None and y is not None:
            groups = _outcomes(X, y)
        return cls.from_predictions(
            detector.cluster_distance(X),
            confidence,
            groups,
            n_categories=n_categories,
            ax=ax,
            **box_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        cluster_distance: ArrayLike,
        confidence: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        n_categories: int = 10,
        ax: Axes | None = None,
        **box_kw: Any,
    ) -> Self:
        """Draw given cluster distances by given confidences.

        Parameters
        ----------
        cluster_distance : array-like of shape (n_samples,)
            Cluster distance coefficient of each sample.
        confidence : array-like of shape (n_samples,)
            Confidence of the network in each prediction, from 0 to 1.
        groups : array-like of shape (n_samples,), default=None
            Name of the set that each sample belongs to, drawn in the order of their first
            samples. By default all are one set.
        n_categories : int, default=10
            Number of categories of equal width between 0 and 1.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **box_kw : dict
            Keyword arguments of matplotlib's ``boxplot``.

        Returns
        -------
        display : ClusterDistanceDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the lengths disagree, or a confidence is not between 0 and 1.
        """
        cluster_distance = column_or_1d(
            check_array(cluster_distance, ensure_2d=False, input_name="cluster_distance")
        )
        check_consistent_length(cluster_distance, confidence)
        display = cls(
            cluster_distance=cluster_distance,
            confidence=confidence,
            groups=groups,
            n_categories=n_categories,
        )
        return display.plot(ax, **box_kw)

    def plot(self, ax: Axes | None = None, **box_kw: Any) -> Self:
        """Draw the boxes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **box_kw : dict
            Keyword arguments of matplotlib's ``boxplot``.

        Returns
        -------
        self : ClusterDistanceDisplay
            The display.

        Raises
        ------
        ValueError
            If ``groups`` has another length than the distances.
        """
        distances = np.asarray(self.cluster_distance, dtype=np.float64)
        sets = rows_by_set(self.groups, len(distances))
        category = confidence_categories(self.confidence, n_categories=self.n_categories)
        self.figure_, self.ax_ = get_axes(ax, "ClusterDistanceDisplay")
        self.boxes_, self.counts_ = {}, {}
        slot = 0.8 / len(sets)
        for number, (name, rows) in enumerate(sets.items()):
            color = line_style(self.ax_, number)["color"]
            counts = np.bincount(category[rows], minlength=self.n_categories)
            samples = {
                c: distances[rows[category[rows] == c]] for c in np.flatnonzero(counts).tolist()
            }
            place = 0.1 + slot * (number + 0.5)
            self.counts_[name] = counts
            self.boxes_[name] = self._draw_boxes(samples, place, 0.7 * slot, color, box_kw)
            self._write_counts(counts, number, color)
        self._describe()
        return self

    def _draw_boxes(
        self,
        samples: dict[int, NDArray[np.float64]],
        place: float,
        width: float,
        color: str,
        box_kw: dict[str, Any],
    ) -> dict[int, PathPatch]:
        """The box of each category; place and width are shares of the category's width."""
        unit = 100 / self.n_categories
        drawn = self.ax_.boxplot(
            list(samples.values()),
            positions=[unit * (category + place) for category in samples],
            **{
                "widths": unit * width,
                "whis": (5, 95),
                "showfliers": False,
                "showcaps": False,
                "patch_artist": True,
                "manage_ticks": False,
                "boxprops": {"facecolor": (color, 0.4), "edgecolor": color},
                "medianprops": {"color": color, "linewidth": 2.5},
                "whiskerprops": {"color": color},
                **box_kw,
            },
        )
        for number, values in enumerate(samples.values()):
            if len(values) < _FEW:
                ends = slice(2 * number, 2 * number + 2)
                drawn["boxes"][number].set(alpha=_FAINT, facecolor="none")
                for artist in (drawn["medians"][number], *drawn["whiskers"][ends]):
                    artist.set_alpha(_FAINT)
        return dict(zip(samples, drawn["boxes"], strict=True))

    def _write_counts(self, counts: NDArray[np.intp], line: int, color: str) -> None:
        """Write the numbers of samples in one line below the axis."""
        for category in np.flatnonzero(counts):
            self.ax_.annotate(
                str(counts[category]),
                xy=(100 * (category + 0.5) / self.n_categories, 0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -20 - _LINE_HEIGHT * line),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize="small",
                color=color,
            )

    def _describe(self) -> None:
        patches = import_optional("matplotlib.patches", "plot", "ClusterDistanceDisplay")
        edges = np.linspace(0, 100, self.n_categories + 1)
        self.ax_.axhline(1, color="#777777", linewidth=1, linestyle=":", zorder=0)
        self.ax_.set_xticks(edges, [f"{edge:.3g}" for edge in edges])
        self.ax_.set_xlim(0, 100)
        self.ax_.grid(axis="x", color="#777777", alpha=0.25, linewidth=0.8)
        self.ax_.set_axisbelow(True)
        self.ax_.set_xlabel(
            "confidence (%), and samples in each category",
            labelpad=4 + _LINE_HEIGHT * len(self.counts_),
        )
        self.ax_.set_ylabel("cluster distance coefficient (training mean: 1)")
        self.ax_.legend(
            handles=[
                patches.Patch(color=line_style(self.ax_, number)["color"], label=name)
                for number, name in enumerate(self.counts_)
            ]
        )


def _outcomes(X: Activations, y: ArrayLike) -> NDArray[np.str_]:
    """What became of each sample, by the class labels or -1."""
    is_in = in_distribution_mask(y, len(X))
    labels = read_labels(y)
    check_class_labels(X, labels[is_in], "ClusterDistanceDisplay")
    is_right = X.predictions == labels
    return np.select([~is_in, is_right], ["out-of-distribution", "correct"], "misclassified")
