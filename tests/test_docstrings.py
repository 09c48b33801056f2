"""Every public name exists and is described in full."""

import inspect

import numpy as np
import pytest
from _estimators import detectors, public_modules, transformers
from sklearn.base import clone

from skood import Activations
from skood.activations import LinearHead

numpydoc = pytest.importorskip("numpydoc")
numpydoc_validate = pytest.importorskip("numpydoc.validate")

# All but matters of blank lines, and sections that a short method goes without.
WANTED = {
    "GL06", "GL07", "GL08", "GL10",
    "SS01", "SS02", "SS03", "SS04", "SS05", "SS06",
    "PR01", "PR02", "PR03", "PR04", "PR05", "PR06", "PR07", "PR08", "PR09", "PR10",
    "RT01", "RT03", "RT04", "RT05", "YD01",
}  # fmt: skip


def public_names():
    """Pairs of import path and object."""
    names = {}
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            member = getattr(module, name)
            names[id(member)] = (f"{module.__name__}.{name}", member)
    return sorted(names.values(), key=lambda pair: pair[0])


def public_methods():
    """Pairs of import path and method, of those that skood defines."""
    return [
        (f"{path}.{name}", method)
        for path, member in public_names()
        if inspect.isclass(member)
        for name, method in inspect.getmembers(member, inspect.isroutine)
        if not name.startswith("_")
        and getattr(method, "__module__", "").startswith("skood")
        and not named_by_torch_or_skorch(member, name)
    ]


def named_by_torch_or_skorch(cls, name):
    """Whether torch, which calls the method, says what it is: the computation of a module."""
    return name == "forward" and not getattr(cls, name).__doc__


def public_properties():
    """Pairs of import path and property, of those that skood defines."""
    return [
        (f"{path}.{name}", value)
        for path, member in public_names()
        if inspect.isclass(member)
        for name, value in inspect.getmembers(member, lambda value: isinstance(value, property))
        if not name.startswith("_") and value.fget.__module__.startswith("skood")
    ]


def ids(pair):
    return pair[0].removeprefix("skood.")


@pytest.mark.parametrize("named", [*public_names(), *public_methods()], ids=ids)
def test_docstring_is_complete(named):
    path, _ = named
    found = numpydoc_validate.validate(path)["errors"]
    assert [f"{code}: {text}" for code, text in found if code in WANTED] == []


@pytest.mark.parametrize("named", public_properties(), ids=ids)
def test_properties_have_a_docstring(named):
    _, found = named
    assert found.__doc__


@pytest.mark.parametrize("named", public_names(), ids=ids)
def test_docstring_has_an_example(named):
    path, member = named
    if inspect.isabstract(member):
        pytest.skip("a base class shows in its subclasses")
    assert ">>> " in member.__doc__, path


@pytest.mark.parametrize(
    "named", [pair for pair in public_names() if pair[0].endswith("Detector")], ids=ids
)
def test_detectors_name_their_source(named):
    _, member = named
    # An alarm of any of several detectors is no method of anybody's.
    if inspect.isabstract(member) or member.__name__.startswith(("Base", "AnyAlarm")):
        pytest.skip("a template or a combination")
    parsed = numpydoc.docscrape.NumpyDocString(inspect.cleandoc(member.__doc__))
    assert ".. [1]" in "\n".join(parsed["References"])


def described(member, section):
    """Names that a section of a docstring describes."""
    parsed = numpydoc.docscrape.NumpyDocString(inspect.cleandoc(member.__doc__))
    return {name.strip() for entry in parsed[section] for name in entry.name.split(",")}


@pytest.mark.parametrize(
    "estimator", [*detectors(), *transformers()], ids=lambda estimator: type(estimator).__name__
)
@pytest.mark.parametrize("as_activations", [False, True])
def test_what_fit_learns_is_described(estimator, as_activations):
    X = np.random.default_rng(0).normal(size=(40, 5))
    head = LinearHead(np.eye(5), input_layer="0")
    given = Activations({"0": X}, logits=X, head=head) if as_activations else X
    learnt = vars(clone(estimator).fit(given, np.arange(40) % 5))
    names = {name for name in learnt if name.endswith("_") and not name.startswith("_")}
    assert names <= described(type(estimator), "Attributes")


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_exported_names_exist(module):
    assert all(hasattr(module, name) for name in module.__all__)
