"""What single neurons do: how often they fire, how well for, and which do little."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_array

from .._batches import row_batches
from .._classes import check_class_labels
from .._layer_names import units_second
from .._marks import in_distribution_rows, take_rows
from .._side_by_side import split_layers
from .._sklearn import Interval, validate_params
from ..activations import Activations, Layer, PackedBits


def activation_count(
    X: Activations | PackedBits | ArrayLike,
) -> dict[str, NDArray[np.int64]] | NDArray[np.int64]:
    """Number of samples on which each neuron is active.

    A neuron is active where its output is above 0. A unit of a feature map, its channel, is
    active where any of its positions is.

    Parameters
    ----------
    X : Activations, PackedBits or array-like of shape (n_samples, n_units, ...)
        Activations by layer, or those of one layer. Of bits, 1 is active. The units are in the
        second axis, or in that which a column of ``Activations`` names as its ``unit_axis``.

    Returns
    -------
    dict of str to ndarray of shape (n_units,), or ndarray of shape (n_units,)
        The counts, dtype int64: by layer, in forward order, for ``Activations``; otherwise
        those of the one layer.

    Raises
    ------
    ValueError
        If values are not finite.

    See Also
    --------
    neuron_accuracy : How many of those samples are classified correctly.
    skood.training.TrainingRecorder : Counts while a network is trained.

    Notes
    -----
    A count over part of the samples is that of a view: ``activation_count(X[::100])`` looks at
    the first of every 100 samples, as [1]_ does with the first of each training batch.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> from skood import Activations
    >>> from skood.inspection import activation_count
    >>> activation_count([[0.5, 0.0], [2.0, -1.0], [0.1, 3.0]])
    array([3, 1])
    >>> activation_count(Activations({"fc1": [[1, 0], [1, 1]], "fc2": [[0], [2]]}))
    {'fc1': array([2, 1]), 'fc2': array([1])}
    """
    if isinstance(X, Activations):
        return count_by_layer(X)
    if isinstance(X, PackedBits):
        return _count(X, "X")
    return _count(check_array(X, allow_nd=True, ensure_min_samples=0, input_name="X"), "X")


def count_by_layer(X: Activations) -> dict[str, NDArray[np.int64]]:
    """The counts of :func:`activation_count`, which are a dict here for any type checker."""
    # Layer by layer: rows of a file that are not a slice of it are read here.
    return {
        name: _count(units_second(X[[name]])[name], f"layer {name!r}") for name in X.layer_names
    }


def _count(layer: Layer, name: str) -> NDArray[np.int64]:
    counts = np.zeros(layer.shape[1], dtype=np.int64)
    for rows in row_batches(len(layer), prod(layer.shape[1:])):
        active = _active(layer[rows], name)
        counts += np.count_nonzero(active, axis=0)
    return counts


def _active(layer: Layer, name: str) -> NDArray[np.bool_]:
    """Whether each neuron is active on each sample, of shape (n_samples, n_units)."""
    if isinstance(layer, PackedBits):
        return layer.unpack()
    assert_all_finite(layer, input_name=name)
    return np.any(layer > 0, axis=tuple(range(2, layer.ndim)))


def neuron_accuracy(X: Activations, y: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Accuracy of the network on the samples that activate each neuron.

    Of the in-distribution samples on which a neuron is active, the share that the network
    classified correctly [1]_. A neuron whose accuracy is below that of the network fires more
    often than others where the network errs.

    Parameters
    ----------
    X : Activations
        Activations by layer, with the predictions of the network.
    y : array-like of shape (n_samples,)
        Class labels; rows marked -1, out-of-distribution, are left out.

    Returns
    -------
    dict of str to ndarray of shape (n_units,)
        The shares, from 0 to 1, by layer in forward order. NaN for a neuron that no
        in-distribution sample activates.

    Raises
    ------
    TypeError
        If ``X`` is not ``Activations``.
    ValueError
        If ``X`` carries no predictions, ``y`` has another length or holds a label that is not
        among the classes of the network, all rows are marked -1, or values are not finite.

    See Also
    --------
    activation_count : Of the in-distribution samples, the number that the share is of.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> from skood import Activations
    >>> from skood.inspection import neuron_accuracy
    >>> X = Activations({"fc": [[1, 0, 0], [1, 2, 0], [0, 3, 0]]}, predictions=[0, 1, 1])
    >>> neuron_accuracy(X, [0, 0, 1])
    {'fc': array([0.5, 0.5, nan])}
    """
    if not isinstance(X, Activations):
        raise TypeError(f"neuron_accuracy needs Activations, got {type(X).__name__}.")
    X, labels = take_rows(X, y, in_distribution_rows(y, len(X)))
    check_class_labels(X, labels, "neuron_accuracy")
    support = count_by_layer(X)
    correct = count_by_layer(X[np.asarray(X.predictions == labels)])
    return {
        layer: np.divide(correct[layer], n, out=np.full(n.shape, np.nan), where=n > 0)
        for layer, n in support.items()
    }


@validate_params(
    {"quantile": [Interval(Real, 0, 1, closed="both")]}, prefer_skip_nested_validation=True
)
def weak_neurons(
    *measures: Mapping[str, ArrayLike], quantile: float = 0.25
) -> dict[str, NDArray[np.bool_]]:
    """Find the neurons that are low in every one of several measures.

    A neuron is weak where each measure is at most its ``quantile`` over all neurons of the
    network. In [1]_ the measures are activation count, average gradient and influence: a
    weak neuron is seldom active, learnt little and matters little to the output.

    Parameters
    ----------
    *measures : dict of str to array-like of shape (n_units,)
        Each measure by layer, all of the same layers. NaN is never low.
    quantile : float in [0, 1], default=0.25
        Share of the neurons that are low in one measure, or more where values are equal.

    Returns
    -------
    dict of str to ndarray of shape (n_units,), dtype bool
        Whether each neuron is weak, by layer.

    Raises
    ------
    TypeError
        If a measure is not given by layer.
    ValueError
        If there is no measure, or the measures have other layers or widths.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> from skood.inspection import weak_neurons
    >>> count = {"fc1": [9, 2, 0], "fc2": [5, 7]}
    >>> influence = {"fc1": [0.1, 0.8, 0.0], "fc2": [0.2, 0.9]}
    >>> weak_neurons(count, influence, quantile=0.5)
    {'fc1': array([False, False,  True]), 'fc2': array([ True, False])}
    """
    if not measures:
        raise ValueError("weak_neurons needs at least one measure, got none.")
    widths = common_widths({f"measure {i}": measure for i, measure in enumerate(measures)})
    weak = np.ones(sum(widths.values()), dtype=bool)
    for measure in measures:
        values = flatten(measure, widths)
        known = values[~np.isnan(values)]
        weak &= values <= (np.quantile(known, quantile) if known.size else np.nan)
    return split_layers(weak, widths)


def common_widths(measures: Mapping[str, Mapping[str, ArrayLike]]) -> dict[str, int]:
    """Number of neurons in each layer, of which all the measures must be.

    Raises
    ------
    TypeError
        If a measure is not given by layer.
    ValueError
        If a measure is not 1-D in each layer, or two are not of the same neurons.
    """
    widths = {name: _widths(name, measure) for name, measure in measures.items()}
    (first, expected), *others = widths.items()
    for name, found in others:
        if found != expected:
            raise ValueError(
                f"All measures must be of the same neurons, but {first} has the layers and "
                f"widths {expected}, and {name} has {found}."
            )
    return expected


def _widths(name: str, measure: Mapping[str, ArrayLike]) -> dict[str, int]:
    if not isinstance(measure, Mapping):
        raise TypeError(
            f"A measure must be a dict of layer name to array, but {name} is of type "
            f"{type(measure).__name__}."
        )
    shapes = {layer: np.shape(values) for layer, values in measure.items()}
    if not shapes or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(
            f"A measure must have shape (n_units,) in each layer, but {name} has {shapes}."
        )
    return {layer: shape[0] for layer, shape in shapes.items()}


def flatten(measure: Mapping[str, ArrayLike], widths: Mapping[str, int]) -> NDArray:
    """The values of all layers side by side, in the order of ``widths``."""
    return np.concatenate([np.asarray(measure[layer]) for layer in widths])
