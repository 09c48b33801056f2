"""The template of the detectors that learn in batches."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .._classes import NetworkClasses
from .._fit_context import fit_context, unchanged_on_failure
from .._held_out import Rows, held_out_of_batch
from .._known_columns import KnownColumns
from .._marks import in_distribution_rows, take_rows
from .._validation import ARRAY_LAYER
from ..activations import Activations
from ._base import BaseOneClassDetector, rows_of, without_overflow_warnings
from ._entries import OF_BATCHES


class Summary(Protocol):
    """What batches of samples teach; a summary may hold samples, counts or moments."""

    def merge(self, other: Any) -> Any:
        """The summary of the samples of both, those of ``other`` last; neither is changed."""


class BaseIncrementalDetector(BaseOneClassDetector):
    """Template of the detectors that learn in batches.

    A subclass says what a batch teaches (``_learn``) and what follows from all that was learnt
    (``_finish``). ``fit``, ``partial_fit`` and ``merge`` are made of these and of the ``merge`` of
    summaries. With ``validation``, the samples that are held out are kept: each batch changes what
    was learnt, and so their scores.
    """

    _summary: Any
    _held_out: Activations
    _validation_of_first: str
    _entries = {**BaseOneClassDetector._entries, **OF_BATCHES}

    @abstractmethod
    def _learn(self, X: Activations, y: NDArray | None) -> Any:
        """Summary of validated in-distribution samples, of which a later batch may have none."""

    @abstractmethod
    def _finish(self, summary: Any) -> NDArray[np.float64]:
        """Learn from the summary of all batches; returns training scores as ``_fit`` does."""

    def _fit(self, X: Activations, y: NDArray | None) -> NDArray[np.float64]:
        self.__dict__.pop("_held_out", None)  # of an earlier fit
        self._validation_of_first = repr(self.validation)
        self._summary = self._learn(X, y)
        return self._finish(self._summary)

    def _score_held_out(self, X: Activations, y: NDArray | None) -> NDArray[np.float64]:
        # A copy: rows of a batch are a view that would keep all of it.
        self._held_out = Activations.concatenate([X])
        return super()._score_held_out(X, y)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Activations | ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn from more samples; any batches give what one ``fit`` gives, to rounding.

        The threshold is computed anew from all samples seen so far. With ``validation``, a share of
        all is held out, drawn anew in each batch, of which later ones may be single samples; or the
        test part of the splitter's first split of each batch. These are other rows than of one
        ``fit``, and they are kept.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            As in ``fit``.
        y : array-like of shape (n_samples,), default=None
            As in ``fit``; a later batch may hold out-of-distribution samples alone.

        Returns
        -------
        self : object
            Fitted detector.

        Raises
        ------
        ValueError
            As in ``fit``; if the layers are not those of the first batch; or if ``validation`` is
            another than in the first batch.
        """
        if not hasattr(self, "offset_"):
            return self._fit_split(X, y)
        self._check_same_validation()
        X = self._validate(X, reset=False)
        rows, n_samples = in_distribution_rows(y, len(X), allow_none=True), len(X)
        X, y = take_rows(X, y, rows)
        learnt, held_out = self._hold_out_of_batch(len(X), y)
        with without_overflow_warnings():
            batch = self._learn(*rows_of(X, y, learnt))
        self._network_classes = _network_classes_of(self).completed(NetworkClasses.of(X))
        self._known_columns = _known_columns_of(self).completed(KnownColumns.of(X))
        return self._learn_more(batch, rows[learnt], n_samples, (rows[held_out], X[held_out]))

    def _hold_out_of_batch(self, n_samples: int, y: NDArray | None) -> tuple[Rows, Rows]:
        """Which rows of a later batch, of which there may be none, are learnt from or held out."""
        if self.validation is None or n_samples == 0:
            rows = np.arange(n_samples)
            return rows, rows[:0]
        n_held_out = len(self.training_rows_)
        n_before = len(self.learnt_rows_) + n_held_out, n_held_out
        # Another draw for each batch: the same places of each would be no random share of all.
        seeds = _seed_of(self), self.n_samples_seen_
        return held_out_of_batch(n_samples, y, self.validation, seeds, n_before)

    def _check_same_validation(self) -> None:
        if repr(self.validation) != self._validation_of_first:
            raise ValueError(
                f"validation={self.validation!r} was set after this {type(self).__name__} was "
                f"fitted with validation={self._validation_of_first}, but rows that were learnt "
                "from cannot set the threshold: set it back, or call fit before more batches."
            )

    def merge(self, other: Self) -> Self:
        """Learn what another detector has learnt, as if its samples had come to this one.

        Parameters
        ----------
        other : detector
            Of the same class, fitted on other samples of the same layers with the same parameters.
            It is unchanged.

        Returns
        -------
        self : object
            This detector, changed.

        Raises
        ------
        TypeError
            If ``other`` is of another class.
        ValueError
            If parameters, layers, what their columns say, feature names or the classes of the
            network differ, only one of both knows predicted classes, or ``validation`` of one is
            another than in its fit.
        """
        check_is_fitted(self)
        name = type(self).__name__
        if type(other) is not type(self):
            raise TypeError(f"Only another {name} can be merged, got {type(other).__name__}.")
        check_is_fitted(other)
        for what, mine, theirs in (
            ("parameters", _comparable(self.get_params()), _comparable(other.get_params())),
            ("layers", layers_of(self), layers_of(other)),
            ("feature names", _feature_names_of(self), _feature_names_of(other)),
            ("use of predictions", self._by_class, other._by_class),
        ):
            if mine != theirs:
                raise ValueError(f"Merged detectors need the same {what}, got {mine} and {theirs}.")
        for each in (self, other):
            each._check_same_validation()
        classes, new = _network_classes_of(self), _network_classes_of(other)
        classes.check_same(new, f"The other {name}", f"this {name}")
        columns, others = _known_columns_of(self), _known_columns_of(other)
        columns.check_same(others, f"the other {name}", f"this {name}")
        with unchanged_on_failure(self):
            self._network_classes = classes.completed(new)
            self._known_columns = columns.completed(others)
            held_out = other.training_rows_, getattr(other, "_held_out", None)
            more = other._summary, other.learnt_rows_, other.n_samples_seen_
            return self._learn_more(*more, held_out)

    def _learn_more(
        self, batch: Summary, rows: Rows, n_samples: int, held_out: tuple[Rows, Any]
    ) -> Self:
        """Add what a batch teaches, whose samples are the given rows of ``n_samples``.

        Others are held out: their rows and samples, which count where there is a ``validation``.
        """
        summary = self._summary.merge(batch)
        start = self.n_samples_seen_
        self.n_samples_seen_ += n_samples
        self.learnt_rows_ = np.concatenate([self.learnt_rows_, start + rows])
        with without_overflow_warnings():
            scores = self._finish(summary)
            if self.validation is None:
                self.training_rows_ = self.learnt_rows_
            else:
                held_out_rows, samples = held_out
                self.training_rows_ = np.concatenate([self.training_rows_, start + held_out_rows])
                self._held_out = Activations.concatenate([self._held_out, samples])
                scores = self._score_samples(self._held_out)
        self._summary = summary
        self._set_threshold(scores)
        return self


def _seed_of(detector: Any) -> int:
    seed = getattr(detector, "random_state", 0)
    return int(seed) if isinstance(seed, Integral) else 0


def _comparable(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters of which two are equal where they say the same: splitters are not."""
    return {**params, "validation": repr(params["validation"])}


def layers_of(detector: Any) -> list[tuple[str, Any]]:
    """Names and shapes of the layers that a detector was fitted on, in order."""
    # A list, as dicts are equal in any order.
    return list(getattr(detector, "layer_shapes_", {ARRAY_LAYER: detector.n_features_in_}).items())


def _network_classes_of(detector: Any) -> NetworkClasses:
    # An array has none.
    return getattr(detector, "_network_classes", NetworkClasses(None, None))


def _known_columns_of(detector: Any) -> KnownColumns:
    return getattr(detector, "_known_columns", KnownColumns({}))


def _feature_names_of(detector: Any) -> list[str]:
    return list(getattr(detector, "feature_names_in_", ()))
