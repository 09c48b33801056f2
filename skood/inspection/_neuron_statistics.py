"""The table of all that is known of each neuron."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._marks import in_distribution_rows, take_rows
from .._optional import import_optional
from .._side_by_side import split_layers
from ..activations import Activations
from ._influence import neuron_influence
from ._neuron_measures import (
    common_widths,
    count_by_layer,
    flatten,
    neuron_accuracy,
    weak_neurons,
)

if TYPE_CHECKING:
    from pandas import DataFrame

Measures = dict[str, dict[str, NDArray]]


class NeuronStatistics:
    """A table of measures, one row for each neuron.

    The columns ``"layer"`` and ``"unit"`` identify the neuron, the others are the measures, as
    those of [1]_.

    Parameters
    ----------
    measures : dict of str to dict of str to array-like of shape (n_units,)
        By name of the measure, its values by layer. All measures are of the same layers.
    network_accuracy : float, default=None
        Accuracy of the whole network, on the samples that the accuracies of neurons are of.

    Raises
    ------
    TypeError
        If a measure is not given by layer.
    ValueError
        If there is no measure, one is called "layer" or "unit", or they have other layers or
        widths.

    See Also
    --------
    NeuronStatistics.from_activations : Compute the measures.
    NeuronMeasureDisplay : Draw up to three of them.

    References
    ----------
    .. [1] V. Demuysere, "Investigating layer activation patterns in neural networks for
       classification error detection", master's dissertation, UCLouvain, 2018.

    Examples
    --------
    >>> from skood.inspection import NeuronStatistics
    >>> statistics = NeuronStatistics(
    ...     {
    ...         "activation_count": {"fc1": [9, 0, 4], "fc2": [5, 7]},
    ...         "accuracy": {"fc1": [0.8, float("nan"), 1.0], "fc2": [0.6, 1.0]},
    ...     }
    ... )
    >>> statistics
    NeuronStatistics(n_neurons=5, layers={fc1: 3, fc2: 2}, measures=[activation_count, accuracy])
    >>> statistics["layer"][statistics["accuracy"] < 0.9]
    array(['fc1', 'fc2'], dtype='<U3')
    >>> statistics.by_layer("activation_count")
    {'fc1': array([9, 0, 4]), 'fc2': array([5, 7])}
    """

    def __init__(
        self,
        measures: Mapping[str, Mapping[str, ArrayLike]],
        *,
        network_accuracy: float | None = None,
    ) -> None:
        if not measures:
            raise ValueError("NeuronStatistics needs at least one measure, got none.")
        if taken := {"layer", "unit"}.intersection(measures):
            raise ValueError(f"The columns {sorted(taken)} say which neuron it is.")
        self.network_accuracy = network_accuracy
        self._widths = common_widths(measures)
        widths = list(self._widths.values())
        self._columns = {
            "layer": np.repeat(list(self._widths), widths),
            "unit": np.concatenate([np.arange(width) for width in widths]),
        }
        for name, measure in measures.items():
            self._columns[name] = flatten(measure, self._widths)

    @classmethod
    def from_activations(
        cls,
        X: Activations,
        y: ArrayLike | None = None,
        *,
        network: Any = None,
        recorder: Any = None,
        X_train: Activations | None = None,
        quantile: float = 0.25,
    ) -> NeuronStatistics:
        """Measure the neurons of the given layers.

        Parameters
        ----------
        X : Activations
            Activations of hidden layers by name, in forward order. With ``network`` or
            ``recorder``, one layer for each hidden layer with weights, after its nonlinearity.
        y : array-like of shape (n_samples,), default=None
            Class labels, -1 for out-of-distribution. They add the columns "accuracy" and
            "support", and ``network_accuracy``.
        network : object, default=None
            The trained network, as :func:`neuron_influence` takes it. It adds "influence_l1" and
            "influence_l2".
        recorder : TrainingRecorder, default=None
            What recorded the training of the network. It adds "training_count" and
            "average_gradient".
        X_train : Activations, default=None
            Activations of the same layers on all training samples, which show which neurons no
            training sample activates. Without a recorder they add "training_count".
        quantile : float in [0, 1], default=0.25
            As in :func:`weak_neurons`.

        Returns
        -------
        NeuronStatistics
            The table, whose columns are, besides "layer" and "unit":

            - "activation_count": number of samples that activate the neuron, of all of ``X``;
            - "activation_rate": their share;
            - "accuracy": :func:`neuron_accuracy`;
            - "support": number of in-distribution samples that activate the neuron, which the
              accuracy is of;
            - "training_count", "average_gradient": what the recorder saw, or without one the
              number of samples of ``X_train`` that activate the neuron;
            - "influence_l1", "influence_l2": :func:`neuron_influence`, 0 for a neuron that no
              training sample activated: none of all that the recorder saw, of any batch, and none
              of ``X_train``. Without both, ``X`` takes their place;
            - "weak", with ``network`` or ``recorder``: low in all there is of the count
              ("training_count", or without it that of ``X``), "average_gradient" and
              "influence_l2".

        Raises
        ------
        TypeError
            If ``X`` or ``X_train`` is not ``Activations``.
        ValueError
            If there are no samples, ``y`` is not what :func:`neuron_accuracy` takes, or the hidden
            layers of the network or recorder or the layers of ``X_train`` have other widths than
            those of ``X``.

        Examples
        --------
        >>> from skood import Activations
        >>> from skood.inspection import NeuronStatistics
        >>> X = Activations({"fc": [[1, 0], [1, 2], [0, 3], [0, 1]]}, predictions=[0, 1, 1, 1])
        >>> statistics = NeuronStatistics.from_activations(X, [0, 0, 1, -1])
        >>> statistics.columns
        ('layer', 'unit', 'activation_count', 'activation_rate', 'accuracy', 'support')
        >>> statistics["activation_count"], statistics["support"], statistics["accuracy"]
        (array([2, 3]), array([2, 2]), array([0.5, 0.5]))
        """
        count = _count_samples(X, "X")
        measures: Measures = {
            "activation_count": count,
            "activation_rate": {layer: n / len(X) for layer, n in count.items()},
        }
        network_accuracy = None
        if y is not None:
            of_labels, network_accuracy = _measure_accuracy(X, y)
            measures |= of_labels
        of_training, ever_active = _measure_training(recorder, X_train, count)
        measures |= of_training
        if network is not None:
            for norm in ("l1", "l2"):
                measures[f"influence_{norm}"] = neuron_influence(
                    network, norm, activation_counts=ever_active, layers=X.layer_names
                )
        low = [measures[name] for name in ("average_gradient", "influence_l2") if name in measures]
        if low:
            count = measures.get("training_count", count)
            measures["weak"] = weak_neurons(count, *low, quantile=quantile)
        return cls(measures, network_accuracy=network_accuracy)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: "layer", "unit", and the measures."""
        return tuple(self._columns)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, in forward order."""
        return tuple(self._widths)

    def by_layer(self, column: str) -> dict[str, NDArray]:
        """One column, layer by layer.

        Parameters
        ----------
        column : str
            Its name.

        Returns
        -------
        dict of str to ndarray of shape (n_units,)
            Its values by layer, in forward order.

        Raises
        ------
        KeyError
            If there is no such column.
        """
        return split_layers(self[column], self._widths)

    def to_frame(self) -> DataFrame:
        """The table as a data frame of pandas.

        Returns
        -------
        pandas.DataFrame of shape (n_neurons, n_columns)
            One row for each neuron, layer after layer.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        pandas = import_optional("pandas", "pandas", "NeuronStatistics.to_frame")
        return pandas.DataFrame(self._columns)

    def __getitem__(self, column: str) -> NDArray:
        if column not in self._columns:
            raise KeyError(f"No column {column!r}; the columns are {list(self._columns)}.")
        return self._columns[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns["unit"])

    def __repr__(self) -> str:
        layers = ", ".join(f"{name}: {width}" for name, width in self._widths.items())
        measures = ", ".join(self.columns[2:])
        return (
            f"NeuronStatistics(n_neurons={len(self)}, layers={{{layers}}}, measures=[{measures}])"
        )

    def _repr_html_(self) -> str | None:
        try:
            return self.to_frame()._repr_html_()
        except ImportError:
            return None  # a notebook then shows the plain text


def _count_samples(X: Activations, name: str) -> dict[str, NDArray[np.int64]]:
    if not isinstance(X, Activations):
        raise TypeError(f"NeuronStatistics needs Activations, got {type(X).__name__} as {name}.")
    if len(X) == 0:
        raise ValueError(f"Found 0 samples in {name}={X!r} while at least 1 is needed.")
    return count_by_layer(X)


def _measure_accuracy(X: Activations, y: ArrayLike) -> tuple[Measures, float]:
    """Accuracies of neurons, their support, and the accuracy of the network on the same samples."""
    accuracy = neuron_accuracy(X, y)
    known, labels = take_rows(X, y, in_distribution_rows(y, len(X)))
    measures: Measures = {"accuracy": accuracy, "support": count_by_layer(known)}
    return measures, float(np.mean(known.predictions == labels))


def _measure_training(
    recorder: Any, X_train: Activations | None, count: dict[str, NDArray]
) -> tuple[Measures, dict[str, NDArray]]:
    """What is known of the training, and which neurons any sample of it activated.

    Where nothing is known of it, ``count`` stands for it, which names the layers too.
    """
    measures: Measures = {}
    activity = []
    if X_train is not None:
        of_samples = _of_layers(_count_samples(X_train, "X_train"), count, "X_train")
        measures["training_count"] = of_samples
        activity.append(of_samples)
    if recorder is not None:
        recorded = recorder.activation_counts_
        measures["training_count"] = _of_layers(recorded, count, "the recorder")
        measures["average_gradient"] = _of_layers(
            recorder.average_gradients_, count, "the recorder"
        )
        # Another recorder may have counted nothing but the first sample of each batch.
        seen = getattr(recorder, "ever_active_", recorded)
        activity.append(_of_layers(seen, count, "the recorder"))
    by_any = {
        layer: np.any([of[layer] > 0 for of in activity or [count]], axis=0) for layer in count
    }
    return measures, by_any


def _of_layers(
    measure: Mapping[str, NDArray], layers: Mapping[str, NDArray], source: str
) -> dict[str, NDArray]:
    """A measure by weight layer, under the names of the layers whose weights they are."""
    found = {name: len(values) for name, values in measure.items()}
    expected = {name: len(values) for name, values in layers.items()}
    if list(found.values()) != list(expected.values()):
        raise ValueError(
            f"X must have one layer for each hidden layer of {source}, of the same width: X has "
            f"{expected}, and {source} has {found}."
        )
    return dict(zip(layers, measure.values(), strict=True))
