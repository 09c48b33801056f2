"""The cells of the test: every method on every source, validation set and test set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from skood.model_selection import od_test

from .activations import Seen, extract
from .methods import Methods, make_configured, make_methods
from .nets import load_network
from .sources import ALL_SETS, CHOICE, Sizes, Source

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

CHOSEN, OTHER_SETS, OTHER_NETS = "chosen on", "other sets", "other networks"
PARTS = (CHOSEN, OTHER_SETS, OTHER_NETS)
"""Cells that the default rule was chosen on, and others, on which it is reported."""


def test_all(
    sources: Sequence[Source],
    sizes: Sizes,
    *,
    folder: Path,
    results: Path,
    n_jobs: int | None,
    sets: Collection[str] = ALL_SETS,
) -> pd.DataFrame:
    """Test all methods on some sources; cells that are in the folder of results are not repeated.

    The columns "near" and "part" are added to those of ``od_test``.
    """
    tables = [
        _test_source(source, sizes, folder, results / source.folder_name, n_jobs, sets)
        for source in sources
    ]
    return pd.concat(tables, ignore_index=True)


def _test_source(
    source: Source,
    sizes: Sizes,
    folder: Path,
    results: Path,
    n_jobs: int | None,
    sets: Collection[str],
) -> pd.DataFrame:
    network = load_network(source, sizes, folder / "networks")
    seen = extract(source, sizes, folder, sets)
    print(f"{source.title}: detectors", flush=True)
    free = _flatten(make_methods(source, network, seen.train))
    configured = _flatten(make_configured(source, network, seen.train))
    common = {"results": results, "n_jobs": n_jobs, "verbose": 1}
    table = pd.concat(
        [
            _for_each_validation(_test(source, seen, free, "both", validation=None, **common)),
            _test(source, seen, configured, "ood", validation="each", **common),
        ],
        ignore_index=True,
    )
    tests = table["test"]
    return table.assign(near=tests.isin(source.near), part=[part_of(source, t) for t in tests])


def _test(source: Source, seen: Seen, methods: Methods, target: str, **options) -> pd.DataFrame:
    return od_test(
        methods,
        {source.title: (seen.train, seen.test)},
        {source.title: seen.outside},
        y={source.title: (seen.y_train, seen.y_test)},
        target=target,
        **options,
    )


def _flatten(groups: dict[str, Methods]) -> Methods:
    return {name: detector for methods in groups.values() for name, detector in methods.items()}


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
