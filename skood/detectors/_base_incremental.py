"""The template of the detectors that learn in batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._classes import NetworkClasses
from .._elsewhere import run_elsewhere
from .._fit_context import fit_context, unchanged_on_failure
from .._held_out import Rows, held_out_of_batch
from .._known_columns import KnownColumns
from .._linear_head import same_weights
from .._marks import in_distribution_rows, take_rows
from .._memory import may_be_kept
from .._row_runs import RowRuns
from .._sklearn import available_if
from .._threshold_sample import Merging, ThresholdSample, merged, most_bytes
from .._too_few import TooFewSamplesError
from .._validation import ARRAY_LAYER
from ..activations import Activations, LinearHead, read_once
from ._base import BaseOneClassDetector, joined, rows_of, without_overflow_warnings
from ._entries import OF_BATCHES

Scores = NDArray[np.float64]

_UNKNOWN = -np.finfo(np.float64).max
"""Stands for the score of samples of unknown classes until all others are known."""


_CHANGE_NOTHING = frozenset({"n_jobs", "verbose"})
"""Parameters that make no difference to what is learnt."""


class Summary(Protocol):
    """What batches of samples teach; a summary may hold samples, counts or moments."""

    def merge(self, other: Any) -> Any:
        """The summary of the samples of both, those of ``other`` last; neither is changed."""


def _can_learn_in_batches(detector: Any) -> bool:
    if reason := detector._why_not_in_batches():
        raise AttributeError(f"{type(detector).__name__} learns from all samples at once: {reason}")
    return True


class BaseIncrementalDetector(BaseOneClassDetector):
    """Template of the detectors that learn in batches: learn, merge, finish.

    A subclass says what a batch teaches (``_learn``), what follows from all that was learnt
    (``_finish``), and, where the score of a sample that was learnt from is another than that of a
    new one, how it is scored as if it had not been (``_left_out_scores``). ``fit``, ``partial_fit``
    and ``merge`` are made of these and of the ``merge`` of summaries.

    The summary of several batches must be that of one with all of their samples, in any order and
    any split: to rounding, or bit by bit where it holds counts, bits, extremes or samples.

    ``fit`` learns from batches of as many samples as scikit-learn's ``working_memory`` holds, and
    scores all samples in a second pass, so that all set the threshold. ``partial_fit`` and
    ``merge`` see their samples once: the threshold comes from a sample of them, which is of bounded
    size and holds all while they are few (:class:`~skood._threshold_sample.ThresholdSample`). With
    ``validation`` this is a sample of those that are held out.

    Where the samples so far are too few, ``_finish`` and what sets the threshold raise a
    :class:`~skood._too_few.TooFewSamplesError`. ``fit`` fails then; ``partial_fit`` and ``merge``
    keep the summary, and the detector is not fitted until more samples complete it.
    """

    _summary: Any
    _sample: ThresholdSample
    _params_of_first: dict[str, Any]
    _n_inside: int
    _missing = ""
    """What keeps samples seen so far from being scored; nothing in a fitted detector."""
    _entries = OF_BATCHES
    _params_after_learning: frozenset[str] = frozenset({"false_alarm_rate"})
    """Parameters that may be set between batches, as no summary depends on them."""
    _keeps_batches = True
    """Whether ``fit`` keeps what only more batches need; a member of an ensemble may not."""
    _rejects_unknown_classes = False
    """Whether samples of classes that nothing was learnt of get ``unknown_class_score_``, by
    ``_reject_unknown``. The template then sets it, below the scores that set the threshold."""

    @abstractmethod
    def _learn(self, X: Activations, y: NDArray | None) -> Any:
        """Summary of validated in-distribution samples, of which a later batch may have none."""

    def _learn_ood(self, X: Activations) -> Any:
        """Summary of samples marked -1, one or more, to be merged with the others.

        A class that declares ``_learns_from_ood`` has it.
        """
        raise NotImplementedError

    @abstractmethod
    def _finish(self, summary: Any) -> None:
        """Set what follows from the summary of all batches, which is not changed.

        ``learnt_rows_`` are the rows that it is of. What was finished before may still be set, but
        ``unknown_class_score_`` and ``score_error_`` are not.
        """

    def _left_out_scores(self, X: Activations, y: NDArray | None) -> Scores:
        """Scores of samples that were learnt from, each as if it had not been.

        Any of them may be asked for, in any order: a sample is found by what it holds. By default
        as new ones, for scores that do not depend on a single sample.
        """
        return self._score_samples(X)

    def _may_look_again(self) -> bool:
        """Whether left-out scores may need ``_looks``, by the parameters alone."""
        return False

    def _looks(self) -> list[Any]:
        """Keys of the looks at all samples that their left-out scores need, once all is finished.

        In a look, samples are summarised once more, a batch of them at a time (``_look``); what
        follows from all (``_after_look``) is kept (``_keep_looks``) until the samples are scored.
        So scores do not depend on the batches.
        """
        return []

    def _looked_at(self, key: Any, X: Activations) -> Activations:
        """The samples with what a look reads of them; all by default."""
        return X

    def _look(self, key: Any, X: Activations, y: NDArray | None) -> Any:
        """Summary of some samples in a look, of which all may be none."""
        raise NotImplementedError

    def _after_look(self, key: Any, summary: Any) -> Any:
        """What left-out scores need of a look at all samples; changes nothing."""
        raise NotImplementedError

    def _keep_looks(self, found: dict[Any, Any]) -> None:
        """Keep what followed from all looks, by their keys."""

    def _look_again(self, X: Activations, y: NDArray | None) -> None:
        """Take all looks at samples, which are to be scored with each of them left out."""
        found = {}
        for key in self._looks():
            found[key] = self._after_look(key, self._look_in_batches(key, X, y))
        self._keep_looks(found)

    def _look_in_batches(self, key: Any, X: Activations, y: NDArray | None) -> Any:
        """Summary of any number of samples in a look."""
        batches = batches_of(self._looked_at(key, X), y)
        return merged(self._look(key, *batch) for batch in batches)

    def _left_out_width(self) -> int | None:
        """How many columns ``_left_out_scores`` has; None where it is one-dimensional.

        Columns become scores in ``_complete_scores``, once those of all samples are known.
        """
        return None

    def _why_not_in_batches(self) -> str:
        """Why the parameters need all samples at once; nothing where they do not."""
        return ""

    def _max_threshold_samples(self) -> int | None:
        """How many samples set the threshold, of ``fit``, too; None for all that there are."""
        return None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_samples_seen_") and not self._missing

    def _learn_and_score(
        self, X: Activations, y: NDArray | None, rows: Rows, fit_params: dict[str, Any]
    ) -> Scores:
        self._n_inside = len(X)
        # Their text takes longer than a small fit.
        self._params_of_first = _plain_params(self) if self._keeps_batches else {}
        return super()._learn_and_score(X, y, rows, fit_params)

    def _fit(
        self, X: Activations, y: NDArray | None, *, X_ood: Activations | None = None
    ) -> Scores | None:
        learn = self._learn if self._why_not_in_batches() else self._learn_in_batches
        summary = learn(X, y)
        if X_ood is not None and len(X_ood):
            summary = merged([summary, *map(self._learn_ood, X_ood.batches())])
        self._summary = summary
        self._finish_all()
        return None

    def _learn_in_batches(self, X: Activations, y: NDArray | None) -> Any:
        """Summary of any number of samples, of which no more are read at a time than memory allows.

        No more summaries are held at a time than are merged two and two.
        """
        return merged(self._learn(*batch) for batch in batches_of(X, y))

    def _finish_all(self) -> None:
        self.unknown_class_score_ = _UNKNOWN if self._rejects_unknown_classes else -np.inf
        self.score_error_ = 0.0
        self._finish(self._summary)

    def _complete_scores(self, scores: Scores) -> Scores:
        """The scores that set the threshold, those of unknown classes below all others."""
        if not self._rejects_unknown_classes:
            return scores
        is_known = scores != _UNKNOWN
        return self._set_unknown_class_score(np.where(is_known, scores, 0.0), is_known)

    def _score_learnt(self, X: Activations, y: NDArray | None) -> Scores:
        self._look_again(X, y)
        return self._score_and_keep(X, y)

    def _score_held_out(self, X: Activations, y: NDArray | None) -> Scores:
        return self._score_and_keep(X, y)

    def _score_and_keep(self, X: Activations, y: NDArray | None) -> Scores:
        """Scores of samples that set the threshold, of which some are kept for later batches."""
        if self._max_threshold_samples() is not None:
            self._sample = self._sample_of(X, y, self.training_rows_)
            return self._score_sample()
        if self._keeps_samples(X):
            return self._complete_scores(self._score_and_sample(X, y))
        scores = [self._score_setting(*batch) for batch in batches_of(X, y)]
        completed = self._complete_scores(joined(scores))
        if self._keeps_batches:
            forget_batches(self)  # without the sample, more batches would set no threshold
        return completed

    def _keeps_samples(self, *samples: Activations) -> bool:
        """Whether ``fit`` keeps samples such as these, which only more batches need."""
        if not self._keeps_batches or self._why_not_in_batches():
            return False
        return may_be_kept(sum(map(most_bytes, samples)))

    def _score_and_sample(self, X: Activations, y: NDArray | None) -> Scores:
        """Both for each batch at a time, which is read once."""
        scores, samples = [], Merging()
        for batch, labels, rows in numbered_batches(X, y, self.training_rows_):
            scores.append(self._score_setting(batch, labels))
            samples.add(ThresholdSample.of(batch, labels, rows))
        self._sample = samples.whole()
        return joined(scores)

    def _sample_of(self, X: Activations, y: NDArray | None, rows: Rows) -> ThresholdSample:
        return ThresholdSample.of(X, y, rows, self._max_threshold_samples())

    def _score_sample(self) -> Scores:
        """Scores of the samples that are kept, whose rows set the threshold."""
        sample = self._sample
        if self.validation is None:
            self._look_again(sample.X, sample.y)
        batches = batches_of(sample.X, sample.y)
        scores = joined([self._score_setting(*batch) for batch in batches])
        self.training_rows_, held = sample.counted()
        return self._complete_scores(scores[held])

    def _held_out_scores(self, X: Activations) -> NDArray:
        """What an engine is told of held-out samples, a row each: mostly their scores."""
        return self._score_samples(X)

    def _complete_held_out(self, found: NDArray, X: Activations, y: NDArray | None) -> Scores:
        """Scores by what was told of held-out samples, whose ``X`` may hold predictions alone."""
        return self._complete_scores(found)

    def _score_setting(self, X: Activations, y: NDArray | None) -> Scores:
        """Scores of samples that set the threshold; those of unknown classes are not yet known."""
        return self._left_out_scores(X, y) if self.validation is None else self._score_samples(X)

    @available_if(_can_learn_in_batches)
    @run_elsewhere("partial_fit")
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Activations | ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn from more samples; any batches give what one ``fit`` gives, to rounding.

        Samples that are too few for scores, as one where distances to others count, are kept, and
        the detector is not fitted until later batches complete it.

        The threshold is computed anew from all samples seen so far; of more than 32 MiB of them
        (and more than 1,000), from a random part. That scores all of these, for a batch of one as
        for one of a thousand: collect single samples into batches of some hundred or more.

        With ``validation``, a share of all is held out, drawn anew in each batch, which may be a
        single sample; or the test part of the splitter's first split of each batch. These are other
        rows than of one ``fit``.

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
            As in ``fit``; if the layers are not those of the first batch; if a parameter on which
            depends what batches teach is another than in the first one; or if what later batches
            need was dropped.
        """
        return self._learn_batch(X, y)._conclude()

    def _learn_batch(
        self,
        X: Any,
        y: Any,
        *,
        allow_none: bool = False,
        split: tuple[Rows, Rows] | None = None,
        keeps_sample: bool = True,
    ) -> Self:
        """Learn from a batch, the first or a later one, and finish nothing yet.

        The first may have no in-distribution sample where that is allowed. ``split`` says which of
        the in-distribution samples are learnt from, and which are held out. Without the sample that
        sets the threshold, ``_conclude`` cannot set it.
        """
        is_first = not hasattr(self, "n_samples_seen_")
        if is_first:
            self._begin()
        else:
            self._check_can_learn_more()
        head = X.head if isinstance(X, Activations) else None
        X = self._validate(X, reset=is_first)
        _check_same_head(self, head, "X")
        if is_first:
            self._see_classes(X)
        rows = in_distribution_rows(y, len(X), allow_none=allow_none or not is_first)
        ood = np.setdiff1d(np.arange(len(X)), rows) if self._learns_from_ood else rows[:0]
        X_ood, n_samples = X[ood], len(X)
        X, y = take_rows(X, y, rows)
        learnt, held_out = split or self._split_batch(len(X), y, is_first=is_first)
        with without_overflow_warnings():
            summary = self._learn_in_batches(*rows_of(X, y, learnt))
            if len(X_ood):
                summary = merged([summary, *map(self._learn_ood, X_ood.batches())])
            setting = learnt
            if self.validation is not None and keeps_sample:
                setting = held_out[self._may_set_threshold(*rows_of(X, y, held_out))]
            setting = setting if keeps_sample else setting[:0]
            sample = self._sample_of(*rows_of(X, y, setting), rows[setting])
        self._know_of(NetworkClasses.of(X), KnownColumns.of(X))
        runs = RowRuns.of(rows[learnt])
        self._add(summary, sample, runs, n_samples=n_samples, n_inside=len(rows))
        return self

    def _become(self, fitted: Self) -> None:
        """Have learnt what a clone has."""
        self._begin()
        for name in ("_network_classes", "_known_columns"):  # of an earlier fit on Activations
            self.__dict__.pop(name, None)
        params = fitted.get_params(deep=False).keys()
        self.__dict__.update({k: v for k, v in vars(fitted).items() if k not in params})

    def _begin(self) -> None:
        self._forget()
        forget_batches(self)
        self._params_of_first = _plain_params(self)

    def _split_batch(
        self, n_samples: int, y: NDArray | None, *, is_first: bool
    ) -> tuple[Rows, Rows]:
        """Which rows of a batch are learnt from or held out; a later one may have none."""
        rows = np.arange(n_samples)
        if self.validation is None or n_samples == 0:
            return rows, rows[:0]
        if is_first and n_samples > 1:
            return self._hold_out(n_samples, y) or (rows, rows[:0])
        n_inside = 0 if is_first else self._n_inside
        n_before = n_inside, n_inside - (0 if is_first else len(self._learnt_runs))
        # Another draw for each batch: the same places of each would be no random share of all.
        seeds = _seed_of(self), getattr(self, "n_samples_seen_", 0)
        return held_out_of_batch(n_samples, y, self.validation, seeds, n_before)

    def _know_of(self, classes: NetworkClasses, columns: KnownColumns) -> None:
        self._network_classes = _network_classes_of(self).completed(classes)
        self._known_columns = _known_columns_of(self).completed(columns)

    def _check_can_learn_more(self) -> None:
        """Refuse where batches would teach something else than before, or cannot be added."""
        name = type(self).__name__
        now = _plain_params(self)
        for param, first in self._params_of_first.items():
            if now[param] != first and param not in self._params_after_learning:
                raise ValueError(
                    f"{param}={now[param]!r} was set after this {name} was fitted with "
                    f"{param}={first!r}, but what was learnt depends on it: set it back, or call "
                    "fit before more batches."
                )
        if not hasattr(self, "_summary"):
            raise ValueError(
                f"This {name} was fitted inside of another estimator, on rows in blocks "
                "elsewhere, or where the samples that more batches need, up to 32 MiB, took more "
                "than an eighth of the memory that was left, and what only more batches need was "
                "dropped: begin with partial_fit, fit it alone and with more memory, or give the "
                "batches to that estimator."
            )

    @available_if(_can_learn_in_batches)
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
            network differ, only one of both knows predicted classes, a parameter of one is
            another than in its fit, or what later batches need was dropped.
        """
        check_is_fitted(self, "n_samples_seen_")
        with unchanged_on_failure(self):
            return self._take_in(other)._conclude()

    def _take_in(self, other: Any) -> Self:
        """Add what another detector has learnt, finished or not, and finish nothing yet."""
        self._check_same(other)
        for each in (self, other):
            each._check_can_learn_more()
        self._know_of(_network_classes_of(other), _known_columns_of(other))
        self._add(
            other._summary,
            other._sample,
            other._learnt_runs,
            n_samples=other.n_samples_seen_,
            n_inside=other._n_inside,
        )
        return self

    def _check_same(self, other: Any) -> None:
        """Refuse what does not stand for other samples of the same kind."""
        name = type(self).__name__
        if type(other) is not type(self):
            raise TypeError(f"Only another {name} can be merged, got {type(other).__name__}.")
        check_is_fitted(other, "n_samples_seen_")
        for what, mine, theirs in (
            ("parameters", _plain_params(self), _plain_params(other)),
            ("layers", layers_of(self), layers_of(other)),
            ("feature names", _feature_names_of(self), _feature_names_of(other)),
            ("use of predictions", self._by_class, other._by_class),
        ):
            if mine != theirs:
                raise ValueError(f"Merged detectors need the same {what}, got {mine} and {theirs}.")
        ours = f"The other {name}", f"this {name}"
        _network_classes_of(self).check_same(_network_classes_of(other), *ours)
        ours = f"the other {name}", f"this {name}"
        _known_columns_of(self).check_same(_known_columns_of(other), *ours)
        _check_same_head(self, getattr(other, "head_", None), f"The other {name}")

    def _add(
        self, summary: Any, sample: ThresholdSample, runs: RowRuns, *, n_samples: int, n_inside: int
    ) -> None:
        """Add what a batch teaches, of which the given rows were learnt from.

        These and those of the sample, whose rows set the threshold, count from 0.
        """
        start = getattr(self, "n_samples_seen_", 0)
        if start:
            summary = self._summary.merge(summary)
            sample = self._sample.merge(sample.numbered_from(start))
            runs = self._learnt_runs.followed_by(runs, start)
            n_inside += self._n_inside
        self._summary, self._sample, self._learnt_runs = summary, sample, runs
        self.n_samples_seen_, self._n_inside = start + n_samples, n_inside

    def _conclude(self) -> Self:
        """Finish what was learnt so far, where it is enough for that; otherwise keep it."""
        self.__dict__.pop("_missing", None)
        try:
            with unchanged_on_failure(self):
                self._finish_by_sample()
        except TooFewSamplesError as error:
            # Of an earlier finish nothing may be taken for what holds now.
            self.__dict__.pop("offset_", None)
            self.training_rows_, _ = self._sample.counted()
            self._missing = (
                f"This {type(self).__name__} is not fitted yet: the samples that it has seen, "
                f"{self.n_samples_seen_}, are too few. {error} It keeps what they teach: give it "
                "more by partial_fit or merge."
            )
        return self

    def _finish_by_sample(self) -> None:
        """Finish what was learnt so far; the samples that are kept set the threshold."""
        self._refuse_none_learnt_or_held_out()
        with without_overflow_warnings():
            self._finish_all()
            scores = self._score_sample()
        self._set_threshold(scores)

    def _refuse_none_learnt_or_held_out(self) -> None:
        if not len(self._learnt_runs) or not self._sample.n_seen:
            raise TooFewSamplesError(
                f"Of {self._n_inside} in-distribution samples, {len(self._learnt_runs)} are there "
                f"to learn from and {self._sample.n_seen} to set the threshold by."
            )


def forget_batches(estimator: Any) -> None:
    """Drop what only ``partial_fit`` and ``merge`` need, of an estimator and all in it."""
    for part in _parts_of(estimator):
        forget_batches(part)
    if isinstance(estimator, BaseIncrementalDetector):
        for name in ("_summary", "_sample"):
            estimator.__dict__.pop(name, None)


def _parts_of(estimator: Any) -> Iterator[Any]:
    """Estimators that an estimator has fitted itself."""
    for name, value in getattr(estimator, "__dict__", {}).items():
        if name.endswith("_") or name == "steps":
            yield from _estimators_in(value)


def _estimators_in(value: Any) -> Iterator[Any]:
    if isinstance(value, BaseEstimator):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _estimators_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _estimators_in(each)


def batches_of(X: Activations, y: NDArray | None) -> Iterator[tuple[Activations, NDArray | None]]:
    """Consecutive samples, in memory, and their labels; one batch of none where there are none."""
    return (batch[:2] for batch in numbered_batches(X, y, np.arange(len(X))))


def numbered_batches(
    X: Activations, y: NDArray | None, rows: Rows
) -> Iterator[tuple[Activations, NDArray | None, Rows]]:
    """The same, and the numbers of the samples."""
    start = 0
    for batch in X.batches() if len(X) else [X]:
        stop = start + len(batch)
        yield read_once(batch), None if y is None else y[start:stop], rows[start:stop]
        start = stop


def _seed_of(detector: Any) -> int:
    seed = getattr(detector, "random_state", 0)
    return int(seed) if isinstance(seed, Integral) else 0


def _plain_params(detector: Any) -> dict[str, Any]:
    """Parameters, of which two are equal where they say the same: splitters are not."""
    # `get_params` looks at the signature each time, which takes longer than a small fit.
    return {
        name: _plain(value)
        for name, value in vars(detector).items()
        if not name.startswith("_") and not name.endswith("_") and name not in _CHANGE_NOTHING
    }


def _plain(value: Any) -> Any:
    """A parameter as something that can be compared, whatever shows progress in it."""
    if value is None or isinstance(value, str | Real):
        return value
    if isinstance(value, list | tuple):
        return repr([_plain(part) for part in value])
    if not isinstance(value, BaseEstimator):
        return repr(value)
    params = value.get_params(deep=False).items()
    said = {n: _plain(v) for n, v in params if n not in _CHANGE_NOTHING}
    return f"{type(value).__name__}({said})"


def layers_of(detector: Any) -> list[tuple[str, Any]]:
    """Names and shapes of the layers that a detector was fitted on, in order."""
    # A list, as dicts are equal in any order.
    return list(getattr(detector, "layer_shapes_", {ARRAY_LAYER: detector.n_features_in_}).items())


def _network_classes_of(detector: Any) -> NetworkClasses:
    # An array has none.
    return getattr(detector, "_network_classes", NetworkClasses(None, None))


def _known_columns_of(detector: Any) -> KnownColumns:
    return getattr(detector, "_known_columns", KnownColumns({}))


def _check_same_head(detector: Any, head: LinearHead | None, of: str) -> None:
    """Refuse what comes from a network with another head than a detector has learnt from."""
    known = getattr(detector, "head_", None)
    if known is None or head is None or same_weights(known, head):
        return
    raise ValueError(
        f"{of} comes from a network with another head, its last linear layer, than this "
        f"{type(detector).__name__} has learnt from: their weights or biases differ. What is "
        "learnt together has to come from one network, as it was at one time of its training."
    )


def _feature_names_of(detector: Any) -> list[str]:
    return list(getattr(detector, "feature_names_in_", ()))
