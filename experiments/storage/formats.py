"""Formats that a layer can be written to, block by block, and how each is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood import Activations
from skood._row_table import OF_LAYER, RowTable
from skood._store import begin_store
from skood.activations import finish_store

Shape = tuple[int, int]
Blocks = Iterable[NDArray]
Reader = Callable[[slice | NDArray], NDArray]
"""Reads rows."""


def write_store(folder: Path, blocks: Blocks, shape: Shape) -> None:
    """What ``ActivationExtractor.transform(X, out=folder)`` writes."""
    with begin_store(folder / "store", {}) as writer:
        assert writer is not None  # of a new folder
        table = RowTable(shape[0], writer)
        for block in blocks:
            table.append(f"{OF_LAYER}layer", block)
            table.end_batch(len(block), {"n_samples": len(block)})
        arrays = table.finish()
        finish_store(writer, Activations({"layer": arrays[f"{OF_LAYER}layer"]}))


def open_store(folder: Path, shape: Shape) -> Reader:
    A = Activations.load(folder / "store")
    return lambda rows: np.asarray(A[rows]["layer"])


def write_arrow(folder: Path, blocks: Blocks, shape: Shape, compression: str | None = None) -> None:
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression=compression)
    for number, block in enumerate(blocks):
        rows = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), shape[1])
        batch = pa.record_batch([rows], names=["layer"])
        with (
            pa.OSFile(str(folder / f"{number:06d}.arrow"), "wb") as file,
            pa.ipc.new_file(file, batch.schema, options=options) as writer,
        ):
            writer.write_batch(batch)


def open_arrow(folder: Path, shape: Shape) -> Reader:
    import pyarrow as pa

    files = sorted(folder.glob("*.arrow"))

    def read_block(file: Path) -> NDArray:
        with pa.memory_map(str(file)) as mapped:
            column = pa.ipc.open_file(mapped).get_batch(0).column(0)
            return np.asarray(column.values).reshape(-1, shape[1])

    sizes = [len(read_block(file)) for file in files]
    starts = np.concatenate([[0], np.cumsum(sizes)])

    def read(rows: slice | NDArray) -> NDArray:
        wanted = np.arange(shape[0])[rows]
        of_block = np.searchsorted(starts, wanted, side="right") - 1
        return np.concatenate(
            [read_block(files[i])[wanted[of_block == i] - starts[i]] for i in np.unique(of_block)]
        )

    return read


def write_zarr(folder: Path, blocks: Blocks, shape: Shape, codec: str | None = None) -> None:
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    codecs = {None: None, "checksum": [Crc32cCodec()], "zstd": [ZstdCodec(level=1)]}[codec]
    array, start = None, 0
    group = zarr.open_group(folder / "zarr", mode="w", zarr_format=3)
    for block in blocks:
        if array is None:
            array = group.create_array(
                "layer", shape=shape, chunks=block.shape, dtype=block.dtype, compressors=codecs
            )
        array[start : start + len(block)] = block
        start += len(block)


def open_zarr(folder: Path, shape: Shape) -> Reader:
    import zarr

    array: Any = zarr.open_group(folder / "zarr", mode="r")["layer"]
    return lambda rows: array[rows] if isinstance(rows, slice) else array.oindex[rows]


def write_npy(folder: Path, blocks: Blocks, shape: Shape) -> None:
    """What ``Activations.save`` writes, but in pieces."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with open(folder / "layer.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            block.tofile(file)


def open_npy(folder: Path, shape: Shape) -> Reader:
    array = np.load(folder / "layer.npy", mmap_mode="r")
    return lambda rows: np.array(array[rows])


def write_arrow_compressed(folder: Path, blocks: Blocks, shape: Shape) -> None:
    write_arrow(folder, blocks, shape, "zstd")


def write_zarr_checked(folder: Path, blocks: Blocks, shape: Shape) -> None:
    write_zarr(folder, blocks, shape, "checksum")


def write_zarr_compressed(folder: Path, blocks: Blocks, shape: Shape) -> None:
    write_zarr(folder, blocks, shape, "zstd")


FORMATS: dict[str, tuple[str | None, Callable[..., None], Callable[..., Reader]]] = {
    "skood's folder: Arrow, with checksums": ("pyarrow", write_store, open_store),
    "Arrow, read by pyarrow": ("pyarrow", write_arrow, open_arrow),
    "Arrow, Zstandard": ("pyarrow", write_arrow_compressed, open_arrow),
    "zarr": ("zarr", write_zarr, open_zarr),
    "zarr, with checksums": ("zarr", write_zarr_checked, open_zarr),
    "zarr, Zstandard": ("zarr", write_zarr_compressed, open_zarr),
    "one .npy file, memory-mapped": (None, write_npy, open_npy),
}
"""The package that each needs, how it is written and how it is opened."""
