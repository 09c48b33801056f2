"""Gradient-sign perturbations of the inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from .._diagram import DocLinkMixin
from .._logits import require_logits
from .._sklearn import Interval, check_own_parameters
from ..networks import LossGradients, Perturbation


class BasePerturbation(DocLinkMixin, BaseEstimator, Perturbation):
    """Moves inputs by ``epsilon / std`` against the sign of the gradient of a loss.

    Parameters
    ----------
    epsilon : float
        Size of the change.
    std : float or array-like of shape (n_channels,)
        What the inputs were divided by.
    """

    _parameter_constraints: dict = {
        "epsilon": [Interval(Real, 0, None, closed="left")],
        "std": [Interval(Real, 0, None, closed="neither"), "array-like", None],
    }

    def __init__(self, epsilon: float, std: ArrayLike | None) -> None:
        self.epsilon = epsilon
        self.std = std

    def layers(self) -> list[str]:
        """List the layers whose spatial means the loss depends on.

        Returns
        -------
        names : list of str
            Empty where the loss depends on the logits alone.
        """
        return []

    @abstractmethod
    def gradients(self, logits: NDArray | None, means: Mapping[str, NDArray]) -> LossGradients:
        """Gradient of the loss of each sample, up to a positive factor.

        Parameters
        ----------
        logits : ndarray of shape (n_samples, n_classes) or None
            Logits of the network, where it has any.
        means : mapping of str to ndarray of shape (n_samples, n_units)
            Values of ``layers()``, averaged over space.

        Returns
        -------
        gradients : LossGradients
            With the attribute ``logits``, an ndarray of the shape of the logits or None, and
            ``means``, a dict of ndarrays by layer.
        """

    def steps(self, shape: Sequence[int]) -> NDArray[np.float64]:
        """Size of the change of each channel.

        Parameters
        ----------
        shape : sequence of int
            Shape of the inputs, (n_samples, n_channels, ...).

        Returns
        -------
        steps : ndarray
            In a shape that broadcasts to that of the inputs.

        Raises
        ------
        ValueError
            If ``std`` has not one positive value for each channel.
        """
        std = np.asarray(1.0 if self.std is None else self.std, dtype=np.float64)
        if std.ndim == 0:
            return np.asarray(self.epsilon / std)
        if std.shape != tuple(shape[1:2]):
            raise ValueError(
                f"std has shape {std.shape}, but the inputs have shape {tuple(shape)}: one value "
                "for each channel, the second axis, is expected."
            )
        if not (np.isfinite(std).all() and (std > 0).all()):
            raise ValueError(f"std must be positive, got {self.std!r}.")
        return (self.epsilon / std).reshape(-1, *[1] * (len(shape) - 2))

    def content(self) -> tuple[str, dict[str, Any]]:
        """Everything that changes the result, as a cache key.

        Returns
        -------
        name : str
            Name of the class.
        params : dict
            Parameters, and what a detector has learnt.
        """
        return type(self).__name__, self.get_params(deep=False)

    def check(self, known: Sequence[str]) -> None:
        """Check the parameters, and that the network has the layers that are needed.

        Parameters
        ----------
        known : sequence of str
            Names of the layers of the network.

        Raises
        ------
        ValueError
            If a parameter is not valid, or a layer is missing.
        """
        check_own_parameters(self)
        if unknown := [name for name in self.layers() if name not in known]:
            raise ValueError(
                f"The detector of {type(self).__name__} was fitted to the layers {unknown}, which "
                f"the network does not have; its layers are {known}."
            )


class ODIN(BasePerturbation):
    """Move inputs towards the class that the network predicts for them.

    The parameter ``perturbation`` of :class:`~skood.ActivationExtractor`. An input ``x`` becomes

    ``x - epsilon / std * sign(gradient of the cross-entropy of softmax(logits / temperature))``,

    where the cross-entropy is that of the predicted class. It raises the confidence of
    in-distribution samples more than that of others. Layers and logits are then those of the
    changed input; the predictions stay those of the network for ``x``.

    Parameters
    ----------
    epsilon : float, default=0.0014
        Size of the change, in units of inputs that were not standardised yet.
    temperature : float, default=1000.0
        What the logits are divided by. At a large one, all other classes count alike;
        at a small one, that with the next largest logit counts most.
    std : float or array-like of shape (n_channels,), default=None
        What the inputs were divided by when they were standardised: one value, or one for each
        channel, which is the second axis. None stands for 1.

    See Also
    --------
    MahalanobisPerturbation : Moves inputs towards the nearest class in the space of features.
    skood.detectors.MaxSoftmaxDetector : With the same ``temperature``, the score of the paper.

    Notes
    -----
    Where the gradient is exactly 0, the input is not changed. The changed input is not clipped to
    a range.

    References
    ----------
    .. [1] S. Liang, Y. Li, R. Srikant, "Enhancing the reliability of out-of-distribution
       image detection in neural networks", ICLR 2018. arXiv:1706.02690

    Examples
    --------
    >>> from scipy.special import softmax
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import ActivationExtractor
    >>> from skood.extraction import ODIN
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MLPClassifier((8, 5), activation="tanh", max_iter=2000, random_state=0).fit(X, y)
    >>> plain = ActivationExtractor(network).fit_transform(X)
    >>> moved = ActivationExtractor(network, perturbation=ODIN(0.01)).fit_transform(X)
    >>> before, after = (softmax(A.logits / 1000, axis=1).max(axis=1) for A in (plain, moved))
    >>> bool((after > before).all())
    True
    >>> bool((moved.predictions == network.predict(X)).all())
    True
    """

    _parameter_constraints: dict = {
        **BasePerturbation._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self, epsilon: float = 0.0014, temperature: float = 1000.0, *, std: ArrayLike | None = None
    ) -> None:
        super().__init__(epsilon, std)
        self.temperature = temperature

    def gradients(self, logits: NDArray | None, means: Mapping[str, NDArray]) -> LossGradients:
        """Gradient of the cross-entropy of the predicted class, up to a positive factor.

        Parameters
        ----------
        logits : ndarray of shape (n_samples, n_classes) or None
            Logits of the network.
        means : mapping of str to ndarray of shape (n_samples, n_units)
            Not used.

        Returns
        -------
        gradients : LossGradients
            With respect to the logits.

        Raises
        ------
        ValueError
            If there are no logits.
        """
        logits = require_logits(logits, "ODIN")
        scaled = logits.astype(np.float64) / self.temperature
        predicted = np.arange(len(logits)), logits.argmax(axis=1)
        # The gradient of each sample, divided by the probability of all other classes: the sign
        # is the same, and confident samples do not get a gradient that rounds to 0.
        scaled[predicted] = -np.inf
        gradient = softmax(scaled, axis=1)
        gradient[predicted] = -1
        return LossGradients(gradient, {})


class MahalanobisPerturbation(BasePerturbation):
    """Move inputs towards the class that is nearest in the space of features.

    The parameter ``perturbation`` of :class:`~skood.ActivationExtractor`. An input ``x`` becomes

    ``x - epsilon / std * sign(gradient of the squared Mahalanobis distance)``,

    where the distance is that of the features to the nearest class mean; of several layers, the
    squared distances are added. Layers and logits are then those of the changed input; the
    predictions stay those of the network for ``x``.

    Parameters
    ----------
    detector : MahalanobisDetector
        A fitted :class:`~skood.detectors.MahalanobisDetector`, or another object with dicts
        ``class_means_`` and ``precision_`` by layer; with ``normalize=True``, these are of features
        divided by their norm. It must have been fitted to layers of the
        network under their own names, feature maps as means over space, such as
        ``PoolingReducer(pooling="avg")`` yields. Clones share it.
    epsilon : float, default=0.0014
        Size of the change, in units of inputs that were not standardised yet.
    std : float or array-like of shape (n_channels,), default=None
        What the inputs were divided by when they were standardised: one value, or one for each
        channel, which is the second axis. None stands for 1.

    See Also
    --------
    ODIN : Moves inputs towards the predicted class.
    skood.detectors.MahalanobisDetector : Yields means and precisions, and scores the result.

    Notes
    -----
    Where the gradient is exactly 0, the input is not changed. The changed input is not clipped to
    a range. The nearest class is found in each layer on its own. A layer of tokens counts with the
    mean of all of them, padding among them.

    References
    ----------
    .. [1] K. Lee, K. Lee, H. Lee, J. Shin, "A simple unified framework for detecting
       out-of-distribution samples and adversarial attacks", NeurIPS 2018. arXiv:1807.03888

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import ActivationExtractor
    >>> from skood.detectors import MahalanobisDetector
    >>> from skood.extraction import MahalanobisPerturbation
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MLPClassifier((8, 5), max_iter=2000, random_state=0).fit(X, y)
    >>> extractor = ActivationExtractor(network, "hidden_1")
    >>> plain = extractor.fit_transform(X)
    >>> detector = MahalanobisDetector().fit(plain, y)
    >>> extractor = extractor.set_params(perturbation=MahalanobisPerturbation(detector, 0.05))
    >>> moved = extractor.fit_transform(X)
    >>> gain = detector.score_samples(moved) - detector.score_samples(plain)
    >>> bool(gain.mean() > 0)
    True
    """

    _parameter_constraints: dict = {
        **BasePerturbation._parameter_constraints,
        "detector": "no_validation",
    }

    def __init__(
        self, detector: Any, epsilon: float = 0.0014, *, std: ArrayLike | None = None
    ) -> None:
        super().__init__(epsilon, std)
        self.detector = detector

    def layers(self) -> list[str]:
        """List the layers that the detector was fitted to.

        Returns
        -------
        names : list of str
            In the order of the detector.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        TypeError
            If it has no class means and precisions by layer.
        """
        return list(self._statistics())

    def _statistics(self) -> dict[str, tuple[NDArray, NDArray]]:
        """Class means and precision of each layer."""
        means = getattr(self.detector, "class_means_", None)
        precisions = getattr(self.detector, "precision_", None)
        if isinstance(means, Mapping) and isinstance(precisions, Mapping) and means:
            return {name: (np.asarray(means[name]), np.asarray(precisions[name])) for name in means}
        if hasattr(self.detector, "fit"):
            check_is_fitted(self.detector)
        raise TypeError(
            "detector must have the dicts class_means_ and precision_, which a fitted "
            f"MahalanobisDetector has; got {self.detector!r}."
        )

    def _normalizes(self) -> bool:
        return bool(getattr(self.detector, "normalize", False))

    def gradients(self, logits: NDArray | None, means: Mapping[str, NDArray]) -> LossGradients:
        """Gradient of the sum of the squared distances, up to a positive factor.

        Parameters
        ----------
        logits : ndarray of shape (n_samples, n_classes) or None
            Not used.
        means : mapping of str to ndarray of shape (n_samples, n_units)
            Features: values of ``layers()``, averaged over space.

        Returns
        -------
        gradients : LossGradients
            With respect to the features.

        Raises
        ------
        ValueError
            If the detector was fitted to other numbers of units.
        """
        gradient_of = _normalized_gradient if self._normalizes() else _distance_gradient
        gradients = {
            name: gradient_of(name, means[name], *statistics)
            for name, statistics in self._statistics().items()
        }
        # Only the sign of the input's gradient counts, and half precision could not hold the rest.
        sizes = [np.abs(gradient).max(axis=1) for gradient in gradients.values()]
        largest = np.max(sizes, axis=0)
        scale = np.where(largest > 0, largest, 1)[:, np.newaxis]
        return LossGradients(None, {name: g / scale for name, g in gradients.items()})

    def content(self) -> tuple[str, dict[str, Any]]:
        """Everything that changes the result, as a cache key.

        Returns
        -------
        name : str
            Name of the class.
        params : dict
            Parameters, with the means and precisions in place of the detector.
        """
        name, params = super().content()
        return name, {**params, "detector": (self._statistics(), self._normalizes())}

    def __sklearn_clone__(self) -> MahalanobisPerturbation:
        # A clone of the detector would not be fitted.
        params = self.get_params(deep=False)
        detector = params.pop("detector")
        return type(self)(detector, **{name: clone(p, safe=False) for name, p in params.items()})


def _distance_gradient(
    layer: str, features: NDArray, class_means: NDArray, precision: NDArray
) -> NDArray[np.float64]:
    """Gradient of half the squared distance to the nearest class."""
    if features.shape[1] != class_means.shape[1]:
        raise ValueError(
            f"The detector of MahalanobisPerturbation knows {class_means.shape[1]} units in layer "
            f"{layer!r}, but the mean over space has {features.shape[1]}."
        )
    precision = (precision + precision.T) / 2
    projected = class_means @ precision
    distances = (projected * class_means).sum(axis=1) / 2 - features @ projected.T
    return features @ precision - projected[distances.argmin(axis=1)]


def _normalized_gradient(
    layer: str, features: NDArray, class_means: NDArray, precision: NDArray
) -> NDArray[np.float64]:
    """The same for features divided by their norm; 0 where there is none."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    norms = np.where(norms > 0, norms, np.inf)
    units = features / norms
    gradient = _distance_gradient(layer, units, class_means, precision)
    along = (gradient * units).sum(axis=1, keepdims=True)
    return (gradient - along * units) / norms
