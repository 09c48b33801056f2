"""Fitting a detector on rows in blocks: a tree of merges, and a second pass for the threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from .._marks import in_distribution_rows, plain_labels, read_labels
from .._warnings import warn_user
from ..detectors import BlockFit, BlockScores, forget_batches
from ._blocks import Blocks, Literal, Tasks, has_rows, n_rows_in, opened, run, split_rows
from ._workers import cluster_client


def fitted_on(detector: Any, blocks: Blocks, y: ArrayLike | None) -> Any:
    """A clone that is fitted on all rows, all of which set its threshold, as by one ``fit``."""
    labels = blocks.of_rows(y, "y")
    splits = _split(detector._hold_out, detector, blocks, y)
    tasks = Tasks("fit", [*blocks.sources, *labels.sources])
    parts = _learn(tasks, detector, blocks, labels, splits, keeps_sample=False)
    if detector._max_threshold_samples() is not None:
        root = tasks.add(_conclude, _merged(tasks, parts))
        return said_by(tasks.compute([root])[0]).detector
    finished = tasks.add(_finish, _merged(tasks, parts))
    if passes_are_apart(detector):
        known = tasks.persist([finished])
        tasks = Tasks("fit", [*blocks.sources, *labels.sources, known])
        (looks,) = run("looks", [(_looks, finished)], [known])
        finished = _looked(tasks, finished, looks, blocks, labels)
    scored = [
        tasks.add(place.run, _score, finished, *block)
        for place, *block in zip(
            blocks.places, blocks.arguments, labels.arguments, splits, strict=True
        )
    ]
    completed = tasks.add(_complete, finished, scored)
    return said_by(tasks.compute([completed])[0]).detector


def passes_are_apart(detector: Any) -> bool:
    """Whether rows are gone through again only when all have been learnt from.

    In this process, blocks in one graph would all be held until they are scored; and what more
    looks there are, a detector that may need some knows when it is finished.
    """
    return cluster_client() is None or detector._may_look_again()


def _looked(tasks: Tasks, finished: Any, looks: list[Any], blocks: Blocks, labels: Blocks) -> Any:
    """The finished detector with what it needs of further looks at all rows."""
    if not looks:
        return finished
    found = []
    for key in map(Literal, looks):
        parts = [
            tasks.add(place.run, _look, finished, key, *block)
            for place, *block in zip(blocks.places, blocks.arguments, labels.arguments, strict=True)
        ]
        found.append(tasks.add(_after_look, finished, key, _merged(tasks, parts)))
    return tasks.add(_with_looks, finished, Literal(looks), found)


def learnt_from(detector: Any, blocks: Blocks, y: ArrayLike | None) -> Any:
    """A clone that has learnt from all rows and is not finished, with rows for a threshold."""
    labels = blocks.of_rows(y, "y")
    hold_out = partial(detector._split_batch, is_first=not hasattr(detector, "n_samples_seen_"))
    splits = _split(hold_out, detector, blocks, y)
    tasks = Tasks("learn", [*blocks.sources, *labels.sources])
    parts = _learn(tasks, detector, blocks, labels, splits, keeps_sample=True)
    return tasks.compute([_merged(tasks, parts)])[0]


def said_by(part: BlockFit | None) -> BlockFit:
    """Warn, in this process, of what blocks have warned of elsewhere."""
    if part is None:
        raise ValueError("Found 0 samples in all blocks where at least 1 is needed.")
    for category, message in sorted(part.said, key=str):
        warn_user(message, category)
    return part


def _split(
    hold_out: Callable[..., Any], detector: Any, blocks: Blocks, y: ArrayLike | None
) -> list[Any]:
    """Of the in-distribution rows of each block, those to learn from and those held out.

    They are the rows of one ``fit``, which are split by their numbers and labels. None is all.
    """
    if detector.validation is None:
        return [None] * len(blocks)
    sizes = sizes_of(blocks)
    labels = None if y is None else np.asarray(y)
    rows = in_distribution_rows(labels, sum(sizes))
    inside = None if labels is None else plain_labels(read_labels(labels)[rows])
    n_inside = [len(part) for part in split_rows(rows, sizes)]
    learnt, held_out = (split_rows(part, n_inside) for part in hold_out(len(rows), inside))
    return [Literal(parts) for parts in zip(learnt, held_out, strict=True)]


def sizes_of(blocks: Blocks) -> list[int]:
    """Number of rows of each block, which are counted where it is not known."""
    if not math.isnan(sum(blocks.sizes)):
        return [int(size) for size in blocks.sizes]
    return run("sizes", [(n_rows_in, block) for block in blocks.arguments], blocks.sources)


def _learn(
    tasks: Tasks,
    detector: Any,
    blocks: Blocks,
    labels: Blocks,
    splits: Sequence[Any],
    *,
    keeps_sample: bool,
) -> list[Any]:
    unfitted = Literal(clone(detector))
    return [
        tasks.add(place.run, _learn_block, unfitted, *block, keeps_sample)
        for place, *block in zip(
            blocks.places, blocks.arguments, labels.arguments, splits, strict=True
        )
    ]


def _merged(tasks: Tasks, parts: Sequence[Any]) -> Any:
    """A tree of merges, each of two neighbours, so that rows stay in order."""
    while len(parts) > 1:
        pairs = [parts[start : start + 2] for start in range(0, len(parts), 2)]
        parts = [tasks.add(_merge, *pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return parts[0]


def _learn_block(
    detector: Literal, X: Any, y: Any, split: Any, keeps_sample: bool
) -> BlockFit | None:
    if not has_rows(X, y):
        return None
    given = X, opened(y), opened(split)
    return BlockFit.learn(detector.values, *given, keeps_sample=keeps_sample)


def _merge(first: Any, second: Any) -> Any:
    """What two neighbours have learnt, of which each may be None."""
    if first is None or second is None:
        return second if first is None else first
    return first.merge(second)


def _finish(part: BlockFit | None) -> BlockFit | None:
    return None if part is None else part.finish()


def _conclude(part: BlockFit | None) -> BlockFit | None:
    if part is None:
        return None
    concluded = part.concluded()
    forget_batches(concluded.detector)
    return concluded


def _looks(finished: BlockFit | None) -> list[Any]:
    return [] if finished is None else finished.looks


def _look(finished: BlockFit, key: Literal, X: Any, y: Any) -> Any:
    return finished.look(key.values, X, opened(y)) if has_rows(X, y) else None


def _after_look(finished: BlockFit, key: Literal, summary: Any) -> Any:
    return finished.after_look(key.values, summary)


def _with_looks(finished: BlockFit, looks: Literal, found: list[Any]) -> BlockFit:
    return finished.with_looks(dict(zip(looks.values, found, strict=True)))


def _score(finished: BlockFit | None, X: Any, y: Any, split: Any) -> BlockScores | None:
    if finished is None or X is None or not n_rows_in(X):
        return None
    return finished.score(X, opened(y), opened(split))


def _complete(finished: BlockFit | None, scores: Sequence[BlockScores | None]) -> BlockFit | None:
    if finished is None:
        return None
    return finished.complete([each for each in scores if each is not None])
