"""The page of defaults has every parameter of every estimator, with the default of the code."""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest
from _estimators import estimator_classes

DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.exists():
    pytest.skip("the documentation is not installed", allow_module_level=True)
pytest.importorskip("docutils")
pytest.importorskip("skorch")
sys.path.insert(0, str(DOCS / "_ext"))
defaults = importlib.import_module("defaults")

ROWS = defaults.rows()
BY_NAME = {(row.owner, row.parameter): row for row in ROWS}


def row_of(owner, parameter):
    return BY_NAME.get((owner, parameter)) or BY_NAME[defaults.EVERYWHERE, parameter]


@pytest.mark.parametrize("name", [*estimator_classes(), "ODIN", "MahalanobisPerturbation"])
def test_every_parameter_of_every_estimator_is_there_with_its_default(name):
    owner = defaults.owners()[name]
    for parameter, default in defaults.defaults_of(owner).items():
        assert row_of(name, parameter).default == default


@pytest.mark.parametrize("name", estimator_classes())
def test_defaults_are_those_that_an_estimator_has(name):
    cls = estimator_classes()[name]
    required = {
        p.name: object()
        for p in inspect.signature(cls).parameters.values()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }
    found = cls(**required).get_params(deep=False)
    for parameter in defaults.defaults_of(cls):
        assert found[parameter] == row_of(name, parameter).default


def test_what_is_shown_of_a_default_is_its_value():
    for row in ROWS:
        if row.default is None or isinstance(row.default, (bool, int, float, str, tuple)):
            assert ast.literal_eval(row.shown) == row.default
        else:
            is_class = inspect.isclass(row.default)
            name = (row.default if is_class else type(row.default)).__name__
            assert row.shown.startswith(name)


def test_no_reason_is_left_over():
    given = defaults.reasons()
    owners = defaults.owners()
    for owner, entries in given.items():
        if owner != defaults.EVERYWHERE:
            assert set(entries) <= set(defaults.defaults_of(owners[owner]))
    used = {row.parameter for row in ROWS if row.owner == defaults.EVERYWHERE}
    assert used == set(given[defaults.EVERYWHERE])


def test_every_default_has_an_owner_and_a_reason():
    for row in ROWS:
        assert row.whose in defaults.WHOSE
        assert row.why.endswith(".")
        if row.whose == "nothing":
            assert row.default in (None, False, (), "all")


def test_authors_are_those_that_the_docstring_names():
    for row in ROWS:
        if row.whose == "authors":
            doc = inspect.cleandoc(defaults.owners()[row.owner].__doc__)
            assert re.search(r"^\.\. \[1\]", doc, re.MULTILINE), row


def test_the_advice_is_against_defaults_of_which_the_guide_says_so():
    advised = {(row.owner, row.parameter) for row in ROWS if row.advice}
    assert {("ReAct", "percentile"), ("KNNDetector", "n_neighbors")} <= advised
