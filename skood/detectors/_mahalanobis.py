"""Mahalanobis distance to the nearest class."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from .._batches import row_batches
from .._classes import GROUP_BY, class_columns
from .._estimator_checks import failed_outlier_checks
from .._sklearn import HasMethods, Interval
from .._streams import check_fitted
from .._threshold_sample import ThresholdSample, hash_rows
from .._too_few import TooFewSamplesError
from .._values import SQUARABLE, Floats
from .._warnings import warn_user
from ..activations import Activations
from ._base import joined
from ._base_incremental import forget_batches
from ._base_layer_scores import BaseLayerScoresDetector, LayersLearnt
from ._labels_seen import ByClass, LabelsSeen
from ._row_lengths import unit_rows
from ._tied_gaussian import TiedGaussian, needs_rows
from ._tied_moments import (
    N_PARTS,
    TiedMoments,
    TiedParts,
    TiedRows,
    can_be_left_out,
    number_parts,
)

_FEW_VALUES = 2**12
"""So few values are scored at once."""


class MahalanobisDetector(BaseLayerScoresDetector):
    r"""Mahalanobis distance to the nearest class.

    In each layer, every class is a Gaussian with a mean of its own and a covariance that all
    classes share [1]_. The score of a layer is minus half the squared Mahalanobis distance to the
    nearest mean; those of several layers are added.

    Parameters
    ----------
    relative : bool, default=False
        Whether to subtract the squared distance to one Gaussian of all training samples [2]_. What
        all classes have in common then does not count, which helps with samples that are
        out-of-distribution by little.
    normalize : bool, default=False
        Whether to divide the activations of each sample, layer by layer, by their Euclidean norm:
        Mahalanobis++, and with ``relative=True`` relative Mahalanobis++ [3]_. Norms differ between
        classes and samples more than Gaussians with one covariance allow for. Samples without any
        activation are not changed.
    covariance : estimator, default=None
        A covariance estimator such as :class:`~sklearn.covariance.LedoitWolf`, of which clones are
        fitted on the samples minus their class mean. By default the mean of their outer products,
        as in the papers.
    shrinkage : float, default=0.0
        Share of the covariance, from 0 to below 1, that is replaced by the mean variance of all
        units on the diagonal. Units that never varied in training then have a variance, too, and
        samples that move them are far away. Only without ``covariance``.
    n_components : int, default=None
        How many principal axes of the covariance are kept in wider layers, the leading ones; the
        remaining directions share their mean variance [4]_. By default all are kept. This bounds
        what is kept of a layer to ``n_components`` and twice the number of classes times its units.

    Attributes
    ----------
    class_means_ : dict of str to ndarray of shape (n_classes, n_units)
        Class means of each layer, of normalised activations where ``normalize`` says so.
    precision_ : dict of str to ndarray of shape (n_units, n_units)
        Inverse of the covariance of each layer, also of normalised activations if so. Computed
        whenever it is asked for, and not kept.
    class_labels_ : ndarray of shape (n_classes,)
        The classes, ascending; one class 0 where there are neither labels nor predictions.
    class_accuracy_ : dict of str to float
        Share of the training samples that are nearest to the mean of their own class, each as if it
        had not been learnt from: how much a layer knows of the classes. After ``partial_fit`` and
        ``merge``, of those that set the threshold.
    layer_weights_ : ndarray of shape (n_layers,)
        Weight of each layer's score.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, by means and covariances of other samples.

    See Also
    --------
    KNNDetector : Distance to the nearest training samples.
    skood.PoolingReducer : Pools maps; the paper takes their means.
    skood.ensemble.LayerEnsembleDetector : Other ways to combine layers.

    Notes
    -----
    Classes are the labels ``y``; where it is not given or holds one label only, as 1 for
    in-distribution beside -1, those that the network predicted; and without predictions, as in an
    ordinary array, all samples are of one class. Batches of one label each are classes as soon as
    there are two.

    Where rows are marked -1 and there are several layers, the scores of layers are weighted by a
    logistic regression that separates these rows from the others, as in [1]_; it is regularised,
    and in-distribution and OOD rows have equal weight. Nothing else is learnt from OOD rows.

    The covariance is inverted by its pseudo-inverse. Units that do not vary within classes, such as
    dead ones, have no weight with any covariance estimator. A layer in which all units are so adds
    nothing to the score, and ``fit`` warns.

    With ``shrinkage`` :math:`s`, the covariance :math:`S` of :math:`d` units becomes
    :math:`(1 - s) S + s \, (\operatorname{tr} S / d) \, I`, so that units which do not vary within
    classes count as well. With ``n_components`` :math:`k`, all but the :math:`k` largest
    eigenvalues of :math:`S` are replaced by their mean before it shrinks, as in probabilistic
    principal component analysis [4]_; without ``shrinkage``, units that do not vary within classes
    have no part in that mean. Up to 2,048 units the axes are exact; beyond, they come from a
    randomised singular value decomposition with a fixed seed, which finds the first ones exactly
    and the last ones nearly.

    The training samples lie nearer to means that were computed from them than new samples do. They
    are therefore scored with each of them left out, which costs little: means and covariance lose
    its part in closed form. Only the mean variance for ``shrinkage`` keeps it. A squared distance
    is exact but for that; it is too small by a share of at most that of the sample in the sum of
    all variances, about 1 in the number of samples. With ``covariance`` given, or where
    ``n_components`` leaves some variance over, they are scored by 5-fold cross-validation, which
    fits a layer five times more. Axes from four fifths of the samples suit new ones less well, and
    with fewer samples than several times the units the threshold then rejects too few: keep all
    axes where memory allows, or set the threshold on held-out samples.

    Counts, class means and the products of residuals of batches add up exactly [5]_, so that
    ``partial_fit`` and ``merge`` give what one ``fit`` gives, to rounding. Of rows marked -1 they
    keep 32 MiB, or 1,000, which weigh the layers; and of each layer a matrix of all pairs of units,
    or five, where ``n_components`` leaves out some of its axes: one for each fifth of the samples,
    which what they hold decides, and not the batch that they come in.
    With ``covariance`` all rows are needed, and there are no such methods. Of layers of more units
    than ``n_components`` and 2,048, ``fit`` reads all rows at once where memory holds them, and
    keeps nothing that batches could be added to: begin with ``partial_fit``. Batches of these add
    up for up to 8,192 units, and find the same leading axes, the last ones as nearly; samples that
    set the threshold are left out by the same fifths, in any batches, unless there are fewer than
    50 or most are in one fifth, as where they repeat: then by parts of each batch.

    References
    ----------
    .. [1] K. Lee, K. Lee, H. Lee, J. Shin, "A simple unified framework for detecting
       out-of-distribution samples and adversarial attacks", NeurIPS 2018. arXiv:1807.03888
    .. [2] J. Ren, S. Fort, J. Liu, A. G. Roy, S. Padhy, B. Lakshminarayanan, "A simple fix to
       Mahalanobis distance for improving near-OOD detection", 2021. arXiv:2106.09022
    .. [3] M. Müller, M. Hein, "Mahalanobis++: Improving OOD detection via feature normalization",
       ICML 2025. arXiv:2505.18032
    .. [4] M. E. Tipping, C. M. Bishop, "Probabilistic principal component analysis", Journal of the
       Royal Statistical Society B 61 (3), 1999. doi:10.1111/1467-9868.00196
    .. [5] T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for
       computing sample variances", COMPSTAT 1982. https://doi.org/10.1007/978-3-642-51461-6_3

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors import MahalanobisDetector
    >>> X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    >>> detector = MahalanobisDetector().fit(np.vstack([X, X + 10]), [0, 0, 0, 0, 1, 1, 1, 1])
    >>> detector.class_means_["X"]
    array([[ 0.,  0.],
           [10., 10.]])
    >>> detector.precision_["X"]
    array([[2. , 0. ],
           [0. , 0.5]])
    >>> detector.score_samples([[0, 0], [10, 12], [13, 10]]).round(2)
    array([ 0., -1., -9.])
    """

    _sizes_of_values = SQUARABLE
    _learns_from_ood = True
    _labels_optional_for = "label"
    _looks_up_classes = False

    _parameter_constraints: dict = {
        **BaseLayerScoresDetector._parameter_constraints,
        "relative": ["boolean"],
        "group_by": GROUP_BY,
        "normalize": ["boolean"],
        "covariance": [HasMethods(["fit", "get_precision"]), None],
        "shrinkage": [Interval(Real, 0, 1, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        *,
        relative: bool = False,
        normalize: bool = False,
        covariance: Any = None,
        shrinkage: float = 0.0,
        n_components: int | None = None,
        group_by: str = "label",
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.relative = relative
        self.normalize = normalize
        self.covariance = covariance
        self.shrinkage = shrinkage
        self.n_components = n_components
        self.group_by = group_by

    def _learn_and_score(
        self, X: Activations, y: NDArray | None, rows: NDArray[np.intp], fit_params: dict[str, Any]
    ) -> Floats:
        scores = super()._learn_and_score(X, y, rows, fit_params)
        learnt = self._summary.classes.layers if hasattr(self, "_summary") else {}
        if any(isinstance(part, TiedRows) for part in learnt.values()):
            forget_batches(self)
        return scores

    def _check_can_learn_more(self) -> None:
        means = {} if hasattr(self, "_summary") else self.class_means_
        widths = [each.shape[1] for each in means.values()]
        if any(map(self._needs_rows, widths)):
            raise ValueError(
                f"Of layers of more units than n_components={self.n_components} and 2,048, such as "
                f"one of {max(widths):,}, fit keeps the axes alone and nothing that more batches "
                "could be added to: begin with partial_fit."
            )
        super()._check_can_learn_more()

    def _why_not_in_batches(self) -> str:
        if self.covariance is None:
            return ""
        return f"the covariance estimator {self.covariance!r} is fitted on all rows."

    def _learn_classes(self, X: Activations, y: NDArray | None) -> ByClass:
        if self.shrinkage and self.covariance is not None:
            raise ValueError(
                f"shrinkage={self.shrinkage} shrinks the covariance of the samples, but "
                f"covariance={self.covariance!r} is to estimate it. Leave one of them at its "
                "default: an estimator such as LedoitWolf or ShrunkCovariance shrinks by itself."
            )
        classes = self._training_classes(X, y)
        labels, codes = classes.numbered()
        counts = codes >= 0
        layers = {}
        for name, layer in X.items():
            rows = np.asarray(layer)
            rows, rounding = rows if counts.all() else rows[counts], self._rounding(rows.dtype)
            known = name, self._prepare(rows), codes[counts], labels, rounding
            layers[name] = self._learn_layer(rows, known)
        return ByClass(self._labels_seen(X, y), layers)

    def _learn_layer(
        self, rows: NDArray, known: tuple[str, Floats, NDArray[np.intp], NDArray, float]
    ) -> TiedMoments | TiedParts | TiedRows:
        """What is kept of rows, of which is known what :meth:`TiedRows.of` takes."""
        n_units = rows.shape[1]
        if self._needs_rows(n_units):
            return TiedRows.of(*known)
        if self.n_components is None or n_units <= self.n_components:
            return TiedRows.of(*known).summed()
        return TiedParts.of(*known, number_parts(rows))

    def _learn_ood(self, X: Activations) -> LayersLearnt:
        outside = ThresholdSample.of(X, None, np.arange(len(X)))
        return LayersLearnt(ByClass(LabelsSeen(), {}), outside=outside)

    def _needs_rows(self, n_units: int) -> bool:
        return needs_rows(n_units, self.covariance, self.n_components)

    def _rounding(self, dtype: np.dtype) -> float:
        """Share by which rows in proportion differ once they are divided, which is no variance."""
        precision = np.finfo(dtype if dtype.kind == "f" else np.float64).eps
        return 4 * float(precision) if self.normalize else 0.0

    def _finish_layers(self, classes: ByClass) -> None:
        first = _together(next(iter(classes.layers.values())))
        self.class_labels_ = first.labels
        self._check_any_counts(len(first.labels))
        if self.relative and len(first.labels) == 1:
            raise TooFewSamplesError(
                "relative=True needs samples of several classes, by labels or predictions: of "
                f"{first.n_rows} samples, all are of the class {first.labels[0]}."
            )
        self.__dict__.pop("_without", None)
        self._gaussians = {}
        for name, learnt in classes.layers.items():
            self._gaussians[name] = self._fit_layer(learnt)
            self._warn_if_blind(name, self._gaussians[name][0])
        self.class_means_ = {name: tied.means for name, (tied, *_) in self._gaussians.items()}

    def _prepare(self, rows: NDArray) -> Floats:
        """Rows as numbers, normalised if so."""
        rows = rows if rows.dtype.kind == "f" else rows.astype(np.float64)
        return unit_rows(rows) if self.normalize else rows.astype(np.float64, copy=False)

    @property
    def precision_(self) -> dict[str, Floats]:
        """Inverse of the covariance of each layer, computed anew whenever it is asked for."""
        return {name: tied.precision for name, (tied, *_) in self._gaussians.items()}

    @staticmethod
    def _warn_if_blind(name: str, tied: TiedGaussian) -> None:
        if tied.is_blind:
            warn_user(
                f"Layer {name!r} does not vary within classes in training: MahalanobisDetector "
                "is blind there, and its score is 0 for all samples. Leave the layer out, for "
                "example by LayerSelector, or use a detector that compares values, such as "
                "KNNDetector."
            )

    def _fit_layer(self, learnt: TiedMoments | TiedParts | TiedRows) -> list[TiedGaussian]:
        """The Gaussians of the classes and, for relative distances, the one of all rows."""
        learnt = _together(learnt)
        groupings = [learnt, learnt.pooled(learnt.labels[:1])] if self.relative else [learnt]
        return [
            TiedGaussian(
                grouping,
                self.covariance,
                shrinkage=self.shrinkage,
                n_components=self.n_components,
            )
            for grouping in groupings
        ]

    def _left_out_width(self) -> int:
        return 2 * super()._left_out_width()

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        """The score of each layer, and then for each layer whether the nearest class is their own.

        That is NaN for samples that do not count.
        """
        codes, found = self._codes(X, y), np.empty((2, len(self._gaussians), len(X)))
        for number, name in enumerate(self._gaussians):
            found[:, number] = self._left_out_of_layer(name, np.asarray(X[name]), codes)
        return np.concatenate(found).T

    def _codes(self, X: Activations, y: NDArray | None) -> NDArray[np.intp]:
        """Numbers of the classes under which samples were learnt; -1 where they do not count."""
        classes = self._training_classes(X, y, are_classes=self._summary.classes.seen.tell_classes)
        codes = class_columns(classes.own, self.class_labels_)
        codes[~classes.counts] = -1
        return codes

    def _may_look_again(self) -> bool:
        parts = (self.n_components, self.covariance, self.validation)
        return parts[0] is not None and parts[1:] == (None, None)

    def _looks(self) -> list[tuple[str, int]]:
        """One for each fifth of the samples in each wide layer, which is learnt without it.

        So which of them are left out together depends on what they hold, and not on how many are
        read at a time.
        """
        learnt = self._summary.classes.layers
        return [
            (name, number)
            for name, gaussians in self._gaussians.items()
            if isinstance(learnt[name], TiedMoments) and any(g.is_truncated for g in gaussians)
            for number in range(N_PARTS)
        ]

    def _looked_at(self, key: tuple[str, int], X: Activations) -> Activations:
        return X[[key[0]]]

    def _look(self, key: tuple[str, int], X: Activations, y: NDArray | None) -> TiedMoments:
        """What the samples that are in a part teach of a layer."""
        name, number = key
        rows, codes = np.asarray(X[name]), self._codes(X, y)
        part = np.flatnonzero((number_parts(rows) == number) & (codes >= 0))
        return self._rows_of_part(name, rows, self._prepare(rows[part]), codes[part]).summed()

    def _after_look(
        self, key: tuple[str, int], summary: TiedMoments
    ) -> tuple[NDArray, list[TiedGaussian]] | None:
        """The classes and Gaussians of the others; None where these are too few."""
        learnt = self._summary.classes.layers[key[0]]
        if not can_be_left_out([summary.n_rows], learnt.n_rows):
            return None
        rest = learnt.without(summary)
        return rest.labels, self._fit_layer(rest)

    def _keep_looks(self, found: dict[tuple[str, int], Any]) -> None:
        left = {name for (name, _), rest in found.items() if rest is None}
        known = {key: rest for key, rest in found.items() if key[0] not in left}
        self.__dict__.setdefault("_without", {}).update(known)

    def _left_out_of_layer(
        self, name: str, rows: NDArray, codes: NDArray[np.intp]
    ) -> tuple[Floats, NDArray]:
        gaussians, counts = self._gaussians[name], codes >= 0
        by_parts = self.covariance is not None or any(tied.is_truncated for tied in gaussians)
        left_out = self._left_out_by_parts if by_parts else self._left_out_one_by_one
        if counts.all():
            return left_out(name, rows, codes)
        scores, is_right = np.full((2, len(rows)), np.nan)
        scores[~counts] = self._score_rows(gaussians, rows[~counts])
        scores[counts], is_right[counts] = left_out(name, rows[counts], codes[counts])
        return scores, is_right

    def _left_out_one_by_one(
        self, name: str, rows: NDArray, codes: NDArray[np.intp]
    ) -> tuple[Floats, NDArray[np.bool_]]:
        gaussians = self._gaussians[name]
        scores, is_right = np.empty(len(rows)), np.empty(len(rows), dtype=bool)
        groupings = codes, np.zeros_like(codes)
        for batch in _batches(len(rows), gaussians):
            units = self._prepare(rows[batch])
            found = [
                tied.left_out_distances(units, groups[batch])
                for tied, groups in zip(gaussians, groupings, strict=False)
            ]
            scores[batch], nearest = _score(found)
            is_right[batch] = nearest == codes[batch]
        return scores, is_right

    def _left_out_by_parts(
        self, name: str, rows: NDArray, codes: NDArray[np.intp]
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Each scored by what was learnt without a part of these rows that it is in."""
        scores, is_right = np.zeros(len(rows)), np.ones(len(rows), dtype=bool)
        learnt = self._summary.classes.layers[name]
        has_parts = isinstance(learnt, TiedParts) and learnt.can_be_left_out
        if has_parts or (name, 0) in self.__dict__.get("_without", {}):
            return self._left_out_by_known_parts(name, rows, codes)
        learnt = _together(learnt)
        units = self._prepare(rows)
        for part in _parts(rows, codes, learnt.n_rows):
            kept = np.setdiff1d(np.arange(len(rows)), part) if len(rows) == learnt.n_rows else part
            rest: TiedMoments | TiedRows = self._rows_of_part(name, rows, units[kept], codes[kept])
            if kept is part:
                rest = learnt.without(rest.summed())
            gaussians = self._fit_layer(rest)
            for batch in _batches(len(part), gaussians):
                left_out = part[batch]
                found = [tied.squared_distances(units[left_out]) for tied in gaussians]
                scores[left_out], nearest = _score(found)
                is_right[left_out] = rest.labels[nearest] == self.class_labels_[codes[left_out]]
        return scores, is_right

    def _rows_of_part(
        self, name: str, rows: NDArray, units: Floats, codes: NDArray[np.intp]
    ) -> TiedRows:
        """Some rows, prepared as ``units``, with the numbers of their classes."""
        # Numbered anew, as some classes may have no row among them.
        known, numbers = np.unique(codes, return_inverse=True)
        rounding = self._rounding(rows.dtype)
        return TiedRows.of(name, units, numbers, self.class_labels_[known], rounding)

    def _left_out_by_known_parts(
        self, name: str, rows: NDArray, codes: NDArray[np.intp]
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Each scored by what was learnt without the fifth of all rows that it is in."""
        scores, is_right = np.empty(len(rows)), np.empty(len(rows), dtype=bool)
        units, numbers = self._prepare(rows), number_parts(rows)
        for number in np.unique(numbers):
            labels, gaussians = self._without_part(name, int(number))
            part = np.flatnonzero(numbers == number)
            for batch in _batches(len(part), gaussians):
                left_out = part[batch]
                found = [tied.squared_distances(units[left_out]) for tied in gaussians]
                scores[left_out], nearest = _score(found)
                is_right[left_out] = labels[nearest] == self.class_labels_[codes[left_out]]
        return scores, is_right

    def _without_part(self, name: str, number: int) -> tuple[NDArray, list[TiedGaussian]]:
        """The classes and Gaussians of all rows of a layer but for those of a part.

        They are kept until all rows are scored, since each batch has rows of all parts.
        """
        known = self.__dict__.setdefault("_without", {})
        if (name, number) not in known:
            rest = self._summary.classes.layers[name].without_part(number)
            known[name, number] = rest.labels, self._fit_layer(rest)
        return known[name, number]

    def _weigh(self, found: Floats, outside: Activations | None) -> Floats:
        self.__dict__.pop("_without", None)
        left_out, is_right = map(np.ascontiguousarray, np.split(found, 2, axis=1))
        self.class_accuracy_ = {
            name: float(column[~np.isnan(column)].mean())
            for name, column in zip(self._gaussians, is_right.T, strict=True)
        }
        self.layer_weights_ = np.ones(len(self._gaussians))
        if outside is not None and len(outside) and len(self._gaussians) > 1:
            scores = joined([self._layer_scores(batch) for batch in outside.batches()])
            self.layer_weights_ = _learn_weights(left_out, scores)
        return left_out @ self.layer_weights_

    def layer_scores(self, X: Activations | ArrayLike) -> Floats:
        """Score samples in each layer by itself.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations of the layers seen in ``fit``.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_layers)
            Minus half the squared distances. ``score_samples`` gives their sum weighted by
            ``layer_weights_``.
        """
        check_fitted(self)
        return self._layer_scores(self._validate(X, reset=False))

    def _layer_scores(self, X: Activations) -> Floats:
        scores = np.empty((len(X), len(self._gaussians)))
        for number, (name, gaussians) in enumerate(self._gaussians.items()):
            scores[:, number] = self._score_rows(gaussians, np.asarray(X[name]))
        return scores

    def _score_rows(self, gaussians: list[TiedGaussian], rows: NDArray) -> Floats:
        if rows.size <= _FEW_VALUES:  # to cut them into batches takes longer
            units = self._prepare(rows)
            return _score([g.squared_distances(units) for g in gaussians])[0]
        scores = np.empty(len(rows))
        for batch in _batches(len(rows), gaussians):
            units = self._prepare(rows[batch])
            scores[batch], _ = _score([g.squared_distances(units) for g in gaussians])
        return scores

    def _score_only_layer(self, rows: NDArray) -> Floats:
        """Scores of the rows of the only layer."""
        (gaussians,) = self._gaussians.values()
        return self._score_rows(gaussians, rows) * self.layer_weights_[0]

    def _score_samples(self, X: Activations) -> Floats:
        return self._layer_scores(X) @ self.layer_weights_

    def _expected_failed_checks(self) -> dict[str, str]:
        if not self.relative:
            return {}
        return failed_outlier_checks(
            "A relative distance needs several classes, and the check gives no labels."
        )


def _together(learnt: TiedMoments | TiedParts | TiedRows) -> TiedMoments | TiedRows:
    return learnt.whole if isinstance(learnt, TiedParts) else learnt


def _batches(n_rows: int, gaussians: list[TiedGaussian]) -> Iterator[slice]:
    return row_batches(n_rows, 2 * max(gaussians[0].means.shape), are_products=True)


def _parts(rows: NDArray, codes: NDArray[np.intp], n_learnt: int) -> list[NDArray[np.intp]]:
    """Numbers of rows to leave out at a time: parts of about a fifth of all that were learnt.

    What a row holds decides which part it is in, and not its place among the others.
    """
    n_rows = len(rows)
    if n_rows == 0 or n_learnt == 1:
        return []
    numbers = number_parts(rows)
    if n_rows == n_learnt and can_be_left_out(np.bincount(numbers, minlength=N_PARTS), n_learnt):
        return [np.flatnonzero(numbers == number) for number in range(N_PARTS)]
    by_hash = np.argsort(hash_rows(Activations({"layer": rows}), codes), kind="stable")
    return np.array_split(by_hash, min(n_rows, ceil(5 * n_rows / n_learnt)))


def _score(
    found: list[tuple[Floats, NDArray[np.intp]]],
) -> tuple[Floats, NDArray[np.intp]]:
    """Score of a layer, and nearest class, by distances to classes and, if relative, all rows."""
    (to_classes, nearest), *to_all = found
    return -0.5 * (to_classes - sum(distances for distances, _ in to_all)), nearest


def _learn_weights(inside: Floats, outside: Floats) -> Floats:
    """Weights of the layers' scores that separate in- from out-of-distribution samples."""
    scaler = StandardScaler()
    scores = scaler.fit_transform(np.concatenate([inside, outside]))
    is_inside = np.repeat([True, False], [len(inside), len(outside)])
    # This solver ends at the optimum itself, for any order of samples.
    regression = LogisticRegression(solver="newton-cholesky", class_weight="balanced", tol=1e-10)
    return regression.fit(scores, is_inside).coef_[0] / scaler.scale_
