"""The tables: what was promised beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._common.tables import Measured, Table
from .cases import ALPHAS, RATES, Sizes
from .measures import CONFIDENCE, FDR, RATE, Found, Mean, Record

NONE = "-"
SOURCES = ("sources_low_rate", "sources")
"""Tables of where the threshold comes from, one for each of ``RATES``."""
Column = Callable[[Record], str]


def describe(sizes: Sizes) -> Measured:
    images, (n_inside, n_outside) = sizes.images, sizes.batch
    return Measured(
        data="the VGG for MNIST and the DenseNets for CIFAR-10 and CIFAR-100 of od_test, with "
        "images that resemble theirs and with textures; drawn scores",
        samples=f"{images.n_train:,} images that the networks were trained on to fit, "
        f"{images.n_test:,} held-out images to calibrate and to test with; {sizes.n_drawn:,} "
        f"drawn scores; selections from {n_inside} in-distribution and {n_outside} OOD samples",
        settings=f"{sizes.repetitions} sets of calibration rows for each number; a false alarm "
        f"rate of {RATE}, a confidence of {CONFIDENCE} and a false discovery rate of {FDR} unless "
        f"a table says otherwise; error rates {_alphas()}",
    )


def _alphas() -> str:
    return "; ".join(
        f"{' and '.join(map(str, alphas))} for {name}" for name, alphas in ALPHAS.items()
    )


def _text(name: str) -> Column:
    return lambda record: str(record[name])


def _number(name: str, form: str = ".3f") -> Column:
    return lambda record: f"{record[name]:{form}}"


def _mean(name: str, form: str = ".4f") -> Column:
    return lambda record: _with_error(record[name], form)


def _with_error(mean: Mean, form: str) -> str:
    if mean.value != mean.value:
        return NONE
    return f"{mean.value:{form}} ± {mean.error:{form}}"


OF_CASE: dict[str, Column] = {"Network": _text("network"), "Detector": _text("detector")}
ROWS: dict[str, Column] = {"Calibration rows": _text("n")}
COLUMNS: dict[str, dict[str, Column]] = {
    "marginal": {
        **OF_CASE,
        **ROWS,
        "Asked for": _text("rate"),
        "Measured": _mean("mean"),
        "Without ties": _number("exact", ".4f"),
        "5 % of the sets below": _number("low"),
        "5 % of the sets above": _number("high"),
    },
    "classes": {
        **OF_CASE,
        **ROWS,
        "Classes": _text("n_classes"),
        "Worst class, common threshold": _mean("common", ".3f"),
        "Mean over classes, own thresholds": _mean("mean"),
        "Without ties": _number("exact", ".4f"),
        "Worst class, own thresholds": _mean("worst", ".3f"),
        "Classes above the rate by two errors": _text("above"),
    },
    "sets": {
        **OF_CASE,
        **ROWS,
        "Sets that keep the rate, marginal": _mean("marginal", ".3f"),
        "Without ties": _number("exact"),
        "Sets that keep the rate, training-conditional": _mean("conditional", ".3f"),
        "Their mean rate": _mean("rate"),
    },
    "fdr": {
        **OF_CASE,
        **ROWS,
        "Against": _text("against"),
        "False among selected, bh": _mean("fdr_bh", ".3f"),
        "Found, bh": _mean("power_bh", ".3f"),
        "False among selected, by": _mean("fdr_by", ".3f"),
        "Found, by": _mean("power_by", ".3f"),
    },
    "risk": {
        **OF_CASE,
        "Asked for": _text("alpha"),
        **ROWS,
        "Sets that keep it": _mean("kept", ".3f"),
        "Error rate": _mean("risk"),
        "Coverage": _mean("coverage", ".3f"),
        "Largest coverage that would keep it": _number("largest"),
        "Sets without a threshold": _mean("none", ".3f"),
    },
    "folds": {
        "Calibrated by": _text("cv"),
        "Rows": _text("n"),
        "Measured": _mean("mean"),
        "Without ties": _number("p", ".4f"),
        "Standard deviation over sets": _number("spread"),
    },
}
"""What the columns of each table take from a record."""


def make_tables(found: Found) -> dict[str, Table]:
    tables = {name: compare_sources(found, rate) for name, rate in zip(SOURCES, RATES, strict=True)}
    for name, columns in COLUMNS.items():
        rows = [[column(record) for column in columns.values()] for record in found[name]]
        tables[name] = Table(list(columns), rows)
    return tables


def compare_sources(found: Found, rate: float) -> Table:
    """Training rows, training rows held out of the detector, and rows new to the network."""
    # Of several numbers of calibration rows the last, which is the largest.
    calibrated = {
        (record["network"], record["detector"]): record["mean"]
        for record in found["marginal"]
        if record["rate"] == rate
    }
    rows = [
        [
            record["network"],
            record["detector"],
            f"{record['estimate']:.3f}",
            f"{record['split']:.3f}",
            _with_error(calibrated[record["network"], record["detector"]], ".4f"),
        ]
        for record in found["estimates"]
        if record["rate"] == rate
    ]
    return Table(
        [
            "Network",
            "Detector",
            "Training rows",
            "Training rows held out of the detector",
            "Calibrated on held-out rows",
        ],
        rows,
    )


def write_report(about: Table, tables: Mapping[str, Table]) -> str:
    parts = ["# Thresholds", about.to_markdown()]
    parts += [f"## {name}\n\n{table.to_markdown()}" for name, table in tables.items()]
    return "\n\n".join(parts) + "\n"
