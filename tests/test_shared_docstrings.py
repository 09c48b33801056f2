"""Entries that many docstrings share are inserted where a class does not describe them itself."""

import subprocess
import sys

import pytest

from skood._docstrings import complete
from skood.detectors import BaseOneClassDetector

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


@pytest.mark.parametrize("option", ["-OO", "-O"])
def test_without_docstrings_everything_is_imported(option):
    code = "import skood.detectors, skood.ensemble"
    subprocess.run([sys.executable, option, "-c", code], check=True)
