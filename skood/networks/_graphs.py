"""Graphs as inputs, which are refused by name."""

from __future__ import annotations

from typing import Any

from ._inputs import InputReader, Loader

_ADVICE = (
    "a graph has no row for each sample. To classify graphs, pass dense ones as a mapping of the "
    "names of the network's arguments to arrays, such as {'x': (n_graphs, n_nodes, n_features), "
    "'adj': (n_graphs, n_nodes, n_nodes), 'mask': (n_graphs, n_nodes)}, as to_dense_batch and "
    "to_dense_adj of torch_geometric make them, and call the network on these in a module. To "
    "classify nodes, pass the activations of the nodes, as Activations with a row for each."
)


class Graphs(InputReader):
    """Refuses the graphs of torch_geometric and DGL, their data sets and their loaders."""

    def refuse(self, X: Any) -> None:
        kind = type(X)
        if hasattr(kind, "__array__"):
            return
        library = next(
            parent.__module__.partition(".")[0]
            for parent in kind.__mro__
            if parent.__module__.partition(".")[0] in ("torch_geometric", "dgl")
        )
        raise TypeError(f"Got a {kind.__name__} of {library}: {_ADVICE}")

    def load(self, X: Any, batch_size: int) -> Loader | None:
        self.refuse(X)
        return None
