"""Rows in blocks: the collections of Dask that are taken, and the graphs that are made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
from dask.array.optimization import optimize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._elsewhere import refuse_without_rows
from .._samples import n_samples_of

Size = float
"""Number of rows of a block; NaN where it is not known."""


@dataclass(frozen=True)
class Blocks:
    """Rows of one or several collections of Dask, block by block.

    Attributes
    ----------
    arguments : list
        What a task is given for each block: a key of a graph, or a structure with several.
    sources : list of collection
        Where the keys are from.
    sizes : list of float
        Number of rows of each block; NaN where it is not known.
    """

    arguments: list[Any]
    sources: list[Any]
    sizes: list[Size]

    @classmethod
    def of(cls, X: Any, name: str = "X") -> Blocks:
        """Those of inputs or activations, or of what belongs to them, which errors call ``name``.

        Raises
        ------
        TypeError
            If they are another kind of collection.
        ValueError
            If several inputs are not cut into blocks of the same rows.
        """
        if isinstance(X, Mapping):
            return cls._of_mapping(X)
        refuse_without_rows(X, name)
        if hasattr(X, "_as_blocks"):
            return X._as_blocks()
        if isinstance(X, da.Array):
            return cls._of_array(X)
        if hasattr(type(X), "npartitions") and hasattr(type(X), "columns"):
            keys = list(flatten(X.__dask_keys__()))
            return cls(keys, [X], [math.nan] * len(keys))
        raise TypeError(
            f"Of Dask, arrays, data frames and dicts of arrays are taken, but {name} is "
            f"{type(X).__name__}: its rows have no order in blocks."
        )

    @classmethod
    def _of_array(cls, X: da.Array) -> Blocks:
        if X.ndim == 0:
            raise ValueError("Expected an array of rows, got a single value of Dask.")
        whole = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
        return cls(list(flatten(whole.__dask_keys__())), [whole], list(whole.chunks[0]))

    @classmethod
    def _of_mapping(cls, X: Mapping[str, Any]) -> Blocks:
        parts = {name: _blocks_of_part(name, values) for name, values in X.items()}
        sizes = {name: tuple(part.sizes) for name, part in parts.items()}
        first = next(iter(parts.values()))
        for name, part in parts.items():
            if not are_alike(part.sizes, first.sizes):
                raise ValueError(
                    "Inputs in a dict need chunks of the same rows, got "
                    f"{_shortened(sizes[next(iter(parts))])} and {_shortened(sizes[name])} for "
                    f"{next(iter(parts))!r} and {name!r}: call rechunk."
                )
        arguments = [
            (dict, [[name, part.arguments[number]] for name, part in parts.items()])
            for number in range(len(first.sizes))
        ]
        return cls(arguments, [s for part in parts.values() for s in part.sources], first.sizes)

    def __len__(self) -> int:
        return len(self.arguments)

    @property
    def places(self) -> list[Place]:
        """Where each block is, in the same order."""
        starts = np.cumsum([0, *self.sizes])
        return [Place(number, start) for number, start in enumerate(starts[:-1])]

    @property
    def n_rows(self) -> int | None:
        """Number of all rows, where it is known."""
        total = sum(self.sizes)
        return None if math.isnan(total) else int(total)

    def of_rows(self, values: ArrayLike | None, name: str) -> Blocks:
        """Values of the same rows, such as labels, in the same blocks; nothing for None.

        Raises
        ------
        ValueError
            If they are another number than the rows, or cut into other blocks.
        """
        if values is None:
            return Blocks([None] * len(self), [], self.sizes)
        if hasattr(type(values), "__dask_graph__"):
            return self._of_collection(values, name)
        array = np.asarray(values)
        if self.n_rows is None:
            raise ValueError(
                f"{name} lies in memory, but X has chunks of unknown size, so that nothing says "
                f"which rows belong together: call X.compute_chunk_sizes(), of a data frame pass "
                f"X.to_dask_array(lengths=True), or pass {name} as a Dask array with the same "
                "chunks."
            )
        _check_length(len(array), self.n_rows, name)
        ends = np.cumsum([0, *map(int, self.sizes)])
        parts = [array[start:end] for start, end in pairwise(ends)]
        return Blocks([Literal(part) for part in parts], [], self.sizes)

    def _of_collection(self, values: Any, name: str) -> Blocks:
        known = None not in (self.n_rows, n_known := Blocks.of(values, name).n_rows)
        if known:
            _check_length(int(n_known or 0), int(self.n_rows or 0), name)
            if isinstance(values, da.Array) and values.chunks[0] != tuple(self.sizes):
                values = values.rechunk({0: tuple(map(int, self.sizes))})
        blocks = Blocks.of(values)
        if len(blocks) != len(self):
            raise ValueError(
                f"X lies in {len(self)} blocks and {name} in {len(blocks)}, of which not all sizes "
                "are known: call compute_chunk_sizes() of both, or cut both alike."
            )
        return blocks


class Literal:
    """Values that are part of a graph, which would look for keys among them."""

    def __init__(self, values: Any) -> None:
        self.values = values


@dataclass(frozen=True)
class Place:
    """Where a block is among all, which errors about its rows say.

    Attributes
    ----------
    number : int
        Its number.
    start : float
        Number of rows before it; NaN where it is not known.
    """

    number: int
    start: float

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function makes of the block.

        Raises
        ------
        ValueError
            If the function refuses rows, whose numbers are those within the block.
        """
        try:
            return function(*arguments)
        except ValueError as error:
            if len(error.args) == 1:
                error.args = (f"{error} {self._said}",)
            raise

    @property
    def _said(self) -> str:
        if math.isnan(self.start):
            return f"(Of block {self.number} of X; samples are counted within it.)"
        return (
            f"(Of block {self.number} of X; samples are counted within it, and its first one is "
            f"number {self.start:.0f} of all.)"
        )


def opened(values: Any) -> Any:
    """Values as a task is given them, taken out of a :class:`Literal`."""
    return values.values if isinstance(values, Literal) else values


def are_alike(sizes: Sequence[Size], others: Sequence[Size]) -> bool:
    """Whether rows are cut alike, as far as that is known."""
    return len(sizes) == len(others) and all(
        size == other or math.isnan(size) or math.isnan(other)
        for size, other in zip(sizes, others, strict=True)
    )


def new_layer(
    what: str, tasks: Sequence[Any], sources: Sequence[Any], *more: int
) -> tuple[str, HighLevelGraph]:
    """The name and graph of tasks, one a block; ``more`` are further numbers of their keys."""
    name = f"skood-{what}-{uuid4().hex}"
    layer: dict[Any, Any] = {(name, number, *more): task for number, task in enumerate(tasks)}
    return name, HighLevelGraph.from_collections(name, layer, dependencies=list(sources))


def as_array(
    what: str,
    tasks: Sequence[Any],
    blocks: Blocks,
    sources: Sequence[Any],
    *,
    dtype: DTypeLike,
    shape: tuple[int, ...] = (),
) -> da.Array:
    """A lazy array of what tasks make of blocks, of which each row has a ``shape``."""
    name, graph = new_layer(what, tasks, sources, *([0] * len(shape)))
    chunks = (tuple(blocks.sizes), *((size,) for size in shape))
    return da.Array(graph, name, chunks, meta=np.empty((0,) * (1 + len(shape)), dtype))


class Tasks:
    """A graph that is put together task by task, and computed at once.

    Parameters
    ----------
    what : str
        What the tasks are called.
    sources : sequence of collection
        Where the keys that they are given are from.
    """

    def __init__(self, what: str, sources: Sequence[Any]) -> None:
        self._name = f"skood-{what}-{uuid4().hex}"
        self._layer: dict[Any, Any] = {}
        self._sources = list(sources)

    def add(self, function: Callable[..., Any], *arguments: Any) -> tuple[str, int]:
        """The key of a call, which others may be given."""
        key = self._name, len(self._layer)
        self._layer[key] = (function, *arguments)
        return key

    def compute(self, keys: Sequence[Any]) -> list[Any]:
        """Results of some of the tasks."""
        return list(dask.base.compute(self._results(keys))[0])

    def persist(self, keys: Sequence[Any]) -> Any:
        """Some of the tasks, computed, as a source of others: what they give stays where it is."""
        return dask.base.persist(self._results(keys))[0]

    def _results(self, keys: Sequence[Any]) -> _Results:
        graph = HighLevelGraph.from_collections(self._name, self._layer, self._sources)
        return _Results(self._name, graph, list(keys))


def run(what: str, calls: Sequence[Any], sources: Sequence[Any]) -> list[Any]:
    """Results of calls, each a function and its arguments."""
    tasks = Tasks(what, sources)
    return tasks.compute([tasks.add(*call) for call in calls])


class _Results:
    """The results of a layer, as a collection."""

    def __init__(self, name: str, graph: HighLevelGraph, keys: list[Any]) -> None:
        self._name, self._graph, self._keys = name, graph, keys

    def __dask_graph__(self) -> HighLevelGraph:
        return self._graph

    def __dask_keys__(self) -> list[Any]:
        return self._keys

    def __dask_layers__(self) -> tuple[str, ...]:
        return (self._name,)

    def __dask_tokenize__(self) -> str:
        return self._name

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return list, ()

    def __dask_postpersist__(self) -> tuple[Callable[..., _Results], tuple[Any, ...]]:
        return self._rebuild, ()

    def _rebuild(self, graph: Any, *, rename: dict[str, str] | None = None) -> _Results:
        """The same keys of a graph, in which they are computed."""
        if not isinstance(graph, HighLevelGraph):
            graph = HighLevelGraph.from_collections(self._name, graph)
        return _Results(self._name, graph, self._keys)

    __dask_scheduler__ = staticmethod(dask.threaded.get)
    # As arrays are, whose tasks of the same names a cluster may know.
    __dask_optimize__ = staticmethod(optimize)


def n_rows_in(X: Any) -> int:
    """Number of rows of a block."""
    return n_samples_of(X) or 0


def has_rows(X: Any, y: Any) -> bool:
    """Whether a block has any rows, of which ``y`` are the labels, if any.

    Raises
    ------
    ValueError
        If there are labels and no rows.
    """
    n_rows = 0 if X is None else n_rows_in(X)
    if n_rows == 0 and (labels := opened(y)) is not None:
        _check_length(len(labels), 0, "y")
    return n_rows > 0


def first_rows(X: Any, n_rows: int) -> Any:
    """At most so many rows of a block."""
    if isinstance(X, Mapping):
        return {name: first_rows(values, n_rows) for name, values in X.items()}
    return X.iloc[:n_rows] if hasattr(X, "iloc") else X[:n_rows]


def some_rows(blocks: Blocks, n_rows: int) -> Any:
    """The first rows of the first block that has any.

    Raises
    ------
    ValueError
        If none has any.
    """
    for argument, size in zip(blocks.arguments, blocks.sizes, strict=True):
        if size != 0:
            (rows,) = run("first-rows", [(first_rows, argument, n_rows)], blocks.sources)
            if n_rows_in(rows):
                return rows
    raise ValueError("Found 0 samples in all blocks where at least 1 is needed.")


def _blocks_of_part(name: str, values: Any) -> Blocks:
    if not hasattr(type(values), "__dask_graph__"):
        raise TypeError(
            f"All inputs in a dict must be Dask arrays where one is, but {name!r} is "
            f"{type(values).__name__}: pass dask.array.from_array of it, with the same chunks."
        )
    return Blocks.of(values)


def _check_length(n_values: int, n_rows: int, name: str) -> None:
    if n_values != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n_rows} rows, "
            f"{name} {n_values}."
        )


def _shortened(sizes: Sequence[Size]) -> str:
    shown = ", ".join(f"{size:g}" for size in sizes[:5])
    return f"({shown}{', ...' if len(sizes) > 5 else ''})"


def split_rows(rows: NDArray[np.intp], sizes: Sequence[int]) -> list[NDArray[np.intp]]:
    """The numbers that some ascending rows have within each block."""
    ends = np.cumsum([0, *sizes])
    parts = np.split(rows, np.searchsorted(rows, ends[1:-1]))
    return [part - start for part, start in zip(parts, ends[:-1], strict=True)]
