"""Activations in blocks that are gone through more than once, and computed once."""

from __future__ import annotations

import shutil
import weakref
from math import isnan, prod
from pathlib import Path
from tempfile import mkdtemp

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
    n_rows = sum(A.block_sizes)
    if isnan(n_rows):
        return False
    columns = [column.array for column in A.template.columns]
    one_row = sum(array.dtype.itemsize * prod(array.shape[1:]) for array in columns)
    return bool(n_rows * one_row <= get_config()["working_memory"] * 2**20)


def _on_disk(block: Activations) -> Activations:
    """The same rows in a temporary folder, which is deleted with them."""
    folder = Path(mkdtemp(prefix="skood-blocks-"))
    block.save(folder / "block")
    mapped = Activations.load(folder / "block", mmap_mode="r")
    mapped = mapped.assign(why_missing=block.why_missing)
    weakref.finalize(mapped, shutil.rmtree, folder, ignore_errors=True)
    return mapped
