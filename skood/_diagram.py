"""What the diagram of an estimator in a notebook shows: its members, and links to their pages."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from ._sklearn import CallbackSupportMixin, VisualBlock

_MOST_SHOWN = 3
"""Of more copies of one detector, the first one stands for all."""


class DocLinkMixin:
    """Links a diagram to the page of its estimator, by attributes that scikit-learn reads."""

    _doc_link_module = "skood"
    _doc_link_template = "{address}/api/generated/{path}.html"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"address": docs_address(), "path": public_path(type(self))}

    def _get_doc_link(self) -> str:
        if not docs_address() or not public_path(type(self)):
            return ""
        return str(super()._get_doc_link())  # type: ignore[misc]


class EstimatorMixin(CallbackSupportMixin, DocLinkMixin):
    """What all estimators share: callbacks are told of their ``fit``, diagrams link to pages."""


class MembersMixin:
    """Shows in a diagram the estimators of which an estimator is made; after ``fit``, fitted."""

    def _members_shown(self) -> list[tuple[str, Any]]:
        """Members by name; by default what another estimator is made from."""
        for name in ("estimator", "detector"):
            fitted = getattr(self, f"{name}_", None)
            if fitted is not None:
                return [(f"{name}_", fitted)]
            if getattr(self, name, None) is not None:
                return [(name, getattr(self, name))]
        return []

    def _sk_visual_block_(self) -> Any:
        members = self._members_shown()
        if not members:
            return VisualBlock("single", self, names=type(self).__name__, name_details=str(self))
        return VisualBlock(
            "parallel",
            [member for _, member in members],
            names=[_label(*member) for member in members],
            name_details=[str(member) for _, member in members],
        )


def copies_shown(names: Sequence[str], copies: Sequence[Any], what: str) -> list[tuple[str, Any]]:
    """Members that are copies of one estimator: all while they are few, else the first one.

    Parameters
    ----------
    names : sequence of str
        What each of them is of.
    copies : sequence of estimators
        The members.
    what : str
        What they are of, in the plural.
    """
    if len(copies) <= _MOST_SHOWN:
        return list(zip(names, copies, strict=True))
    return [(f"{len(copies)} {what}, {names[0]} to {names[-1]}", copies[0])]


def _label(name: str, member: Any) -> str:
    # Of what has members itself, the diagram would show these alone.
    return f"{name}: {type(member).__name__}" if isinstance(member, MembersMixin) else name


def docs_address() -> str:
    """Where the documentation is: what ``SKOOD_DOCS`` says, or else the address of the package."""
    return os.environ.get("SKOOD_DOCS", _address_of_package()).rstrip("/")


@cache
def _address_of_package() -> str:
    try:
        urls: Iterable[str] = metadata("skood").get_all("Project-URL") or ()
    except PackageNotFoundError:
        return ""
    by_name = dict(url.split(", ", 1) for url in urls)
    return by_name.get("Documentation", "")


def public_path(kind: type) -> str:
    """The path to import a class from; empty where it has none."""
    package = kind.__module__.split("._", 1)[0]
    for module in ("skood", package):
        if kind.__name__ in getattr(sys.modules.get(module), "__all__", ()):
            return f"{module}.{kind.__name__}"
    return ""
