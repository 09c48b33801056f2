"""Selection of the neurons that matter for the classes."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.validation import check_is_fitted

from .._classes import GROUP_BY, TrainingClasses, class_columns
from .._elsewhere import run_elsewhere
from .._fit_context import fit_context
from .._head import validate_head_input
from .._labels import unknown_labels
from .._layer_names import check_layers_exist, find_layer, gradient_names
from .._marks import in_distribution_rows, take_rows
from .._output import has_feature_names
from .._sklearn import Interval, StrOptions, available_if
from .._validation import check_activations
from ..activations import Activations, PackedBits
from ._base import LayerwiseTransformer

Importances = dict[str, NDArray[np.float64]]


class NeuronSelector(LayerwiseTransformer):
    """Keep the units that matter for a class, and cut the others out of their layer.

    A unit matters for a class if the absolute value of its importance is above a fraction of the
    largest one of that class in the layer. With the weights of the head as importances this is the
    rule of the run-time monitor in [1]_, where the gradient of a class's output is its row of
    weights.

    Parameters
    ----------
    classes : int, str or array-like of labels, default=None
        Keep the units that matter for at least one of these classes; by default for at least one
        of all.
    threshold : float in [0, 1), default=0.45
        Units are left out whose importance is at most ``threshold`` times the largest one.
    importance : {"weight", "gradient"}, array-like or dict, default="weight"
        - "weight": weights of the head, for the layer that it reads.
        - "gradient": mean absolute gradient over the in-distribution training samples of the
          class, for each layer that comes with its gradient, a column of that
          kind of the same layer.
        - dict of layer to array-like of shape (n_classes, n_units): importances of your own, by the
          name of the layer or its number in ``X``. An array-like alone is that of the only layer.
    group_by : {"prediction", "label", "correct"}, default="prediction"
        Class under which a training sample counts in ``fit``, with ``importance="gradient"``: the
        predicted class; its label in ``y``; or its label, of correctly classified samples alone.
        It decides which units matter for which class.
    by_prediction : bool, default=False
        Whether ``transform`` also sets units to 0, sample by sample, that do not matter for the
        class that the network predicted. Patterns of one predicted class then differ in its own
        units only, as published. New samples have no labels, so ``group_by`` has no part in this.

    Attributes
    ----------
    importances_ : dict of str to ndarray of shape (n_classes, n_units)
        Size of the importance of each unit for each class, by layer.
    class_support_ : dict of str to ndarray of shape (n_classes, n_units)
        True for units that matter for the class, by layer.
    support_ : dict of str to ndarray of shape (n_units,)
        True for units that are kept, by layer.
    class_labels_ : ndarray of shape (n_classes,)
        Labels of the classes.
    head_ : LinearHead
        The head that ``fit`` saw, with ``importance="weight"``.
    n_features_in_ : int
        Number of units in the layers that are cut.
    layer_shapes_ : dict of str to tuple
        Shape of one sample in each layer that is cut, where ``fit`` saw ``Activations``.

    See Also
    --------
    skood.preprocessing.LayerSelector : Selects whole layers.
    skood.HammingNAPDetector : The detector of the monitor.
    skood.shaping.LINe : Chooses units and weights by class, and recomputes the logits.

    Notes
    -----
    Layers without importances pass unchanged and are not read. Logits, predictions and
    ``A.features`` remain those of the network. A cut layer does not yield these logits, so the
    activations that ``transform`` returns have no head, unless every unit is kept as it is.
    The gradient of a layer, where there is one, is cut along with it.

    Gradients that :class:`~skood.ActivationExtractor` adds are those of ``KL(uniform || softmax)``.
    For a sample with probability 1 of one class, this is the gradient of that class's logit minus
    the mean of all logits. A class without training samples has no unit that matters.

    An ordinary array is taken as logits, of a head that passes them on unchanged: each column
    matters for its own class, and ``classes`` selects columns.

    References
    ----------
    .. [1] C.-H. Cheng, G. Nührenberg, H. Yasuoka, "Runtime monitoring neuron activation
       patterns", DATE 2019. arXiv:1809.06573

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import LinearHead
    >>> from skood.preprocessing import NeuronSelector
    >>> head = LinearHead(np.array([[2.0, 0.5, 0.0], [0.1, 0.2, -0.9]]), input_layer="fc")
    >>> features = np.array([[1.0, 2.0, 3.0]])
    >>> A = Activations({"fc": features}, logits=head.logits(features), head=head)
    >>> selector = NeuronSelector().fit(A)
    >>> selector.get_support()
    array([ True, False,  True])
    >>> selector.transform(A)["fc"]
    array([[1., 3.]])
    >>> NeuronSelector(classes=1).fit_transform(A)["fc"]
    array([[3.]])
    """

    _parameter_constraints: dict[str, Any] = {
        "classes": [Integral, str, "array-like", None],
        "threshold": [Interval(Real, 0, 1, closed="left")],
        "importance": [StrOptions({"weight", "gradient"}), dict, "array-like"],
        "group_by": GROUP_BY,
        "by_prediction": ["boolean"],
    }

    def __init__(
        self,
        *,
        classes: ArrayLike | None = None,
        threshold: float = 0.45,
        importance: str | ArrayLike | Mapping[str | int, ArrayLike] = "weight",
        group_by: str = "prediction",
        by_prediction: bool = False,
    ) -> None:
        self.classes = classes
        self.threshold = threshold
        self.importance = importance
        self.group_by = group_by
        self.by_prediction = by_prediction

    @property
    def _learns_from_rows(self) -> bool:  # type: ignore[override]
        return isinstance(self.importance, str) and self.importance == "gradient"

    @run_elsewhere("fit_on_few")
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Activations | ArrayLike, y: ArrayLike | None = None) -> Self:
        """Find the units to keep.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations with what ``importance`` needs: the head of the network and the layer that
            it reads, or gradients and predictions.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution sample. Only ``importance="gradient"``
            learns from samples, and leaves these out.

        Returns
        -------
        self : object
            Fitted transformer.

        Raises
        ------
        ValueError
            If the head, gradients, predictions, labels or a layer are missing, importances of your
            own have another shape, ``classes`` names an unknown class, or no unit would be kept.
        """
        importances = self._importances(X, y)
        self.importances_ = {name: np.abs(values) for name, values in importances.items()}
        self.class_support_ = {
            name: sizes > self.threshold * sizes.max(axis=1, keepdims=True)
            for name, sizes in self.importances_.items()
        }
        chosen = self._chosen_classes()
        self.support_ = {
            name: support[chosen].any(axis=0) for name, support in self.class_support_.items()
        }
        for name, support in self.support_.items():
            if not support.any():
                raise ValueError(
                    f"No unit of layer {name!r} matters for the classes "
                    f"{self.class_labels_[chosen].tolist()}: their importances are all 0."
                )
        return self

    def _importances(self, X: Any, y: Any) -> Importances:
        """Float64 importances by layer; sets ``class_labels_``."""
        if not isinstance(self.importance, str):
            return self._given_importances(X)
        if self.importance == "gradient":
            return self._mean_gradients(X, y)
        self.class_labels_ = np.asarray(validate_head_input(self, X, reset=True).classes)
        return {str(self.head_.input_layer): self.head_.weight.astype(np.float64)}

    def _mean_gradients(self, X: Any, y: Any) -> Importances:
        wanted_by = "NeuronSelector with importance='gradient'"
        layers = list(X.layer_names) if isinstance(X, Activations) else []
        gradients = gradient_names(X) if layers else {}
        names = list(gradients)
        if not names:
            raise ValueError(
                f"{wanted_by} needs layers with their gradients, as "
                f"ActivationExtractor(gradients=True) extracts them, but got the layers {layers}."
            )
        if X.predictions is None:
            raise ValueError(f"{wanted_by} needs predictions of the network, but X carries none.")
        check_activations(self, X[names], reset=True)
        X, y = take_rows(X, y, in_distribution_rows(y, len(X)))
        own_name = type(self).__name__
        X, classes = TrainingClasses.of(X, y, self.group_by, own_name).counting(X, own_name)
        self.class_labels_ = np.unique(classes) if X.classes is None else X.classes
        means = {name: np.zeros((len(self.class_labels_), X[name].shape[1])) for name in names}
        for number, label in enumerate(self.class_labels_):
            rows = np.flatnonzero(classes == label)
            for name in names if len(rows) else []:
                sizes = np.abs(X[rows][gradients[name]])
                means[name][number] = sizes.mean(axis=0, dtype=np.float64)
                assert_all_finite(means[name], input_name=f"layer {gradients[name]!r}")
        return means

    def _given_importances(self, X: Any) -> Importances:
        # A table is validated, which names its one layer; Activations once the layers are known.
        layers = X if isinstance(X, Activations) else check_activations(self, X, reset=True)
        given: Any = self.importance
        if not isinstance(given, dict):
            if len(layers.layer_names) > 1:
                raise ValueError(
                    "importance must be a dict of layer name to array where X has several "
                    f"layers, here {list(layers.layer_names)}."
                )
            given = {layers.layer_names[0]: given}
        if not given:
            raise ValueError(f"importance names no layer; X has {list(layers.layer_names)}.")
        given = _by_name(given, layers)
        names = [name for name in layers.layer_names if name in given]
        if isinstance(X, Activations):
            check_activations(self, X[names], reset=True)
        arrays = {
            name: check_array(given[name], dtype=np.float64, input_name=f"importance of {name!r}")
            for name in names
        }
        n_classes = len(arrays[names[0]])
        self.class_labels_ = np.arange(n_classes) if layers.classes is None else layers.classes
        for name, array in arrays.items():
            if array.shape != (expected := (len(self.class_labels_), *layers.layer_shapes[name])):
                raise ValueError(
                    f"The importance of layer {name!r} must have shape {expected}, a row for each "
                    f"class and a column for each unit, but got {array.shape}."
                )
        return arrays

    def _chosen_classes(self) -> list[int]:
        known = self.class_labels_.tolist()
        if self.classes is None:
            return list(range(len(known)))
        chosen = np.atleast_1d(self.classes).tolist()
        if unknown := [label for label in chosen if label not in known]:
            raise ValueError(f"classes must be among {known}, those of the network; got {unknown}.")
        return [known.index(label) for label in chosen]

    @overload
    def transform(self, X: Activations) -> Activations: ...

    @overload
    def transform(self, X: ArrayLike) -> NDArray: ...

    @run_elsewhere("transform")
    def transform(self, X: Activations | ArrayLike) -> Activations | NDArray:
        """Cut the layers to the units that are kept.

        Parameters
        ----------
        X : Activations or array-like of shape (n_samples, n_features)
            Activations that hold the layers to cut, and perhaps others.

        Returns
        -------
        X_out : Activations or ndarray of shape (n_samples, n_features_out)
            Narrower layers in place of those that are cut; all other parts but the head are kept.

        Raises
        ------
        ValueError
            If a layer is missing or has another shape, or with ``by_prediction`` predictions are
            missing or of an unknown class.
        """
        check_is_fitted(self)
        if not isinstance(X, Activations) or not hasattr(self, "layer_shapes_"):
            return super().transform(X)
        check_layers_exist(X, list(self.layer_shapes_))
        check_activations(self, X[list(self.layer_shapes_)], reset=False)
        return self._transform(X)

    def _transform(self, X: Activations) -> Activations:
        if not self.by_prediction and all(support.all() for support in self.support_.values()):
            return X
        numbers = self._predicted_numbers(X) if self.by_prediction else None
        gradients = gradient_names(X)
        cut = {}
        for name, support in self.support_.items():
            own = None if numbers is None else self.class_support_[name][numbers][:, support]
            for layer in filter(None, (name, gradients.get(name))):
                cut[layer] = _cut(X[layer], support, own)
        reads = X.head and X.head.input_layer
        return X.assign(cut, head=None if reads is None or reads in cut else "keep")

    def _predicted_numbers(self, X: Activations) -> NDArray[np.intp]:
        if (predictions := X.predictions) is None:
            raise ValueError(
                "by_prediction=True needs predictions of the network, but X carries none."
            )
        if unknown := unknown_labels(predictions, self.class_labels_):
            raise ValueError(
                "by_prediction=True needs predictions among the classes "
                f"{self.class_labels_.tolist()}, got {unknown}."
            )
        return class_columns(predictions, self.class_labels_)

    def get_support(
        self, layer: str | int | None = None, indices: bool = False
    ) -> NDArray[np.bool_] | NDArray[np.intp]:
        """Which units are kept.

        Parameters
        ----------
        layer : str or int, default=None
            Name of the layer, or its number among those that are cut; by default the only one.
        indices : bool, default=False
            Whether to return the numbers of the units instead of a mask.

        Returns
        -------
        support : ndarray
            Mask of shape (n_units,), True for units that are kept, or their numbers, ascending.

        Raises
        ------
        ValueError
            If the layer is not among those that are cut, or there are several and none is named.
        """
        check_is_fitted(self)
        names = list(self.support_)
        if layer is None and len(names) == 1:
            layer = names[0]
        name = None if layer is None else find_layer(layer, names)
        if name is None:
            raise ValueError(f"layer must be one of {names}, got {layer!r}.")
        support = self.support_[name]
        return np.flatnonzero(support) if indices else support.copy()

    @available_if(has_feature_names)
    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the names of the features that are kept of a 2-D array.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the input features; by default those seen in ``fit``.

        Returns
        -------
        feature_names_out : ndarray of str
            Names of the kept features.
        """
        return super().get_feature_names_out(input_features)[self.get_support()]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "support_")


def _by_name(given: dict[Any, Any], X: Activations) -> dict[str | None, Any]:
    """Importances that are given by names or numbers of the layers, by name."""
    names = {layer: find_layer(layer, X.layer_names) for layer in given}
    check_layers_exist(X, [layer for layer, name in names.items() if name is None])
    if len(set(names.values())) < len(names):
        raise ValueError(f"importance gives a layer twice: {names}.")
    return {name: given[layer] for layer, name in names.items()}


def _cut(
    layer: NDArray | PackedBits, support: NDArray[np.bool_], own: NDArray[np.bool_] | None
) -> NDArray | PackedBits:
    """The kept units; with 0 for those that are not a sample's ``own``, where given."""
    values = (layer.unpack() if isinstance(layer, PackedBits) else layer)[:, support]
    if own is not None:
        values = values * own
    return PackedBits.pack(values) if isinstance(layer, PackedBits) else values
