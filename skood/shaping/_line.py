"""The units and weights that are important for the predicted class."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from .._batches import row_batches
from .._classes import TrainingClasses, check_class_labels, class_columns
from .._estimator_checks import THREE_LABELS, failed_label_checks
from .._head import network_features
from .._sklearn import Interval, StrOptions
from ..activations import Activations
from ._base import BaseShaper
from ._percentile import percentile_below, percentiles_of_products


class LINe(BaseShaper):
    """Keep the units and weights that are important for the predicted class of each sample.

    The contribution of unit ``d`` to class ``c`` is its weight times its mean over the training
    samples of that class, sign included: for a linear head this is the unit's Shapley value,
    approximated to first order [1]_. A sample is shaped in four steps:

    1. features are clipped from above;
    2. its class is the one with the largest logit of the clipped features;
    3. those units are kept whose contribution to the class is above a percentile of the
       contributions of all units to it; the others become 0;
    4. those weights of the head are kept whose product with the absolute value of their unit's
       contribution to the class, ``|contribution[d, c]| * weight[k, d]``, is above a percentile of
       the products of all weights. This holds for the weights to all classes ``k``.

    Parameters
    ----------
    activation_percentile : float in [0, 100] or None, default=10
        The percentile of step 3: share of the units that become 0, in per cent. None keeps all.
    weight_percentile : float in [0, 100] or None, default=90
        The percentile of step 4: share of the weights that become 0, in per cent. None keeps all.
    clip : float or None, default=1.0
        Largest value of a feature. None does not clip.
    group_by : {"label", "prediction", "correct"}, default="label"
        Class under which a training sample counts in the means:

        - "label": its label in ``y``. Without ``y``, the predicted class takes its place.
        - "prediction": the predicted class; labels are only checked.
        - "correct": its label, of correctly classified samples alone; needs ``y``.

    Attributes
    ----------
    contributions_ : ndarray of shape (n_units, n_classes)
        Contribution of each unit to each class.
    unit_masks_ : ndarray of shape (n_classes, n_units)
        True for the units that are kept for a class.
    weight_thresholds_ : ndarray of shape (n_classes,)
        What the product of step 4 must exceed for each class.
    class_labels_ : ndarray of shape (n_classes,)
        Labels of the classes.

    Raises
    ------
    ValueError
        In ``fit``, if the network has fewer than two classes, ``y`` holds a label that is not among
        them, or with ``group_by="correct"`` labels are missing or no sample is correctly
        classified.

    See Also
    --------
    DICE : Chooses weights for all classes together.
    ReAct : Clipping alone, at a percentile.

    Notes
    -----
    The contributions are those of the features of the network itself, ``A.features``, never
    clipped. A class without a training sample has no important unit or weight: samples of that
    class get the biases as logits.

    Published with percentiles 90 and 90 and clip 1.0 for a DenseNet on CIFAR-10, 10, 90 and 1.0 on
    CIFAR-100, 10, 10 and 0.8 for a ResNet-50 on ImageNet. A percentile of 0 still removes the
    smallest value.

    The activations that ``transform`` returns have no head, since every class has its own weights.
    These are made for one class at a time: memory is a small multiple of that of the head.

    References
    ----------
    .. [1] Y. H. Ahn, G.-M. Park, S. T. Kim, "LINe: Out-of-distribution detection by leveraging
       important neurons", CVPR 2023. arXiv:2303.13995

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import LinearHead
    >>> from skood.shaping import LINe
    >>> head = LinearHead(np.array([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]), input_layer="fc")
    >>> A = Activations({"fc": np.array([[5.0, 1.0, 0.0], [0.0, 1.0, 5.0]])}, head=head)
    >>> line = LINe(activation_percentile=50, weight_percentile=50, clip=2.0).fit(A, [0, 1])
    >>> line.contributions_
    array([[5. , 0. ],
           [0.5, 0.5],
           [0. , 5. ]])
    >>> line.weight_mask(0)
    array([[ True,  True, False],
           [False,  True, False]])
    >>> line.transform(A).logits
    array([[2., 0.],
           [0., 2.]])
    """

    _parameter_constraints: dict[str, Any] = {
        "activation_percentile": [Interval(Real, 0, 100, closed="both"), None],
        "weight_percentile": [Interval(Real, 0, 100, closed="both"), None],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "group_by": [StrOptions({"label", "prediction", "correct"})],
    }
    _min_classes = 2

    def __init__(
        self,
        *,
        activation_percentile: float | None = 10,
        weight_percentile: float | None = 90,
        clip: float | None = 1.0,
        group_by: str = "label",
    ) -> None:
        self.activation_percentile = activation_percentile
        self.weight_percentile = weight_percentile
        self.clip = clip
        self.group_by = group_by

    def _fit(self, X: Activations, y: NDArray | None) -> None:
        name = type(self).__name__
        if y is not None:
            check_class_labels(X, y, name)
        is_unlabelled = y is None and self.group_by == "label"
        group_by = "prediction" if is_unlabelled else self.group_by
        X, labels = TrainingClasses.of(X, y, group_by, name).counting(X, name)
        self.class_labels_ = np.asarray(X.classes)
        columns = class_columns(labels, self.class_labels_)
        means = _class_means(X, columns, len(self.class_labels_))
        self.contributions_ = (means * self.head_.weight).T
        self.unit_masks_ = self._find_unit_masks()
        self.weight_thresholds_ = self._find_weight_thresholds()

    def _find_unit_masks(self) -> NDArray[np.bool_]:
        by_class = self.contributions_.T
        if self.activation_percentile is None:
            return np.ones(by_class.shape, dtype=bool)
        return by_class > percentile_below(by_class, self.activation_percentile, axis=1)[:, None]

    def _find_weight_thresholds(self) -> NDArray[np.floating]:
        weight = self.head_.weight
        if self.weight_percentile is None:
            return np.full(len(weight), -np.inf)
        return percentiles_of_products(weight, self._sizes(slice(None)), self.weight_percentile)

    def _sizes(self, numbers: int | slice) -> NDArray[np.floating]:
        """Absolute contributions of the units to classes, in the precision of the weights."""
        dtype = np.result_type(self.head_.weight, np.float32)
        return np.abs(self.contributions_.T[numbers]).astype(dtype)

    def weight_mask(self, label: Any) -> NDArray[np.bool_]:
        """Which weights of the head are kept for samples of one class.

        Parameters
        ----------
        label : int or str
            Label of the class.

        Returns
        -------
        mask : ndarray of shape (n_classes, n_units)
            True for weights that are kept.

        Raises
        ------
        ValueError
            If the network has no such class.
        """
        check_is_fitted(self)
        known = self.class_labels_.tolist()
        if label not in known:
            raise ValueError(f"label must be one of the classes {known}, got {label!r}.")
        number = known.index(label)
        return self._sizes(number) * self.head_.weight > self.weight_thresholds_[number]

    def _shape(
        self, features: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        head = self.head_
        clipped = features if self.clip is None else np.minimum(features, self.clip)
        logits = head.logits(clipped)
        numbers = logits.argmax(axis=1)
        shaped = np.where(self.unit_masks_[numbers], clipped, 0)
        for number, rows in _rows_by_class(numbers):
            logits[rows] = self._sparse_logits(shaped[rows], number)
        return shaped, logits

    def _sparse_logits(self, shaped: NDArray[np.floating], number: int) -> NDArray[np.floating]:
        head, sizes, threshold = self.head_, self._sizes(number), self.weight_thresholds_[number]
        n_classes, n_units = head.weight.shape
        logits = np.empty((len(shaped), n_classes), np.result_type(shaped, head.weight))
        # Products, a mask, and weights of which some are 0, in two orders, are held of each class.
        for classes in row_batches(n_classes, 4 * n_units):
            weight = head.weight[classes]
            logits[:, classes] = shaped @ (weight * (sizes * weight > threshold)).T
        return logits + head.bias

    def _shaped_head(self) -> None:
        return None

    def _expected_failed_checks(self) -> dict[str, str]:
        return failed_label_checks(THREE_LABELS)


def _rows_by_class(numbers: NDArray[np.intp]) -> Iterable[tuple[int, NDArray[np.intp]]]:
    """Each class that occurs, with the rows of its samples."""
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    return zip(found, np.split(order, starts[1:]), strict=True)


def _class_means(X: Activations, numbers: NDArray[np.intp], n_classes: int) -> NDArray[np.float64]:
    """Mean features of each class, of shape (n_classes, n_units); 0 where it has no sample."""
    means = np.zeros((n_classes, network_features(X).shape[1]))
    for number, rows in _rows_by_class(numbers):
        # Cut for each class by itself, the features are never copied as a whole.
        means[number] = network_features(X[rows]).mean(axis=0, dtype=np.float64)
    return means
