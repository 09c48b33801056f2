"""The one container that every subpackage of skood hands to the next."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import cached_property
from math import prod
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sklearn.utils import check_scalar

from ._agreement import (
    check_as_many_classes,
    check_classes,
    check_head,
    check_predictions,
    check_width_of_head,
)
from ._batches import row_batches, rows_of_block
from ._column import PARTS, Column, Role, changed, layer_column, part_columns
from ._column_table import ColumnTable, compact
from ._concatenate import check_parts, stack, stack_part
from ._labels import as_labels, largest_logits
from ._linear_head import LinearHead
from ._manifest import Manifest
from ._patterns import PackedBits
from ._rows import LazyRows, Unread, held_in, is_on_disk, take
from ._storage import read_folder, write_folder
from ._store import Stored, StoreWriter, is_store, read_store
from ._tables import as_frame, as_html

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Column", "LinearHead", "PackedBits"]

_FEW = 32
"""Trusted samples that are never more than memory holds."""
Layer = np.ndarray | PackedBits
"""What a layer is read as."""


class Activations:
    """Activations of several layers for the same samples.

    ``Activations`` is to layers what a data frame is to columns: ``A["relu1"]`` is the array of
    one layer, ``A[["relu1", "relu2"]]`` holds two of them, ``A[rows]`` the same layers for
    some of the samples. Row selections are lazy views: an array is cut when it is read,
    and an array that is memory-mapped stays so when it is sliced. ``numpy.asarray(A)`` is
    the plain matrix of shape ``A.shape``, so that any scikit-learn estimator can take it.

    The columns of this table are the layers, and beside them logits, predictions, features,
    labels and a mask of tokens. ``A.columns`` says what each of them is; a name is a label for
    people, and nothing is read from it.

    Parameters
    ----------
    layers : dict of str to array-like of shape (n_samples, ...) or Column
        Activations by name, in forward order. Each keeps its own shape and dtype:
        ``(n_samples, n_units)``, ``(n_samples, channels, height, width)`` or
        :class:`~skood.activations.PackedBits`. A plain array holds the values of a layer of that
        name; a :class:`~skood.activations.Column` says what else it is.
    logits : array-like of shape (n_samples, n_classes), default=None
        Output of the network before the softmax.
    predictions : array-like of shape (n_samples,), default=None
        The class that the network predicted for each sample. By default the class with the
        largest logit, the first one on ties.
    head : LinearHead, default=None
        The last linear layer of the network.
    classes : array-like of shape (n_classes,), default=None
        Label of each column of ``logits``; by default 0, 1, ...
    features : array-like of shape (n_samples, n_units), default=None
        What the head reads in the network, where the layer that it reads has been changed
        since; by default the values of that layer.
    labels : array-like of shape (n_samples,), default=None
        What a data set or loader yields as targets, numbers or text, beside its inputs. No
        estimator reads them: ``y`` is given to it.
    why_missing : dict of str to str, default={}
        Why the network has no "head" or no "logits", as an extractor found out. Errors of what
        needs them say so.
    mask : array-like of shape (n_samples, n_tokens), default=None
        1 or True at the tokens of a sequence, and 0 or False at what pads it to the length of
        others. A :class:`~skood.PoolingReducer` leaves padding out.

    Raises
    ------
    ValueError
        If there is no layer; a layer, the logits or the features are not arrays of numbers of at
        least two dimensions and one unit, without masked values; the parts disagree about the
        number of samples or classes; the mask holds other values than 0 and 1, or no token of a
        sample; a class is NaN, None or there twice; a prediction is not among the
        classes; or the head has another width than what it reads, or another number of classes.
    TypeError
        If ``layers`` is no dict of strings to arrays or columns, or ``head`` no LinearHead.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> A = Activations(
    ...     {"conv": np.ones((3, 4, 2, 2)), "fc": np.zeros((3, 5))},
    ...     logits=[[0, 1], [2, 1], [0, 3]],
    ... )
    >>> A
    Activations(n_samples=3, layers={conv: (4, 2, 2), fc: (5,)}, n_classes=2)
    >>> A.shape, A.predictions
    ((3, 21), array([1, 0, 1]))
    >>> A[A.predictions == 1]["fc"].shape
    (2, 5)
    """

    __slots__ = ("__weakref__", "_classes", "_head", "_order", "_table", "_trust", "_why_missing")

    ndim = 2

    _table: ColumnTable
    _head: LinearHead | None
    _classes: NDArray | None
    _why_missing: Mapping[str, str]
    _order: str
    """What decided the order of the samples, where a loader did not keep that of its data."""
    _trust: Trust | None
    """Says that all is known of the values that estimators check."""

    def __init__(
        self,
        layers: Mapping[str, ArrayLike | PackedBits | Column],
        *,
        logits: ArrayLike | None = None,
        predictions: ArrayLike | None = None,
        head: LinearHead | None = None,
        classes: ArrayLike | None = None,
        features: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        why_missing: Mapping[str, str] | None = None,
        mask: ArrayLike | None = None,
    ) -> None:
        if not isinstance(layers, Mapping):
            raise TypeError(f"layers must be a dict of names to arrays, got {type(layers)}.")
        columns = [layer_column(name, given) for name, given in layers.items()]
        parts = {
            "logits": logits,
            "predictions": predictions,
            "features": features,
            "labels": labels,
            "mask": mask,
        }
        self._table = ColumnTable.of(columns + part_columns(parts))
        self._head = head
        self._why_missing = dict(why_missing or {})
        self._order, self._trust = "", None
        self._classes = None if classes is None else as_labels(classes, "classes")
        check_classes(self._classes, self._table.part("logits"))
        known = self.classes
        check_head(head, known)
        check_width_of_head(head, *self._what_the_head_reads())
        check_predictions(self._table.part("predictions"), known)

    def _what_the_head_reads(self) -> tuple[str, Any]:
        """A name for people and the values, of all rows; None where they are not known."""
        features, layer = self._table.part("features"), self._head_layer
        if features is not None or layer is None:
            return "features", features
        return f"layer {layer!r}", self._table.find(layer)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The layers and all other columns, and what each of them is; reads no data."""
        return tuple(map(self._table.held, self._table.columns.values()))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, in forward order."""
        return self._table.layer_names

    @property
    def layer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one sample in each layer; reads no data."""
        return {name: column.shape[1:] for name, column in self._table.layers()}

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, total number of units)."""
        return (len(self), sum(prod(shape) for shape in self.layer_shapes.values()))

    @property
    def head(self) -> LinearHead | None:
        """The last linear layer of the network, or None; :meth:`assign` exchanges it."""
        return self._head

    @property
    def _head_layer(self) -> str | None:
        return None if self._head is None else self._head.input_layer

    @property
    def logits(self) -> NDArray[np.floating] | None:
        """Output of the network, of shape (n_samples, n_classes), or None."""
        return self._table.read(self._table.part("logits"))

    @property
    def classes(self) -> NDArray | None:
        """Label of each column of ``logits``, or None where they are unknown."""
        if self._classes is None and (logits := self._table.part("logits")) is not None:
            return np.arange(logits.shape[1])
        return self._classes

    @property
    def predictions(self) -> NDArray | None:
        """The class that the network predicted for each sample, or None.

        Reading it raises a ValueError where it comes from logits that are not finite.
        """
        if (predictions := self._table.part("predictions")) is not None:
            return self._table.read(predictions)
        logits, classes = self._held_part("logits"), self.classes
        return None if logits is None or classes is None else classes[_largest_logits(logits)]

    @property
    def features(self) -> NDArray | None:
        """What the head reads in the network, of shape (n_samples, n_units), or None.

        Shaping changes the layer, but not this.
        """
        return self._table.read(self._what_the_head_reads()[1])

    @property
    def labels(self) -> NDArray | None:
        """What a data set or loader yielded as targets, of shape (n_samples,), or None.

        No estimator reads them.
        """
        return self._table.read(self._table.part("labels"))

    @property
    def why_missing(self) -> dict[str, str]:
        """Why the network has no "head" or no "logits", where an extractor found out.

        :meth:`save` does not store it.
        """
        return dict(self._why_missing)

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """True at tokens and False at padding, of shape (n_samples, n_tokens), or None.

        An extractor without a reducer fills it in where the network takes sequences of any length.
        """
        return self._table.read(self._table.part("mask"))

    def _held_part(self, name: str) -> Any:
        """A part that is no layer, of which nothing is read; None where there is none."""
        is_read = name == "features"
        array = self._what_the_head_reads()[1] if is_read else self._table.part(name)
        if array is None:
            return self.predictions if name == "predictions" else None
        return self._table.hold(array)

    def batches(self, n_samples: int | None = None) -> Iterator[Activations]:
        """Iterate over the samples, some consecutive ones at a time.

        Parameters
        ----------
        n_samples : int, default=None
            How many samples at a time. By default as many as scikit-learn's ``working_memory``
            (:func:`sklearn.set_config`) holds of the values of all columns, as 64-bit numbers.

        Returns
        -------
        iterator of Activations
            Views of so many samples, of which the last one may have fewer; none of no samples.

        Raises
        ------
        TypeError
            If ``n_samples`` is no integer.
        ValueError
            If it is below 1.

        Examples
        --------
        >>> import numpy as np
        >>> from skood import Activations
        >>> A = Activations({"fc": np.zeros((5, 2))})
        >>> [len(batch) for batch in A.batches(2)]
        [2, 2, 1]
        """
        if n_samples is None:
            if self._trust is not None and len(self) <= _FEW:  # to ask for memory takes longer
                return iter([self] if len(self) else [])
            n_samples = rows_of_block(self._table.n_values)
        else:
            check_scalar(n_samples, "n_samples", Integral, min_val=1)
        if n_samples >= len(self):
            return iter([self] if len(self) else [])
        starts = range(0, len(self), n_samples)
        return (self[start : start + n_samples] for start in starts)

    @property
    def _is_larger_than_memory(self) -> bool:
        """Whether columns are on disk, and are to be read in several blocks."""
        is_long = len(self) > rows_of_block(self._table.n_values)
        return is_long and any(is_on_disk(c.array) for c in self._table.columns.values())

    def items(self) -> Iterator[tuple[str, Layer]]:
        """Iterate over the layers.

        Returns
        -------
        iterator of tuple (str, ndarray or PackedBits)
            Name and activations of each layer, in forward order.
        """
        return ((name, self[name]) for name in self.layer_names)

    def replace(self, layers: Mapping[str, ArrayLike | PackedBits | Column]) -> Activations:
        """The same samples with other layers in place of all the present ones.

        What the network itself said, its ``predictions`` and ``features``, stays, and so do the
        ``labels`` and the ``mask``.

        Parameters
        ----------
        layers : dict of str to array-like of shape (n_samples, ...) or Column
            The new layers, in forward order. Where a plain array takes the name of a present layer,
            it has the kind, pooling and so on of that column.

        Returns
        -------
        Activations
            A new container with the logits, predictions and head of this one, which is unchanged.

        Raises
        ------
        ValueError
            If the layers do not fit the parts that stay.

        See Also
        --------
        Activations.assign : Exchange some of the layers, the logits or the head.
        """
        new = Activations(
            self._described(layers),
            **self._kept_parts(layers),
            head=self.head,
            classes=self._classes,
            why_missing=self._why_missing,
        )
        new._order = self._order
        return new

    def _described(
        self, layers: Mapping[str, ArrayLike | PackedBits | Column]
    ) -> dict[str, ArrayLike | PackedBits | Column]:
        """Layers, of which plain arrays that take the name of a present one are like that one."""
        present = dict(self._table.layers())
        return {
            name: present[name].with_array(given)
            if name in present and not isinstance(given, Column) and given is not None
            else given
            for name, given in layers.items()
        }

    def _kept_parts(self, layers: Mapping[str, Any]) -> dict[str, Any]:
        """All parts that are no layers, beside the given layers."""
        parts = {name: self._table.part(name) for name in PARTS}
        reads = self._head_layer
        if parts["features"] is None and reads is not None and reads in layers:
            parts["features"] = self._table.find(reads)
        held = self._table.hold
        return {name: None if part is None else held(part) for name, part in parts.items()}

    def assign(
        self,
        layers: Mapping[str, ArrayLike | PackedBits | Column] | None = None,
        *,
        logits: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        head: LinearHead | Literal["keep"] | None = "keep",
        why_missing: Mapping[str, str] | None = None,
        mask: ArrayLike | Literal["keep"] | None = "keep",
    ) -> Activations:
        """The same samples with some parts exchanged, or with more layers.

        What the network itself said, its ``predictions`` and ``features``, stays.

        Parameters
        ----------
        layers : dict of str to array-like of shape (n_samples, ...) or Column, default=None
            Layers to exchange, or to add after the present ones. Where a plain array takes the name
            of a present layer, it has the kind, pooling and so on of that column.
        logits : array-like of shape (n_samples, n_classes), default=None
            The new logits; the present ones by default.
        labels : array-like of shape (n_samples,), default=None
            The new labels; the present ones by default.
        head : LinearHead, None or "keep", default="keep"
            The new head; None for Activations that have none any more.
        why_missing : dict of str to str, default=None
            Why there is no "head" or no "logits", beside what is known.
        mask : array-like of shape (n_samples, n_tokens), None or "keep", default="keep"
            The new mask; None for Activations that have none any more.

        Returns
        -------
        Activations
            A new container; this one is unchanged. Parts that are kept are not copied.

        Raises
        ------
        ValueError
            If the new logits have another number of classes than the present ones, or the parts
            do not fit together.

        See Also
        --------
        Activations.replace : Put other layers in place of all.

        Examples
        --------
        >>> import numpy as np
        >>> from skood import Activations
        >>> A = Activations({"fc": np.zeros((2, 5))}, logits=[[0, 1], [3, 1]])
        >>> inverted = A.assign(logits=-A.logits)
        >>> inverted.logits.argmax(axis=1), inverted.predictions
        (array([0, 1]), array([1, 0]))
        """
        exchanged = {} if layers is None else layers
        check_as_many_classes(logits, self._table.part("logits"))
        parts = self._kept_parts(exchanged)
        if parts["predictions"] is None and logits is not None and self.classes is not None:
            parts["predictions"] = _Predicted(self._held_part("logits"), self.classes)
        given = {"logits": logits, "labels": labels}
        parts |= {name: part for name, part in given.items() if part is not None}
        if not (isinstance(mask, str) and mask == "keep"):
            parts["mask"] = mask
        present = {name: self._table.held(column) for name, column in self._table.layers()}
        new = Activations(
            {**present, **self._described(exchanged)},
            **parts,
            head=self.head if isinstance(head, str) and head == "keep" else head,
            classes=self._classes,
            why_missing={**self._why_missing, **(why_missing or {})},
        )
        new._order = self._order
        return new

    @classmethod
    def concatenate(cls, parts: Sequence[Activations]) -> Activations:
        """Stack the samples of several containers that hold the same layers.

        Parameters
        ----------
        parts : sequence of Activations
            For example in- and out-of-distribution samples seen by one network.

        Returns
        -------
        Activations
            The samples of all parts, in order. They are copied, except where some of a column are
            on disk, of which none is read. Logits, predictions, labels and the head are kept where
            every part has them; the classes where any part has them. Masks of another length than
            the longest end in padding.

        Raises
        ------
        ValueError
            If there is no part; the layers, classes or heads differ; a layer is packed bits in
            some parts only; the same name stands for another kind of column, or one of another
            layer of the network; predictions or labels are text in some parts and numbers in
            others; or some parts have a mask, or know what the head read before a layer was
            changed, and others do not.
        TypeError
            If a part is something else than Activations.

        Examples
        --------
        >>> import numpy as np
        >>> from skood import Activations
        >>> A = Activations({"fc": np.zeros((3, 5))})
        >>> Activations.concatenate([A, A[:1]]).shape
        (4, 5)
        """
        parts = list(parts)
        for part in parts:
            if not isinstance(part, Activations):
                raise TypeError(f"All parts must be Activations, got {type(part)}.")
        check_parts(parts)
        first = parts[0]
        return cls(
            {
                name: column.with_array(stack([p._table.hold(p._table.find(name)) for p in parts]))
                for name, column in first._table.layers()
            },
            **{name: stack_part(name, parts) for name in PARTS},
            head=first.head if all(part.head is not None for part in parts) else None,
            classes=next((p._classes for p in parts if p._classes is not None), None),
            why_missing=dict(item for part in parts for item in part._why_missing.items()),
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the samples to a folder of ``.npy`` files and one ``manifest.json``.

        The format needs no pickle and any NumPy reads it. A view is written as what it
        holds, a few thousand rows at a time.

        Whenever the process is killed, or another saves to the same folder, there is one whole
        save: the former, this one or the other. What a killed process leaves there is deleted by
        the next save. Who has memory-mapped the former files keeps reading them.

        Parameters
        ----------
        path : str or Path
            The folder to make.
        overwrite : bool, default=False
            Whether to replace what an earlier ``save`` left there.

        Raises
        ------
        FileExistsError
            If ``path`` exists and ``overwrite`` is False, or holds anything else than
            saved activations; a file that :meth:`save` has not made is never deleted.
        TypeError
            If labels or activations are Python objects, which need pickle.
        """
        columns = self.columns
        manifest = Manifest.of(columns, len(self), self._head, self._classes)
        arrays = {
            stem: column.array for stem, column in zip(manifest.column_stems, columns, strict=True)
        }
        if self._classes is not None:
            arrays["classes"] = self._classes
        if self._head is not None:
            arrays |= {"head_weight": self._head.weight, "head_bias": self._head.bias}
        write_folder(Path(path), manifest, arrays, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path, *, mmap_mode: str | None = None) -> Activations:
        """Read what :meth:`save` wrote, or an extractor into a folder.

        What an extractor wrote stays on disk: rows are read when they are asked for. A pickle of
        it holds the path of the folder, and none of the values.

        Parameters
        ----------
        path : str or Path
            The folder.
        mmap_mode : {None, "r", "c"}, default=None
            As in :func:`numpy.load`: "r" leaves the layers on disk and reads the rows that
            are needed; of packed layers, the padding of all rows is read once. Not used for what
            an extractor wrote.

        Returns
        -------
        Activations
            The stored samples.

        Raises
        ------
        ValueError
            If the folder was not written by :meth:`save`, or by another version of it; its
            manifest is broken, names other files than :meth:`save` makes or does not fit them;
            an extraction is not complete; or ``mmap_mode`` is another one. What is damaged in the
            folder of an extractor is found when it is read.
        FileNotFoundError
            If there is no such folder, or one of its files is missing.
        """
        if mmap_mode not in (None, "r", "c"):
            raise ValueError(f"mmap_mode must be None, 'r' or 'c', got {mmap_mode!r}.")
        if is_store(Path(path)):
            return _of_store(read_store(Path(path).absolute()))
        manifest, arrays = read_folder(Path(path), mmap_mode)
        head = None
        if "head_weight" in arrays:
            weight, bias = arrays.pop("head_weight"), arrays.pop("head_bias")
            head = LinearHead(weight, bias, manifest.head_input_layer)
        layers = {
            layer.name: layer.column(arrays.pop(stem))
            for stem, layer in zip(manifest.layer_stems, manifest.layers, strict=True)
        }
        parts: dict[str, Any] = arrays
        return cls(layers, head=head, **parts)

    def to_frame(self) -> pd.DataFrame:
        """The samples as a data frame of pandas.

        Packed bits are unpacked, so that they take eight times the memory.

        Returns
        -------
        pandas.DataFrame of shape (n_samples, n_columns)
            One row for each sample, and one column for each unit: "relu1[3]" is unit 3 of the layer
            "relu1", "conv[2, 0, 5]" a value of a map, by its position in ``A["conv"][i]``. Each
            keeps its dtype. The last columns are "prediction", where the network predicts classes,
            and "label", where there are labels; where these are text, they have the type that the
            installed pandas gives to text.

        Raises
        ------
        ImportError
            If pandas is not installed.
        ValueError
            If predictions come from logits that are not finite.

        Examples
        --------
        >>> import numpy as np
        >>> from skood import Activations
        >>> A = Activations({"fc": [[0.5, 2.0], [1.5, 0.0]]}, logits=np.eye(2), labels=["a", "b"])
        >>> A.to_frame()
           fc[0]  fc[1]  prediction label
        0    0.5    2.0           0     a
        1    1.5    0.0           1     b
        """
        return as_frame(self.items(), {"prediction": self.predictions, "label": self.labels})

    def __len__(self) -> int:
        return len(self._table)

    def __sizeof__(self) -> int:
        # Of what is pickled: a scheduler goes by it to send the samples once or with each task.
        size = object.__sizeof__(self) + (0 if self._head is None else self._head.__sizeof__())
        size += 0 if self._classes is None else self._classes.nbytes
        return size + sum(column.nbytes for column in self.columns)

    def __contains__(self, name: object) -> bool:
        return ("layer", name) in self._table.columns

    def __iter__(self) -> Iterator:
        raise TypeError("Activations are not iterable: use `.layer_names`, `.items()` or A[rows].")

    def __getattr__(self, name: str) -> Any:
        # Where a layer is wanted as data frames give their columns, the message says how to get it.
        advice = ""
        if not name.startswith("_") and name in self:
            advice = f": the layer of this name is A[{name!r}]"
        elif name == "layers":
            advice = ": the names are A.layer_names, and the layers A.items()"
        raise AttributeError(
            f"Activations have no attribute {name!r}{advice}.", name=name, obj=self
        )

    # An array or PackedBits, which callers would have to distinguish each time. A comparison with
    # predictions or labels is a bool where these are None, which is refused.
    @overload
    def __getitem__(self, item: str) -> Any: ...

    @overload
    def __getitem__(
        self, item: list[str] | slice | NDArray | Sequence[int | np.integer] | bool
    ) -> Activations: ...

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str):
            return self._table.read_layer(item)
        if isinstance(item, list) and item and all(isinstance(i, str) for i in item):
            return self._view(self._table.select_layers(item))
        return self._view(self._table.select_rows(item))

    def _view(self, table: ColumnTable) -> Activations:
        view = object.__new__(Activations)
        view._table, view._head, view._classes = table, self._head, self._classes
        view._why_missing, view._order = self._why_missing, self._order
        view._trust = self._trust
        return view

    def _with_head(self, head: LinearHead) -> Activations:
        """The same with another head, which is known to fit."""
        view = self._view(self._table)
        view._head = head
        return view

    def _layers_alone(self) -> Activations:
        """The layers and nothing beside them: no predictions, no head."""
        if self._trust is None:
            return Activations(
                {name: self._table.held(column) for name, column in self._table.layers()}
            )
        columns = {key: c for key, c in self._table.columns.items() if key[0] == "layer"}
        view = self._view(ColumnTable(columns, self._table.rows))
        view._head = view._classes = None
        return view

    def _with_layers(self, layers: Mapping[str, Layer]) -> Activations:
        """As ``replace`` by plain arrays, of which nothing is checked where these are trusted."""
        if self._trust is None:
            return self.replace(layers)
        held, present = self._table, dict(self._table.layers())
        columns = {
            ("layer", name): present[name].with_array(array)
            if name in present
            else Column(array, layer=name, name=name)
            for name, array in layers.items()
        }
        parts = {key: held.held(c) for key, c in held.columns.items() if key[0] != "layer"}
        reads = self._head_layer
        if reads in layers and ("features", "features") not in parts and reads in present:
            features = held.held(present[str(reads)])
            parts["features", "features"] = Column(features.array, name="features", role="features")
        return self._view(ColumnTable(columns | parts, range(len(self))))

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.layer_names)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        flat = [
            np.asarray(array).reshape(len(self), prod(array.shape[1:])) for _, array in self.items()
        ]
        if copy is False and not (len(flat) == 1 and self._table.shares_memory(flat[0])):
            raise ValueError("These activations cannot be seen as one array without a copy.")
        if len(flat) == 1:
            return np.array(flat[0], dtype=dtype, copy=copy)
        return np.concatenate(flat, axis=1, dtype=dtype, casting="unsafe")

    def __getstate__(self) -> dict[str, Any]:
        # A pickled (or hashed) view holds its own rows only. Contiguous plain arrays make the
        # hash depend on the content, not on strides or on being memory-mapped. The columns are
        # a list because joblib sorts dicts, so that their order would not count.
        columns = self._table.compact_columns()
        parts = {"head": self._head, "why_missing": self._why_missing, "order": self._order}
        return {"columns": columns, "classes": compact(self._classes), **parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._table = ColumnTable.of(state["columns"])
        self._head, self._classes = state["head"], state["classes"]
        self._why_missing, self._order = state["why_missing"], state["order"]
        self._trust = None

    def __repr__(self) -> str:
        layers = ", ".join(f"{name}: {shape}" for name, shape in self.layer_shapes.items())
        logits = self._table.part("logits")
        n_classes = "" if logits is None else f", n_classes={logits.shape[1]}"
        return f"Activations(n_samples={len(self)}, layers={{{layers}}}{n_classes})"

    def _repr_html_(self) -> str:
        return as_html(self.columns, self._head, len(self))


class Trust:
    """Mark of activations that come as others came that were checked, with values that are finite.

    What checks activations of others takes these as they are. It holds as long as nothing changes
    in the estimators that read them; what they prepare once for all such activations is kept here.
    """

    def __init__(self) -> None:
        self._prepared: dict[int, tuple[Any, Any]] = {}

    def once(self, owner: Any, prepare: Callable[[], Any]) -> Any:
        """What an estimator has prepared, now if it has not before."""
        known = self._prepared.get(id(owner))
        if known is None:  # the owner is held, so that no other can get its address
            known = self._prepared[id(owner)] = (owner, prepare())
        return known[1]


def trusted_like(
    X: Activations, arrays: Mapping[tuple[str, str], Any], trust: Trust
) -> Activations:
    """The same samples with values in some of their columns, and the predictions beside these.

    Parameters
    ----------
    X : Activations
        Like checked ones, as ``unread_like`` makes them.
    arrays : dict of (str, str) to ndarray
        Values by role and name.
    trust : Trust
        Says that the values are finite.
    """
    columns = dict(X._table.columns)
    for key, array in arrays.items():
        columns[key] = changed(columns.get(key, _PREDICTED), array=array)
    new = X._view(ColumnTable(columns, X._table.rows))
    new._trust = trust
    return new


def without_rows(X: Activations) -> Activations:
    """The layers and logits without a sample; what is said of them stays."""
    columns = {
        key: changed(column, array=np.empty((0, *column.shape[1:]), column.dtype))
        for key, column in X._table.columns.items()
        if key[0] in ("layer", "logits")
    }
    return X._view(ColumnTable(columns, range(0)))


def unread_like(X: Activations, n_samples: int) -> Activations:
    """Some samples with the layers and logits of others, without their values."""
    columns = {
        key: changed(column, array=Unread((n_samples, *column.shape[1:]), column.dtype))
        for key, column in X._table.columns.items()
    }
    return X._view(ColumnTable(columns, range(n_samples)))


_PREDICTED = Column(None, name="predictions", role="prediction")


def finish_store(writer: StoreWriter, X: Activations) -> None:
    """Say what the blocks that were written are: columns of activations."""
    columns = [
        {
            "key": held_in(column.array).name,
            "name": column.name,
            "role": column.role,
            "n_bits": column.n_units if column.is_packed else None,
            **column.metadata(),
        }
        for column in X.columns
    ]
    arrays: dict[str, Any] = {} if X._classes is None else {"classes": X._classes}
    if X.head is not None:
        arrays |= {"head_weight": X.head.weight, "head_bias": X.head.bias}
    contents = {
        "n_samples": len(X),
        "columns": columns,
        "head_input_layer": X._head_layer,
        "why_missing": X.why_missing,
        "order": X._order,
    }
    writer.finish(contents, arrays)


def _of_store(stored: Stored) -> Activations:
    """The activations of a folder that was written block by block; reads no block."""
    layers, parts = {}, {}
    for said in stored.contents["columns"]:
        values: Any = stored.blocks.column(said["key"])
        if said["n_bits"] is not None:
            values = PackedBits._of(values, said["n_bits"])
        if said["role"] == "layer":
            metadata = {key: said[key] for key in Column(None).metadata()}
            layers[said["name"]] = Column(values, **metadata)
        else:
            parts[said["name"]] = values
    arrays, head = stored.arrays, None
    if "head_weight" in arrays:
        reads = stored.contents["head_input_layer"]
        head = LinearHead(arrays["head_weight"], arrays["head_bias"], reads)
    why = stored.contents["why_missing"]
    A = Activations(layers, **parts, head=head, classes=arrays.get("classes"), why_missing=why)
    A._order = stored.contents["order"]
    return A


class _Predicted(LazyRows):
    """Predictions by logits, found when they are first asked for: not all detectors do."""

    def __init__(self, logits: Any, classes: NDArray) -> None:
        self.rows = range(len(logits))
        self._logits, self._classes = logits, classes

    shape = property(lambda self: (len(self.rows),))
    dtype = property(lambda self: self._classes.dtype)

    @cached_property
    def array(self) -> NDArray:
        return self._classes[_largest_logits(self._logits)]


def _largest_logits(logits: Any) -> NDArray[np.intp]:
    """Column of the largest logit of each sample, of which only some are read at a time."""
    if not is_on_disk(logits):
        return largest_logits(take(logits, range(len(logits))))
    columns = np.empty(len(logits), dtype=np.intp)
    sizes = np.empty(len(logits))
    for rows in row_batches(len(logits), logits.shape[1]):
        some = take(logits, range(len(logits))[rows])
        columns[rows], sizes[rows] = some.argmax(axis=1), np.abs(some).max(axis=1)
    largest_logits(sizes[:, np.newaxis])  # Raises where some are not finite.
    return columns


def read_only(X: Activations) -> Activations:
    """The same activations, in arrays that cannot be written into; copies nothing."""
    return X._view(X._table.read_only())


def logits_alone(X: Activations) -> Activations | None:
    """The logits as the only layer, any predictions, classes, labels; None where there are none.

    Nothing is read, or checked again.
    """
    columns = X._table.columns
    if (logits := columns.get(("logits", "logits"))) is None:
        return None
    chosen = {("layer", "logits"): changed(logits, role="layer", layer="logits")}
    # By the labels it is known whether others, given beside, are in the same order.
    for kept in (("prediction", "predictions"), ("label", "labels")):
        if (column := columns.get(kept)) is not None:
            chosen[kept] = column
    alone = X._view(ColumnTable(chosen, X._table.rows))
    alone._head, alone._classes, alone._why_missing = None, X.classes, {}
    return alone


def read_once(X: Activations) -> Activations:
    """The same activations in memory, for who looks at them several times."""
    if not any(is_on_disk(X._table.hold(column.array)) for column in X._table.columns.values()):
        return X
    return X._view(X._table.copy({"layer", *(part.role for part in PARTS.values())}))


def copy_of(X: Activations, roles: Container[Role]) -> Activations:
    """The columns of some roles, in arrays of their own, which hold these rows and no others."""
    return X._view(X._table.copy(roles))


def described(X: Activations, said: Mapping[str, Mapping[str, Any]]) -> Activations:
    """The same columns, of whose layers is said by name what they are; no column is added."""
    columns = {
        (role, name): changed(column, **(said.get(name, {}) if role == "layer" else {}))
        for (role, name), column in X._table.columns.items()
    }
    return X._view(ColumnTable(columns, X._table.rows))
