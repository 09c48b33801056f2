"""The API reference lists every public name, once."""

import re
from collections import Counter
from pathlib import Path

import pytest
from _estimators import public_modules

REFERENCE = Path(__file__).parents[1] / "docs" / "api" / "index.rst"


def listed_names():
    """Full names under the autosummary directives, in order."""
    module, names = "", []
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif match := re.fullmatch(r"   ~?([A-Za-z_][\w.]*)", line):
            names.append(f"{module}.{match[1]}")
    return names


def resolve(full_name):
    modules = {module.__name__: module for module in public_modules()}
    module, _, name = full_name.rpartition(".")
    return getattr(modules[module], name)


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_every_public_name_is_listed(module):
    listed = {id(resolve(name)) for name in listed_names()}
    missing = [name for name in module.__all__ if id(getattr(module, name)) not in listed]
    assert not missing


def test_no_name_is_listed_twice():
    counts = Counter(id(resolve(name)) for name in listed_names())
    assert [name for name in listed_names() if counts[id(resolve(name))] > 1] == []
