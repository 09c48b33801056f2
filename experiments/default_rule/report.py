"""The tables: parts of the rule, the rule beside single methods, and beside the values to reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .._common.tables import Measured, Table
from ..od_test.sources import CHOICE
from .networks import CHOSEN, CONFIRMING, FAMILIES, FURTHER, IMAGES, NO_HEAD, OF_TABLES, Sizes
from .scores import ERRORS, N_ERRORS
from .tables import HELD_OUT, NOISE, SHUFFLED
from .variants import WHOLE, WITHOUT_NORMS, rules_for_errors, rules_for_ood, single_methods

PARTS = (CHOSEN, CONFIRMING)
NONE = "-"
SINGLE_OF_ERRORS = ("MSP", "GEN", "fDBD", "energy", "relative Mahalanobis++", "KNN 5")

FLOOR: Sequence[tuple[str, str, float]] = (
    ("MNIST, VGG", "all", 99.76),
    ("CIFAR-10, DenseNet", "near", 91.1),
    ("CIFAR-10, DenseNet", "far", 98.9),
    ("CIFAR-100, DenseNet", "near", 76.8),
    ("CIFAR-100, DenseNet", "far", 94.1),
    ("digits perceptron", HELD_OUT, 95.4),
    ("digits perceptron", NOISE, 99.2),
    ("digits perceptron", SHUFFLED, 98.7),
    ("synthetic perceptron", HELD_OUT, 82.5),
    ("synthetic perceptron", NOISE, 88.4),
    ("synthetic perceptron", SHUFFLED, 88.2),
)
"""What a first form of the rule reached, on other samples and partly other sets."""


def describe(sizes: Sizes) -> Measured:
    images, tables = sizes.images, sizes.choice_seeds
    return Measured(
        data="the image sets and networks of od_test; scikit-learn's digits without two classes, "
        "synthetic tables of 8 classes without one, round clusters, a table with one-hot columns, "
        "and a regression; the texts and digits of the experiment with tokens",
        samples=f"{images.n_train:,} training images to learn from, {images.n_test:,} to test and "
        f"up to {sizes.n_outside} of each OOD set; digits 860, tables 2,100 rows, transformers "
        "1,000 to 1,500 samples to learn from",
        settings=f"chosen on {', '.join(sorted(CHOICE))} with the VGGs and DenseNets, on the seeds "
        f"{_listed(tables)} of perceptrons, {_listed(sizes.choice_seeds_tokens)} of text and "
        f"vision transformers and {_listed(sizes.choice_seeds_further)} of further kinds; "
        f"confirmed by all other sets, the ResNets, the seeds {_listed(sizes.fresh_seeds)}, "
        f"{_listed(sizes.fresh_seeds_tokens)} and {_listed(sizes.fresh_seeds_further)}, Swin, and "
        "perceptrons without head or classes",
    )


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def make_tables(cells: pd.DataFrame, shares: pd.DataFrame) -> dict[str, Table]:
    errors = cells["against"] == ERRORS
    ood, errors = cells[~errors], cells[errors]
    with_classes = ood[ood["family"] != NO_HEAD]
    members = [*rules_for_ood(have_classes=True)]
    return {
        "members": compare_all(ood[~ood["is_single"]], members),
        "singles": compare_all(
            ood[ood["is_single"] | (ood["method"] == WHOLE)], [WHOLE, *single_methods()]
        ),
        "networks": by_network(ood[ood["family"] != FURTHER], shares),
        "further": by_network(ood[ood["family"] == FURTHER], shares),
        "kinds_of_sets": by_kind_of_set(ood),
        "sets": by_set(ood),
        "floor": beside_floor(ood),
        "errors": compare_all(
            errors[~errors["is_single"] | errors["method"].isin(SINGLE_OF_ERRORS)],
            [*rules_for_errors(have_classes=True), *SINGLE_OF_ERRORS],
        ),
        "errors_by_network": errors_by_network(errors, with_classes["kind"].unique()),
    }


def compare_all(cells: pd.DataFrame, methods: Sequence[str]) -> Table:
    """Each beside the whole rule, by kinds of networks, where it was chosen and where not."""
    rows = [
        [name, family, *(text for part in PARTS for text in _compared(cells, name, family, part))]
        for name in methods
        for family in FAMILIES
        if ((cells["family"] == family) & (cells["method"] == name)).any()
    ]
    columns = [f"{name}, {part}" for part in PARTS for name in ("AUROC", "Difference", "Worst")]
    return Table(["Method", "Networks", *columns], rows)


def _compared(cells: pd.DataFrame, method: str, family: str, part: str) -> list[str]:
    """Mean, mean paired difference to the whole rule with its standard error, the smallest."""
    some = cells[(cells["family"] == family) & (cells["part"] == part)]
    values, whole = (_units(some[some["method"] == name]) for name in (method, WHOLE))
    if values.empty:
        return [NONE] * 3
    differences = (values - whole).dropna()
    if method == WHOLE:
        return [_with_error(values), NONE, NONE]
    where = differences.idxmin()
    place = ", ".join(str(name) for name in where if name != "")
    worst = f"{differences.min():+.1f} ({place})"
    return [f"{values.mean():.1f}", _with_error(differences, "+.2f"), worst]


def _units(cells: pd.DataFrame) -> pd.Series:
    """What counts once in a standard error: a set of a large network, or a small network."""
    is_image = cells["family"] == IMAGES
    learnt = cells["data"].where(cells["data"] == "", cells["data"] + ", ")
    place = cells["against"].where(is_image, learnt + "seed " + cells["seed"].astype(str))
    return cells.groupby([cells["kind"], place])["auroc"].mean()


def _with_error(values: pd.Series, form: str = ".1f") -> str:
    if values.empty:
        return NONE
    if len(values) < 2:
        return f"{values.mean():{form}}"
    error = values.std() / np.sqrt(len(values))
    return f"{values.mean():{form}} ± {error:{form.lstrip('+')}}"


def by_network(cells: pd.DataFrame, shares: pd.DataFrame) -> Table:
    """The rule and the best single method of each kind of network, near and far."""
    share_of = shares.groupby(0)[1].mean()
    rows = []
    for kind in cells["kind"].drop_duplicates():
        for part in PARTS:
            for name, is_near in (("near", True), ("far", False)):
                some = cells[
                    (cells["kind"] == kind)
                    & (cells["part"] == part)
                    & (cells["is_near"] == is_near)
                ]
                if len(some):
                    share = f"{share_of[kind]:.2f}"
                    rows.append([kind, share, part, name, *_beside_best(some)])
    header = ["Network", "Share of the layers", "Sets", "Near or far", *BESIDE]
    return Table(header, rows)


BESIDE = ("Rule", "Best single method", "Its AUROC", "Rule minus best")


def _beside_best(cells: pd.DataFrame) -> list[str]:
    whole = _by_set_and_seed(cells[cells["method"] == WHOLE])
    singles = cells[cells["is_single"]]
    best = str(singles.groupby("method")["auroc"].mean().idxmax())
    values = _by_set_and_seed(singles[singles["method"] == best])
    difference = _with_error(whole - values, "+.2f")
    return [f"{whole.mean():.1f}", best, f"{values.mean():.1f}", difference]


def _by_set_and_seed(cells: pd.DataFrame) -> pd.Series:
    return cells.set_index(["against", "data", "seed"])["auroc"]


def by_set(cells: pd.DataFrame) -> Table:
    """Every OOD set of every kind of network, means over the seeds."""
    rows = [
        [kind, against, part, *_beside_best(some)]
        for (kind, against, part), some in cells.groupby(["kind", "against", "part"], sort=False)
    ]
    return Table(["Network", "OOD set", "Part", *BESIDE], rows)


WITH_KINDS_OF_SETS = (OF_TABLES, FURTHER, NO_HEAD)


def by_kind_of_set(cells: pd.DataFrame) -> Table:
    """The rule, what the norms are worth in it, and the best single method, against one kind."""
    rows = []
    for family in WITH_KINDS_OF_SETS:
        of_family = cells[cells["family"] == family]
        for against in of_family["against"].drop_duplicates():
            for part in PARTS:
                some = of_family[(of_family["against"] == against) & (of_family["part"] == part)]
                if len(some):
                    rows.append([family, against, part, *_with_and_without_norms(some)])
    return Table(["Networks", "OOD set", "Part", "Without norms", "Norms add", *BESIDE], rows)


def _with_and_without_norms(cells: pd.DataFrame) -> list[str]:
    cells = cells.assign(data=cells["kind"] + cells["data"])
    whole, without = (
        _by_set_and_seed(cells[cells["method"] == name]) for name in (WHOLE, WITHOUT_NORMS)
    )
    added = _with_error(whole - without, "+.2f")
    return [f"{without.mean():.1f}", added, *_beside_best(cells)]


def beside_floor(cells: pd.DataFrame) -> Table:
    rows = []
    for kind, sets, floor in FLOOR:
        some = cells[cells["kind"] == kind]
        if sets in ("near", "far"):
            some = some[some["is_near"] == (sets == "near")]
        elif sets != "all":
            some = some[some["against"] == sets]
        rule = some[some["method"] == WHOLE]
        by_part = [_with_error(_mean_of_units(rule[rule["part"] == part]), ".2f") for part in PARTS]
        rows.append([kind, sets, f"{floor:.2f}", *by_part, *_beside_best(some)])
    return Table(["Network", "Sets", "Floor", *(f"Rule, {p}" for p in PARTS), *BESIDE], rows)


def _mean_of_units(cells: pd.DataFrame) -> pd.Series:
    return cells.groupby(["against", "data", "seed"])["auroc"].mean()


def errors_by_network(cells: pd.DataFrame, kinds: Sequence[str]) -> Table:
    """The rule for errors beside the best single method."""
    rows = [
        [kind, part, str(some["seed"].nunique()), *_beside_best(some)]
        for (kind, part), some in cells.groupby(["kind", "part"], sort=False)
    ]
    without = [kind for kind in kinds if kind not in set(cells["kind"])]
    rows += [[kind, NONE, "0", *[NONE] * len(BESIDE)] for kind in without]
    return Table(["Network", "Part", "Networks", *BESIDE], rows)


def write_report(about: Table, tables: Mapping[str, Table]) -> str:
    parts = ["# The default rule", about.to_markdown()]
    parts += [f"## {name}\n\n{table.to_markdown()}" for name, table in tables.items()]
    parts.append(f"Networks with fewer than {N_ERRORS} errors are left out of those for errors.")
    return "\n\n".join(parts) + "\n"
