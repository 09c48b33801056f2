"""What importing skood brings along, and which room knows which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skood

PACKAGE = Path(skood.__file__).parent

# The flow of data: a room knows those to its left and none to its right.
ROOMS = [
    "_optional",
    "_versions",
    "_sklearn",
    "_warnings",
    "_fit_context",
    "_axes",
    "_values",
    "_rows",
    "_packed_bits",
    "_storage",
    "activations",
    "_layer_names",
    "_marks",
    "_foreign",
    "_classes",
    "_validation",
    "_head",
    "extraction",
    "preprocessing",
    "shaping",
    "detectors",
    "ensemble",
    "calibration",
    "metrics",
    "model_selection",
    "inspection",
    "training",
    "datasets",
    "_monitor",
]


def imported_modules(*statements):
    code = "; ".join([*statements, "import sys; print(*sys.modules)"])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import skood",
        "import skood.extraction, skood.ensemble, skood.datasets, skood.model_selection",
        "import skood.calibration, skood.inspection, skood.training",
    ],
)
def test_importing_skood_is_light(statement):
    modules = imported_modules(statement)
    assert "skood.activations" in modules
    assert not modules & {"torch", "skorch", "faiss", "matplotlib"}


def test_a_multilayer_perceptron_needs_no_torch():
    modules = imported_modules(
        "import numpy as np, skood",
        "from sklearn.neural_network import MLPClassifier",
        "X, y = np.random.rand(20, 3), np.arange(20) % 2",
        "net = MLPClassifier((4,), max_iter=1).fit(X, y)",
        "skood.make_monitor(net).fit(X).predict(X)",
    )
    assert "torch" not in modules


def test_every_room_has_its_place():
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert found - {"__init__", "__pycache__", "py"} == set(ROOMS)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_rooms_import_from_their_left_only(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        return
    allowed = set(ROOMS[: ROOMS.index(parts[0]) + 1])
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.level < len(parts):
            continue
        names = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
        assert set(names) <= allowed, f"line {node.lineno}"
