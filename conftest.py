"""What all tests share, the examples in the docstrings included."""

import os
import random
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from _tiny_originals import WRITERS

# No test may need this one: try others. torch itself begins with a random one, so that what makes
# networks while test modules are imported, when torch may be new, seeds by itself.
SEED = int(os.environ.get("SKOOD_TEST_SEED", "0"))


# Ray would put a function of its own in the place of print, for good.
os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")


@contextmanager
def _seeded():
    """Start the global random generators from the seed; they go on afterwards as before."""
    torch = sys.modules.get("torch")
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    of_torch = torch and torch.get_rng_state()
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002
    if torch:
        # `torch.manual_seed` writes down the whole stack each time, for GPUs that are not used yet.
        torch.default_generator.manual_seed(SEED)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if torch:
            torch.set_rng_state(of_torch)


# What a module makes when it is imported, what a fixture makes for several tests, and a test all
# start from the seed: none depends on what ran before it.
@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    with _seeded():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    if fixturedef.scope == "function":
        return (yield)
    with _seeded():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    with _seeded():
        return (yield)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that are marked as slow")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        reason = pytest.mark.skip(reason="slow: `make test-slow` runs it")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(reason)


@pytest.fixture(scope="session")
def tiny_originals(tmp_path_factory):
    """Folder with a few images of every public data set, as torchvision lays them out."""
    folder = tmp_path_factory.mktemp("originals")
    for write in WRITERS.values():
        write(folder)
    return folder


@pytest.fixture(autouse=True)
def _images_for_examples(request):
    """Let the examples of ``fetch_*`` read those images."""
    if request.node.name.startswith("skood.datasets.") and ".fetch_" in request.node.name:
        folder = request.getfixturevalue("tiny_originals")
        request.getfixturevalue("monkeypatch").setenv("SKOOD_DATA", str(folder))


@pytest.fixture(autouse=True)
def _close_figures():
    """Close what a test or an example drew: matplotlib warns of many open figures."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")
