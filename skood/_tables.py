"""How `Activations` are shown to people: as a data frame, and in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._column import Column
from ._linear_head import LinearHead
from ._optional import import_optional

if TYPE_CHECKING:
    import pandas as pd


def as_frame(layers: Iterable[tuple[str, Any]], more: dict[str, NDArray | None]) -> pd.DataFrame:
    """One column for each unit of the layers, "relu1[3]", and one for each array of ``more``.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    pandas = import_optional("pandas", "pandas", "Activations.to_frame")
    frames = []
    for name, layer in layers:
        values = np.asarray(layer)
        units = [f"{name}[{', '.join(map(str, unit))}]" for unit in np.ndindex(values.shape[1:])]
        frames.append(pandas.DataFrame(values.reshape(len(values), len(units)), columns=units))
    frames += [pandas.DataFrame({key: array}) for key, array in more.items() if array is not None]
    return pandas.concat(frames, axis=1)


def as_html(columns: Sequence[Column], head: LinearHead | None, n_samples: int) -> str:
    """A table of columns and the head; reads no data."""
    # What every row would leave empty is left out.
    extra = [
        (title, text)
        for title, text in _EXTRA
        if any(text(column) for column in columns if column.role == "layer")
    ]
    titles = ["", "shape of a sample", "dtype", "memory", *(title for title, _ in extra)]
    rows = [[*_cells(column), *(text(column) for _, text in extra)] for column in columns]
    if head is not None:
        reads = "" if head.input_layer is None else f" of {head.input_layer}"
        nbytes = head.weight.nbytes + np.asarray(head.bias).nbytes
        shape = f"{head.shape[1]} units{reads} to {head.shape[0]} classes"
        rows.append(["head", shape, str(head.weight.dtype), memory_text(nbytes)])
    total = memory_text(sum(column.nbytes for column in columns))
    return (
        f"<div><b>Activations</b> of {n_samples} samples, {total}<table><thead>"
        + _row("th", titles)
        + "</thead><tbody>"
        + "".join(_row("td", row + [""] * (len(titles) - len(row))) for row in rows)
        + "</tbody></table></div>"
    )


def _cells(column: Column) -> list[str]:
    name = str(column.name) if column.role == "layer" else f"({column.name})"
    dtype = "bits" if column.is_packed else str(column.dtype)
    return [name, str(column.shape[1:]), dtype, memory_text(column.nbytes)]


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def memory_text(n_bytes: float) -> str:
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while n_bytes >= 1024 and len(units) > 1:
        n_bytes /= 1024
        units.pop(0)
    return f"{n_bytes:.{int(units[0] != 'B')}f} {units[0]}"


_EXTRA = [
    ("layer", lambda column: "" if column.layer in (None, column.name) else column.layer),
    ("kind", lambda column: "" if column.kind == "value" else column.kind),
    ("pooling", lambda column: column.pooling or ""),
    ("axis of units", lambda column: "" if column.unit_axis == 1 else str(column.unit_axis)),
]
"""Further columns of the table: titles, and the text for a column, empty where it is plain."""
