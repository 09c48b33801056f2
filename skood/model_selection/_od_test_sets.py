"""The sets of a test: sources split in two, and the out-of-distribution (OOD) sets of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import sparse
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

from .._labels import label_kind
from .._marks import OOD_LABEL, check_mark_is_no_class, in_distribution, read_labels
from .._optional import import_optional
from .._samples import n_samples_of, take_samples
from ..activations import Activations
from ..networks import is_array, to_array
from ._split import class_numbers

Rows = NDArray[np.intp]

ONLY_SOURCE = "in-distribution"
"""Name of a source that came without any."""


@dataclass(frozen=True)
class Source:
    """In-distribution samples to learn from and to test on, and the OOD sets to tell them from."""

    name: str
    train: Any
    y_train: NDArray | None
    test: Any
    y_test: NDArray | None
    outside: Mapping[str, Any]


def read_sources(
    in_distribution: Any, out_sets: Any, y: Any, *, needs_labels: bool
) -> dict[str, Source]:
    """The sources by name, each with the OOD sets of other names.

    Raises
    ------
    ValueError
        If a set is empty or has other layers than the source, labels are missing or do not fit, or
        a source comes neither whole nor as a pair.
    TypeError
        If a name is no string, or the OOD sets are no mapping.
    """
    if isinstance(in_distribution, Mapping):
        given = check_names(in_distribution, "in_distribution")
        labels = _labels_by_source(y, list(given))
    else:
        given, labels = {ONLY_SOURCE: in_distribution}, {ONLY_SOURCE: y}
    outside = _outside_by_source(out_sets, given, is_named=isinstance(in_distribution, Mapping))
    sources = {name: _read_source(name, given[name], labels[name], outside[name]) for name in given}
    if needs_labels:
        for source in sources.values():
            _check_has_labels(source)
    return sources


def check_names(named: Mapping[Any, Any], what: str) -> dict[str, Any]:
    """A mapping with at least one item, whose keys are strings.

    Raises
    ------
    TypeError, ValueError
        If it is not.
    """
    if strange := [name for name in named if not isinstance(name, str)]:
        raise TypeError(f"Names in {what} must be strings, got {strange}.")
    if not named:
        raise ValueError(f"{what} is empty.")
    return dict(named)


def _labels_by_source(y: Any, names: list[str]) -> dict[str, Any]:
    if y is None:
        return dict.fromkeys(names)
    if not isinstance(y, Mapping) or set(y) != set(names):
        found = f"those of {sorted(map(str, y))}" if isinstance(y, Mapping) else type(y).__name__
        raise ValueError(
            f"y must be a mapping with the labels of each of the sources {names}, got {found}."
        )
    return dict(y)


def _outside_by_source(
    out_sets: Any, sources: Mapping[str, Any], *, is_named: bool
) -> dict[str, dict[str, Any]]:
    if out_sets is None:
        out_sets = {}
    if not isinstance(out_sets, Mapping):
        raise TypeError(f"out_sets must map names to sets, got {type(out_sets).__name__}.")
    if is_named and out_sets and all(isinstance(sets, Mapping) for sets in out_sets.values()):
        if missing := [name for name in sources if name not in out_sets]:
            raise ValueError(
                "out_sets holds a mapping for each of several sources, but none for the sources "
                f"{missing}."
            )
        by_source = {name: dict(out_sets[name]) for name in sources}
    else:
        by_source = {name: dict(out_sets) for name in sources}
    for name, sets in by_source.items():
        if sets:
            check_names(sets, f"the out_sets of {name!r}")
        sets.pop(name, None)
    return by_source


def _read_source(name: str, given: Any, y: Any, outside: Mapping[str, Any]) -> Source:
    if _is_pair(given):
        (train, test), (y_train, y_test) = _as_pair(name, given, y)
    else:
        train, test, y_train, y_test = _split(name, as_set(given, f"source {name!r}"), y)
    train = as_set(train, f"training part of source {name!r}")
    test = as_set(test, f"test part of source {name!r}")
    source = Source(
        name,
        train,
        _read_labels_of(train, y_train, f"training part of source {name!r}"),
        test,
        _read_labels_of(test, y_test, f"test part of source {name!r}"),
        {key: as_set(X, f"out-of-distribution set {key!r}") for key, X in outside.items()},
    )
    _check_alike(source.train, source.test, f"test part of source {name!r}", name)
    for key, X in source.outside.items():
        _check_alike(source.train, X, f"out-of-distribution set {key!r}", name)
    return source


def _is_pair(given: Any) -> bool:
    """Whether a source comes in parts; a list of other things is an array of rows."""
    is_list = isinstance(given, list) and any(isinstance(part, Activations) for part in given)
    return isinstance(given, tuple) or is_list


def _as_pair(name: str, given: Sequence[Any], y: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    for what, parts in ("", given), ("y of ", y):
        if parts is not None and len(parts) != 2:
            raise ValueError(
                f"{what}source {name!r} must be a pair (train, test), got {len(parts)} parts."
                + " For one set that is to be split, pass an array or Activations." * (not what)
            )
    return given, (None, None) if y is None else y


def _split(name: str, X: Any, y: Any) -> tuple[Any, Any, NDArray | None, NDArray | None]:
    """Two halves of a source, with the same share of each class where classes are known."""
    labels = _read_labels_of(X, y, f"source {name!r}")
    n_samples = n_samples_of(X)
    if n_samples is None or n_samples < 2:
        raise ValueError(
            f"The source {name!r} cannot be split in two: it is {describe(X)}. Pass a pair "
            "(train, test)."
        )
    classes = labels if labels is not None else getattr(X, "predictions", None)
    numbers = np.zeros(n_samples, dtype=np.intp) if classes is None else class_numbers(classes)
    train, test = _halves(numbers)
    y_train, y_test = (None, None) if labels is None else (labels[train], labels[test])
    return take_samples(X, train), take_samples(X, test), y_train, y_test


def _halves(classes: Rows) -> tuple[Rows, Rows]:
    """Random halves of all rows, ascending: so rows of an array on the disk are read in order."""
    counts = np.bincount(classes)
    can_stratify = counts.min() > 1 and len(classes) // 2 >= len(counts)
    splitter = StratifiedShuffleSplit if can_stratify else ShuffleSplit
    train, test = next(splitter(1, test_size=0.5, random_state=0).split(classes, classes))
    return np.sort(train), np.sort(test)


def as_set(X: Any, what: str) -> Any:
    """A set as detectors or extractors take it: lists become arrays.

    Raises
    ------
    ValueError
        If it is empty, or nothing.
    """
    if isinstance(X, list | tuple):
        X = np.asarray(X)
    if X is None or n_samples_of(X) == 0:
        raise ValueError(f"The {what} is empty.")
    return X


def concatenate(parts: Sequence[Any]) -> Any:
    """The samples of several sets of one kind, in order."""
    first = parts[0]
    if isinstance(first, Activations):
        return Activations.concatenate(parts)
    if isinstance(first, Mapping):
        return {key: concatenate([part[key] for part in parts]) for key in first}
    if sparse.issparse(first):
        return sparse.vstack(parts).tocsr()
    if hasattr(first, "iloc"):
        return import_optional("pandas", "pandas", "od_test").concat(parts)
    return np.concatenate([to_array(part) if is_array(part) else part for part in parts])


def describe(X: Any) -> str:
    """What a set is, for messages."""
    n_samples = n_samples_of(X)
    of = "" if n_samples is None else f" of {n_samples} samples"
    return f"{type(X).__name__}{of}"


def marked(y: NDArray | None, n_inside: int, n_outside: int) -> NDArray:
    """Labels of in-distribution rows, 1 by default, followed by marks of OOD rows."""
    inside = np.ones(n_inside, dtype=np.int64) if y is None else y
    if inside.dtype.kind not in "biuf":
        inside = inside.astype(object)
    elif inside.dtype.kind in "bu":
        inside = inside.astype(np.int64)
    return np.concatenate([inside, np.full(n_outside, OOD_LABEL, dtype=inside.dtype)])


def first_rows(n_rows: int, n_kept: int) -> Rows:
    """The first rows of a random order that is always the same, ascending."""
    return np.sort(RandomState(0).permutation(n_rows)[:n_kept])


def are_correct(predictions: NDArray, y: NDArray) -> NDArray[np.bool_]:
    """Which samples are classified correctly.

    Raises
    ------
    ValueError
        If labels are texts and predictions numbers, or the other way round.
    """
    kinds = label_kind(y), label_kind(predictions)
    if kinds[0] != kinds[1] and "objects" not in kinds:
        raise ValueError(
            f"y must hold the classes that the network predicts, but y holds {kinds[0]} and the "
            f"predictions are {kinds[1]}."
        )
    return np.asarray(predictions == y, dtype=bool)


def _read_labels_of(X: Any, y: Any, what: str) -> NDArray | None:
    check_mark_is_no_class(X)
    if y is None:
        return None
    labels = read_labels(y)
    n_samples = n_samples_of(X)
    if n_samples is not None and len(labels) != n_samples:
        raise ValueError(f"The {what} has {n_samples} samples, but {len(labels)} labels in y.")
    if not in_distribution(labels).all():
        raise ValueError(
            f"The {what} has {(~in_distribution(labels)).sum()} rows marked -1 in y: it must be "
            "in-distribution. Pass out-of-distribution rows in out_sets."
        )
    return labels


def _check_has_labels(source: Source) -> None:
    if source.y_test is None:
        raise ValueError(
            "Errors of the network are found by its labels: target='misclassified' and 'both' need "
            f"y, which is None for the test part of source {source.name!r}."
        )


def _check_alike(train: Any, X: Any, what: str, source: str) -> None:
    if isinstance(X, Activations) != isinstance(train, Activations):
        raise ValueError(
            f"The {what} is {describe(X)}, but source {source!r} holds {describe(train)}: pass "
            "Activations of all sets, or inputs of all."
        )
    if not isinstance(X, Activations) or X.layer_shapes == train.layer_shapes:
        return
    found, expected = X.layer_shapes, train.layer_shapes
    lacks = _differing(expected, found)
    raise ValueError(
        f"The {what} has other layers than source {source!r}: {lacks}. Extract all sets from the "
        "same network with the same settings."
    )


def _differing(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    names: Iterable[str] = dict.fromkeys([*expected, *found])
    different = [name for name in names if expected.get(name) != found.get(name)]
    said = [
        f"{name!r} is {found.get(name, 'not there')} in place of {expected.get(name, 'not there')}"
        for name in different[:3]
    ]
    more = f", and {len(different) - 3} more" if len(different) > 3 else ""
    return ", ".join(said) + more
