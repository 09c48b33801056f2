"""The promise of ``py.typed``: all that is public is annotated, with types that a user can use."""

import ast
import contextlib
import inspect
import os
import runpy
import subprocess
import sys
import typing
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from _estimators import public_modules
from sklearn.pipeline import Pipeline

import skood

SCRIPT = Path(__file__).parent / "typing" / "user_script.py"


# A user's script


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_script_of_a_user_runs():
    pytest.importorskip("matplotlib")
    pytest.importorskip("torch")
    runpy.run_path(str(SCRIPT))


def check_types(script, cache_dir):
    """What ``mypy --strict`` prints of a script; nothing of the package itself."""
    home = Path(skood.__file__).parents[1]
    environment = dict(os.environ)
    if home.name != "site-packages":
        environment["MYPYPATH"] = str(home)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    command += ["--config-file=", "--no-error-summary", "--no-color-output", "--no-pretty"]
    # Installed libraries that say nothing of their types are no errors of the script.
    command += ["--ignore-missing-imports", f"--cache-dir={cache_dir}", str(script)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return run.stdout + run.stderr


def test_a_strict_type_checker_knows_what_comes_out(tmp_path):
    pytest.importorskip("mypy", reason="the extra 'lint' installs mypy")
    pytest.importorskip("matplotlib")
    pytest.importorskip("torch")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(SCRIPT.read_text() + "assert_type(detector.predict(bits), Scores)\n")
    assert check_types(SCRIPT, tmp_path) == ""
    # And would say so if it did not.
    assert 'not "ndarray[tuple[Any, ...], dtype[float64]]"' in check_types(wrong, tmp_path)


# Annotations


def public_functions():
    """Functions and methods of public names that are the package's own, by import path."""
    found = {}
    for module in public_modules():
        for name in module.__all__:
            member = getattr(module, name)
            path = f"{module.__name__}.{name}"
            found |= methods_of(member, path) if inspect.isclass(member) else {path: member}
    return {path: f for path, f in found.items() if is_ours(f)}


def methods_of(cls, path):
    found = {}
    for name in dir(cls):
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        member = inspect.getattr_static(cls, name)
        if isinstance(member, property):
            member = member.fget
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        if not inspect.isfunction(member) and hasattr(member, "fn"):
            member = member.fn  # available_if of scikit-learn
        if inspect.isfunction(member):
            found[f"{path}.{name}"] = member
    return found


def is_ours(function):
    return getattr(inspect.unwrap(function), "__module__", "").startswith("skood")


FUNCTIONS = public_functions()


@cache
def names_for_type_checkers(module):
    """What a module imports for type checkers alone, as if it were imported."""
    namespace = dict(vars(module))
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module.__file__, "exec"), namespace)
    return namespace


@pytest.mark.parametrize("path", sorted(FUNCTIONS), ids=lambda path: path.removeprefix("skood."))
def test_public_functions_are_annotated(path):
    function = inspect.unwrap(FUNCTIONS[path])
    signature = inspect.signature(function)
    is_method = "." in function.__qualname__
    parameters = list(signature.parameters.values())[int(is_method) :]
    missing = [p.name for p in parameters if p.annotation is inspect.Parameter.empty]
    assert missing == []
    assert signature.return_annotation is not inspect.Signature.empty
    # All names in the annotations exist.
    names = names_for_type_checkers(sys.modules[function.__module__])
    assert len(typing.get_type_hints(function, names)) == len(parameters) + 1


OF_OPTIONAL_PACKAGES = {
    "Axes": object,
    "DataFrame": object,
    "Tensor": object,
    "nn": SimpleNamespace(Module=object),
    "pd": SimpleNamespace(DataFrame=object),
}
"""What annotations name of packages that are imported where they are needed, and not before."""


@pytest.mark.parametrize("path", sorted(FUNCTIONS), ids=lambda path: path.removeprefix("skood."))
def test_annotations_are_resolved_but_for_optional_packages(path):
    function = inspect.unwrap(FUNCTIONS[path])
    with contextlib.suppress(NameError):
        assert typing.get_type_hints(function)
        return
    assert typing.get_type_hints(function, localns=OF_OPTIONAL_PACKAGES)


def test_a_monitor_is_a_pipeline():
    assert typing.get_type_hints(skood.make_monitor)["return"] is skood.Monitor
    assert issubclass(skood.Monitor, Pipeline)


def test_the_package_says_that_it_is_typed():
    assert (Path(skood.__file__).parent / "py.typed").exists()
