"""Labels, verdicts, scores and p-values of rows, which network and detector read once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._monitor import Monitor
from ..activations import Activations
from ..monitoring import DriftMonitor
from ._reading import Rows


class Judged(NamedTuple):
    """What a monitor says of rows."""

    labels: NDArray | None
    verdicts: NDArray[np.int64]
    scores: NDArray[np.float64]
    p_values: NDArray[np.float64] | None
    watch: Callable[[DriftMonitor], Any]
    """Takes the rows into a stream."""


def float_types_of_fit(monitor: Monitor) -> dict[str | None, np.dtype]:
    """Types of the inputs of ``fit`` that are floats, by their names."""
    plan = getattr(monitor._extractor, "_plan", None)
    kinds = {} if plan is None else plan.inputs
    return {name: kind.dtype for name, kind in kinds.items() if kind.dtype.kind == "f"}


def judge(monitor: Monitor, rows: Rows, *, is_calibrated: bool) -> Judged:
    """What a monitor says of rows: the same as its methods, at the cost of one of them."""
    with monitor._reading(rows) as read:
        A = read if isinstance(read, Activations) else monitor[:-1].transform(rows)
        thresholds = monitor._held_out_thresholds()
        if thresholds is not None and thresholds.alone is not None:
            scores, verdicts, found = thresholds.alone._judge(monitor._activations(A))
            watch = partial(_watch_judged, scores, verdicts)
            return Judged(A.predictions, verdicts, scores, found, watch)
        verdicts, scores = monitor.predict(A), monitor.score_samples(A)
        p_values = monitor.p_values(A) if is_calibrated else None
        return Judged(A.predictions, verdicts, scores, p_values, partial(_watch, A))


def _watch_judged(scores: NDArray, verdicts: NDArray, drift: DriftMonitor) -> None:
    drift._update_judged(scores, verdicts)


def _watch(A: Any, drift: DriftMonitor) -> None:
    drift.update(A)
