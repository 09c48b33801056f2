"""Distance of the norms of all layers to those of training samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._classes import GROUP_BY
from .._sklearn import Interval
from .._values import SQUARABLE, Floats, differ_within_classes
from .._warnings import warn_user
from ..activations import Activations, PackedBits
from ._base_incremental import BaseIncrementalDetector, forget_batches
from ._few_rows import RowsSideBySide
from ._labels_seen import LabelsSeen
from ._mahalanobis import MahalanobisDetector
from ._row_lengths import row_lengths

_FEW = 32
"""Of so few samples, all layers are looked at together, in a monitor that is in use."""
_FEW_VALUES = 2**16
"""So few are copied to have the norms of all layers at once."""
SILENCE = 1e-6
"""Added to norms in units of their mean: samples without any activation need a logarithm, too."""


class ActivationNormDetector(BaseIncrementalDetector):
    r"""Distance of the norms of all layers to those of training samples.

    Networks tend to answer to what they do not know by activations that are smaller than usual
    [1]_, and to inputs on a wrong scale by such that are larger or smaller. The logarithms of the
    Euclidean norms of all layers are one vector for each sample; the score is minus half its
    squared Mahalanobis distance to the nearest class. It sees what detectors on normalised
    activations cannot, and costs one number a layer and sample.

    Parameters
    ----------
    shrinkage : float, default=0.1
        Share of the covariance of the logarithms, from 0 to below 1, that is replaced by their mean
        variance on the diagonal.

    Attributes
    ----------
    mean_norms_ : dict of str to float
        Mean norm of the training samples in each layer, of those layers that are read.
    distances_ : MahalanobisDetector or None
        The distances of the logarithms, as one layer "log norms"; None where no layer is read.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Scores of the training samples, each with itself left out.

    See Also
    --------
    MahalanobisDetector : Distances of the activations themselves.
    skood.ensemble.AdaptiveEnsembleDetector : Listens to this detector where it is alarmed.

    Notes
    -----
    Of the norm :math:`r` of a layer whose mean norm in training is :math:`m`, the logarithm is
    :math:`\log(r / m + 10^{-6})`, which is finite for samples without any activation.

    Layers whose norms are the same for all training samples of a class, but for rounding, are not
    read: those that no sample activates, and normalised ones. Where no layer is left, ``fit``
    warns, and all scores are 0.

    Batches of ``partial_fit``, and what is merged, give what one ``fit`` gives: the norms of all
    samples are kept, in 64 bits for each layer and sample, as their logarithms change with the
    mean norm.

    A network that normalises its first layer, as by a layer norm, gives the same activations on
    any scale of its inputs, and then their norms tell nothing about it.

    References
    ----------
    .. [1] J. Park, J. C. L. Chai, J. Yoon, A. B. J. Teoh, "Understanding the feature norm for
       out-of-distribution detection", ICCV 2023. arXiv:2310.05316

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.detectors import ActivationNormDetector
    >>> rng = np.random.default_rng(0)
    >>> relu1, relu2 = rng.random((200, 8)), rng.random((200, 4))
    >>> detector = ActivationNormDetector().fit(Activations({"relu1": relu1, "relu2": relu2}))
    >>> new = Activations({"relu1": [relu1[0], 4 * relu1[0]], "relu2": [relu2[0], 4 * relu2[0]]})
    >>> detector.predict(new)
    array([ 1, -1])
    """

    _sizes_of_values = SQUARABLE
    _labels_optional_for = "label"
    _looks_up_classes = False

    _parameter_constraints: dict = {
        **BaseIncrementalDetector._parameter_constraints,
        "shrinkage": [Interval(Real, 0, 1, closed="left")],
        "group_by": GROUP_BY,
    }

    def __init__(
        self,
        *,
        shrinkage: float = 0.1,
        group_by: str = "label",
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.shrinkage = shrinkage
        self.group_by = group_by

    def _learn(self, X: Activations, y: NDArray | None) -> _NormsSeen:
        norms, dtypes = {}, {}
        for name, layer in X.items():
            norms[name], dtypes[name] = _norms(layer)[:, np.newaxis], layer.dtype
        predictions = X.predictions
        classes = None if predictions is None else X.classes
        return _NormsSeen(
            Activations(norms, predictions=predictions, classes=classes),
            y,
            LabelsSeen.of(y, len(X)) if self.group_by == "label" else LabelsSeen(),
            dtypes,
        )

    def _finish(self, summary: _NormsSeen) -> None:
        X, y = summary.X, summary.y
        labels, codes = self._training_classes(X, y).numbered()
        self._check_any_counts(len(labels))
        counts = codes >= 0
        norms = {name: np.asarray(layer)[:, 0] for name, layer in X.items()}
        self.mean_norms_ = {
            name: float(found.mean())
            for name, found in norms.items()
            if _vary(found[counts], codes[counts], summary.dtypes[name])
        }
        self.distances_, self._left_out = None, np.zeros(len(X))
        if not self.mean_norms_:
            self._warn_of_blindness(X)
            return
        counting = np.column_stack([norms[name] for name in self.mean_norms_])
        self.distances_ = MahalanobisDetector(shrinkage=self.shrinkage, group_by=self.group_by)
        self.distances_._keeps_batches = False  # it is fitted anew on more rows
        self._left_out = self.distances_.fit(self._log_norms(X, counting), y).training_scores_

    def _score_learnt(self, X: Activations, y: NDArray | None) -> Floats:
        # Those of all samples are known: their norms need not be computed again.
        if self._keeps_samples(X):
            self._sample = self._sample_of(X, y, self.training_rows_)
        else:
            forget_batches(self)
        return self._left_out

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        if self.distances_ is None:
            return np.zeros(len(X))
        norms = _norms_of(X, self.mean_norms_)
        return self.distances_._left_out_scores(self._log_norms(X, norms), y)[:, 0]

    def _warn_of_blindness(self, X: Activations) -> None:
        warn_user(
            f"The norms of the layers {list(X.layer_names)} do not vary within classes in "
            "training: ActivationNormDetector is blind, and its score is 0 for all samples. Give "
            "it layers that are not normalised, or use a detector of the activations themselves, "
            "such as MahalanobisDetector(normalize=True)."
        )

    def _log_norms(self, X: Activations, norms: Floats) -> Activations:
        """Logarithms of the norms as one layer, with what is known of classes."""
        return X._with_layers({"log norms": self._logarithms(norms)})

    def _logarithms(self, norms: Floats) -> Floats:
        return np.asarray(np.log(norms / list(self.mean_norms_.values()) + SILENCE))

    def _score_norms(self, norms: Floats) -> Floats:
        """Scores of samples by their norms in the layers of ``mean_norms_``, (n_rows, n_layers)."""
        if self.distances_ is None:
            return np.zeros(len(norms))
        return self.distances_._score_only_layer(self._logarithms(norms))

    def _score_samples(self, X: Activations) -> Floats:
        if self.distances_ is None:
            return np.zeros(len(X))
        return self.distances_.score_samples(self._log_norms(X, _norms_of(X, self.mean_norms_)))


@dataclass(frozen=True)
class _NormsSeen:
    """Norms of samples: one number for each layer and sample.

    Attributes
    ----------
    X : Activations
        The norms of each layer, of shape (n_samples, 1), and predictions.
    y : ndarray of shape (n_samples,) or None
        Labels, where all samples have one.
    seen : LabelsSeen
        The labels, where these may be marks.
    dtypes : dict of str to dtype
        Type of the values of each layer, of several the one that rounds most.
    """

    X: Activations
    y: NDArray | None
    seen: LabelsSeen
    dtypes: dict[str, np.dtype]

    def merge(self, other: _NormsSeen) -> _NormsSeen:
        """The norms of the samples of both, one after the other."""
        if not len(self.X) or not len(other.X):
            return self if len(self.X) else other
        both = [part.y for part in (self, other) if part.y is not None]
        return _NormsSeen(
            Activations.concatenate([self.X, other.X]),
            np.concatenate(both) if len(both) == 2 else None,
            self.seen.merge(other.seen),
            {name: max(dtype, other.dtypes[name], key=_eps) for name, dtype in self.dtypes.items()},
        )


def _eps(dtype: np.dtype) -> float:
    return float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


def _norms_of(X: Activations, names: Iterable[str]) -> Floats:
    """Norms of some layers, of shape (n_samples, n_layers)."""
    layers = [np.asarray(X[name]) for name in names]
    # Learnt scores are to be the same to the last bit, however many samples come at a time.
    if X._trust is None or len(X) > _FEW or sum(layer.size for layer in layers) > _FEW_VALUES:
        return np.column_stack([_norms(layer) for layer in layers])
    side_by_side = RowsSideBySide([layer.shape[1] for layer in layers])
    return side_by_side.lengths(side_by_side.join(layers))


def _norms(layer: NDArray | PackedBits) -> Floats:
    rows = np.asarray(layer)
    norms = np.empty(len(rows))
    for batch in row_batches(*rows.shape):
        norms[batch] = row_lengths(rows[batch].astype(np.float64, copy=False))
    return norms


def _vary(norms: Floats, codes: NDArray[np.intp], read_as: np.dtype) -> bool:
    """Whether the norms of a class differ by more than the rounding of values of a type."""
    largest = norms.max()
    return bool(largest > 0) and differ_within_classes(norms / largest, codes, read_as)
