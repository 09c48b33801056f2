"""What `Activations` are made of: arrays with a row for each sample, and what they are."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from itertools import count
from math import prod
from numbers import Integral
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._labels import as_labels
from ._patterns import PackedBits
from ._rows import LazyArray, LazyRows, n_bytes
from ._values import is_real, without_mask

Kind = Literal["value", "gradient", "pass"]
Role = Literal["layer", "logits", "prediction", "features", "label", "mask"]
_KNOWN = {"kind": get_args(Kind), "role": get_args(Role)}


@dataclass(frozen=True, eq=False, repr=False)
class Column:
    """An array with a row for each sample, and what it is.

    ``Activations`` hold a table of columns. Where a layer is given as a plain array, it becomes the
    column of a layer of that name.

    Parameters
    ----------
    array : array-like of shape (n_samples, ...) or PackedBits
        The values. In ``A.columns`` of some rows of ``Activations``, these are cut out when they
        are read, by ``numpy.asarray(column.array)`` or as ``A[column.name]``.
    layer : str, default=None
        Layer of the network that the values come from; by default the one of the same name.
    kind : {"value", "gradient", "pass"}, default="value"
        - "value": activations of the layer.
        - "gradient": gradients with respect to these activations.
        - "pass": the logits of stochastic forward passes, (n_samples, n_passes, n_classes).
    pooling : str, default=None
        How the maps of the layer were pooled, for example "max"; None where they were not.
    unit_axis : int, default=1
        Axis of the units (channels, neurons). All others but the first, that of the samples, are
        those of space or time.
    name : str, default=None
        Name in ``Activations``, which set it. It is a label for people; nothing is read from it.
    role : {"layer", "logits", "prediction", "features", "label", "mask"}, default="layer"
        What the column is in ``Activations``, which set this too.

    Raises
    ------
    ValueError
        If the kind or the role is none of these, the axis is not that of units, or lists hold
        anything else than numbers with at least two dimensions.
    TypeError
        If a name is no string.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Activations
    >>> from skood.activations import Column
    >>> tokens = Column(np.ones((2, 7, 3)), layer="encoder.block", unit_axis=2)
    >>> A = Activations({"relu": np.ones((2, 4)), "tokens": tokens}, labels=[0, 1])
    >>> for column in A.columns:
    ...     print(column)
    Column('relu', shape=(2, 4), dtype=float64)
    Column('tokens', shape=(2, 7, 3), dtype=float64, layer='encoder.block', unit_axis=2)
    Column('labels', shape=(2,), dtype=int64, role='label')
    """

    array: Any
    layer: str | None = field(default=None, kw_only=True)
    kind: Kind = field(default="value", kw_only=True)
    pooling: str | None = field(default=None, kw_only=True)
    unit_axis: int = field(default=1, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    role: Role = field(default="layer", kw_only=True)

    def __post_init__(self) -> None:
        for what in ("layer", "pooling", "name"):
            text = getattr(self, what)
            if text is not None and not isinstance(text, str):
                raise TypeError(f"{what} of a column must be a string or None, got {text!r}.")
        for what, known in _KNOWN.items():
            if (value := getattr(self, what)) not in known:
                raise ValueError(f"{what} of a column must be among {known}, got {value!r}.")
        if not hasattr(self.array, "shape") and self.array is not None:
            object.__setattr__(self, "array", as_numbers("array of a column", self.array))
        axis = self.unit_axis
        if type(axis) is int and axis >= 1:
            return
        if isinstance(axis, bool) or not isinstance(axis, Integral) or axis < 1:
            raise ValueError(f"unit_axis of a column must be an integer from 1, got {axis!r}.")
        object.__setattr__(self, "unit_axis", int(axis))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, (n_samples, ...)."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of the values; that of packed bits is bool."""
        return self.array.dtype

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes, none of which is read."""
        return n_bytes(self.array, range(len(self.array)))

    @property
    def is_packed(self) -> bool:
        """Whether the values are packed bits."""
        held = self.array.array if isinstance(self.array, LazyRows) else self.array
        return isinstance(held, PackedBits)

    @property
    def n_units(self) -> int:
        """Number of values of a sample."""
        return prod(self.shape[1:])

    def with_array(self, array: Any) -> Column:
        """The same column with other values.

        Parameters
        ----------
        array : array-like of shape (n_samples, ...) or PackedBits
            The values. The units are in axis 1 where there is no longer an axis as before.

        Returns
        -------
        Column
            A new column.
        """
        same_axes = self.unit_axis == 1 or np.ndim(array) == len(self.shape)
        return changed(self, array=array, unit_axis=self.unit_axis if same_axes else 1)

    def metadata(self) -> dict[str, Any]:
        """All but the values, the name and the role.

        Returns
        -------
        dict of str to str, int or None
            The ``layer``, ``kind``, ``pooling`` and ``unit_axis``.
        """
        return {
            "layer": self.layer,
            "kind": self.kind,
            "pooling": self.pooling,
            "unit_axis": self.unit_axis,
        }

    @property
    def is_plain(self) -> bool:
        """Whether it is what a plain array of this name becomes, of which nothing is said."""
        metadata = (self.layer, self.kind, self.pooling, self.unit_axis)
        return metadata == (self.name, "value", None, 1)

    def __repr__(self) -> str:
        shape, dtype = np.shape(self.array), getattr(self.array, "dtype", None)
        plain = changed(_PLAIN, layer=self.name).metadata()
        said = {key: value for key, value in self.metadata().items() if value != plain[key]}
        if self.role != "layer":
            said = {"role": self.role}
        more = "".join(f", {key}={value!r}" for key, value in said.items())
        name = "" if self.name is None else f"{self.name!r}, "
        return f"Column({name}shape={shape}, dtype={dtype}{more})"


_PLAIN = Column(None)
"""What a layer is that is given as a plain array, but for its name and values."""


def changed(column: Column, **changes: Any) -> Column:
    """The same column with other attributes, which are not checked."""
    # `dataclasses.replace` takes ten times as long, for every column of every container.
    new = object.__new__(Column)
    new.__dict__.update(column.__dict__, **changes)
    return new


def layer_column(name: str, given: ArrayLike | PackedBits | Column) -> Column:
    """The column of a layer of ``Activations``, checked.

    Raises
    ------
    TypeError
        If the name is no string.
    ValueError
        If the values are no numbers of at least two dimensions and one unit, the axis of units is
        none of theirs, or the column is one of another role.
    """
    if not isinstance(name, str):
        raise TypeError(f"Layer names must be strings, got {name!r}.")
    column, values = (given, given.array) if isinstance(given, Column) else (_PLAIN, given)
    if column.role != "layer":
        raise ValueError(f"layer {name!r} is given as a column of the role {column.role!r}.")
    if values is None:
        raise ValueError(f"layer {name!r} must be an array of numbers, got None.")
    array = as_numbers(f"layer {name!r}", values)
    if prod(array.shape[1:]) == 0:
        raise ValueError(f"layer {name!r} has no units: its shape is {array.shape}.")
    if column.unit_axis >= array.ndim:
        raise ValueError(
            f"unit_axis={column.unit_axis} of layer {name!r} is no axis of its shape {array.shape}."
        )
    layer = name if column.layer is None else column.layer
    if array is column.array and name == column.name and layer == column.layer:
        return column
    return changed(column, array=array, name=name, layer=layer)


def as_numbers(what: str, array: Any, columns: str = "n_units, ...") -> Any:
    """An array of numbers with a row for each sample, which is not copied.

    Raises
    ------
    ValueError
        If it is no array of numbers of at least two dimensions, or is masked.
    """
    if isinstance(array, PackedBits | LazyArray):
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


def _as_logits(given: Any, name: str) -> Any:
    return as_numbers(name, given, "n_classes")


def _as_features(given: Any, name: str) -> Any:
    return as_numbers(name, given)


def _as_mask(given: Any, name: str) -> Any:
    mask = as_numbers(name, given, "n_tokens")
    if isinstance(mask, LazyArray):  # of a mask that was checked
        return mask
    if mask.ndim != 2 or not ((mask == 0) | (mask == 1)).all():
        raise ValueError(
            f"{name} must have shape (n_samples, n_tokens) and hold 1 (or True) at tokens and 0 at "
            f"padding, got shape {mask.shape} and dtype {mask.dtype}."
        )
    mask = mask.astype(bool, copy=False)
    check_tokens(mask, name)
    return mask


def check_tokens(mask: NDArray[np.bool_], name: str, first: int = 0) -> None:
    """Raise a ValueError that names the first row without a token; rows count from ``first``."""
    if len(empty := np.flatnonzero(~mask.any(axis=1))):
        raise ValueError(
            f"{name} marks all of row {first + empty[0]} as padding: each sample needs at least "
            "one token. Leave such samples out."
        )


class Part(NamedTuple):
    """What a column of ``Activations`` that is no layer is."""

    role: Role
    read: Callable[[Any, str], Any]
    """Checks the array of the given name, and returns it as it is held."""


# A new part is an entry here, with its role above, and in `Activations` an argument of `__init__`
# and a property, both of the same name. Rows, files, pickles, tables and so on go by this dict.
PARTS: dict[str, Part] = {
    "logits": Part("logits", _as_logits),
    "predictions": Part("prediction", as_labels),
    "features": Part("features", _as_features),
    "labels": Part("label", as_labels),
    "mask": Part("mask", _as_mask),
}
"""The columns of ``Activations`` that are no layers, by the attribute that each is."""


def part_columns(given: Mapping[str, Any]) -> list[Column]:
    """The columns of the parts of ``Activations`` that are no layers, checked; None is no part.

    Raises
    ------
    ValueError
        If labels are not 1-D, the mask is none, or the other parts are no numbers of at least two
        dimensions.
    """
    return [
        Column(PARTS[name].read(array, name), name=name, role=PARTS[name].role)
        for name, array in given.items()
        if array is not None
    ]


def usual_name(layer: str, kind: Kind) -> str:
    """The name that a column of a network gets: "relu1", "relu1:gradient" or "passes"."""
    if kind == "pass":
        return "passes"
    return f"{layer}:gradient" if kind == "gradient" else layer


def free_name(name: str, taken: Container[str]) -> str:
    """The name, with a number after it where it is taken."""
    if name not in taken:
        return name
    return next(f"{name}_{number}" for number in count(2) if f"{name}_{number}" not in taken)
