"""Data sets of Hugging Face as inputs, a mapping of columns for each batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._inputs import InputReader, Loader

_ADVICE = (
    "leave this column out by remove_columns, or choose others by "
    'set_format("torch", columns=[...]); or make numbers of one shape of it, by map for texts and '
    "images, or by a DataLoader whose collate_fn pads, with a mask"
)


class HuggingFaceInputs(InputReader):
    """Reads data sets and streams in batches of rows; the columns become keyword arguments."""

    def refuse(self, X: Any) -> None:
        if isinstance(X, Mapping) and hasattr(X, "column_names"):
            raise TypeError(
                f"A {type(X).__name__} holds several data sets: pass one of them, such as "
                f"data[{next(iter(X), '...')!r}]; known are {list(X)}."
            )

    def load(self, X: Any, batch_size: int) -> Loader | None:
        if not hasattr(X, "column_names") or not callable(getattr(X, "iter", None)):
            return None  # another package or module of this name
        n_samples = len(X) if hasattr(X, "__len__") else None
        read_once = False if n_samples is not None else None
        return Loader(
            _Rows(X, batch_size),
            n_samples,
            read_once=read_once,
            advice=_ADVICE,
            label_columns=("labels", "label"),
        )


class _Rows:
    """Goes through the rows, in batches; again from the start each time."""

    def __init__(self, data: Any, batch_size: int) -> None:
        self._data = data
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[Any]:
        for batch in self._data.iter(batch_size=self._batch_size):
            if not isinstance(batch, Mapping):
                raise TypeError(
                    f"The data set yields its rows as a {type(batch).__name__}: call "
                    'with_format("torch"), with_format("numpy") or with_format(None) on it.'
                )
            yield batch
