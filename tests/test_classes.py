"""Where classes are looked up among others, and under which class a training sample counts."""

import numpy as np
import pytest

from skood import Activations
from skood._classes import TrainingClasses, class_columns
from skood._labels import find_classes
from skood._side_by_side import split_layers
from skood.detectors import OpenMaxDetector


def test_classes_are_found_among_ascending_ones():
    positions, is_known = find_classes(np.array([7, 3, 5, 9, -1]), np.array([3, 5, 9]))
    np.testing.assert_array_equal(is_known, [False, True, True, True, False])
    np.testing.assert_array_equal(positions[is_known], [0, 1, 2])
    assert ((positions >= 0) & (positions < 3)).all()


@pytest.mark.parametrize(
    ("labels", "classes", "columns"),
    [
        ([4, 2, 9, 3, -1], [9, 2, 4], [2, 1, 0, -1, -1]),
        ([2.0, 2.5, 9.0], [9, 2, 4], [1, -1, 0]),
        (["cat", "do", "dog", "dogs"], ["dog", "cat"], [1, -1, 0, -1]),
        (np.array(["do", "dog"], dtype=object), ["dog", "cat"], [-1, 0]),
        (np.array([4, 3], dtype=object), [9, 4], [1, -1]),
        (["0", "1"], [0, 1], [-1, -1]),
        ([True, False], [False, True], [1, 0]),
    ],
)
def test_columns_are_those_of_classes_in_any_order(labels, classes, columns):
    np.testing.assert_array_equal(class_columns(np.array(labels), np.array(classes)), columns)


A = Activations({"fc": np.zeros((4, 1))}, predictions=["a", "b", "a", "b"])
LABELS = np.array(["a", "a", "b", "b"])


@pytest.mark.parametrize(
    ("group_by", "own", "rows"),
    [
        ("prediction", ["a", "b", "a", "b"], [0, 1, 2, 3]),
        ("label", ["a", "a", "b", "b"], [0, 1, 2, 3]),
        ("correct", ["a", "b"], [0, 3]),
    ],
)
def test_training_samples_count_for_one_class(group_by, own, rows):
    classes = TrainingClasses.of(A, LABELS, group_by, "This test")
    np.testing.assert_array_equal(classes.lookup, A.predictions)
    X, counted = classes.counting(A.replace({"fc": np.arange(4)[:, np.newaxis]}), "This test")
    np.testing.assert_array_equal(X["fc"][:, 0], rows)
    np.testing.assert_array_equal(counted, own)


def test_what_is_missing_of_the_classes_is_named():
    bare = Activations(dict(A.items()))
    for group_by in ("prediction", "label", "correct"):
        with pytest.raises(ValueError, match="This test needs predictions"):
            TrainingClasses.of(bare, LABELS, group_by, "This test")
    with pytest.raises(ValueError, match="This test needs the class labels y"):
        TrainingClasses.of(A, None, "label", "This test")
    with pytest.raises(ValueError, match="none of the 4 predictions equals its label"):
        TrainingClasses.of(A, LABELS[[2, 0, 2, 0]], "correct", "T").counting(A, "T")


def test_classes_to_look_up_may_be_given():
    lookup = np.zeros(4, dtype=int)
    classes = TrainingClasses.of(Activations(dict(A.items())), None, "prediction", "T", lookup)
    np.testing.assert_array_equal(classes.own, lookup)
    assert classes.counts.all()


def test_columns_of_an_array_of_logits_are_its_classes():
    logits = np.random.default_rng(0).normal(size=(60, 3))
    labels = logits.argmax(axis=1)
    named = Activations({"fc": logits}, logits=logits, classes=["z", "x", "y"])
    detectors = [
        OpenMaxDetector(tail_size=5, group_by="label").fit(logits, labels),
        OpenMaxDetector(tail_size=5, group_by="label").fit(
            named, np.array(["z", "x", "y"])[labels]
        ),
    ]
    np.testing.assert_array_equal(detectors[0].tails_, detectors[1].tails_)
    assert not np.isnan(detectors[0].tails_).any()
    with pytest.raises(ValueError, match="none of the 60 predictions equals its label"):
        OpenMaxDetector(tail_size=5, group_by="label").fit(logits, labels.astype(str))


def test_layers_side_by_side_are_cut_apart():
    values = np.arange(12).reshape(2, 6)
    cut = split_layers(values, {"a": 2, "b": (2, 2)})
    np.testing.assert_array_equal(cut["a"], [[0, 1], [6, 7]])
    np.testing.assert_array_equal(cut["b"], [[2, 3, 4, 5], [8, 9, 10, 11]])
    assert list(cut) == ["a", "b"]
