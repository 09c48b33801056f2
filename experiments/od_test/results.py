"""The cells of the test: every method on every source, validation set and test set."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from skood.model_selection import od_test

from .activations import Seen, extract
from .methods import GROUPS, MONITORS, SEARCHES, Methods, make_configured, make_methods
from .nets import load_network
from .sources import ALL_SETS, CHOICE, Sizes, Source

CHOSEN, OTHER_SETS, OTHER_NETS = "chosen on", "other sets", "other networks"
PARTS = (CHOSEN, OTHER_SETS, OTHER_NETS)
"""Cells that the default rule was chosen on, and others, on which it is reported."""


class Run(NamedTuple):
    """What is tried, and where it is kept."""

    sizes: Sizes
    folder: Path
    """Of the networks and activations."""
    results: Path
    """Of the finished cells, which are not repeated."""
    n_jobs: int | None = None
    sets: Collection[str] = ALL_SETS
    groups: Collection[str] = (*GROUPS, SEARCHES)


def test_all(sources: Sequence[Source], run: Run) -> pd.DataFrame:
    """Test all methods on some sources.

    The columns "near" and "part" are added to those of ``od_test``.
    """
    if not sources:
        return pd.DataFrame(columns=["source", "detector"])
    return pd.concat([_test_source(source, run) for source in sources], ignore_index=True)


def join_runs(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The cells of several runs; what a method did on a source comes from the last that has it."""
    number_of_run = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    cells = pd.concat([table for table in tables if len(table)], ignore_index=True)
    cells = cells.assign(run=number_of_run)
    is_last = cells["run"] == cells.groupby(["source", "detector"])["run"].transform("max")
    return cells[is_last].drop(columns="run").reset_index(drop=True)


def _test_source(source: Source, run: Run) -> pd.DataFrame:
    network = load_network(source, run.sizes, run.folder / "networks")
    seen = extract(source, run.sizes, run.folder, run.sets)
    print(f"{source.title}: detectors", flush=True)
    free = make_methods(source, network, seen.train)
    configured = make_configured(source, network, seen.train)
    searched = {name: A for name, A in seen.outside.items() if name in source.searched}
    tables = []
    # Apart, so that a new default can be tried beside what is known of the others.
    for kind, groups in {
        "methods": [g for g in GROUPS if g != MONITORS and g in run.groups],
        "monitors": [MONITORS] if MONITORS in run.groups else [],
        "searches": [SEARCHES] if SEARCHES in run.groups else [],
    }.items():
        results = run.results / source.folder_name / kind
        if methods := _of_groups(free, groups):
            table = _test(source, seen, methods, "both", None, results, run.n_jobs)
            tables.append(_for_each_validation(table))
        if methods := _of_groups(configured, groups):
            tried = seen._replace(outside=searched) if kind == "searches" else seen
            tables.append(_test(source, tried, methods, "ood", "each", results, run.n_jobs))
    table = pd.concat(tables, ignore_index=True)
    tests = table["test"]
    return table.assign(near=tests.isin(source.near), part=[part_of(source, t) for t in tests])


def _test(
    source: Source,
    seen: Seen,
    methods: Methods,
    target: str,
    validation: str | None,
    results: Path,
    n_jobs: int | None,
) -> pd.DataFrame:
    return od_test(
        methods,
        {source.title: (seen.train, seen.test)},
        {source.title: seen.outside},
        y={source.title: (seen.y_train, seen.y_test)},
        target=target,
        validation=validation,
        results=results,
        n_jobs=n_jobs,
        verbose=1,
    )


def _of_groups(methods: dict[str, Methods], groups: Sequence[str]) -> Methods:
    return {name: d for group in groups for name, d in methods.get(group, {}).items()}


def _for_each_validation(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each triple also of methods that know no validation set, so that all pair up."""
    ood = table[table["target"] == "ood"]
    sets = pd.DataFrame({"validation": ood["test"].unique()})
    triples = ood.drop(columns="validation").merge(sets, how="cross")
    triples = triples[triples["validation"] != triples["test"]]
    return pd.concat([triples[table.columns], table[table["target"] != "ood"]])


def part_of(source: Source, test: str) -> str:
    """Whether the default was chosen on this network and set, or is confirmed on them."""
    if not source.is_chosen_on:
        return OTHER_NETS
    # Errors of a network that the rule was chosen on were looked at.
    return CHOSEN if test in CHOICE or test == "errors" else OTHER_SETS
