"""The networks of a small framework, and the adapter that reads them."""

import numpy as np

from skood.networks import ContentReader, Fingerprint, NetworkAdapter, Trace, register


class Chain:
    """A framework in five lines: matrices, with the rectifier between them."""

    def __init__(self, *weights):
        self.weights = weights

    def __call__(self, x):
        for weight in self.weights[:-1]:
            x = np.maximum(x @ weight, 0)
        return x @ self.weights[-1]


class ChainAdapter(NetworkAdapter):
    """Reads a ``Chain``; its layers are "rectified_0", "rectified_1", ...

    Examples
    --------
    >>> adapter = ChainAdapter(Chain(np.eye(2), np.ones((2, 3))))
    >>> trace, values = adapter.trace(np.array([[1.0, -2.0], [3.0, 4.0]]))
    >>> trace.auto
    ['rectified_0']
    >>> values["rectified_0"]
    array([[1., 0.],
           [3., 4.]])
    """

    def __init__(self, network):
        self.network = network

    @property
    def kind(self):
        return "a Chain"

    def _run(self, batch):
        """Values of all layers, and the logits."""
        values, x = {}, np.asarray(batch)
        for number, weight in enumerate(self.network.weights[:-1]):
            x = values[f"rectified_{number}"] = np.maximum(x @ weight, 0)
        return values, x @ self.network.weights[-1]

    def trace(self, batch):
        values, _ = self._run(batch)
        names = list(values)
        n_axes = {name: value.ndim for name, value in values.items()}
        trace = Trace(auto=names, features=names[-1:], n_axes=n_axes, why_no_head="")
        return trace, values

    def forward(self, batch, trace, layers, keep):
        values, logits = self._run(batch)
        for name in layers:
            keep(name, values[name])
        return logits

    def head(self, trace):
        return self.network.weights[-1].T.copy(), None

    def fingerprint(self, trace=None):
        reader = ContentReader()
        return Fingerprint(reader.digest(list(self.network.weights)).hex(), reader.unread)


register(Chain, ChainAdapter)
