"""Entries that the docstrings of many classes share: written once, inserted when a class is made.

A class describes what is its own; :func:`complete` adds, in numpydoc's form, the parameters of its
signature and the attributes that it does not describe. Whoever reads ``__doc__`` sees the whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

FITTED_ON = {
    "n_features_in_": """n_features_in_ : int
    Number of units seen in ``fit``, over all layers.""",
    "feature_names_in_": """feature_names_in_ : ndarray of shape (`n_features_in_`,)
    Names of the features, where ``fit`` saw a data frame with string names.""",
    "layer_shapes_": """layer_shapes_ : dict of str to tuple
    Shape of one sample in each layer, where ``fit`` saw ``Activations``.""",
}
"""What every estimator knows about the layers that it was fitted on."""

OF_LOGITS = {
    "n_features_in_": """n_features_in_ : int
    Number of classes.""",
    "layer_shapes_": """layer_shapes_ : dict of str to tuple
    Shape of one sample's logits, where ``fit`` saw ``Activations``.""",
}
"""In place of these, what estimators of logits know."""

OF_HEAD = {
    "head_": """head_ : LinearHead
    The head that ``fit`` saw.""",
    "n_features_in_": """n_features_in_ : int
    Number of units that the head reads.""",
    "layer_shapes_": """layer_shapes_ : dict of str to tuple
    Shape of one sample in the layer that the head reads, where ``fit`` saw ``Activations``.""",
}
"""In place of these, what estimators of the head and its features know."""


def complete(cls: type, parameters: Mapping[str, str], attributes: Mapping[str, str]) -> None:
    """Add entries to the docstring of a class, unless it has none, as under ``python -OO``.

    Parameters
    ----------
    cls : type
        The class, whose docstring is changed.
    parameters : mapping of str to str
        Entries of constructor parameters by name, with ``{default}`` where the default stands.
        Those that the class does not take are not used.
    attributes : mapping of str to str
        Entries of attributes by name.
    """
    own = vars(cls).get("__doc__")
    if not own:
        return
    sections = _split(inspect.cleandoc(own))
    described = _described(sections)
    signature = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    new_parameters = {
        name: parameters[name].format(default=_shown(parameter.default))
        for name, parameter in signature.items()
        if name in parameters and name not in described
    }
    _insert(sections, "Parameters", new_parameters, list(signature))
    new_attributes = {name: attributes[name] for name in attributes if name not in described}
    _insert(sections, "Attributes", new_attributes, list(attributes))
    cls.__doc__ = "\n\n".join(_joined(title, body) for title, body in sections.items())


def _shown(default: Any) -> str:
    return f'"{default}"' if isinstance(default, str) else repr(default)


def _split(text: str) -> dict[str, str]:
    """The sections of a docstring by title, what is before the first one under ""."""
    lines, title = text.split("\n"), ""
    found: dict[str, list[str]] = {"": []}
    for number, line in enumerate(lines):
        underline = lines[number + 1] if number + 1 < len(lines) else ""
        if line and underline and set(underline) == {"-"}:
            title = line
            found[title] = []
        elif not (found[title] == [] and title and set(line) == {"-"}):
            found[title].append(line)
    return {title: "\n".join(body).strip("\n") for title, body in found.items()}


def _joined(title: str, body: str) -> str:
    return f"{title}\n{'-' * len(title)}\n{body}" if title else body


def _entries(body: str) -> dict[str, str]:
    """The entries of a section by their first line."""
    entries: list[list[str]] = []
    for line in body.split("\n"):
        if line and not line[0].isspace():
            entries.append([line])
        elif entries:
            entries[-1].append(line)
    return {lines[0]: "\n".join(lines).rstrip() for lines in entries}


def _names(first_line: str) -> list[str]:
    return [name.strip() for name in first_line.split(" : ")[0].split(",")]


def _described(sections: Mapping[str, str]) -> set[str]:
    return {
        name
        for title in ("Parameters", "Attributes")
        for line in _entries(sections.get(title, ""))
        for name in _names(line)
    }


def _insert(sections: dict[str, str], title: str, new: Mapping[str, str], order: list[str]) -> None:
    """Add entries to a section, which is made where it is missing; in order, others first."""
    entries = [*_entries(sections.get(title, "")).values(), *new.values()]
    if not entries:
        return
    places = {name: number for number, name in enumerate(order)}
    entries.sort(key=lambda entry: places.get(_names(entry.split("\n")[0])[0], -1))
    if title in sections:
        sections[title] = "\n".join(entries)
        return
    after = "Parameters" if title == "Attributes" and "Parameters" in sections else ""
    before = {}
    for known in list(sections):
        before[known] = sections.pop(known)
        if known == after:
            before[title] = "\n".join(entries)
    sections.update(before)
