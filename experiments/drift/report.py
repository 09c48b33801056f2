"""The tables of the site, and a report of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .._common.tables import Measured, Table
from .measure import ALPHA, ALPHAS, Delay, FalseAlarms, Sizes
from .rivals import RIVALS
from .streams import FALSE_ALARM_RATE

WATCHES = ("scores", "alarm rate", "either")


def describe(sizes: Sizes) -> Measured:
    return Measured(
        data="simulated scores; normal, or rounded or cut off so that many are equal",
        samples=f"{sizes.n_streams} streams of {sizes.n_rows} rows without a change for each row "
        f"of the first table, {sizes.n_changed} with a change for each of the second, each with a "
        f"calibration set of its own; {sizes.after} rows after a change",
        settings=f"false_alarm_rate={FALSE_ALARM_RATE} of the detector, alpha={ALPHA} for delays",
        packages=("skood", "numpy", "scipy"),
    )


def make_tables(false_alarms: Sequence[FalseAlarms], delays: Sequence[Delay]) -> dict[str, Table]:
    return {"false_alarms": _false_alarms(false_alarms), "delays": _delays(delays)}


def _false_alarms(found: Sequence[FalseAlarms]) -> Table:
    columns = [(alpha, watch) for alpha in ALPHAS for watch in WATCHES]
    header = ["Scores", "Calibration rows"]
    header += [f"alpha {alpha}, {watch}" for alpha, watch in columns]
    header += [f"alpha {ALPHA}, usual p-values"]
    rows = [
        [
            one.scores,
            str(one.n_calibration),
            *(f"{one.share[column]:.3f}" for column in columns),
            f"{one.fixed:.3f}",
        ]
        for one in found
    ]
    return Table(header, rows)


def _delays(found: Sequence[Delay]) -> Table:
    names = [*WATCHES, *RIVALS]
    header = ["Change", "Calibration rows", "Rows before", *names]
    rows = [
        [
            one.change,
            str(one.n_calibration),
            str(one.before),
            *(_median(one.times[name]) for name in names),
        ]
        for one in found
    ]
    return Table(header, rows)


def _median(times: NDArray) -> str:
    """The median delay, and the share that rang where it is not all of them."""
    share = float(np.mean(np.isfinite(times)))
    percent = f"({int(100 * share)} %)"
    if share < 0.5:
        return f"never {percent}"
    middle = f"{np.median(times):.0f}"
    return middle if share == 1 else f"{middle} {percent}"


def write_report(about: Table, tables: Mapping[str, Table], seconds: float) -> str:
    parts = ["# Drift monitors", about.to_markdown()]
    parts += [f"## {name}\n\n{table.to_markdown()}" for name, table in tables.items()]
    return "\n\n".join([*parts, f"{seconds:.0f} seconds."]) + "\n"
