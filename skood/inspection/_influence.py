"""How much single neurons matter to the output of their network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._sklearn import StrOptions, validate_params
from ._weight_powers import LayerPowers, read_powers

_POWERS = {"l1": 1, "l2": 2}


@validate_params({"norm": [StrOptions(set(_POWERS))]}, prefer_skip_nested_validation=True)
def neuron_influence(
    network: Any,
    norm: str = "l2",
    *,
    activation_counts: Mapping[str, ArrayLike] | Sequence[ArrayLike] | None = None,
    layers: Sequence[str] | None = None,
) -> dict[str, NDArray[np.float64]]:
    r"""Influence of each hidden neuron on the output, through the weights of all paths.

    The influence of a neuron is the sum, or the root of the sum of squares, of its outgoing
    weights times the influences of the neurons that they lead to [1]_.

    Parameters
    ----------
    network : object
        A ``torch.nn.Module``, a fitted skorch net, a fitted
        :class:`~sklearn.neural_network.MLPClassifier` or
        :class:`~sklearn.neural_network.MLPRegressor`, or a list of weight matrices of shape
        (n_outputs, n_inputs), in forward order. It is only read.
    norm : {"l2", "l1"}, default="l2"
        "l1" sums magnitudes, "l2" takes the root of the sum of squares.
    activation_counts : dict of str to array-like, or list of array-like, default=None
        How often each neuron was active in training, or whether it ever was: an array of shape
        (n_units,) for each hidden layer in forward order. A neuron that never was has the influence
        0, and no path leads through it. Ask all training samples: the ``ever_active_`` of a
        :class:`~skood.training.TrainingRecorder`, or :func:`activation_count` of them. Counts of a
        part of them call neurons dead that are not.
    layers : sequence of str, default=None
        Names for the hidden layers, in forward order, such as ``A.layer_names``. By default they
        are those of ``activation_counts``, where that is a dict, and else those of the weights:
        "fc1", or "0", as torch names the module; "hidden_0", ... for a perceptron of scikit-learn;
        "layer_0", ... for matrices.

    Returns
    -------
    dict of str to ndarray of shape (n_units,)
        Influence of each neuron, for each hidden layer in forward order.

    Raises
    ------
    TypeError
        If the network is of no known kind.
    ValueError
        If it has no hidden layer, two of its layers do not follow one another, it has weights
        other than those of dense layers and convolutions, a weight is not finite, or ``layers``
        or ``activation_counts`` have other numbers of layers or neurons than the network.

    See Also
    --------
    skood.training.TrainingRecorder : Sees which neurons are ever active in training.
    weak_neurons : Neurons of low influence, among other measures.

    Notes
    -----
    With :math:`w_{kn}` the weight from neuron n to neuron k of the next layer,

    .. math::

       I^{(1)}_n = \sum_k |w_{kn}| \, I^{(1)}_k, \qquad
       I^{(2)}_n = \sqrt{\sum_k \left(w_{kn} I^{(2)}_k\right)^2},

    and 1 at the outputs. Activation functions do not enter. This library extends it:

    - The unit of a convolution, transposed or not, is a channel. All weights of the kernel that
      leads from channel n to channel k are summed as those of separate neurons would be. So are
      the weights of a dense layer that reads the flattened positions of a channel. Edges and
      strides of transposed convolutions apart, the influence of a channel is that of all its
      positions together.
    - A batch norm multiplies the weights of the layer that it follows by
      :math:`|\gamma| / \sqrt{\mathrm{var} + \epsilon}`, with the variance of evaluation mode. After
      an activation function it multiplies those of the layer that reads it. Norms that keep no
      variance, such as layer and group norms, count with their :math:`|\gamma|` alone.
    - Pooling counts as passing values on.

    The layers of a torch network are taken in the order in which its modules are registered, and
    must form a chain. Where their widths do not fit there is an error; skip connections are not
    seen.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> from skood.inspection import neuron_influence
    >>> to_hidden, to_output = [[0.5], [1.0]], [[3.0, 0.0], [-4.0, 2.0]]
    >>> neuron_influence([to_hidden, to_output])
    {'layer_0': array([5., 2.])}
    >>> neuron_influence([to_hidden, to_output], "l1", activation_counts={"relu": [9, 0]})
    {'relu': array([7., 0.])}
    """
    power = _POWERS[norm]
    *hidden, output = _check_hidden(read_powers(network, power))
    counts = _check_counts(activation_counts, hidden)
    names = _name(hidden, layers, activation_counts)
    influences = []
    influence, reader = np.ones(len(output.powers)), output
    for layer, count in zip(reversed(hidden), reversed(counts), strict=True):
        influence = influence @ _powers_between(layer, reader)
        influence[count == 0] = 0
        influences.append(influence ** (1 / power))
        reader = layer
    return dict(zip(names, reversed(influences), strict=True))


def _powers_between(layer: LayerPowers, reader: LayerPowers) -> NDArray[np.float64]:
    """Powers of the weights that lead from the units of a layer to those of the next."""
    n_units, n_inputs = len(layer.powers), reader.powers.shape[1]
    if n_inputs == n_units:
        return reader.powers
    if layer.is_convolution and not reader.is_convolution and n_inputs % n_units == 0:
        return reader.powers.reshape(-1, n_units, n_inputs // n_units).sum(axis=2)
    raise ValueError(
        f"Layers {layer.name!r} and {reader.name!r} do not follow one another: {layer.name!r} has "
        f"{n_units} units and {reader.name!r} has {n_inputs} inputs. Only chains of layers are "
        "supported."
    )


def _check_hidden(layers: list[LayerPowers]) -> list[LayerPowers]:
    if len(layers) < 2:
        raise ValueError(
            "Influence needs a hidden layer and an output layer with weights, got "
            f"{len(layers)} in all."
        )
    return layers


def _check_counts(
    activation_counts: Mapping[str, ArrayLike] | Sequence[ArrayLike] | None,
    hidden: list[LayerPowers],
) -> list[NDArray]:
    widths = [len(layer.powers) for layer in hidden]
    if activation_counts is None:
        return [np.ones(width) for width in widths]
    if isinstance(activation_counts, Mapping):
        activation_counts = list(activation_counts.values())
    counts = [np.asarray(count) for count in activation_counts]
    shapes = [count.shape for count in counts]
    if shapes != [(width,) for width in widths]:
        raise ValueError(
            f"activation_counts must be those of {len(widths)} hidden layers of the widths "
            f"{widths}, got {len(shapes)} arrays of the shapes {shapes}."
        )
    return counts


def _name(
    hidden: list[LayerPowers],
    layers: Sequence[str] | None,
    activation_counts: Mapping[str, ArrayLike] | Sequence[ArrayLike] | None,
) -> list[str]:
    if layers is not None:
        names = list(layers)
    elif isinstance(activation_counts, Mapping):
        names = list(activation_counts)
    else:
        names = [layer.name for layer in hidden]
    if len(names) != len(hidden) or len(set(names)) < len(names):
        raise ValueError(
            f"layers must hold {len(hidden)} different names, one for each of the hidden layers "
            f"{[layer.name for layer in hidden]}, got {names}."
        )
    return names
