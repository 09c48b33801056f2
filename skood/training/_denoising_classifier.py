"""A classifier that also learns to remove noise, and rejects images that it cannot reconstruct."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from skorch.dataset import ValidSplit
from skorch.utils import is_dataset, to_numpy
from torch import Tensor, nn

from .._progress import telling_callbacks
from .._sklearn import (
    Interval,
    StrOptions,
    callback_management_context,
    validate_parameter_constraints,
)
from ._denoising_training import DenoisingTraining, ResidualDenoiser
from ._images import (
    add_noise,
    check_disguises,
    check_images,
    check_sides,
    cover_square,
    steps_of,
    turn_quarter,
)
from ._penalties import OverconfidencePenalty
from ._rejection import RejectingClassifierMixin, infer_classes, label_rejected
from ._rejection_rule import Outputs, RejectionRule

_TENTH_HELD_OUT = ValidSplit(10, stratified=True)


class DenoisingClassifier(RejectingClassifierMixin, DenoisingTraining):
    """Classifier and denoising autoencoder with a reject option, for images.

    A residual encoder is shared by a classifier and a decoder [1]_. In training, images are
    corrupted with Gaussian noise and a random square, and the decoder learns to reconstruct the
    clean image. An image is out-of-distribution if the classifier is not confident enough, or if
    the reconstruction error is larger than that of images made to be unlike the known ones.

    It is a net of skorch: progress, early stopping, checkpoints, learning rate schedules and the
    device are skorch's own parameters and callbacks.

    Parameters
    ----------
    module : torch.nn.Module class or instance, default=ResidualDenoiser
        The network, which turns images of shape (n, channels, height, width) into logits and
        images. A class is called with ``n_channels``, ``n_classes`` and the parameters
        ``module__*``; the default one takes ``module__width=32``, the channels of its first stage.
    criterion : torch loss class, default=OverconfidencePenalty
        Loss of logits and classes; ``criterion__penalty_weight`` is the weight of its penalty.
    reconstruction_weight : float, default=10.0
        Weight of the mean squared error of the pixels. Published without a weight; that error is
        small where pixels lie between 0 and 1.
    classification_weight : float, default=1.0
        Weight of the criterion.
    spread_weight : float, default=0.1
        Weight of the penalty of :class:`SpreadPenalty`. Too large a weight costs accuracy.
    noise_std : float, default=0.3
        Standard deviation of the Gaussian noise, in units of the pixels.
    square : (float, float), default=(0.36, 0.5)
        Smallest and largest side of the random square in training, as fractions of the shorter
        side of the image: 10 to 14 of 28 pixels.
    clean_fraction : float in [0, 1], default=0.5
        Fraction of the training images that are not corrupted. With 0, as published, all of them
        are; the statistics of batch norm are then not those of the images in prediction.
    pseudo_ood : tuple of str, default=("rotation", "occlusion")
        How held-out images become unlike known ones, to set the thresholds: "rotation" turns them
        by 90 or 270 degrees, "occlusion" covers them by a larger square, "decoder" turns them and
        passes them through the decoder. Steps can be joined by "+" and are done in that order, with
        "noise" for the Gaussian noise of the training: published is ``("noise+rotation+decoder",
        "noise+occlusion+decoder")``.
    occlusion : (float, float), default=(0.57, 0.71)
        Smallest and largest side of that larger square: 16 to 20 of 28 pixels.
    softmax_threshold : "auto" or float in [0, 1], default="auto"
        Smallest probability of the predicted class that is accepted. "auto" is the value that best
        discriminates held-out images from those unlike them, together with the other threshold; see
        the notes.
    error_quantile : "auto", float in [0, 1] or None, default="auto"
        The largest reconstruction error that is accepted, as a quantile of the errors of the images
        unlike known ones, 0 for the smallest of them. "auto" is chosen together with the other
        threshold. With None only the classifier decides.
    reject_label : object, default=None
        What ``predict`` returns for an out-of-distribution image. None: its most probable class.
    random_state : int, default=None
        Seed of the initial weights, the order of the images, the noise and the thresholds. Torch's
        global random state is restored afterwards, so seeds hold for one thread at a time. None
        uses the global state, as skorch does.
    optimizer : torch optimizer class, default=torch.optim.Adam
        Optimizer.
    lr : float, default=0.001
        Learning rate.
    train_split : callable, default=ValidSplit(10, stratified=True)
        Holds out images for ``valid_loss`` and the thresholds. Without one, which is not advised,
        the thresholds come from the training images.
    **kwargs
        Further parameters of ``skorch.NeuralNetClassifier``: ``max_epochs=10``,
        ``batch_size=128``, ``callbacks=None``, ``device="cpu"``, ``verbose=0`` (1 prints a table of
        the epochs), ``warm_start=False``, ``iterator_train__shuffle=True``, and others.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the known classes.
    image_shape_ : tuple of (int, int, int)
        Channels, height and width of the images.
    softmax_threshold_ : float
        Smallest probability of the predicted class that is accepted.
    error_threshold_ : float
        Largest mean squared error of the reconstruction that is accepted.
    offset_ : float
        Threshold on ``score_samples``: 0.
    module_ : torch.nn.Module
        The trained network.
    history_ : skorch.history.History
        Losses of all epochs and batches.

    See Also
    --------
    DecoyClassClassifier : A classifier with a background class, for outliers.
    OverconfidencePenalty : The loss of the classification.
    SpreadPenalty : The penalty on wrong predictions.

    Notes
    -----
    The loss is ``reconstruction_weight`` times the mean squared error to the clean image, plus
    ``classification_weight`` times the criterion, plus ``spread_weight`` times the spread. In
    validation and prediction the images are not corrupted.

    The score is the smaller of two margins: log-odds of the predicted class above their
    threshold, and the logarithm of the reconstruction error below its threshold, each in standard
    deviations of the held-out images.

    The published rule is ``softmax_threshold=0.659, error_quantile=0``, with the published
    ``pseudo_ood`` above. Its second half is strict:
    a turned digit may have a smaller error than most upright ones, and then nearly all images are
    rejected. The thresholds "auto" are the strictest pair whose fraction of accepted held-out
    images, minus that of images unlike them, is within one standard error of the best pair's.

    In skorch's callbacks a label is its position in ``classes_``; in training there are no
    thresholds yet. Pickle the classifier to keep all of it. ``save_params`` keeps the weights
    alone: a classifier that loads them needs ``module__n_channels``, ``module__n_classes``
    and ``classes``, then ``initialize``, ``load_params`` and ``set_thresholds``.

    An :class:`~skood.ActivationExtractor` passes images to the network unchanged: give it images
    with an axis of channels, in the range of the training.

    References
    ----------
    .. [1] Y. Song, "Deep Learning Lab, final project report", Yonsei University.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.datasets import load_digits_ood
    >>> from skood.training import DenoisingClassifier
    >>> X, y = load_digits_ood(held_out=(0,), return_X_y=True)
    >>> classifier = DenoisingClassifier(
    ...     module__width=8, max_epochs=10, batch_size=32, lr=0.005, reject_label=-1,
    ...     random_state=0, verbose=0,
    ... ).fit(X[:1000], y[:1000])
    >>> answers = classifier.predict(X[1000:])
    >>> answers.shape
    (797,)
    """

    _parameter_constraints: dict[str, Any] = {
        "reconstruction_weight": [Interval(Real, 0, None, closed="left")],
        "classification_weight": [Interval(Real, 0, None, closed="left")],
        "spread_weight": [Interval(Real, 0, None, closed="left")],
        "noise_std": [Interval(Real, 0, None, closed="left")],
        "square": [tuple, list],
        "clean_fraction": [Interval(Real, 0, 1, closed="both")],
        "pseudo_ood": [tuple, list],
        "occlusion": [tuple, list],
        "softmax_threshold": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
        "error_quantile": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both"), None],
        "random_state": [Interval(Integral, 0, None, closed="left"), None],
    }

    offset_: float = 0.0

    def __init__(
        self,
        module: type[nn.Module] | nn.Module = ResidualDenoiser,
        *,
        criterion: type[nn.Module] = OverconfidencePenalty,
        reconstruction_weight: float = 10.0,
        classification_weight: float = 1.0,
        spread_weight: float = 0.1,
        noise_std: float = 0.3,
        square: tuple[float, float] = (0.36, 0.5),
        clean_fraction: float = 0.5,
        pseudo_ood: Sequence[str] = ("rotation", "occlusion"),
        occlusion: tuple[float, float] = (0.57, 0.71),
        softmax_threshold: float | str = "auto",
        error_quantile: float | str | None = "auto",
        reject_label: Any = None,
        random_state: int | None = None,
        optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
        lr: float = 1e-3,
        train_split: Callable[..., Any] | None = _TENTH_HELD_OUT,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("iterator_train__shuffle", True)
        kwargs.setdefault("verbose", 0)
        trained_by = {"optimizer": optimizer, "lr": lr, "train_split": train_split}
        super().__init__(module, criterion=criterion, **trained_by, **kwargs)
        self.reconstruction_weight = reconstruction_weight
        self.classification_weight = classification_weight
        self.spread_weight = spread_weight
        self.noise_std = noise_std
        self.square = square
        self.clean_fraction = clean_fraction
        self.pseudo_ood = pseudo_ood
        self.occlusion = occlusion
        self.softmax_threshold = softmax_threshold
        self.error_quantile = error_quantile
        self.reject_label = reject_label
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, **fit_params: Any) -> Self:
        """Train the network and set the thresholds.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, channels, height, width)
            Images, real-valued; those of dtype uint8 are divided by 255.
        y : array-like of shape (n_samples,)
            Class labels, of at least two classes; -1 marks an out-of-distribution image, which is
            left out.
        **fit_params : dict
            As in skorch.

        Returns
        -------
        self : object
            Fitted classifier.

        Raises
        ------
        ValueError
            If images, labels or parameters are not as described.
        """
        if not (self.warm_start and self.initialized_):
            self._learn_classes(X, y)
        with callback_management_context(self), telling_callbacks(self, X, y), self._seeded():
            return super().fit(X, y, **fit_params)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        **fit_params: Any,
    ) -> Self:
        """Continue the training from the present weights, and set the thresholds anew.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, channels, height, width)
            As in ``fit``.
        y : array-like of shape (n_samples,)
            As in ``fit``; in later calls the labels must be among ``classes_``.
        classes : array-like of shape (n_classes,), default=None
            All classes, where the first call does not show all of them.
        **fit_params : dict
            As in skorch.

        Returns
        -------
        self : object
            Fitted classifier.
        """
        if not self.initialized_:
            self._learn_classes(X, y, classes)
        self._check_params()
        self.__dict__.pop("rule_", None)
        try:
            with self._seeded(len(self.history_ or ())):
                super().partial_fit(X, y, **fit_params)
        finally:
            held_out = self.__dict__.pop("_held_out", None)
        return self.set_thresholds(held_out)

    def _learn_classes(self, X: Any, y: Any, classes: Any = None) -> None:
        images = check_images(X)
        self.image_shape_ = images.shape[1:]
        labels = y if classes is None else classes
        n_labels = len(images if classes is None else classes)
        self.classes_inferred_ = infer_classes(labels, n_labels)

    def _check_params(self) -> None:
        validate_parameter_constraints(
            self._parameter_constraints,
            {name: getattr(self, name) for name in self._parameter_constraints},
            caller_name=type(self).__name__,
        )
        check_sides("square", self.square)
        check_sides("occlusion", self.occlusion)
        check_disguises(self.pseudo_ood, self.image_shape_)

    @contextmanager
    def _seeded(self, n_epochs_before: int = 0) -> Iterator[None]:
        """Torch's random state by the seed; later epochs have other noise than the first."""
        if self.random_state is None:
            yield
            return
        on_cuda = str(self.device).startswith("cuda")
        with torch.random.fork_rng(range(torch.cuda.device_count()) if on_cuda else []):
            torch.manual_seed(self.random_state + n_epochs_before)
            yield

    # Thresholds do not outlive the weights that they were set for.

    def initialize_module(self) -> Self:
        """Make the network anew, for which thresholds of another one do not hold.

        Returns
        -------
        self : object
            The classifier.
        """
        self.__dict__.pop("rule_", None)
        return super().initialize_module()

    def load_params(self, *args: Any, **kwargs: Any) -> None:
        """Load weights, as skorch does, for which the present thresholds do not hold.

        Parameters
        ----------
        *args, **kwargs
            As of ``load_params`` of ``skorch.NeuralNet``.
        """
        self.__dict__.pop("rule_", None)
        super().load_params(*args, **kwargs)

    def set_thresholds(self, X: ArrayLike) -> Self:
        """Set the thresholds by known images, as ``fit`` does by held-out ones.

        It uses the present ``pseudo_ood``, ``occlusion``, ``softmax_threshold`` and
        ``error_quantile``: other thresholds need no new training, and weights that ``load_params``
        has read get their own.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, channels, height, width)
            In-distribution images that the network was not trained on.

        Returns
        -------
        self : object
            The classifier.
        """
        self.check_is_fitted()
        if not is_dataset(X):
            X = check_images(X, getattr(self, "image_shape_", None))
            self.image_shape_ = X.shape[1:]
        self._check_params()
        with self._seeded():
            known, unknown = [], []
            for batch in self.get_iterator(self.get_dataset(X), training=False):
                images, _ = self._on_device(batch)
                known.append(self._outputs(images))
                unknown += [self._outputs(self._disguise(images, kind)) for kind in self.pseudo_ood]
        self.rule_ = RejectionRule.learn(
            Outputs.concatenate(known),
            Outputs.concatenate(unknown),
            self.softmax_threshold,
            self.error_quantile,
        )
        return self

    def _disguise(self, images: Tensor, kind: str) -> Tensor:
        apply: dict[str, Callable[[Tensor], Tensor]] = {
            "noise": lambda some: add_noise(some, self.noise_std),
            "rotation": turn_quarter,
            "occlusion": lambda some: cover_square(some, self.occlusion),
            "decoder": lambda some: self.evaluation_step((some, None))[1],
        }
        for step in steps_of(kind):
            images = apply[step](images)
        return images

    @property
    def softmax_threshold_(self) -> float:
        """Smallest probability of the predicted class that is accepted."""
        return float(expit(self._rule().log_odds))

    @property
    def error_threshold_(self) -> float:
        """Largest mean squared error of the reconstruction that is accepted."""
        return self._rule().error

    def _rule(self) -> RejectionRule:
        self.check_is_fitted()
        if not hasattr(self, "rule_"):
            raise NotFittedError(
                f"This {type(self).__name__} has weights but no thresholds: call set_thresholds "
                "with known images. load_params reads weights alone."
            )
        return self.rule_

    # Use

    def _outputs(self, images: Tensor) -> Outputs:
        logits, drawn = self.evaluation_step((images, None))
        errors = (drawn - images).square().mean(dim=(1, 2, 3))
        return Outputs(to_numpy(logits).astype(np.float64), to_numpy(errors).astype(np.float64))

    def _outputs_of(self, X: Any) -> Outputs:
        batches = self.get_iterator(self.get_dataset(X), training=False)
        return Outputs.concatenate([self._outputs(self._on_device(b)[0]) for b in batches])

    def predict(self, X: ArrayLike) -> NDArray:
        """Predict the classes of images, or that they are out-of-distribution.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, channels, height, width)
            Images.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            The most probable class, or ``reject_label``, where it is not None, for
            out-of-distribution images. The dtype is object where the two are of different kinds.
        """
        is_in_training = hasattr(self, "_held_out")
        if is_in_training or self.reject_label is None:
            positions = self.predict_proba(X).argmax(axis=1)
            # Callbacks compare with what the network is being trained on.
            return positions if is_in_training else self.classes_[positions]
        outputs = self._outputs_of(X)
        labels = self.classes_[outputs.logits.argmax(axis=1)]
        is_rejected = self._is_rejected(self._rule().score(outputs))
        return label_rejected(labels, is_rejected, self.reject_label)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Predict the probabilities of the classes, whether or not the image is rejected.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, channels, height, width)
            Images.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``, dtype float32.
        """
        probabilities: NDArray[np.float32] = super().predict_proba(X)
        return probabilities

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Score images: the higher, the more in-distribution.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, channels, height, width)
            Images.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            The smaller margin to the two thresholds; negative for out-of-distribution.
        """
        return self._rule().score(self._outputs_of(X))

    def reconstruct(self, X: ArrayLike) -> NDArray[np.float32]:
        """Reconstruct images by the decoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, channels, height, width)
            Images.

        Returns
        -------
        reconstructions : ndarray of the shape of ``X``
            Output of the decoder, dtype float32. Values may lie outside the range of the pixels.
        """
        reconstructions = [to_numpy(images) for _, images in self.forward_iter(X)]
        return np.concatenate(reconstructions).reshape(np.shape(X))

    def reconstruction_error(self, X: ArrayLike) -> NDArray[np.float64]:
        """Mean squared error of the decoder for each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, channels, height, width)
            Images.

        Returns
        -------
        errors : ndarray of shape (n_samples,)
            Mean over the pixels of the squared difference to the image itself.
        """
        return self._outputs_of(X).errors

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags
