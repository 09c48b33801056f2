"""Mahalanobis distance to the nearest class."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from .._batches import row_batches
from .._classes import GROUP_BY
from .._estimator_checks import failed_outlier_checks
from .._sklearn import HasMethods, Interval
from .._values import SQUARABLE, Floats
from .._warnings import warn_user
from ..activations import Activations
from ._base import BaseOneClassDetector
from ._row_lengths import unit_rows
from ._tied_gaussian import TiedGaussian


class MahalanobisDetector(BaseOneClassDetector):
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
        had not been learnt from: how much a layer knows of the classes.
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
    ordinary array, all samples are of one class.

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
        **BaseOneClassDetector._parameter_constraints,
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

    def _fit(
        self, X: Activations, y: NDArray | None, *, X_ood: Activations | None = None
    ) -> NDArray[np.float64]:
        if self.shrinkage and self.covariance is not None:
            raise ValueError(
                f"shrinkage={self.shrinkage} shrinks the covariance of the samples, but "
                f"covariance={self.covariance!r} is to estimate it. Leave one of them at its "
                "default: an estimator such as LedoitWolf or ShrunkCovariance shrinks by itself."
            )
        left_out = self._fit_layers(X, y)
        self.layer_weights_ = np.ones(len(X.layer_names))
        if X_ood is not None and len(X_ood) and len(X.layer_names) > 1:
            self.layer_weights_ = _learn_weights(left_out, self._layer_scores(X_ood))
        return left_out @ self.layer_weights_

    def _fit_layers(self, X: Activations, y: NDArray | None) -> NDArray[np.float64]:
        """Learn means and covariances; returns layer scores with each sample left out."""
        self.class_labels_, codes = self._training_classes(X, y).numbered()
        self._check_any_counts(len(self.class_labels_))
        if self.relative and len(self.class_labels_) == 1:
            raise ValueError(
                "relative=True needs samples of several classes, by labels or predictions: of "
                f"{len(X)} samples, all are of the class {self.class_labels_[0]}."
            )
        self._gaussians, left_out = {}, np.empty((len(X), len(X.layer_names)))
        self.class_accuracy_ = {}
        counts = codes >= 0
        for scores, (name, layer) in zip(left_out.T, X.items(), strict=True):
            rows = np.asarray(layer)
            learnt = rows if counts.all() else rows[counts]
            units = self._prepare(learnt)
            rounding = _rounding(rows.dtype) if self.normalize else 0.0
            gaussians = self._fit_layer(units, codes[counts], rounding)
            self._warn_if_blind(name, gaussians[0])
            self._gaussians[name] = gaussians
            scores[counts], self.class_accuracy_[name] = self._left_out_scores(
                gaussians, units, codes[counts], rounding
            )
            scores[~counts] = self._score_rows(gaussians, rows[~counts])
        self.class_means_ = {name: tied.means for name, (tied, *_) in self._gaussians.items()}
        return left_out

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

    def _fit_layer(
        self, rows: Floats, codes: NDArray[np.intp], rounding: float
    ) -> list[TiedGaussian]:
        """The Gaussians of the classes and, for relative distances, the one of all rows."""
        return [
            TiedGaussian(
                rows,
                groups,
                self.covariance,
                shrinkage=self.shrinkage,
                n_components=self.n_components,
                rounding=rounding,
            )
            for groups in self._groupings(codes)
        ]

    def _groupings(self, codes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        return [codes, np.zeros_like(codes)] if self.relative else [codes]

    def _left_out_scores(
        self, gaussians: list[TiedGaussian], rows: Floats, codes: NDArray[np.intp], rounding: float
    ) -> tuple[Floats, float]:
        """The scores, and the share of rows that are nearest to the mean of their own class."""
        if self.covariance is not None or any(tied.is_truncated for tied in gaussians):
            return self._cross_validated_scores(rows, codes, rounding)
        scores = np.empty(len(rows))
        is_right = np.empty(len(rows), dtype=bool)
        groupings = [(groups, np.bincount(groups)) for groups in self._groupings(codes)]
        for batch in _batches(len(rows), gaussians):
            found = [
                tied.left_out_distances(rows[batch], groups[batch], sizes)
                for tied, (groups, sizes) in zip(gaussians, groupings, strict=True)
            ]
            scores[batch], nearest = _score(found)
            is_right[batch] = nearest == codes[batch]
        return scores, float(is_right.mean())

    def _cross_validated_scores(
        self, rows: Floats, codes: NDArray[np.intp], rounding: float
    ) -> tuple[Floats, float]:
        if len(rows) == 1:
            return np.zeros(1), 1.0
        scores = np.empty(len(rows))
        is_right = np.empty(len(rows), dtype=bool)
        folds = KFold(min(5, len(rows)), shuffle=True, random_state=0)
        for learnt, held_out in folds.split(rows):
            # Numbered anew, as some classes may have no row in this part.
            known, codes_learnt = np.unique(codes[learnt], return_inverse=True)
            part = self._fit_layer(rows[learnt], codes_learnt, rounding)
            for batch in _batches(len(held_out), part):
                numbers = held_out[batch]
                found = [tied.squared_distances(rows[numbers]) for tied in part]
                scores[numbers], nearest = _score(found)
                is_right[numbers] = known[nearest] == codes[numbers]
        return scores, float(is_right.mean())

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
        check_is_fitted(self)
        return self._layer_scores(self._validate(X, reset=False))

    def _layer_scores(self, X: Activations) -> Floats:
        return np.column_stack(
            [
                self._score_rows(gaussians, np.asarray(X[name]))
                for name, gaussians in self._gaussians.items()
            ]
        )

    def _score_rows(self, gaussians: list[TiedGaussian], rows: NDArray) -> Floats:
        scores = np.empty(len(rows))
        for batch in _batches(len(rows), gaussians):
            units = self._prepare(rows[batch])
            scores[batch], _ = _score([g.squared_distances(units) for g in gaussians])
        return scores

    def _score_samples(self, X: Activations) -> Floats:
        return self._layer_scores(X) @ self.layer_weights_

    def _expected_failed_checks(self) -> dict[str, str]:
        if not self.relative:
            return {}
        return failed_outlier_checks(
            "A relative distance needs several classes, and the check gives no labels."
        )


def _batches(n_rows: int, gaussians: list[TiedGaussian]) -> Iterator[slice]:
    return row_batches(n_rows, 2 * max(gaussians[0].means.shape), are_products=True)


def _rounding(dtype: np.dtype) -> float:
    """Share by which rows in proportion differ once they are divided, which is no variance."""
    return 4 * float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


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
