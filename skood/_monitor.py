"""A monitor of a trained network: extraction and detection in one estimator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags, estimator_html_repr, get_tags

from ._classes import tells_classes
from ._diagram import DocLinkMixin
from ._elsewhere import held, in_memory, lies_elsewhere, run_elsewhere
from ._fit_context import unchanged_on_failure
from ._foreign import detector_of, flat_steps, rate_of, scoring_steps
from ._logits import MissingLogitsError
from ._marks import in_distribution, read_labels, roc_auc_of_marks
from ._monitor_calibration import (
    HeldOutThresholds,
    bounded_risk,
    estimated_rate,
    holds_rows_out,
    is_set_by_rows_held_out,
    targets_of,
    warn_of_estimate,
)
from ._monitor_export import ExportMixin
from ._monitor_files import FilesMixin
from ._monitor_merge import check_mergeable
from ._monitor_rows import KEPT_BYTES, CalibrationRows, LearntRows
from ._monitor_session import SessionMixin, is_trusted
from ._monitor_view import TARGETS, Watcher, as_html, as_text, listed, memory_of, network_name
from ._progress import shown_as_asked
from ._samples import n_samples_of
from ._sklearn import Interval, StrOptions, available_if, check_steps, validate_params
from ._streams import (
    check_fitted,
    check_has_begun,
    first_transform,
    has_begun,
    is_fitted,
    merge,
    partial_fit,
    steps_of,
    why_not_in_batches,
    why_steps_learn,
)
from ._tables import memory_text
from ._warnings import own_threshold_counts, saying_nothing, warn_user
from .activations import Activations
from .calibration import ConformalDetector, RiskControlledDetector, UncalibratedWarning
from .extraction import ActivationExtractor
from .inspection import Explanation, explain
from .metrics import make_ood_scorer, ood_roc_auc_score
from .monitoring import MonitorReport

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]

_KNOWN_ROWS = (
    "the threshold is an estimate, and the rate of false alarms may be higher than wanted. Pass "
    "rows that neither the network nor the monitor has learnt from."
)
_SHOWN = 6
"""As many thresholds are shown one by one."""


def _last_step_has(name: str) -> Any:
    def check(monitor: Monitor) -> bool:
        getattr(detector_of(monitor), name)  # whose error says what is missing
        return True

    return check


def _last_step_learns(name: str) -> Any:
    def check(monitor: Monitor) -> bool:
        if why := why_not_in_batches(monitor.steps[-1][1], name):
            raise AttributeError(f"This Monitor has no {name}: {why}.")
        return True

    return check


class Monitor(DocLinkMixin, SessionMixin, FilesMixin, ExportMixin, Pipeline):
    """A pipeline from the inputs of a trained network to verdicts: whether to trust it on them.

    :func:`make_monitor` builds one with good defaults. A monitor of other parts is composed as any
    :class:`~sklearn.pipeline.Pipeline` is, and everything that works with a pipeline works with it:
    ``monitor["detect"]``, ``set_params(detect__false_alarm_rate=0.01)`` where the detector has that
    parameter (for two detectors, ``detect__ood__false_alarm_rate`` and so on), ``clone``, and
    searches over its steps.

    Parameters
    ----------
    steps : list of (str, estimator) tuples
        Names and estimators. One of them is an :class:`~skood.ActivationExtractor`, the last is an
        outlier detector, or a search over some.
    target : {"ood", "misclassified", "both"}, default="ood"
        What a low score stands for: inputs from another distribution, inputs that the network
        misclassifies, or either. It decides what :meth:`score` measures and which rows
        :meth:`calibrate` takes, not what the detector looks for: one that has a ``target``, too,
        has to have the same.
    transform_input : list of str, default=None
        As in :class:`~sklearn.pipeline.Pipeline`.
    memory : str or object with the joblib.Memory interface, default=None
        As in :class:`~sklearn.pipeline.Pipeline`. The cache that saves runs of the network is that
        of the extractor, ``extract__memory``.
    verbose : int, default=False
        Whether all that is run shows what is done, whatever the ``verbose`` of the steps, and how
        long each step took, as in :class:`~sklearn.pipeline.Pipeline`; see :ref:`progress`.

    Attributes
    ----------
    network : object
        The network that is monitored.
    layers_ : list of str
        The layers of the network that are extracted, in forward order.
    offset_ : float
        Threshold: ``predict`` rejects samples whose score is below it. Where held-out rows have set
        several, there is none, only ``offsets_``.
    offsets_ : dict of str to float
        Threshold of each detector by its name, where there are several
        (:class:`~skood.ensemble.AnyAlarmDetector`); or of each predicted class, where
        :meth:`calibrate` had ``group_by="prediction"``.
    calibration_ : ConformalDetector, or dict of str to ConformalDetector
        What sets the thresholds, where rows that are held out do: after :meth:`calibrate`, or where
        the detector has ``validation``. Of several detectors, one by the name of each.

    See Also
    --------
    make_monitor : Builds a monitor of a network in one line.
    skood.calibration.ConformalDetector : What :meth:`calibrate` makes use of.
    skood.inspection.explain : What ``monitor.explain`` calls.

    Notes
    -----
    ``monitor[-1]`` is the detector. A slice, such as ``monitor[:-1]``, is a plain ``Pipeline`` of
    the same fitted steps: the part up to activations has no verdicts.

    A ``fit`` that fails leaves the steps as they were.

    **Thresholds.** That of ``fit`` is an estimate: the detector leaves out each row that it scores,
    but the network has learnt from it, where it is one of its training rows, and knows it better
    than new ones. Of these, two to six times as many were rejected in measurements. ``fit`` warns
    of it (:class:`~skood.calibration.UncalibratedWarning`) where it gets no class labels, and
    where these show that the network fits the rows too well: it makes at most a fifth of the errors
    that its confidence lets expect; or it is more than 97 % sure on average, and yet wrong
    significantly less often than that; or never, in 500 rows or more. Of rows that are new to a
    network, at most 5 % of samples do so by chance where its confidence is exact, hardly any where
    it is overconfident, as most are, and the more where it is right on more than 99.5 % of all, or
    far less sure than it is right, as after strong regularisation. ``fit`` warns, too, where the
    network makes no error in fewer rows, of which the labels tell little: of rows that were new to
    networks right on 65 % to 97 % of them, 4 % of the samples of 100 rows, or fewer, were without
    an error in measurements, but up to 54 % of the samples of 20; of training rows nearly all. No
    warning is no promise. :meth:`calibrate` makes one. Nothing is said of clones that something
    else calibrates, or that a search or cross-validation of scikit-learn fits to compare them: only
    of what a search fits in the end.

    As text, and in a notebook below scikit-learn's diagram, a monitor shows what it watches: before
    ``fit`` the network, the target and the layers that are wanted; afterwards the number of layers,
    which detectors watch which of them and with what weight, the number of rows that they have
    learnt from, the thresholds, the rate of false alarms, an estimate or calibrated by how many
    held-out rows and with what guarantee, and the memory.

    Examples
    --------
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import ActivationExtractor, Monitor
    >>> from skood.datasets import load_digits_ood
    >>> from skood.detectors import KNNDetector
    >>> X, y = load_digits_ood(return_X_y=True)
    >>> X = X.reshape(len(X), -1)
    >>> inside = y != -1
    >>> net = MLPClassifier((64, 32), random_state=0).fit(X[inside], y[inside])
    >>> extractor = ActivationExtractor(net, "penultimate")
    >>> monitor = Monitor([("extract", extractor), ("detect", KNNDetector())]).fit(X[inside])
    >>> monitor
    Monitor
      network      MLPClassifier
      target       out-of-distribution inputs
      layers       1: hidden_1
      learnt from  1433 rows
      threshold    -0.3...
      alarm rate   0.05, an estimate
      memory       ... KiB
      detect: KNNDetector, reads hidden_1
    >>> monitor.score(X, y) > 0.9
    True
    """

    _parameter_constraints: dict = {
        **Pipeline._parameter_constraints,
        "verbose": ["verbose"],
        "target": [StrOptions(set(TARGETS))],
    }

    def __init__(
        self,
        steps: Sequence[tuple[str, Any]],
        *,
        target: str = "ood",
        transform_input: list[str] | None = None,
        memory: Any = None,
        verbose: int = False,
    ) -> None:
        super().__init__(steps, transform_input=transform_input, memory=memory, verbose=verbose)
        self.target = target

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        if key.step not in (None, 1):
            raise ValueError("A slice of a Monitor must hold steps that follow each other.")
        return Pipeline(self.steps[key], memory=self.memory, verbose=bool(self.verbose))

    @property
    def network(self) -> Any:
        """The network that is monitored."""
        return self._extractor.network

    @property
    def layers_(self) -> list[str]:
        """The layers of the network that are extracted, in forward order."""
        return self._extractor.layers_

    @property
    def offset_(self) -> float:
        """Threshold: ``predict`` rejects samples whose score is below it, if there is one alone."""
        thresholds = self._held_out_thresholds()
        return detector_of(self).offset_ if thresholds is None else thresholds.offset

    @property
    def offsets_(self) -> dict[Any, Any]:
        """Threshold of each detector by its name, where there are several, or of each class."""
        thresholds = self._held_out_thresholds()
        return detector_of(self).offsets_ if thresholds is None else thresholds.offsets

    @property
    def _extractor(self) -> ActivationExtractor:
        if (extractor := self._find_extractor()) is None:
            raise ValueError(
                "A Monitor needs an ActivationExtractor among its steps, which says what network "
                f"it watches; got {[type(step).__name__ for _, step in self.steps]}."
            )
        return extractor

    def _find_extractor(self) -> ActivationExtractor | None:
        return next((step for _, step in self.steps if isinstance(step, ActivationExtractor)), None)

    @shown_as_asked
    def fit(self, X: Any, y: ArrayLike | None = None, **params: Any) -> Self:
        """Run the network, and learn what its activations are like in-distribution.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, as :class:`ActivationExtractor` takes them, or activations that
            were extracted before.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution row, which is not learnt from, except by
            detectors whose description says so.
        **params : dict
            Parameters of the steps' ``fit``, as in :class:`~sklearn.pipeline.Pipeline`.

        Returns
        -------
        self : object
            Fitted monitor.

        Raises
        ------
        ValueError
            If a step refuses the samples or labels; if no step is an ``ActivationExtractor``; or if
            the target needs the logits of a classifier, and the network has none.

        Warns
        -----
        UncalibratedWarning
            If nothing says that the network has not learnt from the rows, so that the rate of
            false alarms may be higher than wanted: see Notes of the class. Call :meth:`calibrate`.
            Or if rows that ``validation`` holds out set the threshold of a detector of errors, and
            labels are missing that say which of them are classified correctly.
        UserWarning
            If the detector has a ``target`` of its own, which is not that of the monitor.
        """
        y = in_memory(y)
        with self._fitting():
            super().fit(X, y, **params)
            self._after_fit(y)
        return self

    def _fit(self, X: Any, y: ArrayLike | None = None, *args: Any, **kwargs: Any) -> Any:
        """Fit the steps before the detector; what comes out knows the labels of a data set."""
        for name in ("calibration_", "_calibration_rows"):
            self.__dict__.pop(name, None)
        self._given = A = held(super()._fit(X, y, *args, **kwargs))
        _warn_of_marks_that_came(A, y)
        return A

    def _after_fit(self, y: ArrayLike | None) -> None:
        """Calibrate by the rows that a detector has held out, or say that nothing has."""
        A = self._given
        del self._given
        self._looked = None  # so that calls on inputs add nothing to what is held
        self._learnt = LearntRows.of(A, y)
        self._is_calibrated_anew = self._has_warned = False
        self._warn_of_another_target()
        if (held_out := self._held_out_of_batch(A, y, 0)) is not None:
            self._calibrate_by(held_out)
        self._warn_if_estimated()

    def _held_out_of_batch(self, A: Any, y: ArrayLike | None, start: int) -> CalibrationRows | None:
        """The rows of a batch, numbered from ``start``, that ``validation`` holds out, if any."""
        detector = detector_of(self)
        if not is_set_by_rows_held_out(detector):
            return None
        rows = detector.training_rows_
        rows = rows[rows >= start] - start
        return CalibrationRows.of(A[rows], None if y is None else read_labels(y)[rows])

    def _calibrate_by(self, rows: CalibrationRows) -> None:
        """Set thresholds by rows that are held out, and keep these where there may be more."""
        if not is_fitted(self.steps[-1][1]):  # until more batches complete it
            self.__dict__.pop("calibration_", None)
            self._calibration_rows = rows.kept()
            return
        thresholds = rows.calibrate(detector_of(self), self.target, self._inside_last_step)
        self._set_calibration(thresholds)
        can_learn_more = not why_not_in_batches(self.steps[-1][1], "partial_fit")
        self._calibration_rows = rows.kept() if can_learn_more else None

    def _warn_if_estimated(self) -> None:
        """Say once that the threshold comes from rows that the network may know."""
        if self._has_warned or self._is_calibrated_anew or not own_threshold_counts():
            return
        detector = detector_of(self)
        if reason := self._learnt.evidence.why_uncalibrated(detector):
            self._has_warned = True
            warn_of_estimate(reason, rate_of(detector))

    def _warn_of_another_target(self) -> None:
        """Say that the detector looks for something else than the monitor is said to look for."""
        found = targets_of(self.steps[-1][1])
        is_missed = self.target == "both" and len(found) == 1
        if is_missed or (self.target != "both" and found - {self.target}):
            listed_targets = " and ".join(map(repr, sorted(found)))
            warn_user(
                f"The monitor has target={self.target!r}, by which it is shown and scored, but its "
                f"detector {self.steps[-1][0]!r} has target {listed_targets} and decides by that. "
                "A detector does not follow the target of a Monitor: set that of both, or build "
                f"another monitor by make_monitor(network, target={self.target!r})."
            )

    def _set_calibration(self, thresholds: HeldOutThresholds) -> None:
        self._calibrated_state = self._state()
        self.calibration_ = thresholds.calibration
        self._by_right_or_wrong = thresholds.right_or_wrong

    def _held_out_thresholds(self) -> HeldOutThresholds | None:
        """Those that take the place of the detector's own, if any do."""
        if not hasattr(self, "calibration_"):
            return None
        thresholds = HeldOutThresholds.of(self.calibration_, right_or_wrong=self._by_right_or_wrong)
        is_same = thresholds.are_of(detector_of(self))
        if not is_same or self._calibrated_state != self._state():
            names = [name for name, _ in self.steps]
            raise NotFittedError(
                f"The detector {names[-1]!r}, or a step before it, of {names[:-1]}, was exchanged "
                "or fitted anew after calibrate: call calibrate again, or fit, which leaves no "
                "calibration."
            )
        return thresholds

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        """Steps are as they were where an exception leaves the block, which says what it means."""
        _ = self._extractor  # there has to be one
        with ExitStack() as stack:
            stack.enter_context(unchanged_on_failure(self))
            for step in [*(step for _, step in self.steps), *steps_of(self)]:
                if hasattr(step, "__dict__"):  # "passthrough" has none
                    stack.enter_context(unchanged_on_failure(step))
            try:
                yield
            except MissingLogitsError as error:
                raise MissingLogitsError(self._on_missing_logits(error)) from error

    def _on_missing_logits(self, error: MissingLogitsError) -> str:
        if self.target == "ood":
            return str(error)
        return (
            f"target={self.target!r} looks for inputs that are classified wrongly, and needs a "
            f"classifier with logits. {error} Monitor other networks with target='ood', which "
            "needs none."
        )

    @shown_as_asked
    def fit_predict(self, X: Any, y: ArrayLike | None = None, **params: Any) -> Labels:
        """Fit, then predict the same samples; the network runs once.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            As in ``fit``.
        y : array-like of shape (n_samples,), default=None
            As in ``fit``.
        **params : dict
            As in ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        with self._fitting():
            labels = super().fit_predict(X, y, **params)
            self._after_fit(y)
        return labels

    @available_if(_last_step_learns("partial_fit"))
    @shown_as_asked
    def partial_fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Learn from one more batch; any batches give what one ``fit`` gives.

        Only where the detector learns in batches, as the default one does. The network runs over
        the batch alone, which may have any number of rows. What held-out rows have set, by
        :meth:`calibrate` or ``validation``, is set anew by the same rows, which the monitor keeps
        up to 64 MiB of their activations, or an eighth of the memory that is left.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            The batch, as ``fit`` takes rows. The first one has to show the extractor what the
            network is like, and so has one row or more.
        y : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        self : object
            Fitted monitor.

        Raises
        ------
        ValueError
            As in ``fit``; if the network is not that of the first batch; if layers are others; or
            if a step before the detector learns from the rows of its ``fit``.
        NotFittedError
            If the detector of a calibrated monitor was exchanged or fitted by itself.

        Warns
        -----
        UncalibratedWarning
            As in ``fit``, once for all batches. Or if rows that have calibrated the monitor are
            among those that it learns from now; or if they took more memory than that, and so no
            calibration remains.

        Notes
        -----
        Learnt are the same thresholds, scores and p-values as by one ``fit`` of all rows, to
        rounding and as far as the detector says so of itself. Networks round as well, on some
        processors otherwise in a batch of another size: then ranks among training rows, which some
        scores are made of, may move by one. With ``validation`` other rows are held out than of
        one ``fit``.

        Examples
        --------
        >>> from sklearn.neural_network import MLPClassifier
        >>> from skood import make_monitor
        >>> from skood.datasets import load_digits_ood
        >>> X, y = load_digits_ood(return_X_y=True)
        >>> X, y = X.reshape(len(X), -1)[y != -1], y[y != -1]
        >>> net = MLPClassifier((64, 32), random_state=0, max_iter=20, tol=1).fit(X[:700], y[:700])
        >>> stream = make_monitor(net)
        >>> for rows in (slice(700, 1000), slice(1000, 1433)):
        ...     stream = stream.partial_fit(X[rows], y[rows])
        >>> at_once = make_monitor(net).fit(X[700:], y[700:])
        >>> bool(abs(stream.score_samples(X) - at_once.score_samples(X)).max() < 0.01)
        True
        """
        self._refuse_steps_that_learn()
        y = in_memory(y)
        if is_first := not has_begun(self):
            check_steps(self)
        self._held_out_thresholds()  # refused where the detector is another by now
        if not is_first and n_samples_of(X) == 0:
            return self
        with self._fitting():
            A = self._read_batch(X, y)
            start = (
                0
                if is_first
                else getattr(detector_of(self), "n_samples_seen_", self._learnt.n_given)
            )
            partial_fit(self.steps[-1][1], A, y)
            if is_first:
                self._given = A
                self._after_fit(y)
            else:
                self._after_batch(A, y, start)
        return self

    def _refuse_steps_that_learn(self) -> None:
        *before, _ = steps_of(self)
        if why := why_steps_learn(before):
            raise ValueError(f"A Monitor that learns in batches needs other steps: {why}.")

    def _read_batch(self, X: Any, y: ArrayLike | None) -> Any:
        """What the last step is given; in the first batch, the steps before see what comes."""
        is_first = not has_begun(self)
        for _, step in self.steps[:-1]:
            if step not in (None, "passthrough"):
                X = first_transform(step, X, y) if is_first else step.transform(X)
        X = held(X)
        _warn_of_marks_that_came(X, y)
        return X

    def _after_batch(self, A: Any, y: ArrayLike | None, start: int) -> None:
        """Remember the rows of a batch, and calibrate anew by rows that are held out."""
        batch = LearntRows.of(A, y)
        self._learnt = self._learnt.merge(batch)
        if self._has_rows_to_calibrate:
            rows = self._calibration_rows
            if self._is_calibrated_anew:
                self._warn_if_learnt(rows, batch)
            elif rows is not None and (more := self._held_out_of_batch(A, y, start)) is not None:
                more = more.here()
                rows = None if more is None else rows.merge(more)
            self._calibrate_again(rows)
        self._warn_if_estimated()

    @property
    def _has_rows_to_calibrate(self) -> bool:
        """Whether rows calibrate the monitor, or will once its detector has learnt enough."""
        return hasattr(self, "calibration_") or getattr(self, "_calibration_rows", None) is not None

    def _warn_if_learnt(self, rows: CalibrationRows | None, new: LearntRows) -> None:
        """Say where rows that calibrate are among those that the monitor learns from."""
        seen = self._learnt.seen
        if rows is None or new.seen is None or seen is None or not rows.are_any_in(new.seen):
            return
        if share := rows.share_in(seen):
            warn_user(
                f"{share:.0%} of the rows that calibrate got are among those that the monitor "
                f"learns from: {_KNOWN_ROWS}",
                UncalibratedWarning,
            )

    def _calibrate_again(self, rows: CalibrationRows | None) -> None:
        """Set thresholds anew by rows that are kept, after the detector has changed."""
        if rows is None:
            self.__dict__.pop("calibration_", None)
            self._is_calibrated_anew = False
            warn_user(
                "The monitor learns more, which changes the scores of the rows that calibrated it. "
                f"These took more than {memory_text(KEPT_BYTES)}, or than an eighth of the memory "
                "that was left, and are not kept: it has the thresholds of its detector now. Call "
                "calibrate again.",
                UncalibratedWarning,
            )
            return
        with saying_nothing():  # that was not said of these rows before
            self._calibrate_by(rows)

    @available_if(_last_step_learns("merge"))
    def merge(self, other: Monitor) -> Self:
        """Learn what another monitor of the same network has learnt, as if its rows had come here.

        Only where the detector learns in batches, as the default one does. So monitors that were
        fitted on parts of the rows, on several machines, become one. What held-out rows have set,
        by :meth:`calibrate` or ``validation``, is set anew by the rows of both.

        Parameters
        ----------
        other : Monitor
            Fitted on other rows, with the same steps and parameters. It is unchanged.

        Returns
        -------
        self : object
            This monitor, changed.

        Raises
        ------
        TypeError
            If ``other`` is no monitor, or its detector of another class.
        ValueError
            If the networks, layers, steps or parameters differ, or both were calibrated with
            different promises.
        NotFittedError
            If one of both is not fitted, or its detector was exchanged after it was calibrated.

        Warns
        -----
        UncalibratedWarning
            As :meth:`partial_fit` does.
        """
        check_has_begun(self)
        check_mergeable(self, other)
        self._refuse_steps_that_learn()
        for monitor in (self, other):
            monitor._held_out_thresholds()  # refused where the detector is another by now
        with self._fitting():
            merge(self.steps[-1][1], other.steps[-1][1])
            self._learnt = self._learnt.merge(other._learnt)
            self._has_warned |= other._has_warned
            self._merge_calibration(other)
            self._warn_if_estimated()
        return self

    def _merge_calibration(self, other: Monitor) -> None:
        """Thresholds by the rows of both, of which those of ``calibrate`` count first."""
        both = [monitor for monitor in (self, other) if monitor._has_rows_to_calibrate]
        if not both:
            return
        is_anew = any(monitor._is_calibrated_anew for monitor in both)
        kept = [m._calibration_rows for m in both if m._is_calibrated_anew == is_anew]
        rows = kept[0]
        if rows is not None and len(kept) > 1:
            rows = None if kept[1] is None else rows.merge(kept[1])
        self._is_calibrated_anew = is_anew
        if is_anew:
            self._warn_if_learnt(rows, self._learnt)
        self._calibrate_again(rows)

    @shown_as_asked
    def calibrate(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        false_alarm_rate: float | None = None,
        group_by: str | None = None,
        guarantee: str = "marginal",
        confidence: float = 0.95,
    ) -> Self:
        """Set the threshold by held-out rows, so that the rate of false alarms holds for new ones.

        The rows are in-distribution, and neither the network nor the monitor has learnt from them.
        Of new rows that are exchangeable with them, at most the share ``false_alarm_rate`` is
        rejected on average over calibration sets (conformal prediction:
        :class:`~skood.calibration.ConformalDetector`). The network runs once. Steps, parameters and
        scores stay as they are; thresholds, verdicts and :meth:`p_values` go by the rows until
        another ``calibrate``, or a ``fit``, which leaves no calibration.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Held-out rows, as ``fit`` takes rows.
        y : array-like of shape (n_samples,), default=None
            Class labels; a row marked -1 does not calibrate. With the targets "misclassified" and
            "both", a false alarm is a row that is classified correctly: only these calibrate the
            detector of errors, by ``y`` or the labels that a loader yields. Without any, all rows
            do, and a warning says so.
        false_alarm_rate : float in (0, 1), default=None
            Share of the rows to accept that may be rejected; of several detectors, by each. By
            default that of the detector, and 0.05 where it has none.
        group_by : {"prediction"} or None, default=None
            With "prediction", each class that the network predicts has a threshold of its own, and
            the rate holds for each of them.
        guarantee : {"marginal", "training-conditional"}, default="marginal"
            Whether the rate holds on average over sets of held-out rows, or for this one with the
            probability ``confidence`` over draws of it.
        confidence : float in (0, 1), default=0.95
            Probability of a training-conditional guarantee.

        Returns
        -------
        self : object
            Calibrated monitor.

        Raises
        ------
        NotFittedError
            If the monitor is not fitted.
        ValueError
            If these are the rows that ``fit`` got, in any order; if no row is in-distribution,
            or classified correctly where the target is about that; if labels or parameters do not
            fit; or if a score is NaN.

        Warns
        -----
        UncalibratedWarning
            If some of the rows are among those that ``fit`` got, more than by chance, as told by up
            to 32,768 of these; or if labels are missing that say which rows are classified
            correctly.
        UserWarning
            If the rows are too few to reject anything at the rate: the smallest rate is 1 / (n + 1)
            for n rows. Or if -1 is among the labels of a loader and ``y`` is None: such rows
            calibrate a detector of out-of-distribution inputs, and never one of errors.

        Examples
        --------
        >>> import warnings
        >>> from sklearn.neural_network import MLPClassifier
        >>> from skood import make_monitor
        >>> from skood.calibration import UncalibratedWarning
        >>> from skood.datasets import load_digits_ood
        >>> X, y = load_digits_ood(return_X_y=True)
        >>> X = X.reshape(len(X), -1)[y != -1]
        >>> y = y[y != -1]
        >>> train, held_out = slice(0, None, 2), slice(1, None, 2)
        >>> net = MLPClassifier((64, 32), random_state=0).fit(X[train], y[train])
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", UncalibratedWarning)
        ...     monitor = make_monitor(net).fit(X[train])
        >>> monitor.calibrate(X[held_out]).calibration_.n_calibration_samples_
        716
        >>> float((monitor.predict(X[held_out]) == -1).mean()) <= 0.05
        True
        """
        try:
            check_fitted(self)
        except NotFittedError as error:
            if has_begun(self):
                raise
            raise NotFittedError(
                "This Monitor is not fitted yet: fit it on the rows to learn from before calibrate "
                "sets its threshold by others."
            ) from error
        A = held(self[:-1].transform(X))
        self._refuse_seen(A)
        rows = CalibrationRows.of(
            A,
            y,
            false_alarm_rate=false_alarm_rate,
            group_by=group_by,
            guarantee=guarantee,
            confidence=confidence,
        )
        self._calibrate_by(rows)
        self._is_calibrated_anew = True
        return self

    def _refuse_seen(self, A: Any) -> None:
        """Rows that ``fit`` has learnt from calibrate nothing, as far as they are known again."""
        if not hasattr(self, "_learnt") or (seen := self._learnt.seen) is None:
            return
        if seen.are_same(A):
            raise ValueError(
                f"calibrate got the {len(A)} rows that fit got, which say nothing about new ones: "
                "pass in-distribution rows that neither network nor monitor has learnt from."
            )
        if share := seen.share_among(A):
            warn_user(
                f"{share:.0%} of the rows that calibrate got are among those that fit got, which "
                f"the monitor knows: {_KNOWN_ROWS}",
                UncalibratedWarning,
            )

    @run_elsewhere("scores")
    def p_values(self, X: Any) -> Scores:
        """Say how likely an in-distribution input scores as low, by held-out rows.

        Only where such rows have set the threshold: after :meth:`calibrate`, or with the parameter
        ``validation`` of the detector.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.

        Returns
        -------
        p_values : ndarray of shape (n_samples,)
            From 1 / (n + 1), for n held-out rows, to 1. ``predict`` rejects where they are at most
            the rate. Of k detectors with a threshold each, they are k times the smallest, at most 1
            (Bonferroni's bound), and ``predict`` rejects more: each detector has the rate, and all
            together up to k times that. It rejects wherever they are at most the rate, if that is
            the same for all.

        Raises
        ------
        NotFittedError
            If no held-out rows have set the threshold.
        """
        source = self._source_of_p_values()
        with self._reading(X) as A:
            return source.p_values(self._activations(A))

    @validate_params(
        {
            "X": "no_validation",
            "fdr": [Interval(Real, 0, 1, closed="neither")],
            "method": [StrOptions({"bh", "by"})],
        },
        prefer_skip_nested_validation=True,
    )
    def select(self, X: Any, fdr: float = 0.1, *, method: str = "bh") -> NDArray[np.bool_]:
        """Select the inputs of a batch to alarm about, few of which are false alarms.

        ``predict`` bounds the share of in-distribution inputs that are rejected; this bounds the
        share of false alarms among the alarms, on average over batches and calibration sets (the
        false discovery rate). Only where held-out rows have set the threshold, as ``p_values``.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before: the batch.
        fdr : float in (0, 1), default=0.1
            Largest false discovery rate.
        method : {"bh", "by"}, default="bh"
            The procedure of Benjamini and Hochberg, or of Benjamini and Yekutieli, which holds
            under any dependence: see :meth:`skood.calibration.ConformalDetector.select`. For
            several detectors, with a threshold each, only the latter is proven.

        Returns
        -------
        is_ood : ndarray of shape (n_samples,), dtype bool
            Whether an input is selected. It depends on the others in the batch.

        Raises
        ------
        NotFittedError
            If no held-out rows have set the threshold.

        Warns
        -----
        UserWarning
            If the held-out rows are too few to select anything.
        """
        source = self._source_of_p_values()
        with self._reading(X) as A:
            return source.select(held(self._activations(A)), fdr, method=method)

    def _refuse_unready(self, method: str) -> None:
        """Raise a NotFittedError where the monitor lacks what a method needs."""
        self._held_out_thresholds()  # refused where the detector is another by now
        if method == "p_values":
            self._source_of_p_values()

    def _source_of_p_values(self) -> Any:
        """What compares with held-out rows."""
        check_fitted(self)
        source = self._held_out_thresholds()
        if source is None:
            source = detector_of(self)
            if not hasattr(source, "p_values"):
                raise NotFittedError(_why_no_p_values(source))
        return source

    @run_elsewhere("verdicts")
    def predict(self, X: Any, **params: Any) -> Labels:
        """Predict whether to trust the network (1) or not (-1), sample by sample.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.
        **params : dict
            As in :class:`~sklearn.pipeline.Pipeline`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        return self._decide("predict", X, params)

    @run_elsewhere("scores")
    def score_samples(self, X: Any) -> Scores:
        """Score samples: the higher, the more the network can be trusted.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Scores of the detector, which no calibration changes. Those of several detectors in one
            go by the thresholds of ``fit``: compare ``score_each`` with ``offsets_``, or
            ``decision_function`` with 0.
        """
        with self._reading(X) as A:
            if is_trusted(A):
                return self._call("score_samples", A)
            check_fitted(self)
            return super().score_samples(A)

    @run_elsewhere("scores")
    def decision_function(self, X: Any, **params: Any) -> Scores:
        """Score samples relative to the threshold: negative where ``predict`` gives -1.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.
        **params : dict
            As in :class:`~sklearn.pipeline.Pipeline`.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Scores less the threshold, or with ``group_by="prediction"`` less that of the predicted
            class. Of several detectors that are calibrated, the smallest of such differences, each
            in standard deviations of the detector's scores of held-out rows: their order is not
            that of ``score_samples``, which stays as it was before.
        """
        return self._decide("decision_function", X, params)

    @available_if(_last_step_has("score_each"))
    @run_elsewhere("scores_each")
    def score_each(self, X: Any) -> dict[str, Scores]:
        """Score samples by each of several detectors alone; see ``offsets_``.

        Only where the detector has it, as with ``target="both"`` in :func:`make_monitor`.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.

        Returns
        -------
        scores : dict of str to ndarray of shape (n_samples,)
            Scores by the name of the detector.
        """
        with self._reading(X) as A:
            return detector_of(self).score_each(self._activations(A))

    @available_if(_last_step_has("decision_each"))
    @run_elsewhere("scores_each")
    def decision_each(self, X: Any) -> dict[str, Scores]:
        """Score samples relative to the threshold of each of several detectors.

        Only where the detector has it, as with ``target="both"`` in :func:`make_monitor`.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.

        Returns
        -------
        scores : dict of str to ndarray of shape (n_samples,)
            By the name of each detector, negative where it rejects. ``decision_function`` is the
            smallest of them.
        """
        return self._decide_each("decision_each", X)

    @available_if(_last_step_has("predict_each"))
    @run_elsewhere("verdicts_each")
    def predict_each(self, X: Any) -> dict[str, Labels]:
        """Tell which of several detectors reject which samples.

        Only where the detector has it, as with ``target="both"`` in :func:`make_monitor`.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.

        Returns
        -------
        labels : dict of str to ndarray of shape (n_samples,)
            1 or -1, by the name of the detector.
        """
        return self._decide_each("predict_each", X)

    def _decide(self, method: str, X: Any, params: dict[str, Any]) -> Any:
        """What a method says by the thresholds of held-out rows, if these set some."""
        thresholds = self._held_out_thresholds()
        with self._reading(X) as A:
            if thresholds is None and is_trusted(A) and not params:
                return self._call(method, A)
            check_fitted(self)
            if thresholds is None:
                return getattr(super(), method)(A, **params)
            _refuse_params(params)
            return getattr(thresholds, method)(self._activations(A))

    def _decide_each(self, method: str, X: Any) -> Any:
        """As ``_decide``, for each of several detectors."""
        thresholds = self._held_out_thresholds()
        source = detector_of(self) if thresholds is None else thresholds
        with self._reading(X) as A:
            return getattr(source, method)(self._activations(A))

    def _activations(self, X: Any) -> Any:
        """What the detector itself is given."""
        return self._inside_last_step(self[:-1].transform(X))

    def _inside_last_step(self, A: Any) -> Any:
        """What is given to the detector in a pipeline or search that is the last step."""
        for step in flat_steps(self.steps[-1][1])[:-1]:
            A = step.transform(A)
        return A

    def score(self, X: Any, y: ArrayLike, **params: Any) -> float:
        """Area under the ROC curve of telling inputs to trust from what the target names.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.
        y : array-like of shape (n_samples,)
            Class labels, and -1 for out-of-distribution rows. Not to be trusted are, by target,

            - "ood": rows marked -1;
            - "misclassified": rows whose prediction is not their label; those marked -1 are left
              out;
            - "both": either. Where ``y`` holds a single label beside -1, it tells no classes, and
              all these rows count as classified correctly.
        **params : dict
            As in :class:`~sklearn.pipeline.Pipeline`; not used for other targets than "ood".

        Returns
        -------
        auroc : float
            1 where every input to trust scores higher than all others, 0.5 for chance.
        """
        if lies_elsewhere(X):
            X, y = held(self[:-1].transform(X)), np.asarray(y)
        if self.target == "ood":
            return self._score_of_marks(X, y, **params)
        if self.target == "misclassified":
            return float(make_ood_scorer(target="misclassified")(self, X, y))
        A = self[:-1].transform(X)
        labels = read_labels(y)
        is_in = in_distribution(labels)
        if tells_classes(labels[is_in]):
            is_in &= np.asarray(A.predictions == labels)
        decisions = np.asarray(self[-1].decision_function(A))
        return float(ood_roc_auc_score(np.where(is_in, 1, -1), decisions))

    def _score_of_marks(self, X: Any, y: ArrayLike, **params: Any) -> float:
        if not isinstance(detector_of(self), RiskControlledDetector):
            return super().score(X, y, **params)
        _refuse_params(params)
        A = self[:-1].transform(X)
        return roc_auc_of_marks(A, y, self[-1].score_samples(A))  # its own score is of errors

    @run_elsewhere("refuse")
    @shown_as_asked
    def explain(
        self,
        X: Any,
        *,
        X_train: Any = None,
        y_train: ArrayLike | None = None,
        n_neighbors: int = 5,
        n_neurons: int = 10,
        verbose: int = 0,
    ) -> Explanation:
        """Explain the score of a few samples: by training examples, neurons and layers.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            The samples, as in ``predict``.
        X_train : array-like, Tensor, Dataset, DataLoader, dict or Activations, default=None
            What the monitor was fitted on, or other samples to compare with. Activations that were
            extracted before save a run of the network: ``monitor[:-1].transform(X)``. Detectors
            that keep their training samples need none, see :func:`~skood.inspection.explain`.
        y_train : array-like of shape (n_training_samples,), default=None
            Classes of the training samples; -1 marks out-of-distribution rows, which are not
            compared with. By default the classes that the network predicts.
        n_neighbors : int, default=5
            How many training examples to find for each sample.
        n_neurons : int, default=10
            How many neurons to name in the report.
        verbose : int, default=0
            Whether to show the progress; so does the ``verbose`` of the monitor.

        Returns
        -------
        Explanation
            What was found; ``print`` shows it.
        """
        check_fitted(self)
        self._held_out_thresholds()  # refused where the detector is another by now
        return explain(
            self,
            X,
            X_train=X_train,
            y_train=y_train,
            n_neighbors=n_neighbors,
            n_neurons=n_neurons,
            verbose=verbose,
        )

    @run_elsewhere("refuse")
    @shown_as_asked
    def report(
        self,
        X_test: Any,
        out_sets: Mapping[str, Any] | None = None,
        *,
        y_test: ArrayLike | None = None,
    ) -> MonitorReport:
        """Report what the monitor does on test rows: false alarms, and what it finds.

        Parameters
        ----------
        X_test : array-like, Tensor, Dataset, DataLoader, dict or Activations
            In-distribution inputs that neither the network nor the monitor has learnt from.
        out_sets : dict of str to inputs, default=None
            Sets of out-of-distribution inputs by name, of any kind that ``X_test`` may be.
        y_test : array-like of shape (n_samples,), default=None
            Class labels of ``X_test``, which tell the errors of the network; -1 marks rows that are
            out-of-distribution, and make one more set. By default the labels that came with the
            inputs, where these are classes of the network.

        Returns
        -------
        report : MonitorReport
            Tables, and the report as Markdown and HTML: ``report.save(folder)``.

        Raises
        ------
        ValueError
            If a set is None or empty; if two names of sets are one text, or one is what a
            report calls rows of the test; if a score is NaN; if there are more or fewer labels than
            rows, all rows are marked -1, or a label is no class of a network whose errors are
            looked for.
        TypeError
            If ``out_sets`` is no mapping.

        Warns
        -----
        UserWarning
            If some rows of ``X_test`` are among those that ``fit`` or ``calibrate`` got, as far as
            they are known again.

        See Also
        --------
        skood.monitoring.MonitorReport : What is in it.

        Notes
        -----
        The network runs once over each set.
        """
        check_fitted(self)
        return MonitorReport.from_monitor(self, X_test, out_sets, y_test=y_test)

    def memory_usage(self) -> int:
        """Memory of what the monitor has learnt.

        Returns
        -------
        n_bytes : int
            Bytes of all that the fitted detector holds, the steps between it and the extractor, and
            what calibrates it;
            almost all of it are arrays. The network is not counted.
        """
        check_fitted(self)
        learnt = [step for _, step in self.steps if not isinstance(step, ActivationExtractor)]
        kept = [getattr(self, name, None) for name in ("calibration_", "_calibration_rows")]
        return memory_of([*learnt, *kept])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # Steps after the extractor are given activations, whatever the inputs are.
        tags.input_tags = get_tags(self.steps[0][1]).input_tags
        return tags

    def _expected_failed_checks(self) -> dict[str, str]:
        reason = "As in scikit-learn's Pipeline, fit fits the steps themselves, not clones."
        names = ("check_dont_overwrite_parameters", "check_estimators_overwrite_params")
        return dict.fromkeys(names, reason)

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:  # noqa: N803 (scikit-learn's name)
        return as_text(*self._shown())

    def _repr_html_(self) -> str:
        return estimator_html_repr(self) + as_html(*self._shown())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        shown = {"text/plain": repr(self)}
        if get_config()["display"] == "diagram":
            shown["text/html"] = self._repr_html_()
        return shown

    def _described_thresholds(self) -> str:
        is_calibrated = self._held_out_thresholds() is not None
        return _thresholds(self if is_calibrated else detector_of(self))

    def _described_rate(self) -> str:
        """The rate of false alarms, and how many rows stand for it with what promise."""
        thresholds, detector = self._held_out_thresholds(), detector_of(self)
        if isinstance(detector, ConformalDetector) and thresholds is None:
            thresholds = HeldOutThresholds.of(detector)
        if thresholds is not None:
            return thresholds.summary()
        if isinstance(detector, RiskControlledDetector):
            return bounded_risk(detector)
        return estimated_rate(detector)

    def _shown(self) -> tuple[dict[str, str], Watcher | None]:
        """Facts by name, and once the monitor is fitted, what watches what."""
        extractor, (name, last) = self._find_extractor(), self.steps[-1]
        facts = {
            "network": "none" if extractor is None else network_name(extractor.network),
            "target": TARGETS.get(self.target, repr(self.target)),
        }
        if extractor is None or not is_fitted(self):
            layers = "none" if extractor is None else repr(extractor.layers)
            detector = last if isinstance(last, str) else type(last).__name__
            return facts | {"layers": layers, "detector": detector, "state": "not fitted"}, None
        return facts | {
            "layers": f"{len(self.layers_)}: {listed(self.layers_)}",
            "learnt from": _learnt_from(last),
            "threshold": self._described_thresholds(),
            "alarm rate": self._described_rate(),
            "memory": memory_text(self.memory_usage()),
        }, Watcher.of(name, last)


def _warn_of_marks_that_came(A: Any, y: ArrayLike | None) -> None:
    labels = A.labels if y is None and isinstance(A, Activations) else None
    if labels is not None and not in_distribution(labels).all():
        warn_user(
            "The inputs came with labels, of which some are -1, but fit got no y: all rows are "
            "learnt from, those marked out-of-distribution too. Pass the labels as y; "
            "monitor[:-1].transform(X).labels are those of a data set or loader."
        )


def _refuse_params(params: dict[str, Any]) -> None:
    if params:
        raise TypeError(
            f"A calibrated Monitor takes no parameters for its steps, got {sorted(params)}."
        )


def _why_no_p_values(detector: Any) -> str:
    advice = "call calibrate(X) with in-distribution rows that the network has not seen"
    if holds_rows_out(detector):
        return (
            "p-values compare a score with those of rows that are held out. The ones that "
            f"{type(detector).__name__} holds out set its thresholds, but are no quantile of its "
            f"score: {advice}."
        )
    return (
        "p-values compare with rows that are held out, but none have set the threshold of this "
        f"Monitor: {advice}, or use a detector with validation=."
    )


def _learnt_from(fitted: Any) -> str:
    rows = getattr(scoring_steps(fitted)[-1], "_learnt_runs", None)
    return "unknown" if rows is None else f"{len(rows)} rows"


def _thresholds(fitted: Any) -> str:
    if hasattr(fitted, "offsets_"):
        return _named_thresholds(fitted.offsets_)
    offset = getattr(fitted, "offset_", None)
    return "unknown" if offset is None else f"{np.asarray(offset).item():.4g}"


def _named_thresholds(offsets: dict[Any, Any]) -> str:
    """Thresholds of detectors or of classes, of many the range."""
    if any(isinstance(offset, dict) for offset in offsets.values()):
        return "; ".join(f"{name}: {_named_thresholds(by)}" for name, by in offsets.items())
    if len(offsets) > _SHOWN:
        values = list(offsets.values())
        return f"{min(values):.4g} to {max(values):.4g} in {len(values)} classes"
    return ", ".join(f"{name} {offset:.4g}" for name, offset in offsets.items())
