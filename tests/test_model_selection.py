"""The splitters: what is in their parts, and that scikit-learn's searches take them."""

import warnings
from fractions import Fraction
from functools import partial
from math import ceil

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
)
from sklearn.tree import DecisionTreeClassifier

from skood.detectors import KNNDetector
from skood.metrics import make_ood_scorer, ood_roc_auc_score
from skood.model_selection import OODKFold, OODPredefinedSplit, OODShuffleSplit


def splits_of(splitter, y, groups=None):
    return list(splitter.split(np.zeros(len(y)), y, groups))


@pytest.fixture
def labels():
    """Rows of three classes and OOD rows, mixed."""
    return np.random.default_rng(0).permutation(np.repeat([0, 1, 2, -1], [30, 20, 10, 20]))


@pytest.fixture(scope="module")
def blob():
    """Standard normal rows, then OOD rows around them."""
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(60, 2)), rng.normal(scale=4, size=(20, 2))]
    return X, np.r_[np.arange(60) % 3, np.full(20, -1)]


# OODKFold


@given(
    n_splits=st.integers(2, 6),
    n_more_in=st.integers(0, 20),
    n_more_ood=st.integers(0, 20),
    n_classes=st.integers(1, 4),
    shuffle=st.booleans(),
    ood_in_train=st.booleans(),
    seed=st.integers(0, 10),
)
def test_kfold_tests_every_row_once_and_trains_on_the_rest(
    n_splits, n_more_in, n_more_ood, n_classes, shuffle, ood_in_train, seed
):
    rng = np.random.default_rng(seed)
    classes = np.arange(n_splits + n_more_in) % n_classes if n_classes > 1 else None
    inside = np.ones(n_splits + n_more_in) if classes is None else classes / 1.5
    y = rng.permutation(np.r_[inside, np.full(n_splits + n_more_ood, -1)])
    splitter = OODKFold(
        n_splits,
        shuffle=shuffle,
        random_state=seed if shuffle else None,
        ood_in_train=ood_in_train,
    )
    splits = splits_of(splitter, y)
    assert len(splits) == splitter.get_n_splits() == n_splits
    np.testing.assert_array_equal(
        np.sort(np.concatenate([test for _, test in splits])), np.arange(len(y))
    )
    for train, test in splits:
        rest = np.setdiff1d(np.arange(len(y)), test)
        np.testing.assert_array_equal(train, rest if ood_in_train else rest[y[rest] != -1])
    for is_kind in (y == -1, y != -1):
        sizes = [is_kind[test].sum() for _, test in splits]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1


def test_kfold_splits_in_distribution_rows_as_stratified_kfold(labels):
    inside = np.flatnonzero(labels != -1)
    reference = StratifiedKFold(5).split(inside, labels[inside])
    for (train, test), (in_train, in_test) in zip(
        splits_of(OODKFold(5), labels), reference, strict=True
    ):
        np.testing.assert_array_equal(train, inside[in_train])
        np.testing.assert_array_equal(test[labels[test] != -1], inside[in_test])


@pytest.mark.parametrize(
    "inside", [np.linspace(0, 1, 20), np.arange(20)], ids=["fractions", "one row a class"]
)
def test_kfold_falls_back_to_kfold(inside):
    y = np.r_[inside, np.full(6, -1)]
    reference = KFold(3).split(inside)
    for (train, _), (in_train, _) in zip(splits_of(OODKFold(3), y), reference, strict=True):
        np.testing.assert_array_equal(train, in_train)


def test_kfold_deals_sorted_ood_rows_to_every_fold():
    y = np.r_[np.zeros(4), np.full(8, -1)]
    (_, first), (_, second) = splits_of(OODKFold(2), y)
    assert first[2:].tolist() == [4, 6, 8, 10]
    assert second[2:].tolist() == [5, 7, 9, 11]


@pytest.mark.parametrize("make", [OODKFold, OODShuffleSplit])
def test_int_random_state_repeats_the_splits(make, labels):
    def rows(seed):
        shuffle = {"shuffle": True} if make is OODKFold else {}
        splitter = make(2, random_state=seed, **shuffle)
        return [part.tolist() for split in splits_of(splitter, labels) for part in split]

    assert rows(0) == rows(0) != rows(1)


def test_kfold_shuffles_ood_rows(labels):
    plain = splits_of(OODKFold(2), labels)[0][1]
    shuffled = splits_of(OODKFold(2, shuffle=True, random_state=0), labels)[0][1]
    assert set(plain[labels[plain] == -1]) != set(shuffled[labels[shuffled] == -1])


@pytest.mark.parametrize("shuffle", [False, True])
def test_kfold_never_trains_on_the_ood_sources_it_tests(shuffle):
    rng = np.random.default_rng(0)
    y = np.r_[np.arange(20) % 2, np.full(30, -1)]
    # The groups of in-distribution rows do not matter.
    sources = np.r_[np.full(20, "noise"), rng.choice(["noise", "letters", "textures"], 30)]
    splitter = OODKFold(3, shuffle=shuffle, random_state=0 if shuffle else None, ood_in_train=True)
    splits = splits_of(splitter, y, sources)
    tested = [set(sources[test][y[test] == -1]) for _, test in splits]
    assert sorted(map(len, tested)) == [1, 1, 1]
    assert set.union(*tested) == {"noise", "letters", "textures"}
    for (train, test), sources_tested in zip(splits, tested, strict=True):
        assert set(sources[train][y[train] == -1]) == set(sources[20:]) - sources_tested
        assert set(y[train]) == {-1, 0, 1}
        assert not set(train) & set(test)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_splits": 1}, "n_splits=2 or more"),
        ({"n_splits": 2.5}, "must be of Integral type"),
        ({"shuffle": "yes"}, "shuffle must be True or False"),
        ({"random_state": 0}, "no effect since shuffle is False"),
    ],
)
def test_kfold_refuses_bad_parameters_on_construction(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        OODKFold(**arguments)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 0, 1, 0, -1, -1], "n_splits=5 needs at least as many OOD rows, got 2"),
        ([0, -1, -1, -1, -1, -1, -1], "at least as many in-distribution rows, got 1"),
    ],
)
def test_kfold_needs_a_row_of_each_kind_for_every_fold(y, message):
    with pytest.raises(ValueError, match=message):
        splits_of(OODKFold(), y)


def test_kfold_needs_an_ood_source_for_every_fold():
    y, sources = [0, 0, -1, -1, -1], [0, 1, 2, 2, 2]
    with pytest.raises(ValueError, match="as many sources of OOD rows in groups, got 1"):
        splits_of(OODKFold(2, ood_in_train=True), y, sources)


# OODShuffleSplit


@given(
    n_in=st.integers(10, 60),
    n_ood=st.integers(2, 30),
    n_classes=st.integers(1, 12),
    test_size=st.sampled_from([None, 0.1, 0.3, 0.5, 1, 3]),
    train_size=st.sampled_from([None, 0.25, 0.5, 5]),
    ood_in_train=st.booleans(),
    seed=st.integers(0, 10),
)
def test_shuffle_split_parts_are_apart_and_of_the_sizes_asked_for(
    n_in, n_ood, n_classes, test_size, train_size, ood_in_train, seed
):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.r_[rng.integers(n_classes, size=n_in), np.full(n_ood, -1)])
    splitter = OODShuffleSplit(
        2,
        test_size=test_size,
        train_size=train_size,
        random_state=seed,
        ood_in_train=ood_in_train,
    )

    plain = ShuffleSplit(1, test_size=test_size, train_size=train_size)
    n_train, n_test = (len(part) for part in next(plain.split(np.zeros(n_in))))
    n_ood_test = min(ceil(Fraction(n_ood * n_test, n_in)), n_ood - ood_in_train)
    n_ood_train = min(ceil(Fraction(n_ood * n_train, n_in)), n_ood - n_ood_test)
    splits = splits_of(splitter, y)
    assert len(splits) == splitter.get_n_splits() == 2
    for train, test in splits:
        assert not set(train) & set(test)
        assert (y[train] != -1).sum() == n_train
        assert (y[test] != -1).sum() == n_test
        assert (y[test] == -1).sum() == n_ood_test
        assert (y[train] == -1).sum() == (n_ood_train if ood_in_train else 0)


def test_shuffle_split_keeps_the_share_of_every_class(labels):
    for train, test in splits_of(OODShuffleSplit(5, test_size=0.2, random_state=0), labels):
        assert np.bincount(labels[test] + 1).tolist() == [4, 6, 4, 2]
        assert np.bincount(labels[train] + 1).tolist() == [0, 24, 16, 8]


@pytest.mark.parametrize(
    "inside",
    [np.linspace(0, 1, 20), np.r_[np.zeros(19), 1], np.arange(20) // 2],
    ids=["fractions", "one row of a class", "more classes than test rows"],
)
def test_shuffle_split_falls_back_to_shuffling(inside):
    y = np.r_[inside, np.full(10, -1)]
    for train, test in splits_of(OODShuffleSplit(3, test_size=0.2, random_state=0), y):
        assert (y[test] != -1).sum() == 4
        assert len(train) == 16


def test_shuffle_split_never_trains_on_the_ood_sources_it_tests():
    y = np.r_[np.arange(20) % 2, np.full(30, -1)]
    sources = np.r_[np.zeros(20), np.arange(30) % 3]
    splitter = OODShuffleSplit(20, random_state=0, ood_in_train=True)
    all_tested = set()
    for train, test in splits_of(splitter, y, sources):
        tested, trained = (set(sources[part][y[part] == -1]) for part in (test, train))
        assert len(tested) == 1
        assert trained == {0, 1, 2} - tested
        all_tested |= tested
    assert all_tested == {0, 1, 2}


@pytest.mark.parametrize(
    ("y", "sources", "message"),
    [
        ([0, 0, 0, -1], None, "at least 2 OOD rows, got 1"),
        ([0, 0, 0, -1, -1], [0, 1, 2, 3, 3], "at least 2 sources of OOD rows in groups, got 1"),
        ([0, -1, -1], None, "n_samples=1"),
    ],
)
def test_shuffle_split_needs_rows_for_both_parts(y, sources, message):
    with pytest.raises(ValueError, match=message):
        splits_of(OODShuffleSplit(ood_in_train=True), y, sources)


def test_shuffle_split_tests_a_single_ood_row_where_none_is_trained_on():
    y = np.r_[np.zeros(1000), -1]
    for train, test in splits_of(OODShuffleSplit(3, train_size=5, random_state=0), y):
        assert len(train) == 5
        assert 1000 in test


def test_shuffle_split_refuses_sizes_beyond_the_rows(labels):
    with pytest.raises(ValueError, match="test_size=61"):
        splits_of(OODShuffleSplit(test_size=61), labels)


# OODPredefinedSplit


@given(
    rows=st.lists(st.tuples(st.integers(-1, 2), st.sampled_from([-1, 0, 1])), max_size=20),
    ood_in_train=st.booleans(),
)
def test_predefined_split_follows_test_fold(rows, ood_in_train):
    rows = [*rows, (0, -1), (0, 0), (1, -1), (1, 0), (2, -1), (2, 0)]
    test_fold, y = np.array(rows).T
    splitter = OODPredefinedSplit(test_fold, ood_in_train=ood_in_train)
    splits = splits_of(splitter, y)
    assert len(splits) == splitter.get_n_splits() == 3
    for fold, (train, test) in enumerate(splits):
        assert test.tolist() == [i for i, (f, _) in enumerate(rows) if f == fold]
        assert train.tolist() == [
            i for i, (f, label) in enumerate(rows) if f != fold and (label != -1 or ood_in_train)
        ]


@pytest.mark.parametrize(
    ("test_fold", "message"),
    [
        ([-1, -1, -1], "names no test part"),
        ([0.0, 0.5, 1.0], "must hold integers, got dtype float64"),
    ],
)
def test_predefined_split_refuses_bad_folds_on_construction(test_fold, message):
    with pytest.raises(ValueError, match=message):
        OODPredefinedSplit(test_fold)


@pytest.mark.parametrize(
    ("test_fold", "message"),
    [
        ([-1, -1, 0], "test_fold has 3 entries, but y has 4"),
        ([-1, -1, 0, -1], "test part of fold 0 has no in-distribution rows"),
        ([-1, 3, -1, -1], "test part of fold 3 has no OOD rows"),
        ([0, 0, 0, -1], "training part of fold 0 has no in-distribution rows"),
    ],
)
def test_predefined_split_needs_both_kinds_in_every_part(test_fold, message):
    with pytest.raises(ValueError, match=message):
        splits_of(OODPredefinedSplit(test_fold), [0, 1, -1, -1])


# All splitters

PREDEFINED = OODPredefinedSplit(np.arange(80) % 4)
every_splitter = pytest.mark.parametrize(
    "splitter",
    [OODKFold(4), OODShuffleSplit(4, test_size=0.3, random_state=0), PREDEFINED],
    ids=["kfold", "shuffle", "predefined"],
)


@every_splitter
def test_training_parts_hold_no_ood_rows_and_parts_ascend(splitter, labels):
    for train, test in splits_of(splitter, labels):
        assert (labels[train] != -1).all()
        assert (labels[test] == -1).any()
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()


@every_splitter
@pytest.mark.parametrize(
    "convert",
    [
        pd.Series,
        lambda y: pd.Series(y, index=[f"row {i}" for i in range(len(y))]),
        np.ndarray.tolist,
        lambda y: y.astype(float),
        lambda y: np.array(["abc"[label] if label >= 0 else -1 for label in y], dtype=object),
    ],
    ids=["series", "named series", "list", "float", "strings and -1"],
)
def test_the_kind_of_label_container_does_not_matter(splitter, convert, labels):
    for split, expected in zip(
        splits_of(splitter, convert(labels)), splits_of(splitter, labels), strict=True
    ):
        np.testing.assert_array_equal(np.concatenate(split), np.concatenate(expected))


@every_splitter
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(80), "none of the 80 rows is"),
        (np.full(80, "a"), "marked -1 in y, but none .* dtype <U1"),
        (np.full(80, -1), "all 80 rows are marked as OOD"),
        (np.full(80, np.nan), "contains NaN"),
        (np.zeros(79), r"inconsistent numbers of samples: \[80, 79\]"),
        (None, "needs y, in which -1 marks the OOD rows"),
    ],
)
def test_unusable_labels_are_refused(splitter, y, message):
    with pytest.raises(ValueError, match=message):
        next(splitter.split(np.zeros((80, 2)), y))


@every_splitter
def test_groups_without_a_use_raise_a_warning(splitter, labels):
    with pytest.warns(UserWarning, match=r"groups parameter is ignored by OOD\w+\("):
        next(splitter.split(labels, labels, groups=labels))


def test_groups_of_another_length_are_refused(labels):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        splits_of(OODKFold(ood_in_train=True), labels, labels[1:])


def test_repr_shows_the_parameters():
    assert repr(OODKFold(3, ood_in_train=True)) == (
        "OODKFold(n_splits=3, ood_in_train=True, random_state=None, shuffle=False)"
    )
    assert repr(OODShuffleSplit(test_size=0.2)) == (
        "OODShuffleSplit(n_splits=10, ood_in_train=False, random_state=None,\n"
        "        test_size=0.2, train_size=None)"
    )
    assert repr(OODPredefinedSplit([0, 1])) == (
        "OODPredefinedSplit(ood_in_train=False, test_fold=array([0, 1]))"
    )


# Inside scikit-learn


class FitRows(IsolationForest):
    """Remembers the labels it is fitted with."""

    def fit(self, X, y=None):
        self.labels_ = set(y)
        return super().fit(X)


@pytest.fixture(scope="module")
def many():
    """Rows of three classes, a third as many OOD rows around them, sorted by their labels."""
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(450, 2)), rng.normal(scale=4, size=(150, 2))]
    return X, np.r_[np.arange(450) // 150, np.full(150, -1)]


HALVING = [HalvingGridSearchCV, partial(HalvingRandomSearchCV, n_candidates=4)]
halving = pytest.mark.parametrize("search_class", HALVING, ids=["grid", "random"])
# Directions alone do not tell how far a row is.
NEIGHBORS = {"normalize": [True, False], "n_neighbors": [5, 6]}


@halving
@pytest.mark.parametrize("scoring", [None, make_ood_scorer(), make_ood_scorer("f1")], ids=repr)
@pytest.mark.parametrize(
    "splitter",
    [OODKFold(5), OODShuffleSplit(5, test_size=0.2, random_state=0)],
    ids=lambda splitter: type(splitter).__name__,
)
def test_successive_halving_works_with_the_settings_that_messages_name(
    search_class, scoring, splitter, many
):
    search = search_class(
        KNNDetector(false_alarm_rate=0.2),
        NEIGHBORS,
        scoring=scoring,
        cv=splitter,
        min_resources=10 * 5 * 4,
        return_train_score=False,
        random_state=0,
        error_score="raise",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*non-finite")
        search.fit(*many)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.n_resources_ == [200, 600]
    assert not search.best_params_["normalize"]


ADVICE = r"return_train_score=False.*min_resources"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_successive_halving_on_too_few_rows_says_what_to_set(many):
    for scoring, category in ((None, UndefinedMetricWarning), (make_ood_scorer(), UserWarning)):
        search = HalvingRandomSearchCV(
            KNNDetector(), NEIGHBORS, cv=OODKFold(5), scoring=scoring, random_state=0
        )
        with pytest.warns(category, match=rf"(?s).*{ADVICE}"):
            search.fit(*many)
    with pytest.raises(ValueError, match=ADVICE):
        search.set_params(error_score="raise").fit(*many)


def test_successive_halving_wants_splits_that_stay(many):
    search = HalvingGridSearchCV(KNNDetector(), NEIGHBORS, cv=OODShuffleSplit(3))
    with pytest.raises(ValueError, match=r"consistent folds.*random_state to an int"):
        search.fit(*many)


@every_splitter
def test_cross_validate_fits_on_in_distribution_rows(splitter, blob):
    X, y = blob
    result = cross_validate(
        FitRows(n_estimators=5, random_state=0),
        pd.DataFrame(X),
        pd.Series(y),
        cv=splitter,
        scoring=make_ood_scorer(),
        return_estimator=True,
        error_score="raise",
    )
    assert all(detector.labels_ == {0, 1, 2} for detector in result["estimator"])
    assert result["test_score"].mean() > 0.7


@every_splitter
def test_grid_search_finds_the_better_setting(splitter, blob):
    search = GridSearchCV(
        IsolationForest(random_state=0),
        {"n_estimators": [1, 30]},
        scoring=make_ood_scorer(),
        cv=splitter,
        error_score="raise",
    ).fit(*blob)
    assert search.n_splits_ == 4
    assert search.best_params_ == {"n_estimators": 30}


@pytest.mark.parametrize("splitter", [OODKFold(4), PREDEFINED], ids=["kfold", "predefined"])
def test_cross_val_predict_judges_every_row_held_out(splitter, blob):
    X, y = blob
    detector = IsolationForest(n_estimators=20, random_state=0)
    verdicts = cross_val_predict(detector, X, y, cv=splitter)
    splits = list(splitter.split(X, y))
    scores = cross_val_predict(detector, X, cv=splits, method="decision_function")
    np.testing.assert_array_equal(verdicts, np.where(scores < 0, -1, 1))
    assert ood_roc_auc_score(y, scores) > 0.7


@pytest.mark.parametrize("make", [OODKFold, OODShuffleSplit])
def test_a_supervised_detector_is_given_ood_rows_of_other_sources(make, blob):
    X, y = blob
    sources = np.r_[np.zeros(60), np.arange(20) % 4]
    result = cross_validate(
        DecisionTreeClassifier(random_state=0),
        np.c_[X, sources],
        y,
        groups=sources,
        cv=make(4, ood_in_train=True),
        scoring="accuracy",
        return_estimator=True,
        return_indices=True,
    )
    for train, detector in zip(result["indices"]["train"], result["estimator"], strict=True):
        assert -1 in detector.classes_
        assert len(set(sources[train][y[train] == -1])) == 3


def test_groups_reach_the_splitter_through_metadata_routing(blob):
    X, y = blob
    with sklearn.config_context(enable_metadata_routing=True):
        result = cross_validate(
            IsolationForest(n_estimators=5, random_state=0),
            X,
            y,
            params={"groups": np.arange(80) % 2},
            cv=OODKFold(2, ood_in_train=True),
            scoring=make_ood_scorer(),
            return_indices=True,
            error_score="raise",
        )
    for train in result["indices"]["train"]:
        assert len(set(train[y[train] == -1] % 2)) == 1
