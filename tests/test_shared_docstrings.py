"""Entries that many docstrings share are inserted where a class does not describe them itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from _estimators import estimator_classes

import skood
from skood import ActivationExtractor
from skood._docstrings import FITTED_ON, complete
from skood._output import ActivationsOutputMixin
from skood.detectors import BaseDetector, BaseOneClassDetector
from skood.shaping import FeatureShaper
from skood.training import DecoyClassClassifier

PARAMETERS = {
    "share": "share : float, default={default}\n    A share.",
    "mode": "mode : str, default={default}\n    A mode.",
    "absent": "absent : int\n    Not in the signature.",
}
ATTRIBUTES = {
    "offset_": "offset_ : float\n    Threshold.",
    "rows_": "rows_ : ndarray of shape (n_samples,)\n    Rows.",
}


class Described:
    """Do something.

    Parameters
    ----------
    first : int
        The first.
    last : int, default=3
        The last.

    Attributes
    ----------
    rows_ : ndarray of shape (n_some,)
        Rows of its own kind.
    means_, sums_ : ndarray
        Two in one entry.

    Notes
    -----
    A note.
    """

    def __init__(self, first, mode="fast", share=0.5, last=3):
        pass


class Bare:
    """Do nothing."""

    def __init__(self, share=0.25):
        pass


def test_entries_are_inserted_in_the_order_of_the_signature():
    complete(Described, PARAMETERS, ATTRIBUTES)
    assert (
        Described.__doc__
        == """Do something.

Parameters
----------
first : int
    The first.
mode : str, default="fast"
    A mode.
share : float, default=0.5
    A share.
last : int, default=3
    The last.

Attributes
----------
means_, sums_ : ndarray
    Two in one entry.
offset_ : float
    Threshold.
rows_ : ndarray of shape (n_some,)
    Rows of its own kind.

Notes
-----
A note."""
    )


def test_sections_are_made_where_they_are_missing():
    complete(Bare, PARAMETERS, ATTRIBUTES)
    assert (
        Bare.__doc__
        == """Do nothing.

Parameters
----------
share : float, default=0.25
    A share.

Attributes
----------
offset_ : float
    Threshold.
rows_ : ndarray of shape (n_samples,)
    Rows."""
    )


def test_a_class_without_a_docstring_stays_without():
    class Silent(Described):
        pass

    complete(Silent, PARAMETERS, ATTRIBUTES)
    assert Silent.__doc__ is None


def test_detectors_of_others_have_them_too():
    class Detector(BaseOneClassDetector):
        """Score samples."""

    assert "false_alarm_rate : float in (0, 0.5], default=0.05" in Detector.__doc__
    assert "training_scores_ : ndarray" in Detector.__doc__


def test_shapers_of_others_have_them_too():
    class Shaper(FeatureShaper):
        """Shape features."""

    for entry in ("head_ : LinearHead", "n_features_in_ : int", "layer_shapes_ : dict of str"):
        assert entry in Shaper.__doc__


@pytest.mark.parametrize("name", FITTED_ON)
def test_what_an_estimator_knows_of_its_input_is_described_once(name):
    def is_fitted_on_activations(cls):
        return issubclass(cls, BaseDetector | ActivationsOutputMixin)

    estimators = [c for c in estimator_classes().values() if is_fitted_on_activations(c)]
    assert len(estimators) > 30
    for cls in estimators:
        wanted = 0 if cls is ActivationExtractor and name == "layer_shapes_" else 1
        assert cls.__doc__.count(f"\n{name} : ") == wanted, cls


def test_names_of_features_are_described_in_one_place():
    entry = FITTED_ON["feature_names_in_"].split("\n")[1].strip()
    by_hand = [
        path.name
        for path in Path(skood.__file__).parent.rglob("*.py")
        if entry in path.read_text(encoding="utf-8")
    ]
    assert by_hand == ["_docstrings.py"]
    assert entry in DecoyClassClassifier.__doc__


@pytest.mark.parametrize("option", ["-OO", "-O"])
def test_without_docstrings_everything_is_imported(option):
    code = "import skood.detectors, skood.ensemble, skood.training, skood.calibration"
    subprocess.run([sys.executable, option, "-c", code], check=True)
