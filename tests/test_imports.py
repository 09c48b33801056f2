"""What importing skood brings along, and which module knows which."""

import ast
import importlib
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import skood

PACKAGE = Path(skood.__file__).parent

# The flow of data: a module or subpackage imports from those before it, never from those after.
FLOW = [
    "_docstrings",
    "_optional",
    "_versions",
    "_estimator_checks",
    "_sklearn",
    "_samples",
    "_warnings",
    "_progress",
    "_diagram",
    "_fit_context",
    "_od_table",
    "_axes",
    "_side_by_side",
    "_config",
    "_disk",
    "_memory",
    "_batches",
    "_threads",
    "_values",
    "_too_few",
    "_conformal",
    "_levels",
    "_held_out",
    "_pooling",
    "_logits",
    "_export_error",
    "_spread",
    "networks",
    "_rows",
    "_row_runs",
    "_blocks",
    "_labels",
    "_faiss",
    "_patterns",
    "_linear_head",
    "_column",
    "_column_table",
    "_agreement",
    "_concatenate",
    "_manifest",
    "_storage",
    "_store",
    "_spill",
    "_row_table",
    "_tables",
    "activations",
    "_elsewhere",
    "_block_transform",
    "_fitted_state",
    "_look",
    "_output",
    "_layer_names",
    "_threshold_sample",
    "_seen_rows",
    "_known_columns",
    "_marks",
    "_foreign",
    "_streams",
    "_named_detectors",
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
    "export",
    "inspection",
    "_monitor_view",
    "monitoring",
    "training",
    "datasets",
    "_files",
    "_defaults",
    "_monitor_calibration",
    "_monitor_rows",
    "_monitor_files",
    "_monitor_export",
    "_monitor_merge",
    "_monitor_session",
    "_monitor",
    "_make_monitor",
    "engines",
    "serving",
]


def imported_modules(*statements):
    code = "; ".join([*statements, "import sys; print(*sys.modules)"])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import skood",
        "import skood.networks, skood.extraction, skood.ensemble",
        "import skood.datasets, skood.model_selection",
        "import skood.calibration, skood.inspection, skood.monitoring, skood.training",
        "import skood.engines",
        "import skood.serving",
    ],
)
def test_importing_skood_is_light(statement):
    modules = imported_modules(statement)
    assert "skood.activations" in modules
    heavy = {"torch", "skorch", "onnx", "onnxruntime", "faiss", "matplotlib", "dask", "ray"}
    heavy |= {"fastapi", "starlette", "uvicorn", "pydantic"}
    assert not modules & heavy


def test_a_multilayer_perceptron_needs_no_torch():
    modules = imported_modules(
        "import numpy as np, skood",
        "from sklearn.neural_network import MLPClassifier",
        "X, y = np.random.default_rng(0).random((20, 3)), np.arange(20) % 2",
        "net = MLPClassifier((4,), max_iter=1, random_state=0).fit(X, y)",
        "skood.make_monitor(net).fit(X).predict(X)",
    )
    assert "torch" not in modules


def modules():
    """Paths of all modules by name, a tuple of parts that leaves out the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[parts[:-1] if parts[-1] == "__init__" else parts] = path
    return found


MODULES = modules()


def package_of(module):
    """The package in which the relative imports of a module start."""
    return module if MODULES[module].name == "__init__.py" else module[:-1]


def imports_of(module):
    """What a module imports, also inside of functions: names of modules and of what they hold."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                package = ("skood", *package_of(module))
                source = package[: len(package) + 1 - node.level] + source
            yield from ((*source, alias.name) for alias in node.names)


IMPORTS = {module: set(imports_of(module)) for module in MODULES}


def imported_modules_of(module):
    """Modules of skood that one imports; a package stands for its ``__init__``."""
    names = [name[1:] for name in IMPORTS[module] if name[0] == "skood"]
    return {name if name in MODULES else name[:-1] for name in names}


GRAPH = {module: imported_modules_of(module) for module in MODULES}


def reachable(start):
    """Modules that are imported by some, directly or not."""
    found, waiting = set(), list(start)
    while waiting:
        new = GRAPH[waiting.pop()] - found
        found |= new
        waiting.extend(new)
    return found


def dotted(name):
    return ".".join(name) or "skood"


def test_every_subpackage_has_its_place():
    assert {module[0] for module in MODULES if module} == set(FLOW)


@pytest.mark.parametrize("module", [m for m in MODULES if m], ids=dotted)
def test_modules_import_from_their_left_only(module):
    allowed = {(name,) for name in FLOW[: FLOW.index(module[0]) + 1]}
    assert {imported[:1] for imported in GRAPH[module]} <= allowed


def test_no_import_leads_round_in_a_circle():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(map(dotted, error.args[1])))


@pytest.mark.parametrize("module", MODULES, ids=dotted)
def test_private_modules_are_imported_within_their_package_only(module):
    package = package_of(module)
    foreign = {
        dotted(imported)
        for imported in GRAPH[module]
        for depth, part in enumerate(imported)
        if part.startswith("_") and package[:depth] != imported[:depth]
    }
    assert foreign == set()


@pytest.mark.parametrize("module", [m for m in MODULES if m != ("_sklearn",)], ids=dotted)
def test_private_names_of_scikit_learn_are_imported_in_one_module(module):
    names = [dotted(name) for name in IMPORTS[module] if name[0] == "sklearn"]
    assert [name for name in names if "._" in name] == []


# What scikit-learn's base classes keep to themselves: attributes of their own code.
BASES = ["base", "metrics._scorer", "utils._metadata_requests", "utils._set_output"]


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def private_attributes_of_scikit_learn():
    trees = [
        ast.parse(Path(importlib.import_module(f"sklearn.{base}").__file__).read_text())
        for base in BASES
    ]
    return {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_private(node.attr)
    }


def own_methods():
    """Private methods and class attributes that skood itself defines, among them hooks."""
    names = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                targets = [member.target] if isinstance(member, ast.AnnAssign) else []
                targets += member.targets if isinstance(member, ast.Assign) else []
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
                if isinstance(member, ast.FunctionDef):
                    names.add(member.name)
    return names


FOREIGN_ATTRIBUTES = private_attributes_of_scikit_learn() - own_methods()


def test_private_attributes_of_scikit_learn_are_known():
    known = {"_sklearn_output_config", "_metadata_request", "_sign", "_score_func", "_kwargs"}
    assert known <= FOREIGN_ATTRIBUTES


def private_attributes_used(source):
    """Attributes that are read or set, and those named by strings, as for ``getattr``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_attributes_are_found_however_they_are_named():
    source = "x._sign; self._kwargs = 1; getattr(x, '_score_func')"
    assert {"_sign", "_kwargs", "_score_func"} <= set(private_attributes_used(source))


@pytest.mark.parametrize("module", [m for m in MODULES if m != ("_sklearn",)], ids=dotted)
def test_private_attributes_of_scikit_learn_are_used_in_one_module(module):
    used = set(private_attributes_used(MODULES[module].read_text(encoding="utf-8")))
    assert used & FOREIGN_ATTRIBUTES == set()


def test_networks_know_nothing_of_activations():
    known = reachable(module for module in MODULES if module[:1] == ("networks",))
    assert ("_values",) in known
    assert known.isdisjoint({("activations",), ("_storage",), ("_rows",), ("extraction",)})
