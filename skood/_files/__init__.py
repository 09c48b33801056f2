"""Estimators in folders of JSON and arrays: nothing in them is ever executed."""

from ._errors import FileFormatError
from ._load import load
from ._save import save

__all__ = ["FileFormatError", "load", "save"]
