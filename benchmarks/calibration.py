"""What calibrating a monitor costs beside the extraction of the calibration rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np

from skood import Monitor

from .measure import Line


class Clock:
    """Seconds of this process in some calls of a method."""

    seconds = 0.0

    @contextmanager
    def watching(self, cls: type, method: str) -> Iterator[None]:
        """Count the time in a method, of all objects of a class."""
        plain = getattr(cls, method)

        def timed(estimator: Any, *args: Any, **settings: Any) -> Any:
            start = time.process_time()
            try:
                return plain(estimator, *args, **settings)
            finally:
                self.seconds += time.process_time() - start

        with patch.object(cls, method, timed):
            yield


def time_calibration(name: str, monitor: Monitor, images: Any, repetitions: int) -> Line:
    """What remains of the time of ``calibrate`` without extraction and scoring."""
    turns = [_calibrate(monitor, images) for _ in range(repetitions + 1)][1:]
    return Line(
        f"`calibrate` beyond extraction and scores, {name}",
        median(rest for rest, _ in turns),
        median(rest / extraction for rest, extraction in turns),
        "<= 0.01",
        f"{len(images)} calibration rows",
        "extraction pass",
    )


def _calibrate(monitor: Monitor, images: Any) -> tuple[float, float]:
    """Seconds of the rest, and of the extraction."""
    extraction, scoring = Clock(), Clock()
    extract, detect = monitor[0], monitor[-1]
    start = time.process_time()
    with (
        extraction.watching(type(extract), "transform"),
        scoring.watching(type(detect), "score_samples"),
    ):
        monitor.calibrate(images)
    rest = time.process_time() - start - extraction.seconds - scoring.seconds
    check(monitor, images)
    return rest, extraction.seconds


def check(monitor: Monitor, images: Any) -> None:
    """Raise where the threshold is not the calibration score of the rank that the rate asks for."""
    scores = np.sort(monitor.score_samples(images))
    rank = int(0.05 * (len(images) + 1) + 1e-9)
    np.testing.assert_equal(monitor.offset_, scores[rank - 1])
