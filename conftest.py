"""What all tests share, the examples in the docstrings included."""

import sys

import pytest
from _tiny_originals import WRITERS


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
