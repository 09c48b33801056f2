"""What all tests share, the examples in the docstrings included."""

import os

import pytest


def pytest_collection_modifyitems(items):
    if os.environ.get("SKOOD_DATA"):
        return
    skip = pytest.mark.skip(reason="SKOOD_DATA names no folder with the files")
    for item in items:
        if item.name.startswith("skood.datasets.") and ".fetch_" in item.name:
            item.add_marker(skip)
