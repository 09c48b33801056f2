"""The one container that every room of skood hands to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._packed_bits import PackedBits
from ._rows import Rows, RowsOf, are_all, origin, row_index, take
from ._storage import read_manifest, save_rows, write_folder, write_manifest
from ._values import LOGITS_ADVICE, check_finite, check_real, is_real, without_mask

__all__ = ["Activations", "LinearHead", "PackedBits"]


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
    >>> from skood import LinearHead
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
        bias = np.zeros(len(weight), weight.dtype) if self.bias is None else self.bias
        bias = _head_part(bias, "bias")
        if bias.shape != (len(weight),):
            raise ValueError(f"weight has {len(weight)} classes, but bias has shape {bias.shape}.")
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", bias)

    def __reduce__(self) -> tuple[type, tuple]:
        # Through __init__: weights that a worker gets memory-mapped keep the hash of plain ones.
        return type(self), (self.weight, self.bias, self.input_layer)

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
        :class:`PackedBits`.
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
        If there is no layer, a layer is not at least two-dimensional, or the parts disagree
        about the number of samples or classes.

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
        self._layers: dict[str, Any] = {
            name: _as_layer(name, array) for name, array in layers.items()
        }
        self._logits = None if logits is None else _as_array(logits, "logits")
        self._predictions = None if predictions is None else _as_array(predictions, "predictions")
        self._features = None if features is None else _as_array(features, "features")
        self.head = head
        self._classes = None if classes is None else _as_labels(classes)
        self._check_logits()
        self._rows: Rows = range(self._check_lengths())

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

    def _check_logits(self) -> None:
        if self._predictions is not None and self._predictions.ndim != 1:
            raise ValueError(f"predictions must be 1-D, got shape {self._predictions.shape}.")
        if self._logits is None:
            return
        if self._logits.ndim != 2 or self._logits.shape[1] == 0:
            raise ValueError(
                f"logits must have shape (n_samples, n_classes), got {self._logits.shape}."
            )
        if self._classes is not None and self._classes.shape != self._logits.shape[1:]:
            raise ValueError(
                f"logits have {self._logits.shape[1]} classes, "
                f"but classes has shape {self._classes.shape}."
            )

    @property
    def layers(self) -> tuple[str, ...]:
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
        layer = self.head and self.head.input_layer
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

        Parameters
        ----------
        layers : dict of str to array-like of shape (n_samples, ...)
            The new layers, in forward order.

        Returns
        -------
        Activations
            A new container with the logits, predictions and head of this one, which is unchanged.

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
            features=self._keep(self._features),
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
        changed = layers or {}
        layer = None if self.head is None else self.head.input_layer
        predictions, features = self._keep(self._predictions), self._features
        if predictions is None and logits is not None:
            predictions = self.predictions
        if features is None and layer is not None and layer in changed:
            features = self._layers.get(layer)
        return Activations(
            {**{name: self._keep(array) for name, array in self._layers.items()}, **changed},
            logits=self._keep(self._logits) if logits is None else logits,
            predictions=predictions,
            head=self.head if head == "keep" else head,
            classes=self._classes,
            features=self._keep(features),
        )

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
            The samples of all parts, in order, copied. Logits and predictions are
            kept where every part has them.

        Raises
        ------
        ValueError
            If there is no part, or the layers or classes differ.

        Examples
        --------
        >>> import numpy as np
        >>> from skood import Activations
        >>> A = Activations({"fc": np.zeros((3, 5))})
        >>> Activations.concatenate([A, A[:1]]).shape
        (4, 5)
        """
        if not parts:
            raise ValueError("Nothing to concatenate: got no parts.")
        first = parts[0]
        for part in parts[1:]:
            if part.layer_shapes != first.layer_shapes:
                raise ValueError(
                    f"All parts need the same layers, got {first.layer_shapes} "
                    f"and {part.layer_shapes}."
                )
        shaped = any(part._features is not None for part in parts)
        classes = [part.classes for part in parts if part.classes is not None]
        for others in classes[1:]:
            if not np.array_equal(others, classes[0]):
                raise ValueError(f"All parts need the same classes, got {classes[0]} and {others}.")
        return cls(
            {name: _stack([part[name] for part in parts]) for name in first.layers},
            logits=_concatenate_all([part.logits for part in parts]),
            predictions=_concatenate_all([part.predictions for part in parts]),
            features=_concatenate_all([part.features for part in parts]) if shaped else None,
            head=first.head,
            classes=next((p._classes for p in parts if p._classes is not None), None),
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the samples to a folder of ``.npy`` files and one ``manifest.json``.

        The format needs no pickle and any NumPy reads it. A view is written as what it
        holds, a few thousand rows at a time.

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
            saved activations.
        TypeError
            If labels or activations are Python objects, which need pickle.
        """
        write_folder(Path(path), self._write, overwrite=overwrite)

    def _write(self, folder: Path) -> None:
        layers = []
        for number, (name, layer) in enumerate(self._layers.items()):
            file = f"layer_{number}.npy"
            held, rows = origin(layer, self._rows)
            packed = isinstance(held, PackedBits)
            save_rows(folder / file, held.words if packed else held, rows)
            n_bits = held.n_bits if packed else None
            layers.append({"name": name, "file": file, "n_bits": n_bits})
        parts: dict[str, tuple[Any, Rows | None]] = {
            "logits": origin(self._logits, self._rows),
            "predictions": origin(self._predictions, self._rows),
            "features": origin(self._features, self._rows),
            "classes": (self._classes, None),
            "head_weight": (self.head and self.head.weight, None),
            "head_bias": (self.head and self.head.bias, None),
        }
        stored = {key: part for key, part in parts.items() if part[0] is not None}
        for key, part in stored.items():
            save_rows(folder / f"{key}.npy", *part)
        content = {
            "n_samples": len(self),
            "layers": layers,
            "parts": list(stored),
            "head_input_layer": self.head and self.head.input_layer,
        }
        write_manifest(folder, content)

    @classmethod
    def load(cls, path: str | Path, *, mmap_mode: str | None = None) -> Activations:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path : str or Path
            The folder.
        mmap_mode : {None, "r", "c"}, default=None
            As in :func:`numpy.load`: "r" leaves the layers on disk and reads the rows that
            are asked for.

        Returns
        -------
        Activations
            The stored samples.

        Raises
        ------
        ValueError
            If the folder was not written by :meth:`save`, or by a later version of it, or
            ``mmap_mode`` is another one.
        FileNotFoundError
            If there is no such folder.
        """
        if mmap_mode not in (None, "r", "c"):
            raise ValueError(f"mmap_mode must be None, 'r' or 'c', got {mmap_mode!r}.")
        path = Path(path)
        manifest = read_manifest(path)
        layers: dict[str, Layer] = {}
        for layer in manifest["layers"]:
            array = np.load(path / layer["file"], mmap_mode=mmap_mode)  # type: ignore[arg-type]
            packed = layer["n_bits"] is not None
            layers[layer["name"]] = PackedBits(array, layer["n_bits"]) if packed else array
        parts = {key: np.load(path / f"{key}.npy") for key in manifest["parts"]}
        head = None
        if "head_weight" in parts:
            head = LinearHead(
                parts.pop("head_weight"), parts.pop("head_bias"), manifest["head_input_layer"]
            )
        return cls(layers, head=head, **parts)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._layers

    def __iter__(self) -> Iterator:
        raise TypeError("Activations are not iterable: use `.layers`, `.items()` or A[rows].")

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str):
            self._check_known([item])
            return take(self._layers[item], self._rows)
        if isinstance(item, list) and item and all(isinstance(i, str) for i in item):
            self._check_known(item)
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
            "head": self.head,
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
    layer = _as_array(array, f"Layer {name!r}")
    if layer.ndim < 2:
        raise ValueError(
            f"Layer {name!r} must have shape (n_samples, n_units, ...), got {layer.shape}."
        )
    return layer


def _as_array(array: Any, name: str) -> Any:
    if isinstance(array, PackedBits | RowsOf):
        return array
    return np.asanyarray(without_mask(array, name))


def _as_labels(classes: ArrayLike) -> NDArray:
    labels = np.asarray(classes)
    # Text that came as Python objects could not be saved without pickle.
    is_text = labels.dtype == object and all(isinstance(label, str) for label in labels.flat)
    return labels.astype(str) if is_text else labels


def _stack(arrays: Sequence[Layer]) -> Layer:
    packed = [array for array in arrays if isinstance(array, PackedBits)]
    if not packed:
        return np.concatenate(arrays)
    if len(packed) < len(arrays):
        raise ValueError("A layer is packed bits in some of the parts only.")
    return PackedBits(np.concatenate([bits.words for bits in packed]), packed[0].n_bits)


def _concatenate_all(arrays: Sequence[NDArray | None]) -> NDArray | None:
    given = [array for array in arrays if array is not None]
    return np.concatenate(given) if len(given) == len(arrays) else None


def _contiguous(array: Any) -> Any:
    if isinstance(array, PackedBits):
        return PackedBits(_contiguous(array.words), array.n_bits)
    # Unlike `ascontiguousarray`, this also gives an axis of length 1 the strides of a new array.
    return None if array is None else np.asarray(array).ravel().reshape(array.shape)
