"""A threshold that bounds the error rate of the network on the samples that are accepted."""

from __future__ import annotations

from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from .._classes import check_class_labels, check_same_kind
from .._conformal import refuse_nan_scores, upper_bound_of_share
from .._diagram import EstimatorMixin, MembersMixin
from .._docstrings import FITTED_ON, complete
from .._elsewhere import run_elsewhere
from .._estimator_checks import NEEDS_LABELS, failed_classifier_checks
from .._fit_context import fit_context, forget_fit
from .._foreign import detector_of
from .._marks import refuse_missing
from .._progress import steps
from .._samples import n_rows_of, take_samples
from .._sklearn import HasMethods, Interval, StrOptions
from .._values import Floats
from .._warnings import warn_user
from ..activations import Activations
from ._conformal_fits import Fitted, Labels, Read, Rows, fit_and_read, refusing_unfitted, splits
from ._ranked_scores import differences
from ._risk_tests import RankedErrors, rows_needed


class RiskControlledDetector(
    EstimatorMixin, MembersMixin, OutlierMixin, MetaEstimatorMixin, BaseEstimator
):
    """Give a detector a threshold that bounds the error rate on the samples it accepts.

    A sample that is accepted is one on which the network's prediction is used. The risk of a
    threshold is the error rate of the network among the samples that it accepts, its coverage the
    share of samples that it accepts (selective classification [1]_). This takes rows that neither
    the detector nor the network has learnt from, with their class labels, and chooses the threshold
    of the largest coverage of which they prove, with the stated confidence, that the risk is at
    most ``alpha`` (learn then test [2]_). It holds whatever the detector and the network; a better
    detector has a larger coverage.

    Parameters
    ----------
    detector : estimator
        Outlier detector of this package, of scikit-learn or of PyOD, a pipeline or monitor that
        ends in one, or a search over some. Detectors of errors serve best, as
        ``make_monitor(network, target="misclassified")`` has one.
    alpha : float in (0, 1), default=0.05
        Largest error rate of the network among the accepted samples.
    confidence : float in (0, 1), default=0.95
        Probability, over draws of the calibration rows, that the risk is at most ``alpha``.
    cv : "prefit", float in (0, 1), splitter or list of splits, default="prefit"
        Where calibration rows come from.

        - "prefit": ``detector`` is fitted already, and used as it is. All rows that ``fit`` gets
          calibrate it, and must not be among those that it or the network has learnt from.
        - A float: this share of the rows, drawn at random. The others fit a clone.
        - A splitter or list of one split, such as ``GroupShuffleSplit(1)`` with ``groups``: the
          test part calibrates, and the training part fits a clone.

        Where the network itself has learnt from the rows that ``fit`` gets, none of these helps.
    random_state : int, RandomState instance or None, default=None
        Seed of the share.

    Attributes
    ----------
    estimator_ : estimator
        The detector that was calibrated: ``detector`` itself, or its clone.
    offset_ : float
        Threshold on ``score_samples``, above the highest rejected score by no more than rounding;
        where no row is rejected, as much below the lowest. inf, which rejects all, where no
        threshold was certified.
    coverage_ : float
        Share of the calibration rows that it accepts.
    risk_ : float
        Error rate among these, NaN where there are none.
    risk_bound_ : float
        Upper bound of Clopper and Pearson [3]_ for that error rate at ``confidence``: at most
        ``alpha`` where a threshold was certified, 1 where none was.
    calibration_rows_ : ndarray of shape (n_calibration_samples,)
        Rows of ``X`` in ``fit`` that calibrate, ascending.
    n_calibration_samples_ : int
        How many there are.

    See Also
    --------
    ConformalDetector : Bounds how many samples are rejected, and not how wrong the others are.
    skood.metrics.risk_coverage_curve : Risk and coverage of every threshold.
    skood.inspection.RiskCoverageDisplay : The same in a figure.

    Notes
    -----
    **Test.** Of n calibration rows that a threshold accepts, let e be misclassified. That its risk
    is above ``alpha`` has the p-value ``P(Binomial(n, alpha) <= e)``, which is at most
    ``1 - confidence`` where Clopper and Pearson's bound is at most ``alpha``.

    **Many thresholds.** To take the lowest of all with such a p-value would be wrong too often. Up
    to 200 thresholds are tested instead, from a small coverage to a large one, by a fallback
    procedure [4]_: the level ``1 - confidence`` is split in two halves, one at the smallest
    coverage that two errors may have, and one at half of the rows. A threshold whose p-value is at
    most the level so far passes the level on to the next; one that fails loses it. With too few
    rows for that, the whole level begins at one place. In simulations this has the largest coverage
    among procedures of its kind: one place to begin is better where the highest scores have hardly
    an error, but certifies nothing where they have some, and more places, the binary search of [1]_
    and Bonferroni's correction cost more coverage.

    **Validity.** How many rows the tested thresholds accept follows from the number of rows alone,
    never from the errors. The rows above the k-th largest score are, given that score, independent
    draws from all samples above it. So the confidence holds exactly for scores without ties, also
    where the risk rises and falls with the coverage; and with ties, which are accepted or rejected
    together, where the risk does not fall as lower scores are accepted. Scores that differ by
    rounding only, as those of equal inputs in batches of other sizes, count as ties: the threshold
    is above all that rounding may make of the highest rejected score.

    **No threshold.** Where none can be certified, all samples are rejected, and ``fit`` warns with
    the smallest ``alpha`` that these rows can certify. Without an error among them, 59 rows certify
    an ``alpha`` of 0.05, and 299 one of 0.01.

    **Rows.** They are to be independent draws of what the network will see. Rows marked -1 are left
    out: the risk of out-of-distribution samples is not bounded, whose predictions are all wrong.
    Where ``fit`` fits a clone, they go to detectors that learn from them, and to searches. A share
    is drawn without regard to classes, as strata would not be independent draws. Folds are
    refused: there is no such guarantee for a detector that is fitted on all rows, or for several.

    References
    ----------
    .. [1] Y. Geifman, R. El-Yaniv, "Selective classification for deep neural networks", NIPS 2017.
       arXiv:1705.08500
    .. [2] A. N. Angelopoulos, S. Bates, E. J. Candès, M. I. Jordan, L. Lei, "Learn then test:
       calibrating predictive algorithms to achieve risk control", 2021. arXiv:2110.01052
    .. [3] C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in
       the case of the binomial", Biometrika 26, 404-413, 1934. doi:10.1093/biomet/26.4.404
    .. [4] B. L. Wiens, "A fixed sequence Bonferroni procedure for testing multiple endpoints",
       Pharmaceutical Statistics 2, 211-215, 2003. doi:10.1002/pst.64

    Examples
    --------
    A network that errs on one of ten samples, mostly where its logits are close to each other:

    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.calibration import RiskControlledDetector
    >>> from skood.detectors import MaxSoftmaxDetector
    >>> rng = np.random.default_rng(0)
    >>> margin = rng.exponential(4, size=2000)
    >>> A = Activations({"relu": margin[:, None]}, logits=np.c_[margin, np.zeros(2000)])
    >>> y = (rng.random(2000) < 0.5 * np.exp(-margin)).astype(int)
    >>> fitted = MaxSoftmaxDetector().fit(A[:500], y[:500])
    >>> detector = RiskControlledDetector(fitted, alpha=0.02).fit(A[500:], y[500:])
    >>> bool(detector.risk_ < detector.risk_bound_ <= 0.02)
    True
    >>> detector.coverage_ > 0.5
    True
    """

    _parameter_constraints: dict = {
        "detector": [HasMethods("score_samples"), HasMethods("decision_function")],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "cv": [
            StrOptions({"prefit"}),
            Interval(Real, 0, 1, closed="neither"),
            HasMethods(["split", "get_n_splits"]),
            list,
        ],
        "random_state": ["random_state"],
    }
    _n_stages_of_fit = 1

    def __init__(
        self,
        detector: Any,
        *,
        alpha: float = 0.05,
        confidence: float = 0.95,
        cv: Any = "prefit",
        random_state: int | RandomState | None = None,
    ) -> None:
        self.detector = detector
        self.alpha = alpha
        self.confidence = confidence
        self.cv = cv
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: ArrayLike | None = None, *, groups: ArrayLike | None = None) -> Self:
        """Find the threshold of the largest certified coverage, after fitting a clone if wanted.

        Parameters
        ----------
        X : Activations with predictions, or inputs to a pipeline that extracts them
            With ``cv="prefit"`` all that the detector scores. Otherwise rows are selected: arrays,
            tensors, data frames or Activations.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks an out-of-distribution row, which is left out. By default the
            labels that came with the inputs, as from a loader.
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
            If labels or predictions are missing or do not fit, no row is in-distribution, a score
            is NaN, or ``cv`` has several splits or one whose parts overlap.

        Warns
        -----
        UserWarning
            If no threshold can be certified, so that all samples are rejected.
        """
        forget_fit(self)
        if isinstance(self.cv, str):
            fitted, labels = self._read_prefit(X, y)
        else:
            fitted, labels = self._fit_clone(X, y, groups)
        is_wrong = self._errors(fitted.read.samples, labels)
        scores = fitted.read.scores
        refuse_nan_scores(scores, type(detector_of(fitted.detector)).__name__, fitted.rows)
        self.estimator_ = fitted.detector
        self._rows_of_fit = fitted.learnt
        for name in FITTED_ON:
            if hasattr(fitted.detector, name):
                setattr(self, name, getattr(fitted.detector, name))
        self.calibration_rows_ = np.sort(fitted.rows)
        self.n_calibration_samples_ = len(scores)
        self._set_threshold(RankedErrors(scores, is_wrong))
        return self

    def _read_prefit(self, X: Any, y: Any) -> tuple[Fitted, NDArray | None]:
        with refusing_unfitted(self.detector, type(self).__name__):
            read = Read.of(self.detector, X, by_class=False)
        inside, labels, rows = self._in_distribution(read, y)
        return Fitted(self.detector, rows, inside), labels

    def _in_distribution(self, read: Read, y: Any) -> tuple[Read, NDArray | None, Rows]:
        """What was read of the rows that are not marked -1, with their labels and numbers."""
        labels = self._labels(read.samples, y, len(read.scores))
        rows = np.flatnonzero(labels.is_in)
        samples = take_samples(read.samples, rows)
        return Read(samples, read.scores[rows], None), labels.of(rows), rows

    def _fit_clone(self, X: Any, y: Any, groups: Any) -> tuple[Fitted, NDArray | None]:
        labels = self._labels(X, y, n_rows_of(X))
        # A share of each class would not be independent draws.
        known = Labels(None, labels.is_in) if isinstance(self.cv, Real) else labels
        parts = splits(self.cv, X, known, groups, self.random_state)
        if len(parts) > 1:
            raise ValueError(
                f"cv={self.cv!r} makes {len(parts)} splits, but there is no guarantee of the error "
                "rate for several detectors. Hold out a share, such as cv=0.2, give a splitter of "
                "one split, such as GroupShuffleSplit(1), or pass a fitted detector."
            )
        with steps(self, 1, "fits") as told:
            detector = clone(self.detector)
            with told.step("", detector):
                fitted = fit_and_read(detector, X, labels, parts[0], by_class=False)
        return fitted, labels.of(fitted.rows)

    def _labels(self, X: Any, y: Any, n_samples: int) -> Labels:
        if y is None:
            y = X.labels if isinstance(X, Activations) else None
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: class "
                "labels tell which predictions are wrong."
            )
        return Labels.read(X, y, n_samples)

    def _errors(self, samples: Any, labels: NDArray | None) -> NDArray[np.bool_]:
        """Which of some in-distribution samples the network misclassifies."""
        wanted_by = type(self).__name__
        if not isinstance(samples, Activations):
            raise ValueError(
                f"{wanted_by} needs the classes that the network predicts, but "
                f"{type(samples).__name__} carries none: give Activations of a classifier, or "
                "inputs to a pipeline that starts with an ActivationExtractor."
            )
        check_class_labels(samples, labels, wanted_by)
        predictions = np.asarray(samples.predictions)
        refuse_missing(predictions, "predictions")
        check_same_kind(predictions, np.asarray(labels))
        return np.asarray(predictions != labels, dtype=bool)

    def _set_threshold(self, ranked: RankedErrors) -> None:
        found = ranked.largest_certified(self.alpha, self.confidence)
        self.offset_, self.coverage_, self.risk_, self.risk_bound_ = np.inf, 0.0, np.nan, 1.0
        if found is None:
            warn_user(self._why_none(ranked))
            return
        self.offset_, n_accepted, n_wrong = found
        self.coverage_ = n_accepted / ranked.n_rows
        self.risk_ = n_wrong / n_accepted
        self.risk_bound_ = float(upper_bound_of_share(n_wrong, n_accepted, self.confidence))

    def _why_none(self, ranked: RankedErrors) -> str:
        smallest = ranked.smallest_alpha(self.confidence)
        needed = rows_needed(self.alpha, self.confidence)
        return (
            f"No threshold has an error rate of at most alpha={self.alpha:g} with a confidence of "
            f"{self.confidence:g} by {ranked.n_rows} calibration row(s), of which {ranked.n_wrong} "
            "are misclassified: all samples are rejected. "
            + (
                _which_can(float(smallest), self.alpha)
                if smallest
                else "They can certify no alpha."
            )
            + f" alpha={self.alpha:g} needs at least {needed} rows, more where some are wrong."
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
            The scores of the detector, with the sign of this package.

        Raises
        ------
        ValueError
            If the detector refuses the samples, or a score is NaN.
        """
        return self._read(X).scores

    def _read(self, X: Any) -> Read:
        check_is_fitted(self)
        read = Read.of(self.estimator_, X, by_class=False)
        refuse_nan_scores(read.scores, type(detector_of(self.estimator_)).__name__)
        return read

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
            ``score_samples(X) - offset_``: -inf for all where no threshold was certified.

        Raises
        ------
        ValueError
            If the detector refuses the samples, or a score is NaN.
        """
        scores = self.score_samples(X)
        if self.offset_ == np.inf:
            return np.full(len(scores), -np.inf)
        return differences(scores, self.offset_, self.offset_)

    @run_elsewhere("verdicts")
    def predict(self, X: Any) -> NDArray[np.int64]:
        """Predict whether to accept (1) or to reject (-1) the network's prediction.

        Parameters
        ----------
        X : array-like, Activations, or inputs that the detector takes
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def fit_predict(
        self, X: Any, y: ArrayLike | None = None, *, groups: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Fit, then predict the same samples, calibration rows among them.

        Parameters
        ----------
        X : array-like, Activations, or inputs that the detector takes
            As in ``fit``.
        y : array-like of shape (n_samples,)
            As in ``fit``.
        groups : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        return self.fit(X, y, groups=groups).predict(X)

    def score(self, X: Any, y: ArrayLike) -> float:
        """Area under the ROC curve of telling correctly classified from misclassified samples.

        Parameters
        ----------
        X : Activations with predictions, or inputs to a pipeline that extracts them
            Samples.
        y : array-like of shape (n_samples,)
            Class labels; rows marked -1 are left out.

        Returns
        -------
        auroc : float
            1 where every correctly classified sample scores higher, 0.5 for chance. NaN, with
            scikit-learn's ``UndefinedMetricWarning``, where all or none are misclassified.
        """
        read, labels, _ = self._in_distribution(self._read(X), y)
        is_wrong = self._errors(read.samples, labels)
        if is_wrong.all() or not is_wrong.any():
            warn_user(
                f"There is no area under a ROC curve of {(~is_wrong).sum()} correctly classified "
                f"and {is_wrong.sum()} misclassified rows: the score is NaN.",
                UndefinedMetricWarning,
            )
            return np.nan
        return float(roc_auc_score(~is_wrong, read.scores))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.detector).input_tags
        tags.target_tags.required = True
        return tags

    def _expected_failed_checks(self) -> dict[str, str]:
        return failed_classifier_checks(NEEDS_LABELS)


def _which_can(smallest: float, alpha: float) -> str:
    if smallest > alpha:
        return f"The smallest alpha that they can certify is {smallest:.9g}."
    # Which thresholds are tested follows from alpha, so that chance may favour a smaller one.
    return (
        f"By other thresholds, which other values test, they can certify alpha={smallest:.9g}; to "
        "choose alpha by that costs some of the confidence."
    )


complete(RiskControlledDetector, {}, FITTED_ON)
