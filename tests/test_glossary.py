"""The glossary names parameters and attributes that exist, and the exceptions to its words."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import skood

GLOSSARY = Path(skood.__file__).parents[1] / "docs" / "glossary.rst"
if not GLOSSARY.exists():
    pytest.skip("the documentation is not installed", allow_module_level=True)

NAMED = re.findall(
    r"the\s+(parameter|attribute)\s+``(\w+)``\s+of\s+:class:`~([\w.]+)`",
    GLOSSARY.read_text("utf-8"),
)


def test_names_with_another_meaning_are_listed():
    assert {(name, path.rpartition(".")[2]) for _, name, path in NAMED} == {
        ("features", "GroupProgressionDetector"),
        ("sparsity", "DICE"),
        ("alpha", "NCIDetector"),
        ("alpha_", "ViMDetector"),
        ("alpha", "RiskControlledDetector"),
        ("threshold", "ReAct"),
        ("threshold", "NeuronSelector"),
        ("classes_", "DecoyClassClassifier"),
        ("classes_", "DenoisingClassifier"),
    }


@pytest.mark.parametrize(("kind", "name", "path"), NAMED)
def test_what_is_named_exists(kind, name, path):
    if path.startswith("skood.training"):
        pytest.importorskip("skorch")
    module, _, cls = path.rpartition(".")
    member = getattr(importlib.import_module(module), cls)
    if kind == "parameter":
        assert name in inspect.signature(member).parameters
    else:
        assert re.search(rf"^{name} : ", inspect.cleandoc(member.__doc__), re.MULTILINE)


def test_other_parameters_of_these_names_mean_what_the_entries_say():
    # Whoever adds one decides whether it is another exception.
    found = {
        (parameter, name)
        for module in ("detectors", "shaping", "preprocessing", "calibration", "ensemble")
        for name, cls in inspect.getmembers(
            importlib.import_module(f"skood.{module}"), inspect.isclass
        )
        if cls.__module__.startswith("skood") and not issubclass(cls, Warning)
        for parameter in inspect.signature(cls).parameters
        if parameter in {"features", "sparsity", "alpha", "threshold"}
    }
    expected = {
        (name, path.rpartition(".")[2]) for kind, name, path in NAMED if kind == "parameter"
    }
    assert found == expected
