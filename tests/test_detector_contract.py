"""What subclasses of the detectors' template write, by the classes that there are."""

import ast
import inspect
import textwrap

import numpy as np
import pytest
from _estimators import detectors

from skood.detectors import BaseDetector, BaseOneClassDetector
from skood.detectors._base_incremental import BaseIncrementalDetector

every_detector = pytest.mark.parametrize("cls", [type(d) for d in detectors()])


@every_detector
def test_fit_methods_have_one_form(cls):
    first, *others = list(inspect.signature(cls._fit).parameters.values())[1:]
    assert [first.name, others[0].name] == ["X", "y"]
    more = others[1:]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is None for p in more)
    public = set(inspect.signature(cls.fit).parameters) - {"self", "X", "y"}
    names = {p.name for p in more}
    assert names - {"X_ood"} == public
    # The template of batches has one form of `_fit` for all; some have `_learn_ood`, too.
    if not issubclass(cls, BaseIncrementalDetector):
        assert ("X_ood" in names) == cls._learns_from_ood
    elif cls._learns_from_ood:
        assert "X_ood" in names


@every_detector
def test_detectors_that_learn_from_ood_rows_in_batches_say_what_these_teach(cls):
    if issubclass(cls, BaseIncrementalDetector):
        own = cls._learn_ood is not BaseIncrementalDetector._learn_ood
        assert own == cls._learns_from_ood


@every_detector
def test_private_state_of_the_template_is_written_by_the_template(cls):
    own = {name for name in stored_by(BaseDetector) if name.startswith("_")}
    assert own == {"_by_class", "_lowest_accepted"}
    for ancestor in cls.__mro__:
        if issubclass(ancestor, BaseDetector) and ancestor is not BaseDetector:
            assert own.isdisjoint(stored_by(ancestor))


def stored_by(cls):
    """Attributes of self that the methods of a class set."""
    return {
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls))))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


class Telling(BaseOneClassDetector):
    """Keeps what ``_fit`` got."""

    _learns_from_ood = True

    def fit(self, X, y=None, *, weights=None):
        return self._fit_split(X, y, weights=weights)

    def _fit(self, X, y, *, X_ood=None, weights=None):
        self.got_ = X["X"], y, X_ood["X"], weights

    def _score_samples(self, X):
        return X["X"][:, 0]


def test_further_arguments_come_under_their_names():
    rows = np.arange(8.0).reshape(4, 2)
    inside, y, outside, weights = Telling().fit(rows, [3, -1, 5, 5], weights="some").got_
    np.testing.assert_array_equal(inside, rows[[0, 2, 3]])
    np.testing.assert_array_equal(y, [3, 5, 5])
    np.testing.assert_array_equal(outside, rows[[1]])
    assert weights == "some"
    assert len(Telling().fit(rows).got_[2]) == 0
