"""Activations in blocks, which are computed when they are wanted and where they lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, Self

import dask
import dask.array as da
import numpy as np
from dask.array.optimization import optimize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from ..activations import Activations, LinearHead, PackedBits
from ._blocks import Blocks, Literal, as_array, new_layer, opened, run, split_rows


class DaskActivations:
    """Activations in blocks of rows, each of which is one :class:`~skood.Activations` on a worker.

    :meth:`ActivationExtractor.transform <skood.ActivationExtractor.transform>` makes them of a Dask
    array. They are lazy, as all collections of Dask: nothing is computed before ``compute``,
    ``persist``, or a ``fit`` that learns from them. Detectors, ensembles, transformers and
    :class:`~skood.Monitor` take them in place of ``Activations``: ``fit`` learns on the workers,
    and scores are Dask arrays. :meth:`compute` gives ``Activations`` in memory.

    Parameters
    ----------
    name : str
        Name of the blocks in the graph.
    graph : HighLevelGraph
        Computes the blocks, under keys ``(name, number)``. A block without rows may be None.
    sizes : tuple of int or float
        Number of rows of each block, NaN where it is not known.
    template : Activations or callable, default=None
        Activations without a row, or what makes them when they are wanted; by default, they are
        read from the blocks.

    See Also
    --------
    skood.Activations : What each block holds.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import ActivationExtractor
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MLPClassifier((8, 5), max_iter=2000, random_state=0).fit(X, y)
    >>> blocks = da.from_array(X, chunks=(50, -1))
    >>> A = ActivationExtractor(network).fit_transform(blocks)
    >>> A
    DaskActivations(n_samples=150, n_blocks=3)
    >>> A["hidden_1"]
    dask.array<skood-column, shape=(150, 5), dtype=float64, chunksize=(50, 5), chunktype=...>
    >>> A.compute()
    Activations(n_samples=150, layers={hidden_0: (8,), hidden_1: (5,)}, n_classes=3)
    """

    def __init__(
        self,
        name: str,
        graph: HighLevelGraph,
        sizes: tuple[float, ...],
        template: Activations | Callable[[], Activations] | None = None,
    ) -> None:
        self._name = name
        self._graph = graph
        self._sizes = sizes
        self._make_template = template

    @classmethod
    def from_activations(cls, A: Activations, n_samples: int = 10_000) -> Self:
        """Cut activations that were extracted before into blocks.

        Parameters
        ----------
        A : Activations
            Of a folder that :meth:`ActivationExtractor.transform
            <skood.ActivationExtractor.transform>` has written, only the path is sent: each worker
            reads its rows, where it sees the same file system. Others are sent themselves.
        n_samples : int, default=10000
            Rows of a block.

        Returns
        -------
        activations : DaskActivations
            The same rows.

        Raises
        ------
        ValueError
            If ``n_samples`` is not positive.
        """
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
        starts = range(0, max(1, len(A)), n_samples)  # without rows there is one block, too
        parts = [A[start : start + n_samples] for start in starts]
        tasks = [(opened, Literal(part)) for part in parts]
        name, graph = new_layer("given", tasks, [])
        return cls(name, graph, tuple(map(len, parts)), A[:0])

    @cached_property
    def template(self) -> Activations:
        """The layers, head and classes without a row; computed from a few rows where needed.

        Raises
        ------
        ValueError
            If there is no row in any block.
        """
        if isinstance(self._make_template, Activations):
            return self._make_template
        return self._template_of_blocks() if self._make_template is None else self._make_template()

    def _template_of_blocks(self) -> Activations:
        for key, size in zip(self.__dask_keys__(), self._sizes, strict=True):
            if size != 0:
                (found,) = run("template", [(without_rows, key)], [self])
                if found is not None:
                    return found
        raise ValueError("Found 0 samples in all blocks where at least 1 is needed.")

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, in forward order."""
        return self.template.layer_names

    @property
    def layer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one sample in each layer."""
        return self.template.layer_shapes

    @property
    def head(self) -> LinearHead | None:
        """The last linear layer of the network, or None."""
        return self.template.head

    @property
    def classes(self) -> NDArray | None:
        """Label of each column of ``logits``, or None where they are unknown."""
        return self.template.classes

    @property
    def logits(self) -> da.Array | None:
        """Output of the network, of shape (n_samples, n_classes), or None."""
        return self._part("logits")

    @property
    def predictions(self) -> da.Array | None:
        """The class that the network predicted for each sample, or None."""
        return self._part("predictions")

    @property
    def features(self) -> da.Array | None:
        """What the head reads in the network, of shape (n_samples, n_units), or None."""
        return self._part("features")

    @property
    def labels(self) -> da.Array | None:
        """Labels that came with the rows, of shape (n_samples,), or None."""
        return self._part("labels")

    @property
    def shape(self) -> tuple[float, int]:
        """(n_samples, total number of units); NaN samples where their number is not known."""
        return sum(self._sizes), self.template.shape[1]

    @property
    def block_sizes(self) -> tuple[float, ...]:
        """Number of rows of each block, NaN where it is not known."""
        return self._sizes

    def __len__(self) -> int:
        if math.isnan(n_samples := sum(self._sizes)):
            raise TypeError(
                "The number of samples is not known, as the blocks have chunks of unknown size: "
                "call compute_chunk_sizes() first."
            )
        return int(n_samples)

    def compute_chunk_sizes(self) -> Self:
        """Count the rows of each block, which computes the blocks.

        Returns
        -------
        self : DaskActivations
            The same, changed. Call :meth:`persist` before, where they are to be computed once.
        """
        counts = run("sizes", [(_n_rows, key) for key in self.__dask_keys__()], [self])
        self._sizes = tuple(counts)
        return self

    def __getitem__(self, item: Any) -> Any:
        """A layer as a Dask array, by its name; some layers, by a list of names; or some rows.

        Raises
        ------
        KeyError
            If there is no such layer.
        TypeError
            If rows are selected that are not in ascending order, or the number of rows is not
            known.
        """
        if isinstance(item, str):
            values = self.template[item]
            packed = isinstance(values, PackedBits)
            read = partial(_unpacked, name=item) if packed else partial(_layer, name=item)
            return self._column(read, np.dtype(bool) if packed else values.dtype, values.shape[1:])
        if isinstance(item, list) and item and all(isinstance(name, str) for name in item):
            return self.map_blocks(partial(_select, names=item), template=self.template[item])
        rows = np.arange(len(self))[item]
        if rows.ndim != 1 or (np.diff(rows) <= 0).any():
            raise TypeError(
                "Rows of blocks are selected by a slice, a mask or ascending numbers, each once, "
                "so that each stays in its block: select others of A.compute()."
            )
        return self._take(rows)

    def _take(self, rows: NDArray[np.intp]) -> DaskActivations:
        parts = split_rows(rows, [int(size) for size in self._sizes])
        tasks = [
            (_rows_of, key, Literal(part))
            for key, part in zip(self.__dask_keys__(), parts, strict=True)
        ]
        name, graph = new_layer("rows", tasks, [self])
        return DaskActivations(name, graph, tuple(map(len, parts)), self._template_of)

    def _template_of(self) -> Activations:
        return self.template

    def _part(self, part: str) -> da.Array | None:
        values = getattr(self.template, part)
        if values is None:
            return None
        return self._column(partial(_part, name=part), values.dtype, values.shape[1:])

    def _column(
        self, read: Callable[[Activations], NDArray], dtype: Any, shape: tuple[int, ...]
    ) -> da.Array:
        empty = np.empty((0, *shape), dtype)
        tasks = [(_read, key, read, empty) for key in self.__dask_keys__()]
        return as_array("column", tasks, self._as_blocks(), [self], dtype=dtype, shape=shape)

    def map_blocks(
        self,
        function: Callable[[Activations], Activations],
        template: Activations | Callable[[], Activations] | None = None,
    ) -> DaskActivations:
        """Apply a function to each block that has rows.

        Parameters
        ----------
        function : callable
            Makes Activations with the same rows of Activations.
        template : Activations or callable, default=None
            What comes out, without a row, or what makes it; by default it is found out when it is
            needed.

        Returns
        -------
        activations : DaskActivations
            The lazy result.
        """
        tasks = [(_apply, key, function) for key in self.__dask_keys__()]
        name, graph = new_layer("map-blocks", tasks, [self])
        return DaskActivations(name, graph, self._sizes, template)

    def compute(self, **kwargs: Any) -> Activations:
        """Compute all blocks and gather them in this process.

        Parameters
        ----------
        **kwargs : dict
            As in ``dask.compute``, such as ``scheduler``.

        Returns
        -------
        activations : Activations
            All rows, in order.
        """
        return dask.base.compute(self, **kwargs)[0]

    def persist(self, **kwargs: Any) -> DaskActivations:
        """Compute all blocks and leave them where they are, for later computations.

        Parameters
        ----------
        **kwargs : dict
            As in ``dask.persist``.

        Returns
        -------
        activations : DaskActivations
            The same rows. On a cluster they stay on its workers, else in this process.
        """
        return dask.base.persist(self, **kwargs)[0]

    def _as_blocks(self) -> Blocks:
        return Blocks(self.__dask_keys__(), [self], list(self._sizes))

    def __dask_graph__(self) -> HighLevelGraph:
        return self._graph

    def __dask_keys__(self) -> list[Any]:
        return [(self._name, number) for number in range(len(self._sizes))]

    def __dask_layers__(self) -> tuple[str, ...]:
        return (self._name,)

    def __dask_tokenize__(self) -> str:
        return self._name

    __dask_scheduler__ = staticmethod(dask.threaded.get)
    __dask_optimize__ = staticmethod(optimize)

    def __dask_postcompute__(self) -> tuple[Callable[..., Activations], tuple[Any, ...]]:
        return self._gather, ()

    def _gather(self, blocks: list[Activations | None]) -> Activations:
        parts = [block for block in blocks if block is not None and len(block)]
        return Activations.concatenate(parts) if parts else self.template

    def __dask_postpersist__(self) -> tuple[Callable[..., DaskActivations], tuple[Any, ...]]:
        return self._rebuild, ()

    def _rebuild(self, graph: Any, *, rename: dict[str, str] | None = None) -> DaskActivations:
        name = (rename or {}).get(self._name, self._name)
        if not isinstance(graph, HighLevelGraph):
            graph = HighLevelGraph.from_collections(name, graph)
        known = vars(self).get("template", self._make_template)
        return DaskActivations(name, graph, self._sizes, known)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("Activations are not iterable: use `.layer_names` or A['layer'].")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        raise TypeError(
            "These activations lie in blocks elsewhere, and what asks for them needs all rows in "
            "this process: pass A.compute(), where they fit into its memory."
        )

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"DaskActivations have no attribute {name!r}: A.compute() gives Activations in memory, "
            "where all rows fit into it.",
            name=name,
            obj=self,
        )

    def __repr__(self) -> str:
        n_samples = sum(self._sizes)
        shown = "unknown" if math.isnan(n_samples) else f"{n_samples:g}"
        return f"DaskActivations(n_samples={shown}, n_blocks={len(self._sizes)})"


def _rows_of(block: Activations | None, rows: Literal) -> Activations | None:
    return None if block is None or not len(rows.values) else block[rows.values]


def _apply(
    block: Activations | None, function: Callable[[Activations], Activations]
) -> Activations | None:
    return None if block is None or not len(block) else function(block)


def _read(
    block: Activations | None, read: Callable[[Activations], NDArray], empty: NDArray
) -> NDArray:
    return empty if block is None or not len(block) else read(block)


def _layer(block: Activations, name: str) -> NDArray:
    return np.asarray(block[name])


def _unpacked(block: Activations, name: str) -> NDArray:
    return block[name].unpack()


def _part(block: Activations, name: str) -> NDArray:
    return np.asarray(getattr(block, name))


def _select(block: Activations, names: list[str]) -> Activations:
    return block[names]


def _n_rows(block: Activations | None) -> int:
    return 0 if block is None else len(block)


def without_rows(block: Activations | None) -> Activations | None:
    """What a block holds, without a row; None of one that has none to tell."""
    return None if block is None or not len(block) else block[:0]
