"""Fixtures that several test files share."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from sklearn import config_context, set_config

from skood import Activations
from skood.activations import LinearHead

# A user's script, which test_types.py runs; it is no module with examples.
collect_ignore = ["typing", "_twenty_times.py"]  # the latter imports torch

settings.register_profile("skood", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("skood")


@pytest.fixture(scope="session")
def golden():
    """Read ``NAME.npz`` of the results of other implementations in ``tests/golden``, as a dict."""

    @cache
    def read(name):
        with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as arrays:
            return dict(arrays)

    return read


@pytest.fixture
def hold_at_most():
    """Function that says how many 64-bit values may be held at a time, until the test ends."""
    with config_context():
        yield lambda n_values: set_config(working_memory=8 * n_values / 2**20)


@pytest.fixture(scope="session")
def penultimate(golden):
    """Read a split of ``inputs``: the penultimate activations "fc", with logits and head."""
    inputs = golden("inputs")
    head = LinearHead(inputs["W"], inputs["b"], "fc")

    def read(split):
        layers = {"fc": inputs[f"features_{split}"]}
        return Activations(layers, logits=inputs[f"logits_{split}"], head=head)

    return read
