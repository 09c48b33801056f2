"""Warnings point at the nearest line that is the user's."""

import contextlib
import os
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn

import skood
from skood import Activations, _warnings
from skood._warnings import warn_user
from skood.detectors import KNNDetector
from skood.ensemble import LayerEnsembleDetector

LIBRARIES = [skood, sklearn, joblib]
every_library = pytest.mark.parametrize("library", LIBRARIES, ids=lambda module: module.__name__)


def warn_from(path):
    """Warn in a function whose code is said to be in a file."""
    namespace = {"warn_user": warn_user}
    exec(compile("def call():\n    warn_user('Look.')", path, "exec"), namespace)
    with pytest.warns(UserWarning, match="Look") as caught:
        namespace["call"]()
    return caught[0].filename


@every_library
def test_lines_of_the_libraries_are_not_blamed(library):
    inside = Path(library.__file__).parent / "a" / "module.py"
    assert warn_from(str(inside)) == __file__


@every_library
@pytest.mark.parametrize("ending", ["_project", "2", "-scripts"])
def test_folders_whose_names_begin_like_a_library_are_the_users(library, ending):
    path = str(Path(library.__file__).parent) + ending + os.sep + "run.py"
    assert warn_from(path) == path


def test_lines_of_context_managers_are_not_blamed():
    assert warn_from(contextlib.__file__) == __file__


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_warnings_of_members_in_threads_point_at_the_line_of_the_user(n_jobs):
    rng = np.random.default_rng(0)
    A = Activations({name: rng.random((20, 3)) for name in "ab"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        LayerEnsembleDetector(KNNDetector(), n_jobs=n_jobs).fit(A)
    assert [str(warning.message)[:14] for warning in caught] == ["n_neighbors=50"] * 2
    assert {warning.filename for warning in caught} == {__file__}
    assert len({warning.lineno for warning in caught}) == 1
    # Where filters say so, once a line.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        LayerEnsembleDetector(KNNDetector(), n_jobs=n_jobs).fit(A)
    assert len(caught) == 1


def test_what_was_shown_is_remembered_of_so_many_messages(monkeypatch):
    monkeypatch.setattr(_warnings, "_MOST_SHOWN", 3)
    monkeypatch.setattr(_warnings, "_shown", {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for number in range(10):
            for _ in range(2):
                warn_user(f"Row {number}.")
            assert len(_warnings._shown) <= 3
    assert [str(warning.message) for warning in caught] == [f"Row {n}." for n in range(10)]
