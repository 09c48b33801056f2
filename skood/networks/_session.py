"""A network that is run again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class NetworkSession:
    """Runs a network for the same layers again and again, until it is closed.

    Parameters
    ----------
    adapter : NetworkAdapter
        Reads the network.
    trace : Trace
        What its ``trace`` has returned.
    layers : sequence of str
        Names of layers.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood.networks import adapt
    >>> X, y = load_iris(return_X_y=True)
    >>> adapter = adapt(MLPClassifier((8, 5), max_iter=2000, random_state=0).fit(X, y))
    >>> trace, _ = adapter.trace(X[:2])
    >>> session, shapes = adapter.session(trace, trace.auto), {}
    >>> session.run(X[:1], lambda name, value: shapes.update({name: value.shape})).shape
    (1, 3)
    >>> shapes
    {'hidden_0': (1, 8), 'hidden_1': (1, 5)}
    """

    def __init__(self, adapter: Any, trace: Any, layers: Sequence[str]) -> None:
        self._adapter, self._trace, self._layers = adapter, trace, layers

    def run(self, batch: Any, keep: Callable[[str, Any], None]) -> Any | None:
        """Run on a batch, as ``forward`` in ``untouched`` does.

        Parameters
        ----------
        batch : array, tensor or mapping
            Some samples. They are not overwritten.
        keep : callable
            Called with the name of each layer and its value, as in ``forward``.

        Returns
        -------
        logits : array of shape (n_samples, n_classes) or None
            As ``forward`` returns them.
        """
        with self._adapter.untouched():
            return self._adapter.forward(batch, self._trace, self._layers, keep)

    def arrays(self, values: Sequence[Any]) -> tuple[list[NDArray], list[NDArray]]:
        """What was kept of a run, as arrays.

        Parameters
        ----------
        values : sequence of array or tensor
            Values that nothing else writes to.

        Returns
        -------
        arrays : list of ndarray
            The values.
        blocks : list of ndarray
            Arrays that hold the same numbers, and no others; few of them where the values are few.
        """
        to_numpy = self._adapter.to_numpy
        arrays = [v if isinstance(v, np.ndarray) else to_numpy(v) for v in values]
        return arrays, arrays

    def is_current(self) -> bool:
        """Whether it reads what the network is made of now; by default it is not known to.

        It is asked where the network was found to be what it was after it had seemed to change, as
        where equal parts have taken the place of others.

        Returns
        -------
        is_current : bool
            If not, another session takes its place.
        """
        return False

    def open(self) -> None:
        """Let what listens to the network stay there between the runs; by default nothing does."""

    def close(self) -> None:
        """Leave nothing there; a session that is closed may run, and be opened again."""
