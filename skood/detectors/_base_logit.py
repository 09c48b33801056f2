"""The template of the detectors that read the logits alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._batches import row_batches
from .._config import working_dtype
from .._docstrings import OF_LOGITS
from .._logits import MissingLogitsError
from .._threads import for_each_batch
from .._validation import check_activations
from .._values import LOGITS_ADVICE, on_logits
from ..activations import Activations, logits_alone
from ._base import BaseOneClassDetector


def logits_as_layer(X: Activations, wanted_by: str) -> Activations:
    """The logits as the only layer; nothing is read, and all other layers may stay on disk.

    Raises
    ------
    MissingLogitsError
        If there are none. The message begins with ``wanted_by``.
    """
    if (logits := logits_alone(X)) is None:
        raise MissingLogitsError(
            f"{wanted_by} needs logits, but {X!r} carries none: "
            f"{on_logits(X.why_missing.get('logits'))}."
        )
    return logits


def logits_of(X: Activations) -> NDArray[np.float64]:
    """Logits of what :class:`BaseLogitDetector` has validated."""
    return np.asarray(_validated_logits(X), dtype=np.float64)


def _validated_logits(X: Activations) -> NDArray[np.floating]:
    """The logits as they came: those of ``Activations``, or an ordinary array."""
    return np.asarray(X[X.layer_names[0]])


def logit_batches(X: Activations) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Iterate over row slices of what :class:`BaseLogitDetector` has validated, and logits."""
    start = 0
    for block in X.batches():
        logits = _validated_logits(block)
        # Differences, exponentials and the like take as much again, several times.
        for rows in row_batches(len(logits), 4 * logits.shape[1]):
            of_all = slice(start + rows.start, start + rows.stop)
            yield of_all, np.asarray(logits[rows], dtype=np.float64)
        start += len(block)


def predictions_of(X: Activations) -> NDArray:
    """The network's own predictions; for an ordinary array, the columns of the largest logits."""
    if (predictions := X.predictions) is not None:
        return predictions
    largest = [np.empty(0, dtype=np.intp)]
    largest += [logits.argmax(axis=1) for _, logits in logit_batches(X)]
    columns = np.concatenate(largest)
    return columns if X.classes is None else X.classes[columns]


class BaseLogitDetector(BaseOneClassDetector):
    """Base class of the detectors whose score is a function of one sample's logits."""

    _min_classes = 1
    _entries = OF_LOGITS

    def _validate(self, X: Any, *, reset: bool) -> Activations:
        if isinstance(X, Activations):
            X = logits_as_layer(X, type(self).__name__)
        return check_activations(
            self,
            X,
            reset=reset,
            ensure_min_features=self._min_classes if reset else 1,
            advice=LOGITS_ADVICE,
        )

    def _layers_to_read(self) -> set[str]:
        return set()

    def _score_samples(self, X: Activations) -> NDArray[np.float64]:
        logits = _validated_logits(X)
        scores = np.empty(len(logits))
        dtype = self._computes_in(logits.dtype)

        def score(rows: slice) -> None:
            scores[rows] = self._score_logits(np.asarray(logits[rows], dtype=dtype))

        # Differences, exponentials and the like take as much again.
        n_values = 2 * logits.shape[1] * dtype.itemsize // 8
        batches = row_batches(len(logits), n_values, are_products=self._multiplies_many())
        for_each_batch(score, batches, logits.size)
        return scores

    def _multiplies_many(self) -> bool:
        """Whether logits are multiplied by a matrix that is large enough to decide on batches."""
        return False

    def _score_few(self, X: Activations) -> NDArray[np.float64] | None:
        logits = X.logits
        if logits is None:
            return None
        logits = np.asarray(logits, dtype=self._computes_in(logits.dtype))
        return np.asarray(self._score_logits(logits), dtype=np.float64)

    def _computes_in(self, dtype: np.dtype) -> np.dtype:
        """The type of floats in which scores of logits of a type are computed."""
        return np.dtype(working_dtype(dtype))

    @abstractmethod
    def _score_logits(self, logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """Scores of logits of shape (n_samples, n_classes).

        Logits are in float32 only where less than double precision is asked for.
        """
