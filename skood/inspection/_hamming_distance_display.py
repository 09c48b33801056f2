"""Hamming distances in and out of distribution, with the threshold between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import column_or_1d

from .._axes import get_axes, ink
from .._layer_names import find_layer
from .._marks import in_distribution_mask
from .._optional import import_optional
from ..detectors import HammingNAPDetector
from ..ensemble import AutoNAPDetector
from ._drawing import line_style, rows_by_set, split_pipeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INSIDE, _OUTSIDE = "in-distribution", "out-of-distribution"


class HammingDistanceDisplay:
    """Histograms of Hamming distances to the nearest stored pattern, one for each set of samples.

    Create it by :meth:`from_estimator` or :meth:`from_distances`. Distances are whole numbers, and
    each has a bar of its own, centred on it. Sets that are in-distribution are filled. The
    threshold is a line between the distances that are accepted and those that are not.

    Parameters
    ----------
    distances : array-like of shape (n_samples,)
        Hamming distance of each sample, in neurons.
    y : array-like of shape (n_samples,), default=None
        Labels; -1 marks an out-of-distribution sample, any other value an in-distribution one.
    groups : array-like of shape (n_samples,), default=None
        Name of the set that each sample belongs to. By default the sets are the two kinds of
        samples in ``y``, or one.
    threshold : float, default=None
        A distance above it means out-of-distribution.
    alarms : array-like of bool of shape (n_samples,), default=None
        Which samples the detector takes for out-of-distribution, for the shares in the legend; by
        default those whose distance is above the threshold.

    Attributes
    ----------
    histograms_ : dict of str to matplotlib StepPatch
        The histogram of each set, in percent of its samples.
    alarm_rates_ : dict of str to float
        Share of each set that is taken for out-of-distribution, where there is a threshold.
    threshold_line_ : matplotlib Line2D or None
        The threshold, half a neuron above the largest whole distance that it leaves accepted.
    ax_ : matplotlib Axes
        Axes with the histograms.
    figure_ : matplotlib Figure
        Figure that the axes belong to.

    See Also
    --------
    SettingAccuracyDisplay : The accuracies of many layers and percentiles.
    OODRocCurveDisplay : All thresholds at once.

    Notes
    -----
    These are figures 2 and 3 of the supplement of [1]_. The second compares two percentiles: what
    one of them makes of one set of out-of-distribution samples, the other makes of another.

    A detector that breaks ties has a threshold between two distances, and accepts some samples at
    the distance above it: those whose nearest pattern was common. The line stands left of the bar
    of that distance.

    Of an ensemble, ``LayerEnsembleDetector``, draw a member with its layer:
    ``from_estimator(ensemble.estimators_[0], A[["relu1"]])``.

    References
    ----------
    .. [1] B. Olber, K. Radlak, A. Popowicz, M. Szczepankiewicz, K. Chachula, "Detection of
       out-of-distribution samples using binary neuron activation patterns", CVPR 2023.
       arXiv:2212.14268

    Examples
    --------
    >>> from skood import HammingNAPDetector
    >>> from skood.inspection import HammingDistanceDisplay
    >>> detector = HammingNAPDetector(tau=1).fit([[1, 1, 0, 0], [0, 1, 1, 0]])
    >>> display = HammingDistanceDisplay.from_estimator(
    ...     detector, [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1]], [1, 1, -1, -1]
    ... )
    >>> display.distances, display.threshold
    (array([0, 1, 2, 2]), 1.0)
    >>> display.alarm_rates_
    {'in-distribution': 0.0, 'out-of-distribution': 1.0}
    """

    def __init__(
        self,
        *,
        distances: ArrayLike,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        threshold: float | None = None,
        alarms: ArrayLike | None = None,
    ) -> None:
        self.distances = distances
        self.y = y
        self.groups = groups
        self.threshold = threshold
        self.alarms = alarms

    @classmethod
    def from_estimator(
        cls,
        detector: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        layer: str | int | None = None,
        ax: Axes | None = None,
        **stairs_kw: Any,
    ) -> Self:
        """Draw the distances that a detector finds, with its threshold.

        Parameters
        ----------
        detector : estimator
            Fitted :class:`~skood.HammingNAPDetector` or
            :class:`~skood.ensemble.AutoNAPDetector`, or a fitted pipeline that ends in one.
        X : Activations or array-like of shape (n_samples, n_features)
            Samples, as the detector or pipeline takes them.
        y : array-like of shape (n_samples,), default=None
            Labels; -1 marks an out-of-distribution sample, any other value an in-distribution one.
        groups : array-like of shape (n_samples,), default=None
            Name of the set that each sample belongs to, drawn in the order of their first samples.
        layer : str or int, default=None
            Name of one of the ``layers_`` of an ``AutoNAPDetector``, or its number among them.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **stairs_kw : dict
            Keyword arguments of matplotlib's ``stairs``, for all histograms.

        Returns
        -------
        display : HammingDistanceDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``detector`` is not of the kinds above.
        ValueError
            If ``layer`` is none of those that an ``AutoNAPDetector`` combines, or is given for a
            ``HammingNAPDetector``, which has one distance for all of its layers; if the lengths
            differ, or a set holds samples of both kinds.
        """
        detector, X = split_pipeline(detector, X, "score_samples")
        if isinstance(detector, AutoNAPDetector):
            distances, threshold = _of_layer(detector, X, layer)
            alarms = distances > threshold
        elif isinstance(detector, HammingNAPDetector):
            if layer is not None:
                raise ValueError("layer picks one of an AutoNAPDetector; HammingNAPDetector adds.")
            distances = detector.kneighbors(X, 1)[0][:, 0]
            threshold = -float(detector.offset_)
            alarms = detector.predict(X) == -1
        else:
            raise TypeError(
                f"Expected a HammingNAPDetector or an AutoNAPDetector, got {detector!r}."
            )
        display = cls(distances=distances, y=y, groups=groups, threshold=threshold, alarms=alarms)
        return display.plot(ax, **stairs_kw)

    @classmethod
    def from_distances(
        cls,
        distances: ArrayLike,
        y: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        threshold: float | None = None,
        ax: Axes | None = None,
        **stairs_kw: Any,
    ) -> Self:
        """Draw Hamming distances.

        Parameters
        ----------
        distances : array-like of shape (n_samples,)
            Hamming distance of each sample, a whole number.
        y : array-like of shape (n_samples,), default=None
            Labels; -1 marks an out-of-distribution sample, any other value an in-distribution one.
        groups : array-like of shape (n_samples,), default=None
            Name of the set that each sample belongs to, drawn in the order of their first samples.
        threshold : float, default=None
            A distance above it means out-of-distribution.
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **stairs_kw : dict
            Keyword arguments of matplotlib's ``stairs``, for all histograms.

        Returns
        -------
        display : HammingDistanceDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a distance is no whole number or negative, the lengths differ, or a set holds samples
            of both kinds.
        """
        display = cls(distances=distances, y=y, groups=groups, threshold=threshold)
        return display.plot(ax, **stairs_kw)

    def plot(self, ax: Axes | None = None, **stairs_kw: Any) -> Self:
        """Draw the histograms.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; new ones by default.
        **stairs_kw : dict
            Keyword arguments of matplotlib's ``stairs``, for all histograms.

        Returns
        -------
        self : HammingDistanceDisplay
            The display.

        Raises
        ------
        ValueError
            If a distance is no whole number or negative, the lengths differ, or a set holds samples
            of both kinds.
        """
        distances = _check_distances(self.distances)
        sets, is_inside = self._sets(len(distances))
        alarms = self._find_alarms(distances)
        self.figure_, self.ax_ = get_axes(ax, "HammingDistanceDisplay")
        self.histograms_, self.alarm_rates_ = {}, {}
        first, last = int(distances.min()), int(distances.max())
        for number, (name, rows) in enumerate(sets.items()):
            counts = np.bincount(distances[rows] - first, minlength=last - first + 1)
            edges = np.arange(first, last + 2) - 0.5
            label = f"{name} ({len(rows)})"
            if alarms is not None:
                self.alarm_rates_[name] = float(alarms[rows].mean())
                label += f": {self.alarm_rates_[name]:.1%} flagged"
            style = line_style(self.ax_, number)
            style = {**_of_stairs(style, is_filled=is_inside[name]), "label": label, **stairs_kw}
            self.histograms_[name] = self.ax_.stairs(100 * counts / len(rows), edges, **style)
        self._mark_threshold()
        self._describe()
        return self

    def _sets(self, n_samples: int) -> tuple[dict[str, NDArray[np.intp]], dict[str, bool]]:
        """Rows of each set, and whether it is known to be in-distribution."""
        if self.y is None:
            sets = rows_by_set(self.groups, n_samples)
            return sets, dict.fromkeys(sets, False)
        is_in = in_distribution_mask(self.y, n_samples)
        groups = np.where(is_in, _INSIDE, _OUTSIDE) if self.groups is None else self.groups
        sets = rows_by_set(groups, n_samples)
        if mixed := [name for name, rows in sets.items() if 0 < is_in[rows].sum() < len(rows)]:
            raise ValueError(
                f"The sets {mixed} hold samples of both kinds: give them two names, or leave y out."
            )
        return sets, {name: bool(is_in[rows[0]]) for name, rows in sets.items()}

    def _find_alarms(self, distances: NDArray[np.intp]) -> NDArray[np.bool_] | None:
        if self.alarms is not None:
            check_consistent_length(distances, self.alarms)
            return np.asarray(self.alarms, dtype=bool)
        return None if self.threshold is None else distances > self.threshold

    def _mark_threshold(self) -> None:
        self.threshold_line_ = None
        if self.threshold is not None:
            self.threshold_line_ = self.ax_.axvline(
                np.floor(self.threshold) + 0.5,
                color=ink(self.ax_),
                linestyle=":",
                label=f"threshold: above {self.threshold:.4g}",
            )

    def _describe(self) -> None:
        ticker = import_optional("matplotlib.ticker", "plot", "HammingDistanceDisplay")
        self.ax_.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        self.ax_.set(
            xlabel="Hamming distance to the nearest stored pattern", ylabel="samples of the set (%)"
        )
        self.ax_.set_ylim(bottom=0)
        self.ax_.legend(fontsize="small")


def _of_layer(
    detector: AutoNAPDetector, X: Any, layer: str | int | None
) -> tuple[NDArray[np.intp], float]:
    """Distances in one of the layers combined, and its threshold."""
    known = list(detector.layers_)
    if layer is None and len(known) == 1:
        layer = 0
    name = None if layer is None else find_layer(layer, known)
    if name is None:
        raise ValueError(f"layer must be one of {known}, or its number, got {layer!r}.")
    number = known.index(name)
    return detector.distances(X)[:, number], float(detector.taus_[number])


def _check_distances(distances: ArrayLike) -> NDArray[np.intp]:
    values: NDArray = column_or_1d(distances)
    is_whole = values.dtype.kind in "iu" or (
        values.dtype.kind == "f" and np.isfinite(values).all() and (values % 1 == 0).all()
    )
    if not len(values) or not is_whole or values.min() < 0:
        raise ValueError(
            "Hamming distances are whole numbers from 0, at least one; got an array of shape "
            f"{values.shape} and dtype {values.dtype} that holds others."
        )
    return values.astype(np.intp)


def _of_stairs(style: dict[str, Any], *, is_filled: bool) -> dict[str, Any]:
    if is_filled:
        return {"fill": True, "color": style["color"], "alpha": 0.45}
    return {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 1.6}
