"""Thresholds and p-values from rows that were not learnt from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from .._conformal import (
    GUARANTEES,
    conformal_rank,
    less_rounding,
    p_values_of_ranks,
    refuse_nan_scores,
    rows_needed,
    smallest_rate,
    why_none_is_rejected,
)
from .._diagram import EstimatorMixin, MembersMixin, copies_shown
from .._docstrings import FITTED_ON, complete
from .._elsewhere import run_elsewhere
from .._fit_context import fit_context, forget_fit
from .._foreign import detector_of
from .._marks import roc_auc_of_marks
from .._progress import steps
from .._samples import n_rows_of
from .._sklearn import HasMethods, Interval, StrOptions, validate_params
from .._values import Floats
from .._warnings import users_line, warn_user, working_for
from ._conformal_fits import (
    Fitted,
    Labels,
    LeftOut,
    Read,
    fit_and_read,
    learns_marks,
    refusing_unfitted,
    splits,
)
from ._ranked_scores import RankedScores, rows_by_class


class ConformalDetector(
    EstimatorMixin, MembersMixin, OutlierMixin, MetaEstimatorMixin, BaseEstimator
):
    """Give a detector a threshold that keeps its rate of false alarms, and p-values.

    A detector's own threshold comes from rows that it, or the network that it watches, has learnt
    from, and is an estimate: on new inputs its rate of false alarms may be several times higher.
    This one takes rows that neither has learnt from, the calibration rows, and counts [1]_: a
    sample is rejected where its score is too low among theirs. Of new samples that are
    exchangeable with them, at most the share ``false_alarm_rate`` is rejected, whatever the
    detector and the distribution of its scores.

    Parameters
    ----------
    detector : estimator
        Outlier detector of this package, of scikit-learn or of PyOD, a pipeline or monitor that
        ends in one, or a search over some.
    false_alarm_rate : float in (0, 1), default=0.05
        Largest share of in-distribution samples to reject.
    cv : "prefit", float in (0, 1), int, splitter or list of splits, default="prefit"
        Where calibration rows come from.

        - "prefit": ``detector`` is fitted already, and used as it is. All rows that ``fit`` gets
          calibrate it, and must not be among those that it or the network has learnt from.
        - A float: this share of the rows, drawn at random, and from each class alike where ``y``
          tells classes. The others fit a clone.
        - A splitter, or the number of folds of a shuffled one: one clone a fold, calibrated by the
          rows held out of it (cross-conformal prediction [3]_). All rows serve both ends.

        Where the network itself has learnt from the rows that ``fit`` gets, none of these helps.
    group_by : {"prediction"} or None, default=None
        With "prediction", each class that the network predicts has a threshold from the
        calibration rows of that class, and the rate holds for each of them (Mondrian conformal
        prediction [1]_). It needs predictions, and in each class as many rows as a threshold
        for all needs in total.
    guarantee : {"marginal", "training-conditional"}, default="marginal"
        What is promised of the rate. With "marginal", its mean over calibration sets is at most
        ``false_alarm_rate``: that of the set at hand may be higher. With "training-conditional",
        the rate of the set at hand is at most that, with the probability ``confidence`` over draws
        of the set [2]_. The threshold is lower for it.
    confidence : float in (0, 1), default=0.95
        Probability with which the training-conditional rate holds. Not used otherwise.
    random_state : int, RandomState instance or None, default=None
        Seed of the share, or of the folds where ``cv`` is their number.
    n_jobs : int, default=None
        Number of threads that fit one fold each. None means 1, -1 all processors.
    verbose : int, default=0
        Whether to show how many of the clones are fitted; see :ref:`progress`.

    Attributes
    ----------
    estimator_ : estimator
        The detector that was calibrated, where it is one: ``detector`` itself, or its clone.
    estimators_ : list of estimator
        All detectors that were calibrated, one a fold.
    calibration_rows_ : ndarray of shape (n_calibration_samples,)
        Rows of ``X`` in ``fit`` that calibrate, ascending.
    calibration_scores_ : ndarray of shape (n_calibration_samples,)
        Their scores, each by the detector that it calibrates.
    calibration_classes_ : ndarray of shape (n_calibration_samples,)
        The classes that the network predicts for them, with ``group_by="prediction"``.
    n_calibration_samples_ : int
        How many there are.
    offset_ : float
        Threshold on ``score_samples``, with ``group_by=None``: one of the calibration scores, or
        -inf where they are too few to reject anything.
    offsets_ : dict of class to float
        The threshold of each predicted class, with ``group_by="prediction"``.

    See Also
    --------
    TemperatureScaler : Calibrates confidences, not verdicts.
    skood.Monitor : What ``detector`` is for a network and its inputs.

    Notes
    -----
    **Formulas.** Of n calibration scores c, let i be the number of those that are at most the score
    s of a new sample. The marginal p-value of the sample is ``(1 + i) / (n + 1)``, the
    training-conditional one the quantile of Beta(i + 1, n - i) at ``confidence``, or 1 where i is
    n. A sample is rejected where its p-value is at most ``false_alarm_rate``: where s is below the
    k-th smallest calibration score, for the largest k of which that holds. Marginal, k is
    ``floor(false_alarm_rate * (n + 1))``, and the mean rate is k / (n + 1) where no scores are
    equal. Equal scores make it smaller, never larger.

    **Rounding.** The last bits of a score depend on the batch in which it is computed. A score that
    is below a calibration score by at most four millionths of it, or of the median of their
    absolute values, counts as equal: otherwise discrete scores would not keep the rate. The
    ``decision_function`` of what is equal to the threshold ``offset_`` is 0.

    **Folds.** The p-value is 1 + the number of calibration scores that are at most the sample's
    score by the detector of their own fold, over n + 1. Rates come out near the wanted rate r, and
    below it where the detectors of the folds order samples differently. What is proven for K folds
    of equal size is ``2 r + 2 (1 - r) (K - 1) / (n + K)``, for twice the mean of K p-values is one
    [4]_: where the rate has to be kept for sure, use a share. A training-conditional guarantee as
    exact as that of one detector is not known, and is refused.

    **Few rows.** The smallest marginal rate of n rows is 1 / (n + 1): 0.05 needs 19 rows, and a
    training-conditional one with the confidence 0.95 needs 59. With fewer, nothing is rejected, and
    ``fit`` warns; so it does of classes with fewer rows. Of a predicted class without any, the
    p-value is 1.

    **Rows marked -1** never calibrate. Where ``fit`` fits clones, they go to detectors that learn
    from them, and to searches.

    **Exchangeable** means that calibration rows and new in-distribution samples are as if drawn
    from one urn. Frames of one video in both, augmented copies of training images, or a drift void
    the promise.

    References
    ----------
    .. [1] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic learning in a random world", Springer,
       2005. doi:10.1007/b106715
    .. [2] V. Vovk, "Conditional validity of inductive conformal predictors", Machine Learning 92,
       349-376, 2013. arXiv:1209.2673
    .. [3] V. Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial
       Intelligence 74, 9-28, 2015. arXiv:1208.0806
    .. [4] V. Vovk, R. Wang, "Combining p-values via averaging", Biometrika 107, 791-808, 2020.
       arXiv:1212.4966

    Examples
    --------
    >>> import numpy as np
    >>> from skood.calibration import ConformalDetector
    >>> from skood.detectors import KNNDetector
    >>> rng = np.random.default_rng(0)
    >>> detector = KNNDetector(normalize=False).fit(rng.normal(size=(500, 2)))
    >>> calibrated = ConformalDetector(detector).fit(rng.normal(size=(199, 2)))
    >>> float((calibrated.predict(rng.normal(size=(1000, 2))) == -1).mean())
    0.0...
    >>> calibrated.p_values([[0.0, 0.0], [9.0, 9.0]])
    array([..., 0.005])
    """

    _parameter_constraints: dict = {
        "detector": [HasMethods("score_samples"), HasMethods("decision_function")],
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
        "cv": [
            StrOptions({"prefit"}),
            Interval(Integral, 2, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            HasMethods(["split", "get_n_splits"]),
            list,
        ],
        "group_by": [StrOptions({"prediction"}), None],
        "guarantee": [StrOptions(set(GUARANTEES))],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }
    _n_stages_of_fit = 1

    # Of errors that a monitor held out, where only what is classified correctly calibrates.
    _left_out: LeftOut | None = None

    def __init__(
        self,
        detector: Any,
        *,
        false_alarm_rate: float = 0.05,
        cv: Any = "prefit",
        group_by: str | None = None,
        guarantee: str = "marginal",
        confidence: float = 0.95,
        random_state: int | RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.detector = detector
        self.false_alarm_rate = false_alarm_rate
        self.cv = cv
        self.group_by = group_by
        self.guarantee = guarantee
        self.confidence = confidence
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: ArrayLike | None = None, *, groups: ArrayLike | None = None) -> Self:
        """Score the calibration rows and set the threshold, after fitting clones as ``cv`` says.

        Parameters
        ----------
        X : array-like, Activations, or inputs that the detector takes
            With ``cv="prefit"`` all that the detector scores. Otherwise rows are selected: arrays,
            tensors, data frames or Activations.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution row.
        groups : array-like of shape (n_samples,), default=None
            Sources of the rows, as the splitter takes them.

        Returns
        -------
        self : object
            Calibrated detector.

        Raises
        ------
        NotFittedError
            If ``cv="prefit"`` and the detector is not fitted.
        ValueError
            If no row is in-distribution, a score is NaN, predictions are missing that ``group_by``
            needs, the labels do not fit, splits overlap, or a training-conditional guarantee is
            wanted over folds.

        Warns
        -----
        UserWarning
            If the calibration rows are too few to reject anything at ``false_alarm_rate``, of one
            class or all; or if ``X`` comes with marks that were not passed as ``y``.
        """
        forget_fit(self)
        # Whatever is set later.
        self._promised: dict[str, Any] = {
            "guarantee": self.guarantee,
            "confidence": self.confidence,
        }
        self._left_out = None
        parts = [self._read_prefit(X, y)] if self._is_prefit else self._fit_clones(X, y, groups)
        self._remember(parts)
        self._set_thresholds()
        return self

    def _members_shown(self) -> list[tuple[str, Any]]:
        fitted = getattr(self, "estimators_", [])
        if len(fitted) <= 1:
            return super()._members_shown()
        names = [f"split {number}" for number in range(len(fitted))]
        return copies_shown(names, fitted, "splits")

    @property
    def _is_prefit(self) -> bool:
        return isinstance(self.cv, str)

    @property
    def _learns_from_ood(self) -> bool:
        """Whether rows marked -1 are of use to ``fit``."""
        return not self._is_prefit and learns_marks(self.detector)

    def _read_prefit(self, X: Any, y: Any) -> Fitted:
        with refusing_unfitted(self.detector, type(self).__name__):
            read = Read.of(self.detector, X, by_class=self.group_by is not None)
        rows = np.flatnonzero(Labels.read(read.samples, y, len(read.scores)).is_in)
        return Fitted(self.detector, rows, read.of_rows(rows))

    def _fit_clones(self, X: Any, y: Any, groups: Any) -> list[Fitted]:
        labels = Labels.read(X, y, n_rows_of(X))
        parts = splits(self.cv, X, labels, groups, self.random_state)
        self._check_guarantee(len(parts))
        line = users_line()

        by_class, clones = self.group_by is not None, [clone(self.detector) for _ in parts]

        def fit_one(step: AbstractContextManager, detector: Any, split: Any) -> Fitted:
            with working_for(line), step:
                return fit_and_read(detector, X, labels, split, by_class=by_class)

        with steps(self, len(parts), "splits") as told:
            jobs = (
                delayed(fit_one)(told.step("", detector), detector, split)
                for detector, split in zip(clones, parts, strict=True)
            )
            return list(Parallel(n_jobs=self.n_jobs, prefer="threads")(jobs))

    def _check_guarantee(self, n_detectors: int) -> None:
        if n_detectors > 1 and self.guarantee != "marginal":
            raise ValueError(
                f"guarantee={self.guarantee!r} needs one detector and its calibration rows, but "
                f"cv={self.cv!r} makes {n_detectors} detectors, for which none as exact is known. "
                "Hold out a share, such as cv=0.2, pass a fitted detector, or use "
                "guarantee='marginal'."
            )

    def _remember(self, parts: list[Fitted]) -> None:
        """Set what the thresholds and p-values come from."""
        first = parts[0].detector
        self.estimators_ = [part.detector for part in parts]
        self._rows_of_fit = parts[0].learnt
        if len(parts) == 1:
            self.estimator_ = first
        for name in FITTED_ON:
            if hasattr(first, name):
                setattr(self, name, getattr(first, name))
        rows = np.concatenate([part.rows for part in parts])
        scores = np.concatenate([part.read.scores for part in parts])
        refuse_nan_scores(scores, type(detector_of(first)).__name__, rows)
        order = np.argsort(rows)
        self.calibration_rows_ = rows[order]
        self.calibration_scores_ = scores[order]
        self.n_calibration_samples_ = len(rows)
        numbers = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
        by_part = [less_rounding(part.read.scores, of=part.read.scores) for part in parts]
        values = np.stack([scores, np.concatenate(by_part)])
        self._pool = self._ranked(values, numbers)
        self._classes: dict[Any, RankedScores] = {}
        if self.group_by is not None:
            self._network = parts[0].read.network
            classes = np.concatenate([part.read.classes for part in parts])
            self.calibration_classes_ = classes[order]
            self._classes = {
                label: self._ranked(values[:, of_class], numbers[of_class])
                for label, of_class in rows_by_class(classes)
            }

    def _keep_left_out(self, X: Any) -> None:
        """Keep what is said of rows that a stream has, but that may be rejected: errors."""
        if len(X) == 0:
            none = self.calibration_classes_[:0] if self.group_by else None
            self._left_out = LeftOut(np.empty(0), none, np.empty(0, dtype=bool))
            return
        scores, classes = self._read(X)
        parts = [(np.arange(len(X)), self._pool)]
        if classes is not None:
            known = [part for part in rows_by_class(classes) if part[0] in self._classes]
            parts = [(rows, self._classes[label]) for label, rows in known]
        is_rejected = np.zeros(len(X), dtype=bool)
        for rows, ranked in parts:
            is_rejected[rows] = ranked.ranks(scores[:, rows]) <= ranked.rank
        self._left_out = LeftOut(scores[0], classes, is_rejected)

    def _ranked(self, values: Floats, numbers: NDArray[np.intp]) -> RankedScores:
        """Scores of rows and these less rounding, each by the detector of the given number."""
        parts = [numbers == i for i in range(len(self.estimators_))]
        scores, lowest = (tuple(np.sort(row[part]) for part in parts) for row in values)
        rank = conformal_rank(len(numbers), self.false_alarm_rate, **self._promised)
        return RankedScores(scores, lowest, rank)

    def _set_thresholds(self) -> None:
        if self.group_by is not None:
            self.offsets_ = {label: ranked.threshold for label, ranked in self._classes.items()}
            self._warn_of_small_classes()
            return
        self.offset_ = self._pool.threshold
        if self._pool.rank == 0:
            rate = self.false_alarm_rate
            warn_user(why_none_is_rejected(len(self._pool), rate, **self._promised))

    def _warn_of_small_classes(self) -> None:
        known = [] if self._network.labels is None else self._network.labels.tolist()
        counts = dict.fromkeys(known, 0)
        counts |= {label: len(ranked) for label, ranked in self._classes.items()}
        few = {
            label: n
            for label, n in counts.items()
            if label not in self._classes or self._classes[label].rank == 0
        }
        if few:
            rate, most = self.false_alarm_rate, max(few.values())
            warn_user(
                f"{len(few)} of {len(counts)} predicted classes have too few calibration rows for "
                f"a false alarm rate of {rate:g}, and nothing of them is rejected: "
                f"{_listed(few)}. {rate:g} needs at least {rows_needed(rate, **self._promised)} "
                f"rows of a class; the smallest rate that {most} can give is "
                f"{smallest_rate(most, **self._promised)}."
            )

    def _read(self, X: Any) -> tuple[Floats, NDArray | None]:
        """Scores by each detector, shape (n_detectors, n_samples), and classes where they count."""
        check_is_fitted(self)
        by_class = hasattr(self, "calibration_classes_")
        reads = [Read.of(detector, X, by_class=by_class) for detector in self.estimators_]
        if by_class:
            self._network.check(reads[0].samples, type(self).__name__)
        for read, detector in zip(reads, self.estimators_, strict=True):
            refuse_nan_scores(read.scores, type(detector_of(detector)).__name__)
        return np.stack([read.scores for read in reads]), reads[0].classes

    def _compare(self, X: Any, how: Callable[[RankedScores, Floats], NDArray]) -> NDArray:
        """What comes of comparing samples with the calibration scores, all or of their class."""
        return self._compared(self._read(X), how)

    def _compared(
        self, read: tuple[Floats, NDArray | None], how: Callable[[RankedScores, Floats], NDArray]
    ) -> NDArray:
        scores, classes = read
        found = np.empty(scores.shape[1])
        for rows, ranked in self._references(len(found), classes):
            found[rows] = how(ranked, scores[:, rows])
        return found

    def _references(
        self, n_samples: int, classes: NDArray | None
    ) -> Iterator[tuple[NDArray[np.intp], RankedScores]]:
        """Rows, and the calibration scores that they are compared with."""
        if classes is None:
            yield np.arange(n_samples), self._pool
            return
        unknown, none = {}, self._ranked(np.empty((2, 0)), np.empty(0, dtype=np.intp))
        for label, rows in rows_by_class(classes):
            if label not in self._classes:
                unknown[label] = len(rows)
            yield rows, self._classes.get(label, none)
        if unknown:
            warn_user(
                f"{sum(unknown.values())} of {n_samples} samples are of predicted classes without "
                f"calibration rows, and cannot be rejected: {_listed(unknown)}. Calibrate with "
                "rows of these classes, or use group_by=None."
            )

    @run_elsewhere("scores")
    def score_samples(self, X: Any) -> Floats:
        """Score samples: the higher, the more in-distribution.

        Parameters
        ----------
        X : array-like, Activations, or inputs that the detector takes
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            The scores of the detector, with the sign of this package. Of several, one by each fold,
            the threshold ``offset_`` plus the ``decision_function`` of a rule without classes.

        Raises
        ------
        ValueError
            If the detector refuses the samples, or a score is NaN.
        """
        scores, _ = self._read(X)
        return self._pool.one_score(scores)

    @run_elsewhere("scores")
    def decision_function(self, X: Any) -> Floats:
        """Score samples relative to the threshold: negative for those that are rejected.

        Parameters
        ----------
        X : array-like, Activations, or inputs that the detector takes
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``, or with ``group_by="prediction"`` less the threshold of
            the predicted class; 0 where a score is lower by rounding only, infinite where nothing
            can be rejected. Of several detectors, one by each fold, the k-th largest of the
            differences between a sample's score and the calibration scores by the same detector,
            where the threshold is the k-th smallest of these.

        Raises
        ------
        ValueError
            If the detector refuses the samples, a score is NaN, or predictions are missing.

        Warns
        -----
        UserWarning
            If samples are of predicted classes without calibration rows.
        """
        return self._compare(X, RankedScores.decisions)

    @run_elsewhere("verdicts")
    def predict(self, X: Any) -> NDArray[np.int64]:
        """Predict in-distribution (1) or out-of-distribution (-1) for each sample.

        Parameters
        ----------
        X : array-like, Activations, or inputs that the detector takes
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 where ``p_values`` is above ``false_alarm_rate``, -1 elsewhere.
        """
        return np.where(self._compare(X, _are_accepted), 1, -1)

    def _judge(self, X: Any) -> tuple[Floats, NDArray[np.int64], Floats]:
        """Scores, verdicts and p-values of samples that are scored once."""
        read = self._read(X)
        verdicts = np.where(self._compared(read, _are_accepted), 1, -1)
        p_values = self._compared(read, _p_values_by(**self._promised))
        return self._pool.one_score(read[0]), verdicts, p_values

    def fit_predict(
        self, X: Any, y: ArrayLike | None = None, *, groups: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Fit, then predict the same samples, calibration rows among them.

        Parameters
        ----------
        X : array-like, Activations, or inputs that the detector takes
            As in ``fit``.
        y : array-like of shape (n_samples,), default=None
            As in ``fit``.
        groups : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        return self.fit(X, y, groups=groups).predict(X)

    @run_elsewhere("scores")
    def p_values(self, X: Any) -> Floats:
        """Say how likely an in-distribution sample scores as low: the p-value of each sample.

        Parameters
        ----------
        X : array-like, Activations, or inputs that the detector takes
            Samples.

        Returns
        -------
        p_values : ndarray of shape (n_samples,)
            From 1 / (n + 1), for n calibration rows, to 1. ``predict`` rejects where they are at
            most ``false_alarm_rate``. By ``guarantee``; see the notes of the class. Both go by the
            parameters that ``fit`` had.

        Raises
        ------
        ValueError
            If the detector refuses the samples, a score is NaN, or predictions are missing.

        Warns
        -----
        UserWarning
            If samples are of predicted classes without calibration rows: their p-value is 1.
        """
        check_is_fitted(self)
        return self._p_values(X, **self._promised)

    def _p_values(self, X: Any, **promise: Any) -> Floats:
        return self._compare(X, _p_values_by(**promise))

    @validate_params(
        {
            "X": "no_validation",
            "fdr": [Interval(Real, 0, 1, closed="neither")],
            "method": [StrOptions({"bh", "by"})],
        },
        prefer_skip_nested_validation=True,
    )
    def select(self, X: Any, fdr: float = 0.1, *, method: str = "bh") -> NDArray[np.bool_]:
        """Select out-of-distribution samples of a batch, of which few are false alarms.

        ``predict`` bounds the share of in-distribution samples that are rejected. Where nearly all
        samples are in-distribution, most alarms are false even so. This bounds the false discovery
        rate: the share of false alarms among the alarms of a batch, on average over batches and
        calibration sets.

        Parameters
        ----------
        X : array-like, Activations, or inputs that the detector takes
            The batch.
        fdr : float in (0, 1), default=0.1
            Largest false discovery rate.
        method : {"bh", "by"}, default="bh"
            The procedure of Benjamini and Hochberg [1]_, or that of Benjamini and Yekutieli [2]_,
            which holds for p-values of any dependence and selects fewer. The p-values of one
            calibration set depend positively, so that the former holds too [3]_. Of several
            detectors, one by each fold, use the latter with ``fdr / 2`` to be sure.

        Returns
        -------
        is_ood : ndarray of shape (n_samples,), dtype bool
            Whether a sample is selected. It depends on the others in the batch.

        Warns
        -----
        UserWarning
            If the calibration rows are too few to select anything, or samples are of predicted
            classes without any.

        Notes
        -----
        The p-values are marginal, whatever ``guarantee``. That of a sample is no smaller than 1 /
        (n + 1) for n calibration rows: to select a single one of m samples takes about m / fdr of
        them. The share of in-distribution samples in the batch lowers the rate, too: it is at most
        ``fdr`` times that share.

        References
        ----------
        .. [1] Y. Benjamini, Y. Hochberg, "Controlling the false discovery rate: a practical and
           powerful approach to multiple testing", Journal of the Royal Statistical Society B 57,
           289-300, 1995. doi:10.1111/j.2517-6161.1995.tb02031.x
        .. [2] Y. Benjamini, D. Yekutieli, "The control of the false discovery rate in multiple
           testing under dependency", Annals of Statistics 29, 1165-1188, 2001.
           doi:10.1214/aos/1013699998
        .. [3] S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia, "Testing for outliers with
           conformal p-values", Annals of Statistics 51, 149-178, 2023. arXiv:2104.08279

        Examples
        --------
        >>> import numpy as np
        >>> from skood.calibration import ConformalDetector
        >>> from skood.detectors import KNNDetector
        >>> rng = np.random.default_rng(2)
        >>> detector = KNNDetector(normalize=False).fit(rng.normal(size=(500, 2)))
        >>> calibrated = ConformalDetector(detector).fit(rng.normal(size=(999, 2)))
        >>> batch = np.vstack([rng.normal(size=(95, 2)), np.full((5, 2), 9.0)])
        >>> np.flatnonzero(calibrated.select(batch))
        array([95, 96, 97, 98, 99])
        """
        p_values = self._p_values(X, guarantee="marginal")
        if len(p_values) == 0:
            return np.zeros(0, dtype=bool)
        self._warn_if_none_can_be_selected(len(p_values), fdr, method)
        return np.asarray(false_discovery_control(p_values, method=method) <= fdr)

    def _warn_if_none_can_be_selected(self, n_samples: int, fdr: float, method: str) -> None:
        most = max((len(ranked) for ranked in self._classes.values()), default=len(self._pool))
        lowest = np.full(n_samples, 1 / (most + 1))
        if (reached := false_discovery_control(lowest, method=method)[0]) > fdr:
            warn_user(
                f"Nothing can be selected of {n_samples} samples at a false discovery rate of "
                f"{fdr:g}: with {most} calibration rows the smallest that {method!r} can reach is "
                f"{reached:.3g}. Calibrate with more rows."
            )

    def score(self, X: Any, y: ArrayLike) -> float:
        """Area under the ROC curve of telling in- from out-of-distribution samples.

        Parameters
        ----------
        X : array-like, Activations, or inputs that the detector takes
            Samples.
        y : array-like of shape (n_samples,)
            -1 for out-of-distribution samples, anything else for in-distribution ones.

        Returns
        -------
        auroc : float
            1 where every in-distribution sample scores higher, 0.5 for chance. NaN, with
            scikit-learn's ``UndefinedMetricWarning``, where ``y`` marks all samples or none.
        """
        return roc_auc_of_marks(X, y, self.score_samples(X))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if isinstance(self.detector, BaseEstimator):
            inner = get_tags(self.detector)
            tags.input_tags = inner.input_tags
            tags.target_tags.required = not self._is_prefit and inner.target_tags.required
        return tags


complete(ConformalDetector, {}, FITTED_ON)


def _listed(counts: dict[Any, int]) -> str:
    """Numbers of rows by class, for a message that does not grow with their number."""
    first = [f"{label!r}: {n}" for label, n in list(counts.items())[:10]]
    return ", ".join(first + ["..."] * (len(counts) > 10))


def _are_accepted(ranked: RankedScores, scores: Floats) -> NDArray[np.bool_]:
    # By ranks, which are faster over folds than decisions, and have the same sign.
    return ranked.ranks(scores) > ranked.rank


def _p_values_by(**promise: Any) -> Callable[[RankedScores, Floats], Floats]:
    """What gives the p-values of scores."""
    return lambda ranked, scores: p_values_of_ranks(ranked.ranks(scores), len(ranked), **promise)
