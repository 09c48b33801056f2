"""Energy guided by the nearest training samples."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from .._batches import row_batches
from .._head import head_blocks
from .._sklearn import Interval
from .._too_few import TooFewSamplesError
from .._values import Floats
from .._warnings import warn_user
from ..activations import Activations
from ._base_head import BaseHeadDetector, HeadBatch, head_batches
from ._base_incremental import BaseIncrementalDetector
from ._bounded_rows import BoundedRows
from ._neighbor_search import search_rows
from ._row_lengths import row_lengths
from ._softmax import log_sum_exp
from ._stored_samples import StoredSamplesMixin, pad_neighbors

_SPARE_CANDIDATES = 8
"""How many more rows than requested are compared in double precision."""


class NNGuideDetector(StoredSamplesMixin, BaseHeadDetector, BaseIncrementalDetector):
    """Energy of the logits, guided by the nearest training samples.

    The energy of a sample, ``logsumexp(logits)``, is multiplied by how much training samples of
    high energy point in the same direction [1]_: by the mean, over the k training samples for which
    it is largest, of the cosine between the features times the energy of the training sample. An
    overconfident sample far away from the training samples thus scores low.

    Parameters
    ----------
    n_neighbors : int, default=10
        Number k of training samples, at most the number of stored ones minus one.
    bank_fraction : float in (0, 1], default=1.0
        Share of the training samples that are stored, drawn at random. The authors store 1% of the
        1.3 million of ImageNet.
    max_samples : int, default=None
        How many training samples are stored at most; all by default. Of more, equal ones are stored
        once, and of the different ones those whose hash is smallest: a random sample that depends
        neither on the order of the samples nor on the batches that they come in, so that there are
        ``partial_fit`` and ``merge``. ``bank_fraction`` has to be 1 then.
    random_state : int, RandomState instance or None, default=None
        Draws the stored samples, where ``bank_fraction`` is below 1. Pass an int for the same ones
        in every call.

    Attributes
    ----------
    n_neighbors_ : int
        k: ``n_neighbors``, or a smaller number where too few training samples are stored.
    bank_rows_ : ndarray of shape (n_stored_samples,)
        Rows of ``X`` in ``fit`` that are stored, ascending.
    training_scores_ : ndarray of shape (n_in_distribution_samples,)
        Their scores, each with itself left out.

    See Also
    --------
    EnergyDetector : The score without guidance.
    KNNDetector : Distance to the nearest training samples, without energies.

    Notes
    -----
    Reads the logits of ``Activations``, their head, and the layer that it reads. An ordinary array
    is taken as logits: as features of a head that passes them on unchanged.

    The formula expects energies above 0, as those of trained classifiers are almost always. The
    cosine with features that are 0 everywhere is 0.

    ``kneighbors`` and ``nearest_examples`` find the stored samples that guide a sample most. Their
    distance is minus the guidance, the cosine times the energy of the stored sample.

    Batches, by ``partial_fit`` and ``merge``, add to the stored samples. They give what one ``fit``
    gives, but with a ``bank_fraction`` below 1, which draws from all samples at once: then there
    is neither.

    What a part of the samples costs :ref:`was measured <many_patterns_subsampling>`. The search
    among those that are stored is exact; it uses faiss where that is installed, and matrix products
    otherwise.

    References
    ----------
    .. [1] J. Park, Y. G. Jung, A. B. J. Teoh, "Nearest neighbor guidance for out-of-distribution
       detection", ICCV 2023. arXiv:2309.14888

    Examples
    --------
    >>> from skood.detectors import NNGuideDetector
    >>> logits = [[5.0, 0.0], [6.0, 0.0], [7.0, 0.0], [0.0, 5.0], [0.0, 6.0], [0.0, 7.0]]
    >>> detector = NNGuideDetector(n_neighbors=2).fit(logits)
    >>> detector.score_samples([[6.0, 0.0], [6.0, 6.0]]).round(2)
    array([39.03, 33.13])
    """

    _params_after_learning = BaseIncrementalDetector._params_after_learning | {"n_neighbors"}

    _parameter_constraints: dict = {
        **BaseHeadDetector._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "bank_fraction": [Interval(Real, 0, 1, closed="right")],
        "max_samples": [Interval(Integral, 2, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_neighbors: int = 10,
        bank_fraction: float = 1.0,
        max_samples: int | None = None,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.n_neighbors = n_neighbors
        self.bank_fraction = bank_fraction
        self.max_samples = max_samples
        self.random_state = random_state

    def _why_not_in_batches(self) -> str:
        if self.bank_fraction == 1:
            return ""
        return f"bank_fraction={self.bank_fraction} draws from all of them. Set it to 1."

    def _learn(self, X: Activations, y: NDArray | None) -> BoundedRows:
        if self.max_samples is not None and self.bank_fraction < 1:
            raise ValueError(
                f"bank_fraction={self.bank_fraction} and max_samples={self.max_samples} both say "
                "how many samples are stored: leave one of them as it is by default."
            )
        places = self._draw(len(X))
        blocks = list(head_blocks(X if len(places) == len(X) else X[places]))
        features, energies = np.empty((0, X.shape[1]), dtype=np.float32), np.empty(0)
        if blocks:
            features = np.concatenate([features for _, features, _ in blocks])
            energies = np.concatenate([log_sum_exp(logits) for *_, logits in blocks])
        if len(places) < len(X):
            return BoundedRows((features, energies), places, len(X), None, None)
        return BoundedRows.of(X, (features, energies), self.max_samples)

    def _draw(self, n_samples: int) -> NDArray[np.intp]:
        """Positions of the stored samples among those of a batch, of ``fit`` where not all are."""
        n_stored = max(2, round(self.bank_fraction * n_samples))
        if n_stored >= n_samples:
            return np.arange(n_samples)
        random = check_random_state(self.random_state)
        return np.sort(random.choice(n_samples, n_stored, replace=False))

    def _finish(self, summary: BoundedRows) -> None:
        n_others = len(summary.places) - 1
        if n_others < 1:
            raise TooFewSamplesError(
                "NNGuideDetector needs at least 2 in-distribution samples, got n_samples = 1."
            )
        self.bank_rows_ = self._learnt_runs.at(summary.places)
        self.n_neighbors_ = int(min(self.n_neighbors, n_others))
        if self.n_neighbors_ < self.n_neighbors:
            warn_user(
                f"n_neighbors={self.n_neighbors}, but a sample has only {n_others} others: all of "
                "them count."
            )
        self._prepare_search(*summary.columns)

    def _prepare_search(self, features: NDArray, energies: Floats) -> None:
        self._features, self._factors = features, np.empty(len(features))
        self._search_rows = np.empty(features.shape, dtype=np.float32)
        if not features.any():
            warn_user(
                "The features of all stored samples are 0: NNGuideDetector is blind, and the score "
                "of all samples is 0. Use EnergyDetector, which needs no features."
            )
        # Keeps rows within the range of single precision.
        largest = np.abs(energies).max() or 1.0
        for rows in row_batches(*features.shape):
            directions, norms = _normalized(features[rows].astype(np.float64, copy=False))
            self._factors[rows] = energies[rows] / norms
            self._search_rows[rows] = directions * (energies[rows] / largest)[:, np.newaxis]

    def _batches_to_score(self, X: Activations) -> Iterator[HeadBatch]:
        # A search among many rows takes twice as long for a few queries at a time.
        return head_batches(X, lambda dtype: np.float64, are_products=True)

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Floats:
        scores = np.empty(len(X))
        for rows, features, logits in self._batches_to_score(X):
            scores[rows] = self._score_rows(features, logits, leave_out=True)
        return scores

    def _score_rows(self, features: Floats, logits: Floats, *, leave_out: bool = False) -> Floats:
        guidance, found = self._candidates(features, self.n_neighbors_ + 1)
        energies = log_sum_exp(logits)
        if leave_out:
            guidance[self._own_places(features, energies, guidance, found)] = -np.inf
        guidance.sort(axis=1)
        return guidance[:, -self.n_neighbors_ :].mean(axis=1) * energies

    def _own_places(
        self, features: Floats, energies: Floats, guidance: Floats, found: NDArray[np.int64]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Samples that find themselves among those found, and at which place; of equals the first.

        A sample guides itself by its own energy.
        """
        energies = energies[:, np.newaxis]
        rows, places = np.nonzero(np.abs(guidance - energies) <= 1e-9 * np.abs(energies))
        is_own = np.empty(len(rows), dtype=bool)
        for pairs in row_batches(len(rows), 2 * features.shape[1]):
            stored = self._features[found[rows[pairs], places[pairs]]]
            is_own[pairs] = (stored == features[rows[pairs]]).all(axis=1)
        samples, first = np.unique(rows[is_own], return_index=True)
        return samples, places[is_own][first]

    def _candidates(self, features: Floats, n_neighbors: int) -> tuple[Floats, NDArray[np.int64]]:
        """Guidance by at least so many of the stored samples that guide most, and their places."""
        directions, _ = _normalized(features)
        n_candidates = min(n_neighbors + _SPARE_CANDIDATES, len(self._factors))
        _, found = search_rows(
            directions.astype(np.float32), self._search_rows, n_candidates, metric="inner_product"
        )
        return self._guidance(directions, found), found

    def _nearest_stored(self, X: Activations, n_neighbors: int) -> tuple[NDArray, NDArray[np.intp]]:
        n_found = min(n_neighbors, len(self._factors))
        distances = np.empty((len(X), n_found))
        positions = np.empty((len(X), n_found), dtype=np.intp)
        for rows, features, _ in self._batches_to_score(X):
            guidance, found = self._candidates(features, n_found)
            order = np.lexsort((found, -guidance))[:, :n_found]
            distances[rows] = -np.take_along_axis(guidance, order, axis=1)
            positions[rows] = np.take_along_axis(found, order, axis=1)
        return pad_neighbors(distances, positions, n_neighbors, farthest=np.inf)

    def _stored_layers(self, X: Activations, positions: NDArray[np.intp]) -> dict[str, NDArray]:
        return {X.layer_names[0]: self._features[positions]}

    def _stored_rows(self) -> NDArray[np.intp]:
        return self.bank_rows_

    def _guidance(self, directions: Floats, found: NDArray[np.int64]) -> Floats:
        """Cosine with each of the stored samples found, times its energy."""
        guidance = np.empty(found.shape)
        for batch in row_batches(len(found), found.shape[1] * directions.shape[1]):
            features = self._features[found[batch]].astype(np.float64, copy=False)
            guidance[batch] = np.einsum("snf,sf->sn", features, directions[batch])
        return guidance * self._factors[found]


def _normalized(features: Floats) -> tuple[Floats, Floats]:
    """Features of norm 1, and the norms they had; features of norm 0 stay, as if it were 1."""
    norms = row_lengths(features)
    norms[norms == 0] = 1
    return features / norms[:, np.newaxis], norms
