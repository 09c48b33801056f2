"""From batches of patterns to stores on disk, of which memory never holds all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._disk import sync
from ._files import OwnedFolder
from ._packed_bits import PackedBits, n_words_of
from ._runs import PatternRun, merge_runs
from ._shards import ShardFolder, ShardWriter, new_folder, read_manifest
from ._store import MappedPatternStore

RUN_BYTES = 2**25
"""Patterns of this size are written to the disk as one sorted run."""
SHARD_BYTES = 2**25
"""Size of the patterns of a shard."""


@dataclass(frozen=True)
class SpilledRun:
    """A sorted run on the disk."""

    folder: OwnedFolder
    labels: list[Any]
    starts: list[int]

    def open(self, root: Path) -> PatternRun:
        """The run, mapped into memory; it may have been moved to ``root``."""
        self.folder.move_to(root)
        words, rows = (
            np.load(self.folder.path / f"{name}.npy", mmap_mode="r") for name in ("words", "rows")
        )
        return PatternRun(self.labels, self.starts, words, rows)


@dataclass(frozen=True)
class PatternRuns:
    """Patterns of training rows: sorted runs on the disk, and the last few in memory.

    Attributes
    ----------
    root : Path
        Folder for what is written.
    n_bits : int
        Number of bits of a pattern.
    n_rows : int
        Number of training rows, those included whose patterns are not stored.
    runs : tuple of (PatternRun or SpilledRun, int)
        Each with the number of training rows before it.
    """

    root: Path
    n_bits: int
    n_rows: int
    runs: tuple[tuple[PatternRun | SpilledRun, int], ...]

    @classmethod
    def of(
        cls, root: Path, bits: PackedBits, labels: NDArray, rows: NDArray, n: int
    ) -> PatternRuns:
        """Of a batch of ``n`` training rows, of which the patterns of some are stored."""
        run = PatternRun.of(bits.words, labels, rows)
        return cls(root, bits.n_bits, n, ((run, 0),))._spilled()

    @property
    def n_stored(self) -> int:
        """How many training rows have a pattern stored."""
        return sum(run.starts[-1] for run, _ in self.runs)

    def labels(self) -> list[Any]:
        """The classes, ascending."""
        return sorted({label for run, _ in self.runs for label in run.labels})

    def merge(self, other: PatternRuns) -> PatternRuns:
        """The patterns of both, rows of ``other`` numbered after those of this one."""
        runs = list(self.runs)
        for run, offset in other.runs:
            offset += self.n_rows
            last = runs[-1][0] if runs else None
            if isinstance(run, PatternRun) and isinstance(last, PatternRun):
                runs[-1] = (last.joined(run, offset - runs[-1][1]), runs[-1][1])
            else:
                runs.append((run, offset))
        # Where batches come to now: the folder may have been moved since the first ones.
        merged = replace(self, root=other.root, n_rows=self.n_rows + other.n_rows, runs=tuple(runs))
        return merged._spilled()

    def _spilled(self) -> PatternRuns:
        """Runs in memory that are large enough written to the disk."""
        runs = [
            (self._spill(run), offset)
            if isinstance(run, PatternRun) and run.words.nbytes + run.rows.nbytes >= RUN_BYTES
            else (run, offset)
            for run, offset in self.runs
        ]
        return replace(self, runs=tuple(runs))

    def _spill(self, run: PatternRun) -> SpilledRun:
        with new_folder(self.root, "run") as (scratch, folder):
            for part, array in (("words", run.words), ("rows", run.rows)):
                np.save(scratch / f"{part}.npy", array)
                sync(scratch / f"{part}.npy")
        return SpilledRun(folder, run.labels, run.starts)

    def build(self) -> dict[Any, MappedPatternStore]:
        """Write the distinct patterns as a store on the disk; one for each class."""
        runs = [
            (run.open(self.root) if isinstance(run, SpilledRun) else run, at)
            for run, at in self.runs
        ]
        n_words = n_words_of(self.n_bits)
        n_at_once = max(1, RUN_BYTES // (8 * n_words + 8))
        with new_folder(self.root, "patterns") as (scratch, folder):
            writer = ShardWriter(scratch, n_words, SHARD_BYTES)
            try:
                for label in self.labels():
                    slices = [part for run, at in runs if (part := run.of_class(label, at))]
                    writer.add_class(label, merge_runs(slices, n_at_once))
                writer.finish(self.n_bits)
            finally:
                writer.close()
        return open_stores(folder)


def open_stores(files: OwnedFolder) -> dict[Any, MappedPatternStore]:
    """The stores of a folder, by class."""
    manifest, folder = read_manifest(files.path), ShardFolder(files)
    n_bits = manifest["n_bits"]
    return {table.label: MappedPatternStore(folder, table, n_bits) for table in manifest["classes"]}
