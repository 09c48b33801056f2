"""A classifier with a background class, which is trained on outliers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import check_random_state, check_X_y
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .._diagram import EstimatorMixin, MembersMixin
from .._docstrings import FITTED_ON, complete
from .._fit_context import fit_context
from .._marks import in_distribution_rows, plain_labels, read_labels
from .._progress import steps
from .._sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    check_own_parameters,
)
from .._warnings import warn_user
from ._outliers import OUTLIER_KINDS, OutlierKind, make_outliers
from ._rejection import RejectingClassifierMixin, label_rejected

Samples = NDArray[np.floating]

_DTYPES = [np.float64, np.float32]
# Error of the sum of probabilities in half precision.
_SUM_TOLERANCE = 0.01
# Error of a probability in single precision, which may be below 0.
_ROUNDING = 1e-6


class DecoyClassClassifier(
    EstimatorMixin,
    MembersMixin,
    RejectingClassifierMixin,
    ClassifierMixin,
    MetaEstimatorMixin,
    BaseEstimator,
):
    """Classifier with a decoy class (background or reject class) that is trained on outliers.

    A network with K + 1 outputs learns the K classes and, as one more class, outliers: samples that
    belong to none of them [1]_ [2]_. This is outlier exposure with a reject class. The probability
    of the decoy class is that of a new sample being an outlier. Outliers come from the user, who
    marks them by -1 among the labels, or are made from the training samples.

    Parameters
    ----------
    estimator : estimator
        The classifier to train, with ``predict_proba``: a ``skorch.NeuralNetClassifier`` whose
        module has K + 1 outputs, or any classifier of scikit-learn. It is cloned.
        Progress, early stopping, checkpoints and seeds are its own. Most skorch nets need ``X``
        of dtype float32.
    outliers : {"mixed", "noise", "rotated"}, callable, list or None, default="mixed"
        The outliers to make from the training samples:

        - "mixed": weighted means of two samples of different classes, with weights between 0.4
          and 0.6. The idea is that of [3]_, which mixes hidden activations;
        - "noise": every feature uniform between its smallest and largest training value;
        - "rotated": images turned by 90 degrees, to the left or to the right, for ``X`` of shape
          (n_samples, n, n) or (n_samples, channels, n, n); as in [4]_, but without half turns,
          under which many objects look the same;
        - a function ``f(X, y, random_state)`` of the training samples, their labels and a
          ``RandomState``; it returns any number of outliers, in an array like ``X``;
        - a list of these; the number is divided evenly among those that have a name;
        - None: none are made.

        Rows with ``y == -1`` are trained on as outliers in any case.
    outlier_ratio : float, default=0.5
        Number of outliers to make for each training sample of the K classes. Functions return any
        number.
    false_alarm_rate : "auto" or float in (0, 0.5], default="auto"
        Sets the threshold. "auto": 0.5, so that a sample is rejected that is more probably a decoy
        than of all classes together. A float: the fraction of training samples of the K classes to
        reject. More new samples are rejected than that, as the estimator was not trained on them.
    reject_label : object, default=None
        What ``predict`` returns for samples below the threshold. With None it predicts a class for
        all samples.
    random_state : int, RandomState instance or None, default=None
        Draws the outliers and shuffles the samples. An int gives the same in every call. The
        estimator has a random state of its own.

    Attributes
    ----------
    estimator_ : estimator
        The fitted classifier. Its classes are 0 to K - 1 and, for outliers, K.
    classes_ : ndarray of shape (K,)
        The class labels, without -1.
    offset_ : float
        Threshold on ``score_samples``.
    n_outliers_ : int
        Number of outliers in the training, given and made.
    n_features_in_ : int
        Size of the second axis of ``X``.

    See Also
    --------
    DenoisingClassifier : A classifier that rejects images by their reconstruction error.
    skood.make_monitor : A monitor for a network that is already trained.

    Notes
    -----
    The score is computed from the probabilities in float64 such that neither a score near 0 nor
    one near 1 is rounded off, even if the probabilities are float32.

    The decoy class covers samples that resemble the outliers. To detect others as well, rank by
    ``score_samples(X) * predict_proba(X).max(axis=1)``, the probability of the most probable class
    among all K + 1.

    Rows marked -1 in the data of a search are in the training parts only with
    ``OODKFold(ood_in_train=True)``, but always in the final fit on all data, unless
    ``refit=False``.

    ``estimator_`` itself has K + 1 classes: the predictions that an
    :class:`~skood.ActivationExtractor` takes from it may be the decoy class.

    References
    ----------
    .. [1] A. R. Dhamija, M. Günther and T. E. Boult, "Reducing network agnostophobia", NeurIPS
       2018. https://papers.nips.cc/paper/8129-reducing-network-agnostophobia
    .. [2] S. Thulasidasan, S. Thapa, S. Dhaubhadel, G. Chennupati, T. Bhattacharya and J. Bilmes,
       "An effective baseline for robustness to distributional shift", 2021. arXiv:2105.07107.
    .. [3] D.-W. Zhou, H.-J. Ye and D.-C. Zhan, "Learning placeholders for open-set recognition",
       CVPR 2021. arXiv:2103.15086.
    .. [4] J. Tack, S. Mo, J. Jeong and J. Shin, "CSI: Novelty detection via contrastive learning on
       distributionally shifted instances", NeurIPS 2020. arXiv:2007.08176.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood.training import DecoyClassClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MLPClassifier((20,), learning_rate_init=0.03, random_state=0)
    >>> classifier = DecoyClassClassifier(
    ...     network, outliers="noise", reject_label=-1, random_state=0
    ... ).fit(X, y)
    >>> far_away = [[4.5, 4.4, 6.5, 0.2], [7.5, 2.1, 1.1, 2.4]]
    >>> classifier.predict(np.vstack([X[:2], far_away]))
    array([ 0,  0, -1, -1])
    >>> bool(classifier.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        "estimator": [HasMethods(["fit", "predict_proba"])],
        "outliers": [StrOptions(set(OUTLIER_KINDS)), callable, list, tuple, None],
        "outlier_ratio": [Interval(Real, 0, None, closed="neither")],
        "false_alarm_rate": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "reject_label": "no_validation",
        "random_state": ["random_state"],
    }

    _learns_from_ood = True
    _n_stages_of_fit = 1

    def __init__(
        self,
        estimator: Any,
        *,
        outliers: OutlierKind | Sequence[OutlierKind] | None = "mixed",
        outlier_ratio: float = 0.5,
        false_alarm_rate: float | str = "auto",
        reject_label: Any = None,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.outliers = outliers
        self.outlier_ratio = outlier_ratio
        self.false_alarm_rate = false_alarm_rate
        self.reject_label = reject_label
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train a clone of the estimator on the classes and on outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Training samples, of any number of dimensions that the estimator takes. Float32 is kept.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.

        Returns
        -------
        self : object
            Fitted classifier.

        Raises
        ------
        ValueError
            If no sample is of a class, there are neither given nor made outliers, outliers
            of the kind cannot be made of such samples, or the estimator does not give K + 1
            probabilities that sum to 1.
        """
        labels = None if y is None else read_labels(y, warn=True)
        samples, labels = validate_data(self, X, labels, dtype=_DTYPES, allow_nd=True)
        samples, labels, given = _split_outliers(samples, labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(given) and self.classes_.tolist() == [1]:
            warn_user(
                "y holds the labels 1 and -1 alone: the rows marked -1 are trained on as outliers. "
                "If -1 is the other one of two classes, give them other labels, such as 0 and 1."
            )
        rng = check_random_state(self.random_state)
        outliers = np.concatenate([given, self._make_outliers(samples, labels, rng)])
        if (n_outliers := len(outliers)) == 0:
            raise ValueError(
                "With outliers=None the decoy class is trained on the rows marked "
                "out-of-distribution (y == -1), but there are none."
            )
        self.n_outliers_ = n_outliers
        # In random order, for a part of the rows may be split off, to stop training early.
        order = rng.permutation(len(samples) + n_outliers)
        targets = np.concatenate([codes, np.full(n_outliers, len(self.classes_))])
        estimator = clone(self.estimator)
        with steps(self, 1, "fits") as told, told.step("", estimator):
            self.estimator_ = _fit(
                estimator,
                np.concatenate([samples, outliers])[order],
                targets.astype(np.int64)[order],
                n_outputs=len(self.classes_) + 1,
            )
        self.offset_ = self._threshold(samples)
        return self

    def make_outliers(self, X: ArrayLike, y: ArrayLike) -> NDArray[np.floating]:
        """Make the outliers that ``fit`` makes from these samples, to look at them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Training samples.
        y : array-like of shape (n_samples,)
            Class labels; samples marked -1 are left out.

        Returns
        -------
        outliers : ndarray of shape (n_outliers, n_features) or (n_outliers, ...)
            The outliers. ``fit`` makes the same ones if ``random_state`` is an int.

        Raises
        ------
        ValueError
            If no sample is of a class, or such outliers cannot be made from them.
        """
        check_own_parameters(self)
        labels = None if y is None else read_labels(y)
        samples, labels, _ = _split_outliers(*check_X_y(X, labels, dtype=_DTYPES, allow_nd=True))
        return self._make_outliers(samples, labels, check_random_state(self.random_state))

    def _make_outliers(self, X: Samples, y: NDArray, rng: RandomState) -> Samples:
        if self.outliers is None:
            return X[:0]
        kinds: Sequence[Any] = (
            self.outliers if isinstance(self.outliers, list | tuple) else [self.outliers]
        )
        names = sorted(OUTLIER_KINDS)
        if not kinds or not all(callable(kind) or kind in names for kind in kinds):
            raise ValueError(
                f"A list of outliers holds functions or names among {names}, got {kinds!r}."
            )
        n_outliers = max(1, round(self.outlier_ratio * len(X)))
        return make_outliers(kinds, X, y, n_outliers, rng)

    def _threshold(self, X: Samples) -> float:
        if isinstance(self.false_alarm_rate, str):
            self._joint_proba(X[:1])  # refuses an estimator with other outputs
            return 0.5
        return float(np.percentile(_inside(self._joint_proba(X)), 100 * self.false_alarm_rate))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict the probabilities of the classes, given that a sample is of one of them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples.

        Returns
        -------
        proba : ndarray of shape (n_samples, K)
            Rows sum to 1. Where the decoy class has the probability 1, all are equal.
        """
        classes = self._validated_proba(X)[:, :-1]
        total = classes.sum(axis=1, keepdims=True)
        equal = np.full_like(classes, 1 / len(self.classes_))
        return np.divide(classes, total, out=equal, where=total > 0)

    def decoy_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict the probability of the decoy class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples.

        Returns
        -------
        proba : ndarray of shape (n_samples,)
            Probability that a sample is an outlier, not rounded near 0.
        """
        return self._validated_proba(X)[:, -1]

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Score samples: the higher, the more in-distribution.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Sum of the probabilities of the K classes, which is 1 minus that of the decoy class.
        """
        return _inside(self._validated_proba(X))

    def predict(self, X: ArrayLike) -> NDArray:
        """Predict the most probable class, or reject.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Class labels, and ``reject_label`` for out-of-distribution samples where it is not
            None. The dtype is object where the two are of different kinds.
        """
        proba = self._validated_proba(X)
        labels = self.classes_[proba[:, :-1].argmax(axis=1)]
        return label_rejected(labels, self._is_rejected(_inside(proba)), self.reject_label)

    def _validated_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        return self._joint_proba(validate_data(self, X, reset=False, dtype=_DTYPES, allow_nd=True))

    def _joint_proba(self, X: Samples) -> NDArray[np.float64]:
        """Probabilities of the classes and, in the last column, of the decoy class."""
        proba = np.asarray(self.estimator_.predict_proba(X), dtype=np.float64)
        _check_outputs(proba.shape, len(self.classes_) + 1)
        total = proba.sum(axis=1, keepdims=True)
        if proba.min() < -_ROUNDING or not np.allclose(total, 1, atol=_SUM_TOLERANCE):
            raise ValueError(
                "The estimator's predict_proba must give probabilities that sum to 1, got sums "
                f"from {total.min():.3g} to {total.max():.3g}. A skorch net whose module returns "
                "logits needs criterion=torch.nn.CrossEntropyLoss."
            )
        # The sum of float32 is 1 but for errors far larger than the smallest probabilities.
        proba = np.maximum(proba, 0)
        return proba / proba.sum(axis=1, keepdims=True)

    def _expected_failed_checks(self) -> dict[str, str]:
        return {
            "check_classifiers_classes": (
                "The check takes -1 for the label of a class. Here it marks outliers."
            )
        }


complete(DecoyClassClassifier, {}, {"feature_names_in_": FITTED_ON["feature_names_in_"]})


def _split_outliers(X: Samples, y: NDArray) -> tuple[Samples, NDArray, Samples]:
    """Samples of the classes, their labels, and the samples that are marked as outliers."""
    inside = in_distribution_rows(y, len(X))
    labels = plain_labels(y[inside])
    check_classification_targets(labels)
    return X[inside], labels, np.delete(X, inside, axis=0)


def _inside(joint_proba: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of all classes but the decoy class."""
    return joint_proba[:, :-1].sum(axis=1)


def _fit(estimator: Any, X: Samples, y: NDArray[np.int64], *, n_outputs: int) -> Any:
    skorch = sys.modules.get("skorch")
    if skorch is None or not isinstance(estimator, skorch.NeuralNet):
        return estimator.fit(X, y)
    # As its fit does, with a check of the outputs in between: the loss fails on a class without an
    # output, and a GPU is unusable after that. Outputs of a single sample may lack an axis.
    estimator.initialize()
    outputs = estimator.evaluation_step((X[:2], None), training=False)
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    _check_outputs(tuple(logits.shape), n_outputs)
    return estimator.partial_fit(X, y)


def _check_outputs(shape: tuple[int, ...], n_outputs: int) -> None:
    if shape[1:] != (n_outputs,):
        raise ValueError(
            f"The estimator must have {n_outputs} outputs, one for each of {n_outputs - 1} classes "
            f"and one for the decoy class, got outputs of shape {shape}."
        )
