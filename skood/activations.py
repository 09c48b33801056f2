"""The one container that every room of skood hands to the next."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._patterns import PackedBits
from ._rows import Rows, RowsOf, are_all, n_bytes, origin, row_index, take
from ._storage import read_folder, write_folder
from ._values import LOGITS_ADVICE, check_finite, check_real, is_real, without_mask

__all__ = ["LinearHead", "PackedBits"]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """The last linear layer of a network: ``logits = features @ weight.T + bias``.

    Parameters
    ----------
    weight : array-like of shape (n_classes, n_units)
        Its weights.
    bias : array-like of shape (n_classes,), default=None
        Its biases; zeros where the layer has none.
    input_layer : str, default=None
        Name of the layer in :class:`Activations` whose values the head reads.

    Raises
    ------
    ValueError
        If weight and bias do not fit together, or a value is NaN, infinite or masked.
    TypeError
        If one of them does not hold real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.activations import LinearHead
    >>> head = LinearHead(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.5, 0.0]))
    >>> head.logits(np.array([[3.0, 4.0]]))
    array([[3.5, 8. ]])
    """

    weight: NDArray[np.floating]
    bias: NDArray[np.floating] | None = None
    input_layer: str | None = None

    def __post_init__(self) -> None:
        weight = _head_part(self.weight, "weight")
        if weight.ndim != 2:
            raise ValueError(f"weight must be 2-D, got {weight.ndim} dimension(s).")
        if 0 in weight.shape:
            raise ValueError(f"weight has no classes or no units: its shape is {weight.shape}.")
        bias = np.zeros(len(weight), weight.dtype) if self.bias is None else self.bias
        bias = _head_part(bias, "bias")
        if bias.shape != (len(weight),):
            raise ValueError(f"weight has {len(weight)} classes, but bias has shape {bias.shape}.")
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", bias)

    def __reduce__(self) -> tuple[type, tuple]:
        # Through __init__: weights that a worker gets memory-mapped keep the hash of plain ones.
        return type(self), (self.weight, self.bias, self.input_layer)

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.weight.nbytes + np.asarray(self.bias).nbytes

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_classes, n_units)."""
        return self.weight.shape

    def logits(self, features: ArrayLike) -> NDArray[np.floating]:
        """Apply the layer.

        Parameters
        ----------
        features : array-like of shape (n_samples, n_units)
            Values of the layer that the head reads.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The logits, in single precision at least.
        """
        features = np.asarray(features)
        # Sums of half precision soon leave its range.
        dtype = np.result_type(features, self.weight, np.float32)
        weight = self.weight.astype(dtype, copy=False)
        return features.astype(dtype, copy=False) @ weight.T + self.bias


Layer = np.ndarray | PackedBits


class Activations:
    """Activations of several layers for the same samples.

    ``Activations`` is to layers what a data frame is to columns: ``A["relu1"]`` is the array of
    one layer, ``A[["relu1", "relu2"]]`` holds two of them, ``A[rows]`` the same layers for
    some of the samples. Row selections are lazy views: an array is cut when it is asked for,
    and an array that is memory-mapped stays so when it is sliced. ``numpy.asarray(A)`` is
    the plain matrix of shape ``A.shape``, so that any scikit-learn estimator can take it.

    Parameters
    ----------
    layers : dict of str to array-like of shape (n_samples, ...)
        Activations by layer name, in forward order. Each keeps its own shape and dtype:
        ``(n_samples, n_units)``, ``(n_samples, channels, height, width)`` or
        :class:`~skood.activations.PackedBits`.
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

    Raises
    ------
    ValueError
        If there is no layer; a layer, the logits or the features are not arrays of numbers of at
        least two dimensions and one unit, without masks; the parts disagree about the number of
        samples or classes; a class is NaN, None or there twice; a prediction is not among the
        classes; or the head has another width than what it reads, or another number of classes.
    TypeError
        If ``layers`` is no dict of strings to arrays, or ``head`` no LinearHead.

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

    ndim = 2

    def __init__(
        self,
        layers: Mapping[str, ArrayLike | PackedBits],
        *,
        logits: ArrayLike | None = None,
        predictions: ArrayLike | None = None,
        head: LinearHead | None = None,
        classes: ArrayLike | None = None,
        features: ArrayLike | None = None,
    ) -> None:
        if not isinstance(layers, Mapping):
            raise TypeError(f"layers must be a dict of names to arrays, got {type(layers)}.")
        self._layers: dict[str, Any] = {
            name: _as_layer(name, array) for name, array in layers.items()
        }
        self._logits = _as_numbers("logits", logits, "n_classes")
        self._predictions = _as_labels("predictions", predictions)
        self._features = _as_numbers("features", features)
        self._head = head
        self._classes = _as_labels("classes", classes)
        self._check_classes()
        self._rows: Rows = range(self._check_lengths())
        self._check_head()
        self._check_predictions()

    def _check_lengths(self) -> int:
        if not self._layers:
            raise ValueError("Activations need at least one layer, got none.")
        lengths = {name: len(array) for name, array in self._layers.items()}
        if self._logits is not None:
            lengths["logits"] = len(self._logits)
        if self._predictions is not None:
            lengths["predictions"] = len(self._predictions)
        if self._features is not None:
            lengths["features"] = len(self._features)
        if len(set(lengths.values())) > 1:
            raise ValueError(f"All parts need the same number of samples, got {lengths}.")
        return next(iter(lengths.values()))

    def _check_classes(self) -> None:
        if self._logits is not None and (self._logits.ndim != 2 or self._logits.shape[1] == 0):
            raise ValueError(
                f"logits must have shape (n_samples, n_classes), got {self._logits.shape}."
            )
        classes = self._classes
        if classes is None:
            return
        if self._logits is not None and classes.shape != self._logits.shape[1:]:
            raise ValueError(
                f"logits have {self._logits.shape[1]} classes, "
                f"but classes has shape {classes.shape}."
            )
        labels = classes.tolist()
        if any(label is None or label != label for label in labels):  # NaN differs from itself
            raise ValueError(f"classes must not hold None or NaN, got {labels}.")
        if len(set(labels)) < len(labels):
            twice = [label for label in labels if labels.count(label) > 1]
            raise ValueError(f"classes must be different from one another, but hold {twice}.")

    def _check_predictions(self) -> None:
        # Rows of other Activations have been checked there.
        if self._predictions is None or isinstance(self._predictions, RowsOf):
            return
        if (classes := self.classes) is None:
            return
        if unknown := unknown_labels(self._predictions, classes):
            raise ValueError(
                f"predictions must be among the classes {classes.tolist()}, got {unknown}."
            )

    def _check_head(self) -> None:
        head = self._head
        if head is None:
            return
        if not isinstance(head, LinearHead):
            raise TypeError(f"head must be a LinearHead or None, got {type(head)}.")
        if (classes := self.classes) is not None and len(classes) != head.shape[0]:
            raise ValueError(
                f"Activations need logits of {head.shape[0]} classes, as the head has, but got "
                f"{len(classes)}."
            )
        what, read = "features", self._features
        if read is None and head.input_layer is not None:
            what, read = f"layer {head.input_layer!r}", self._layers.get(head.input_layer)
        if read is not None and prod(read.shape[1:]) != head.shape[1]:
            raise ValueError(
                f"The head reads {head.shape[1]} units, but {what} of shape {read.shape[1:]} "
                "is what it is to read."
            )

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, in forward order."""
        return tuple(self._layers)

    @property
    def layer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one sample in each layer; reads no data."""
        return {name: tuple(array.shape[1:]) for name, array in self._layers.items()}

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
        return None if self._logits is None else take(self._logits, self._rows)

    @property
    def classes(self) -> NDArray | None:
        """Label of each column of ``logits``, or None where nothing tells them."""
        if self._classes is None and self._logits is not None:
            return np.arange(self._logits.shape[1])
        return self._classes

    @property
    def predictions(self) -> NDArray | None:
        """The class that the network predicted for each sample, or None.

        Reading it raises a ValueError where it comes from logits that are not finite.
        """
        if self._predictions is not None:
            return take(self._predictions, self._rows)
        logits, classes = self.logits, self.classes
        return None if logits is None or classes is None else classes[largest_logits(logits)]

    @property
    def features(self) -> NDArray | None:
        """What the head reads in the network, of shape (n_samples, n_units), or None.

        Shaping changes the layer, but not this.
        """
        if self._features is not None:
            return take(self._features, self._rows)
        layer = self._head_layer
        return self[layer] if layer in self._layers else None

    def items(self) -> Iterator[tuple[str, Layer]]:
        """Iterate over the layers.

        Returns
        -------
        iterator of tuple (str, ndarray or PackedBits)
            Name and activations of each layer, in forward order.
        """
        return ((name, self[name]) for name in self._layers)

    def replace(self, layers: Mapping[str, ArrayLike | PackedBits]) -> Activations:
        """The same samples with other layers in place of all the present ones.

        What the network itself said, its ``predictions`` and ``features``, stays.

        Parameters
        ----------
        layers : dict of str to array-like of shape (n_samples, ...)
            The new layers, in forward order.

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
        return Activations(
            layers,
            logits=self._keep(self._logits),
            predictions=self._keep(self._predictions),
            head=self.head,
            classes=self._classes,
            features=self._keep(self._features_beside(layers)),
        )

    def assign(
        self,
        layers: Mapping[str, ArrayLike | PackedBits] | None = None,
        *,
        logits: ArrayLike | None = None,
        head: LinearHead | Literal["keep"] | None = "keep",
    ) -> Activations:
        """The same samples with some parts exchanged, or with more layers.

        What the network itself said, its ``predictions`` and ``features``, stays.

        Parameters
        ----------
        layers : dict of str to array-like of shape (n_samples, ...), default=None
            Layers to exchange, or to add after the present ones.
        logits : array-like of shape (n_samples, n_classes), default=None
            The new logits; the present ones by default.
        head : LinearHead, None or "keep", default="keep"
            The new head; None for Activations that have none any more.

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
        changed = {} if layers is None else layers
        self._check_as_many_classes(logits)
        predictions = self._keep(self._predictions)
        if predictions is None and logits is not None:
            predictions = self.predictions
        return Activations(
            {**{name: self._keep(array) for name, array in self._layers.items()}, **changed},
            logits=self._keep(self._logits) if logits is None else logits,
            predictions=predictions,
            head=self.head if isinstance(head, str) and head == "keep" else head,
            classes=self._classes,
            features=self._keep(self._features_beside(changed)),
        )

    def _check_as_many_classes(self, logits: ArrayLike | None) -> None:
        if logits is None or self._logits is None:
            return
        if (shape := np.shape(logits))[1:] != self._logits.shape[1:]:
            raise ValueError(
                f"The new logits must have {self._logits.shape[1]} classes, as the present ones "
                f"and what the network predicted, got shape {shape}: make new Activations of the "
                "layers and these logits."
            )

    def _features_beside(self, layers: Mapping[str, Any]) -> Any:
        """What the head reads in the network, where the given layers do not hold it any more."""
        layer = self._head_layer
        if self._features is None and layer is not None and layer in layers:
            return self._layers.get(layer)
        return self._features

    def _keep(self, array: Any) -> Any:
        """The rows of a part that this container holds, for another container to hold."""
        if array is None:
            return None
        array, rows = origin(array, self._rows)
        return array if are_all(array, rows) else RowsOf(array, rows)

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
            The samples of all parts, in order, copied. Logits, predictions and the head are
            kept where every part has them; the classes where any part has them.

        Raises
        ------
        ValueError
            If there is no part; the layers, classes or heads differ; a layer is packed bits in
            some parts only; predictions are text in some parts and numbers in others; or some
            parts tell what the head read before a layer was changed, and others do not.
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
        _check_parts(parts)
        first = parts[0]
        shaped = any(part._features is not None for part in parts)
        features = [part.features if shaped else None for part in parts]
        if shaped and any(part is None for part in features):
            raise ValueError(
                "Some parts carry the features that the head read before its layer was changed, "
                "and others carry none."
            )
        # Of predictions alone nothing tells whether they are among the classes of the other parts.
        known = next((part.classes for part in parts if part.classes is not None), None)
        for labels in (part.predictions for part in parts if part.classes is None):
            if labels is not None and known is not None and (new := unknown_labels(labels, known)):
                raise ValueError(
                    f"Some parts are of a network with the classes {known.tolist()}, but others "
                    f"carry the predictions {new}."
                )
        return cls(
            {name: _stack([part[name] for part in parts]) for name in first.layer_names},
            logits=_concatenate_all([part.logits for part in parts]),
            predictions=_concatenate_all([part.predictions for part in parts]),
            features=_concatenate_all(features),
            head=first.head if all(part.head is not None for part in parts) else None,
            classes=next((p._classes for p in parts if p._classes is not None), None),
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
        layers, arrays = self._stored()
        write_folder(
            Path(path),
            arrays,
            layers,
            n_samples=len(self),
            head_input_layer=self._head_layer,
            overwrite=overwrite,
        )

    def _stored(self) -> tuple[dict[str, int | None], dict[str, tuple[Any, Rows | None]]]:
        """Number of bits of each layer, or None; and all arrays with the rows to store."""
        n_bits: dict[str, int | None] = {}
        arrays: dict[str, tuple[Any, Rows | None]] = {}
        for number, (name, layer) in enumerate(self._layers.items()):
            held, rows = origin(layer, self._rows)
            packed = isinstance(held, PackedBits)
            n_bits[name] = held.n_bits if packed else None
            arrays[f"layer_{number}"] = (held.words if packed else held, rows)
        parts: dict[str, tuple[Any, Rows | None]] = {
            "logits": origin(self._logits, self._rows),
            "predictions": origin(self._predictions, self._rows),
            "features": origin(self._features, self._rows),
            "classes": (self._classes, None),
            "head_weight": (self.head and self.head.weight, None),
            "head_bias": (self.head and self.head.bias, None),
        }
        return n_bits, arrays | {key: part for key, part in parts.items() if part[0] is not None}

    @classmethod
    def load(cls, path: str | Path, *, mmap_mode: str | None = None) -> Activations:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path : str or Path
            The folder.
        mmap_mode : {None, "r", "c"}, default=None
            As in :func:`numpy.load`: "r" leaves the layers on disk and reads the rows that
            are asked for; of packed layers, the padding of all rows is read once.

        Returns
        -------
        Activations
            The stored samples.

        Raises
        ------
        ValueError
            If the folder was not written by :meth:`save`, or by a later version of it; its
            manifest is broken, names other files than :meth:`save` makes or does not fit them;
            or ``mmap_mode`` is another one.
        FileNotFoundError
            If there is no such folder, or one of its files is missing.
        """
        if mmap_mode not in (None, "r", "c"):
            raise ValueError(f"mmap_mode must be None, 'r' or 'c', got {mmap_mode!r}.")
        manifest, arrays, parts = read_folder(Path(path), mmap_mode)
        layers: dict[str, Layer] = {}
        for name, n_bits in manifest.layers.items():
            layers[name] = arrays[name] if n_bits is None else PackedBits(arrays[name], n_bits)
        head = None
        if "head_weight" in parts:
            head = LinearHead(
                parts.pop("head_weight"), parts.pop("head_bias"), manifest.head_input_layer
            )
        return cls(layers, head=head, **parts)

    def __len__(self) -> int:
        return len(self._rows)

    def __sizeof__(self) -> int:
        # Of what is pickled: a scheduler goes by it to send the samples once or with each task.
        parts = [*self._layers.values(), self._logits, self._predictions, self._features]
        size = object.__sizeof__(self) + (0 if self.head is None else self.head.__sizeof__())
        size += 0 if self._classes is None else self._classes.nbytes
        for part in parts:
            if part is not None:
                held, rows = origin(part, self._rows)
                size += n_bytes(held.words if isinstance(held, PackedBits) else held, rows)
        return size

    def __contains__(self, name: object) -> bool:
        return name in self._layers

    def __iter__(self) -> Iterator:
        raise TypeError("Activations are not iterable: use `.layer_names`, `.items()` or A[rows].")

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str):
            self._check_known([item])
            return take(self._layers[item], self._rows)
        if isinstance(item, list) and item and all(isinstance(i, str) for i in item):
            self._check_known(item)
            if len(set(item)) < len(item):
                raise KeyError(f"A layer is asked for twice: {item}.")
            return self._view(self._rows, layers={name: self._layers[name] for name in item})
        index = row_index(item, len(self))
        if isinstance(index, slice):
            return self._view(self._rows[index])
        return self._view(np.asarray(self._rows, dtype=np.intp)[index])

    def _view(self, rows: Rows, layers: dict[str, Layer] | None = None) -> Activations:
        view = object.__new__(Activations)
        view.__dict__.update(self.__dict__, _rows=rows)
        if layers is not None:
            view._layers = layers
        return view

    def _check_known(self, names: Sequence[str]) -> None:
        if missing := [name for name in names if name not in self._layers]:
            raise KeyError(f"No layer {missing}; the layers are {list(self._layers)}.")

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        flat = [
            np.asarray(array).reshape(len(self), prod(array.shape[1:])) for _, array in self.items()
        ]
        if copy is False and not (len(flat) == 1 and self._holds(flat[0])):
            raise ValueError("These activations cannot be seen as one array without a copy.")
        if len(flat) == 1:
            return np.array(flat[0], dtype=dtype, copy=copy)
        return np.concatenate(flat, axis=1, dtype=dtype, casting="unsafe")

    def _holds(self, array: NDArray) -> bool:
        origins = (origin(layer, self._rows)[0] for layer in self._layers.values())
        return any(
            isinstance(layer, np.ndarray) and np.may_share_memory(layer, array) for layer in origins
        )

    def __getstate__(self) -> dict[str, Any]:
        # A pickled (or hashed) view holds its own rows only. Contiguous plain arrays make the
        # hash depend on the content, not on strides or on being memory-mapped. The layers are
        # a list because joblib sorts dicts, and so could not tell their order.
        predictions, features = self._predictions, self._features
        return {
            "_layers": [(name, _contiguous(array)) for name, array in self.items()],
            "_logits": _contiguous(self.logits),
            "_predictions": _contiguous(None if predictions is None else self.predictions),
            "_features": _contiguous(None if features is None else self.features),
            "_head": self._head,
            "_classes": _contiguous(self._classes),
            "_rows": range(len(self)),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _layers=dict(state["_layers"]))

    def __repr__(self) -> str:
        layers = ", ".join(f"{name}: {shape}" for name, shape in self.layer_shapes.items())
        n_classes = "" if self._logits is None else f", n_classes={self._logits.shape[1]}"
        return f"Activations(n_samples={len(self)}, layers={{{layers}}}{n_classes})"


def largest_logits(logits: NDArray) -> NDArray[np.intp]:
    """Column of the largest logit of each sample, the first one on ties.

    Raises
    ------
    ValueError
        If logits are no real numbers or not finite: then no class is predicted.
    """
    check_real(logits, "logits")
    check_finite(logits, "logits", LOGITS_ADVICE)
    return logits.argmax(axis=1)


def _head_part(values: ArrayLike, name: str) -> NDArray:
    array = np.asarray(without_mask(values, name))
    if not is_real(array):
        raise TypeError(f"{name} must hold real numbers, but its dtype is {array.dtype}.")
    if array.ndim:
        check_finite(array, name, "Has the network been trained?")
    return _contiguous(array)


def _as_layer(name: str, array: ArrayLike | PackedBits) -> Layer:
    if not isinstance(name, str):
        raise TypeError(f"Layer names must be strings, got {name!r}.")
    if array is None:
        raise ValueError(f"layer {name!r} must be an array of numbers, got None.")
    layer = _as_numbers(f"layer {name!r}", array)
    if prod(layer.shape[1:]) == 0:
        raise ValueError(f"layer {name!r} has no units: its shape is {layer.shape}.")
    return layer


def _as_numbers(what: str, array: Any, columns: str = "n_units, ...") -> Any:
    """An array of numbers with a row for each sample, which is not copied; or None."""
    if array is None or isinstance(array, PackedBits | RowsOf):
        return array
    try:
        numbers = np.asanyarray(without_mask(array, what))
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{what} is not an array: {error}") from error
    if not is_real(numbers):
        raise ValueError(
            f"{what} must be an array of numbers, got {type(array).__name__} of dtype "
            f"{numbers.dtype}."
        )
    if numbers.ndim < 2:
        raise ValueError(f"{what} must have shape (n_samples, {columns}), got {numbers.shape}.")
    return numbers


def _as_labels(name: str, labels: Any) -> Any:
    if labels is None or isinstance(labels, RowsOf):
        return labels
    array = np.asarray(without_mask(labels, name))
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {array.shape}.")
    if array.dtype.kind in "US" and isinstance(labels, list | tuple):
        types = {type(label).__name__ for label in labels if not isinstance(label, str | bytes)}
        if types:
            raise ValueError(f"{name} must not mix text and others, got {sorted(types)} as well.")
    # Text that came as Python objects could not be saved without pickle.
    is_text = array.dtype == object and all(isinstance(label, str) for label in array)
    return array.astype(str) if is_text else array


def unknown_labels(labels: NDArray, classes: NDArray) -> list[Any]:
    """Labels that are not among the classes, ascending."""
    if labels.dtype.kind in "iu" and np.array_equal(classes, np.arange(len(classes))):
        # The usual case, without a sort: it may be asked for each of many single samples.
        labels = labels[(labels < 0) | (labels >= len(classes))]
    found = labels if labels.dtype == object else np.unique(labels)
    # Not `numpy.isin`, for which the label "1" is the class 1.
    unknown = set(found.tolist()).difference(classes.tolist())
    return sorted(unknown, key=lambda label: (str(type(label)), label))


def _check_parts(parts: list[Activations]) -> None:
    """Check that all can become one."""
    if not parts:
        raise ValueError("Nothing to concatenate: got no parts.")
    for part in parts:
        if not isinstance(part, Activations):
            raise TypeError(f"All parts must be Activations, got {type(part)}.")
        if part.layer_shapes != parts[0].layer_shapes:
            raise ValueError(
                f"All parts need the same layers, got {parts[0].layer_shapes} "
                f"and {part.layer_shapes}."
            )
    _check_same("classes", [p.classes for p in parts if p.classes is not None], _same_array)
    heads = [part.head for part in parts if part.head is not None]
    if not all(_same_head(heads[0], head) for head in heads[1:]):
        raise ValueError(
            "All parts need the same head, but the weight, bias or input_layer differs: do they "
            "come from different networks?"
        )
    predictions = [labels for part in parts if (labels := part.predictions) is not None]
    _check_same("kind of predictions", [_kind(labels) for labels in predictions], operator.eq)


def _check_same(what: str, values: list[Any], same: Callable[[Any, Any], bool]) -> None:
    for value in values[1:]:
        if not same(values[0], value):
            raise ValueError(f"All parts need the same {what}, got {values[0]} and {value}.")


def _same_array(a: NDArray, b: NDArray) -> bool:
    return _kind(a) == _kind(b) and np.array_equal(a, b)


def _same_head(a: LinearHead, b: LinearHead) -> bool:
    if a is b:
        return True
    same = a.input_layer == b.input_layer and np.array_equal(a.weight, b.weight)
    return same and np.array_equal(np.asarray(a.bias), np.asarray(b.bias))


def _kind(labels: NDArray) -> str:
    return {"U": "text", "S": "bytes", "O": "objects"}.get(labels.dtype.kind, "numbers")


def _stack(arrays: Sequence[Layer]) -> Layer:
    packed = [array for array in arrays if isinstance(array, PackedBits)]
    if not packed:
        return np.concatenate(arrays)
    if len(packed) < len(arrays):
        raise ValueError("A layer is packed bits in some of the parts only.")
    return PackedBits._of(np.concatenate([bits.words for bits in packed]), packed[0].n_bits)


def _concatenate_all(arrays: Sequence[NDArray | None]) -> NDArray | None:
    given = [array for array in arrays if array is not None]
    return np.concatenate(given) if len(given) == len(arrays) else None


def _contiguous(array: Any) -> Any:
    if isinstance(array, PackedBits):
        return PackedBits._of(_contiguous(array.words), array.n_bits)
    # Unlike `ascontiguousarray`, this also gives an axis of length 1 the strides of a new array.
    return None if array is None else np.asarray(array).ravel().reshape(array.shape)
