"""Temperature scaling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from .._batches import row_batches
from .._classes import check_class_labels, class_columns
from .._docstrings import FITTED_ON, OF_LOGITS
from .._elsewhere import run_elsewhere
from .._estimator_checks import THREE_LABELS, failed_label_checks
from .._fit_context import fit_context
from .._marks import in_distribution_rows, take_rows
from .._output import ActivationsOutputMixin
from .._validation import check_activations
from .._values import LOGITS_ADVICE, Floats
from .._warnings import warn_user
from ..activations import Activations
from ._confidence import logits_of


class TemperatureScaler(ActivationsOutputMixin, BaseEstimator):
    """Divide the logits by the temperature that makes confidences fit the labels.

    A network is often more confident than it is accurate. One number corrects most of it [1]_: the
    temperature T above 0 for which ``softmax(logits / T)`` gives the labels of samples that the
    network was not trained on the largest likelihood. The predicted classes do not change.

    Attributes
    ----------
    temperature_ : float
        T. Above 1 for an overconfident network.
    nll_before_ : float
        Mean negative log likelihood of the labels in ``fit``, at temperature 1.
    nll_after_ : float
        The same at temperature T: the smallest there is.

    See Also
    --------
    expected_calibration_error : How far confidences are from accuracies.
    ReliabilityDisplay : Both, before and after, in a figure.
    skood.detectors.EnergyDetector : Has a temperature of its own.
    sklearn.calibration.CalibratedClassifierCV : Calibrates classifiers, with
        ``method="temperature"`` by the same temperature.

    Notes
    -----
    Fit on samples that the network was not trained on: on its training samples a network is
    nearly always right, and no confidence seems too high.

    The logarithm of the likelihood is a concave function of 1 / T, with one maximum at most, which
    is found where its derivative is 0. Where all samples are classified correctly, the likelihood
    keeps growing as T falls to 0; where the logits predict the labels no better than chance, as T
    grows. No temperature is optimal then: ``temperature_`` is 1, the logits do not change, and a
    ``ConvergenceWarning`` says so.

    ``fit`` holds the logits in memory, in their own precision: 4 bytes for each sample and class in
    single precision. What is computed of them takes a few MiB beside.

    ``transform`` leaves the layers and the predictions of ``Activations`` alone. An ordinary array
    is taken as the logits and comes back divided by T, in double precision.

    scikit-learn 1.8 finds the same temperature for a classifier with ``decision_function``, by
    ``CalibratedClassifierCV(FrozenEstimator(classifier), method="temperature")``, and is the choice
    where calibrated probabilities are all that is needed. This one calibrates ``Activations``, so
    that detectors can stand behind it, and leaves out rows marked -1.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural
       networks", ICML 2017. arXiv:1706.04599

    Examples
    --------
    >>> from skood.calibration import TemperatureScaler
    >>> logits = [[4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 0.0]]
    >>> scaler = TemperatureScaler().fit(logits, [0, 0, 1, 1])
    >>> round(scaler.temperature_, 2)
    3.64
    >>> scaler.predict_proba([[4.0, 0.0]]).round(2)
    array([[0.75, 0.25]])
    """

    temperature_: float
    nll_before_: float
    nll_after_: float

    _entries = {**FITTED_ON, **OF_LOGITS}
    _parameter_constraints: dict[str, Any] = {}

    def __init__(self) -> None:
        # The bases have no types, so that a type checker would take any parameters.
        pass

    @run_elsewhere("fit_on_few")
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Activations | ArrayLike, y: ArrayLike) -> Self:
        """Find the temperature of the largest likelihood.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_classes)
            Activations, of which the logits alone are read, or the logits.
        y : array-like of shape (n_samples,)
            Class of each sample: one of ``X.classes``, or the number of a column where ``X`` is an
            array. -1 marks an out-of-distribution sample, which is left out.

        Returns
        -------
        self : object
            Fitted scaler.

        Raises
        ------
        ValueError
            If ``X`` carries no logits or fewer than two classes, a logit is not finite, ``y`` is
            missing or holds anything but classes and -1, or no sample is in-distribution.

        Warns
        -----
        ConvergenceWarning
            If no temperature is optimal: see the notes of the class.
        """
        known = self._validate(X, reset=True)
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        known, labels = take_rows(known, y, in_distribution_rows(y, len(known)))
        check_class_labels(known, labels, type(self).__name__)
        excess = _Excess(np.asarray(known.logits), class_columns(labels, known.classes))
        self.temperature_ = 1.0
        if (reason := excess.why_none_is_optimal()) is None:
            self.temperature_ = excess.optimal_temperature()
        else:
            message = f"No temperature is optimal, and temperature_ is 1: {reason}."
            warn_user(message, ConvergenceWarning)
        self.nll_before_ = excess.negative_log_likelihood(1.0)
        self.nll_after_ = excess.negative_log_likelihood(self.temperature_)
        return self

    @overload
    def transform(self, X: Activations) -> Activations: ...

    @overload
    def transform(self, X: ArrayLike) -> NDArray[np.float64]: ...

    @run_elsewhere("transform")
    def transform(self, X: Activations | ArrayLike) -> Activations | NDArray[np.float64]:
        """Divide the logits by the temperature.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_classes)
            Activations with logits, or the logits.

        Returns
        -------
        X_out : Activations or ndarray of shape (n_samples, n_classes)
            The same with other logits; an array where ``X`` is one.
        """
        logits = self._scaled_logits(X)
        return X.assign(logits=logits) if isinstance(X, Activations) else logits

    def predict_proba(self, X: Activations | ArrayLike) -> NDArray[np.float64]:
        """Predict the calibrated probability of each class.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_classes)
            Activations with logits, or the logits.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            ``softmax(logits / temperature_)``, in double precision.
        """
        probabilities: NDArray[np.float64] = softmax(self._scaled_logits(X), axis=1)
        return probabilities

    def _scaled_logits(self, X: Activations | ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        logits = np.asarray(self._validate(X, reset=False).logits)
        return np.divide(logits, self.temperature_, dtype=np.float64)

    def _validate(self, X: Activations | ArrayLike, *, reset: bool) -> Activations:
        """The logits of ``X`` as floating-point numbers, and their classes."""
        classes = None
        if isinstance(X, Activations):
            # Layers that are not read here may stay on disk.
            X, classes = Activations({"logits": logits_of(X, type(self).__name__)}), X.classes
        checked = check_activations(
            self, X, reset=reset, ensure_min_features=2 if reset else 1, advice=LOGITS_ADVICE
        )
        logits = np.asarray(checked)
        if logits.dtype.kind != "f":
            logits = logits.astype(np.float64)
        return Activations({"logits": logits}, logits=logits, classes=classes)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _expected_failed_checks(self) -> dict[str, str]:
        return failed_label_checks(THREE_LABELS)


class _Excess:
    """By how much each logit of a sample exceeds that of its true class, some rows at a time.

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
        The logits, as floating-point numbers.
    columns : ndarray of shape (n_samples,)
        The column of each true class.
    """

    def __init__(self, logits: NDArray, columns: NDArray[np.intp]) -> None:
        self._logits, self._columns = logits, columns
        ends = [(float(block.min()), float(block.max())) for block in self._blocks()]
        self._largest = max(high for _, high in ends)
        self._scale = max(max(-low, high) for low, high in ends)

    def _blocks(self) -> Iterator[Floats]:
        for rows in row_batches(*self._logits.shape, n_copies=4):
            block = self._logits[rows].astype(np.float64)
            block -= block[np.arange(len(block)), self._columns[rows], np.newaxis]
            yield block

    def why_none_is_optimal(self) -> str | None:
        """Why the likelihood is largest at no temperature above 0; None where it is at one."""
        rounding = np.finfo(np.float64).eps * self._scale
        if sum(float(block.sum()) for block in self._blocks()) >= -rounding * self._logits.size:
            return (
                "the logits predict the labels no better than chance. Check that y holds the "
                "classes of their columns"
            )
        if self._largest <= rounding:
            return (
                "all samples are classified correctly. Fit on more samples, which the network was "
                "not trained on"
            )
        return None

    def negative_log_likelihood(self, temperature: float) -> float:
        """Mean negative log likelihood of the true classes."""
        sums = (logsumexp(block / temperature, axis=1).sum() for block in self._blocks())
        return float(sum(sums)) / len(self._logits)

    def optimal_temperature(self) -> float:
        """Temperature at which the derivative of the negative log likelihood is 0."""
        low = high = 0
        while self._derivative(low) > 0:
            low -= 1
        while self._derivative(high) < 0:
            high += 1
        return float(self._scale / 2.0 ** brentq(self._derivative, low, high, xtol=1e-13))

    def _derivative(self, log_inverse: float) -> float:
        """With respect to 1 / T, of which it is an increasing function."""
        total = 0.0
        for block in self._blocks():
            block /= self._scale  # the search then starts near its end for logits of any size
            weights = np.exp(2.0**log_inverse * (block - block.max(axis=1, keepdims=True)))
            means = np.einsum("ij,ij->i", weights, block) / weights.sum(axis=1)
            total += float(means.sum())
        return total
