"""Activations in blocks that are gone through more than once, and computed once."""

from __future__ import annotations

import shutil
import weakref
from math import isnan, prod
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from sklearn import get_config

from ..activations import Activations
from ._dask_activations import DaskActivations
from ._workers import cluster_client


def kept(A: DaskActivations) -> DaskActivations:
    """The same rows, computed: they stay where they are until nobody refers to them any more.

    On a cluster they stay on its workers, which put what exceeds their memory on their disks. Where
    this process computes, they are kept in its memory up to scikit-learn's ``working_memory``, and
    otherwise in temporary files. The sizes of all blocks are known then.
    """
    if cluster_client() is None and not _fits_into_memory(A):
        A = A.map_blocks(_on_disk, A._template_of)
    return A.persist().compute_chunk_sizes()


def _fits_into_memory(A: DaskActivations) -> bool:
    return bool(n_bytes(A) <= get_config()["working_memory"] * 2**20)


def n_bytes(A: Any) -> float:
    """Size of all rows, none of which is read; NaN where their number is not known."""
    if not isinstance(A, DaskActivations):
        return float(A.nbytes)
    if isnan(n_rows := sum(A.block_sizes)):
        return n_rows
    columns = [column.array for column in A.template.columns]
    return n_rows * sum(array.dtype.itemsize * prod(array.shape[1:]) for array in columns)


def _on_disk(block: Activations) -> Activations:
    """The same rows in a temporary folder, which is deleted with them."""
    folder = Path(mkdtemp(prefix="skood-blocks-"))
    block.save(folder / "block")
    mapped = Activations.load(folder / "block", mmap_mode="r")
    mapped = mapped.assign(why_missing=block.why_missing)
    weakref.finalize(mapped, shutil.rmtree, folder, ignore_errors=True)
    return mapped
