"""What was found out about the score of a sample, as arrays and as a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .._optional import import_optional

if TYPE_CHECKING:
    import pandas as pd

_NAMED_IN_REPORT = 5
"""Layers, and detectors of an ensemble."""
_UNUSUAL = 2.0
"""Norms that differ by this factor or more from those of the nearest examples are reported."""


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What :func:`explain` found; ``print`` it for a short report.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Scores of the detector: the higher, the more in-distribution.
    threshold : float or None
        Scores below it are alarms; None where scores alone do not decide.
    alarms : ndarray of shape (n_samples,), dtype bool
        Whether the detector takes the sample for out-of-distribution.
    predictions : ndarray of shape (n_samples,) or None
        The class that the network predicted, where that is known.
    neighbors : ndarray of shape (n_samples, n_neighbors)
        Rows of the nearest training examples in the training data, nearest first; -1 where
        there are too few.
    distances : ndarray of shape (n_samples, n_neighbors)
        Their distances.
    neighbor_labels : ndarray of shape (n_samples, n_neighbors) or None
        Their classes, where these are known; -1, or no text, where there is no example.
    layer_weights : dict of str to ndarray of shape (n_samples,)
        By how much the score would rise if all neurons of this layer did what they do in the
        nearest training example; NaN where there is none.
    neuron_weights : dict of str to ndarray of shape (n_samples, n_units)
        By how much the score would rise if this one neuron did.
    values : dict of str to ndarray of shape (n_samples, n_units)
        What each neuron does; the mean of a channel.
    neighbor_values : dict of str to ndarray of shape (n_samples, n_units)
        What it does on average in the nearest training examples.
    n_neurons : int
        How many neurons the report names.
    contributions : dict of str to ndarray of shape (n_samples,), default=None
        What each detector of an :class:`~skood.ensemble.AdaptiveEnsembleDetector` adds to the
        score; by how much each of an :class:`~skood.ensemble.AnyAlarmDetector` is above its
        threshold, negative where it rejects (``decision_each``); None for other detectors.

    See Also
    --------
    explain : Explains the score of a detector.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import HammingNAPDetector
    >>> from skood.inspection import explain
    >>> X = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]])
    >>> found = explain(HammingNAPDetector(tau=1).fit(X), [[1, 1, 0, 1]], n_neighbors=2)
    >>> found
    Explanation(n_samples=1, n_alarms=0, n_neighbors=2, layers=['X'])
    >>> found.neighbors, found.distances
    (array([[0, 1]]), array([[1, 1]]))
    >>> found.top_neurons()
    [('X', 3, 1.0)]
    """

    scores: NDArray[np.floating]
    threshold: float | None
    alarms: NDArray[np.bool_]
    predictions: NDArray | None
    neighbors: NDArray[np.intp]
    distances: NDArray[np.number]
    neighbor_labels: NDArray | None
    layer_weights: dict[str, NDArray[np.float64]]
    neuron_weights: dict[str, NDArray[np.float64]]
    values: dict[str, NDArray]
    neighbor_values: dict[str, NDArray[np.float64]]
    n_neurons: int
    contributions: dict[str, NDArray[np.float64]] | None = None

    def top_detectors(self, sample: int = 0) -> list[tuple[str, float]]:
        """Rank the detectors of the ensemble by how much each lowers the score.

        Parameters
        ----------
        sample : int, default=0
            Which of the samples explained.

        Returns
        -------
        list of tuple (detector, contribution)
            Those with a contribution below 0, the lowest first, which of several thresholds are
            those that reject; empty for a detector that is no such ensemble.
        """
        added = [(name, float(part[sample])) for name, part in (self.contributions or {}).items()]
        return sorted([entry for entry in added if entry[1] < 0], key=lambda entry: entry[1])

    def norm_ratios(self, sample: int = 0) -> dict[str, float]:
        """Size of the activations of each layer beside that of the nearest examples.

        Parameters
        ----------
        sample : int, default=0
            Which of the samples explained.

        Returns
        -------
        dict of str to float
            The Euclidean norm of ``values`` divided by that of ``neighbor_values``: 1 where the
            sample is as usual, 8 where all activations are eight times as large. Layers that are
            silent in the examples, and those of bits, are left out, and so are all where there is
            no example.
        """
        norms = {
            name: (
                np.linalg.norm(values[sample]),
                np.linalg.norm(self.neighbor_values[name][sample]),
            )
            for name, values in self.values.items()
            if values.dtype != bool
        }
        return {name: float(here / nearby) for name, (here, nearby) in norms.items() if nearby > 0}

    def top_layers(self, sample: int = 0) -> list[tuple[str, float]]:
        """Rank the layers by weight.

        Parameters
        ----------
        sample : int, default=0
            Which of the samples explained.

        Returns
        -------
        list of tuple (layer, weight)
            Those that would raise the score, the largest weight first.
        """
        weights = [(name, float(weight[sample])) for name, weight in self.layer_weights.items()]
        return sorted([entry for entry in weights if entry[1] > 0], key=lambda entry: -entry[1])

    def top_neurons(self, sample: int = 0) -> list[tuple[str, int, float]]:
        """Rank the neurons by weight.

        Parameters
        ----------
        sample : int, default=0
            Which of the samples explained.

        Returns
        -------
        list of tuple (layer, unit, weight)
            At most ``n_neurons`` of those that would raise the score, the largest weight first.
            Of equal weights, the neuron that differs more from the nearest examples comes first.
        """
        weights, differences = (
            np.concatenate([array[sample] for array in arrays])
            for arrays in (self.neuron_weights.values(), self._differences())
        )
        neurons = [
            (name, unit) for name, w in self.neuron_weights.items() for unit in range(len(w[0]))
        ]
        order = np.lexsort((-differences, -weights))
        order = order[weights[order] > 0][: self.n_neurons]
        return [(*neurons[i], float(weights[i])) for i in order]

    def _differences(self) -> list[NDArray]:
        return [np.abs(values - self.neighbor_values[name]) for name, values in self.values.items()]

    def to_frame(self) -> pd.DataFrame:
        """Turn the weights of all neurons into a data frame.

        Returns
        -------
        pandas.DataFrame
            A row for each neuron of each sample, with the columns "sample", "layer", "unit",
            "weight", "value" and "neighbor_value".

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        pandas = import_optional("pandas", "pandas", "Explanation.to_frame")
        frames = [
            pandas.DataFrame(
                {
                    "sample": sample,
                    "layer": name,
                    "unit": np.arange(weights.shape[1]),
                    "weight": weights[sample],
                    "value": self.values[name][sample],
                    "neighbor_value": self.neighbor_values[name][sample],
                }
            )
            for sample in range(len(self.scores))
            for name, weights in self.neuron_weights.items()
        ]
        return pandas.concat(frames, ignore_index=True)

    def __repr__(self) -> str:
        return (
            f"Explanation(n_samples={len(self.scores)}, n_alarms={np.count_nonzero(self.alarms)}, "
            f"n_neighbors={self.neighbors.shape[1]}, layers={list(self.layer_weights)})"
        )

    def __str__(self) -> str:
        return "\n\n".join("\n".join(self._report(i)) for i in range(len(self.scores)))

    def _report(self, sample: int) -> list[str]:
        verdict = "alarm" if self.alarms[sample] else "no alarm"
        limit = "" if self.threshold is None else f", threshold {self.threshold:.4g}"
        lines = [f"Sample {sample}: {verdict} (score {self.scores[sample]:.4g}{limit})"]
        if self.predictions is not None:
            lines.append(f"  predicted class: {self.predictions[sample]}")
        return [
            *lines,
            *self._detector_lines(sample),
            *self._neighbor_lines(sample),
            *self._norm_lines(sample),
            f"  layers that weigh most: {_listed(self.top_layers(sample)) or 'none'}",
            *self._neuron_lines(sample),
        ]

    def _detector_lines(self, sample: int) -> list[str]:
        if self.contributions is None:
            return []
        return [f"  detectors that object most: {_listed(self.top_detectors(sample)) or 'none'}"]

    def _norm_lines(self, sample: int) -> list[str]:
        ratios = self.norm_ratios(sample).items()
        unusual = [f"{n} x{r:.3g}" for n, r in ratios if not 1 / _UNUSUAL < r < _UNUSUAL]
        named = ", ".join(unusual[:_NAMED_IN_REPORT])
        return [f"  norms beside those nearby: {named}"] if unusual else []

    def _neighbor_lines(self, sample: int) -> list[str]:
        found = np.flatnonzero(self.neighbors[sample] >= 0)
        if len(found) == 0:
            return ["  nearest training examples: none of this class"]
        labels = self.neighbor_labels
        heading = "  nearest training examples  distance"
        return [
            heading if labels is None else f"{heading}  class",
            *(
                f"    {f'row {self.neighbors[sample, i]}':<22} {self.distances[sample, i]:>10.4g}"
                + ("" if labels is None else f"  {labels[sample, i]}")
                for i in found
            ),
        ]

    def _neuron_lines(self, sample: int) -> list[str]:
        neurons = self.top_neurons(sample)
        if not neurons:
            return ["  neurons that weigh most: none"]
        lines = ["  neurons that weigh most      weight     here   nearby"]
        for name, unit, weight in neurons:
            here, nearby = self.values[name][sample, unit], self.neighbor_values[name][sample, unit]
            label = f"{name}[{unit}]"
            lines.append(f"    {label:<22} {weight:>+10.3g} {float(here):>8.3g} {nearby:>8.3g}")
        return lines


def _listed(ranked: list[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {weight:+.3g}" for name, weight in ranked[:_NAMED_IN_REPORT])
