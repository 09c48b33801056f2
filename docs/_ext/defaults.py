"""Tables of the defaults of all public estimators, with whose choice they are, and why.

``.. defaults::`` stands for one table of all parameters that have a default, read from the code,
with the reasons of ``docs/user_guide/defaults.toml``. ``.. defaults-advice::`` lists those that
the guide advises against.
"""

import importlib
import inspect
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

from skood._diagram import public_path

REASONS = Path(__file__).parents[1] / "user_guide" / "defaults.toml"
EVERYWHERE = "everywhere"
WHOSE = {
    "authors": "authors'",
    "ours": "ours",
    "scikit-learn": "scikit-learn's",
    "nothing": "chooses nothing",
}
# In the order of the flow of data; what is not named here follows.
ORDER = ("skood", "extraction", "preprocessing", "shaping", "detectors", "ensemble")


class Row(NamedTuple):
    """A parameter with a default: whose it is, why, and what the guide advises instead."""

    owner: str
    parameter: str
    default: Any
    shown: str
    whose: str
    why: str
    advice: str


def owners():
    """Public classes of estimators, and the function that builds a monitor, by name."""
    from sklearn.base import BaseEstimator

    import skood

    found = {}
    subpackages = (m.name for m in pkgutil.iter_modules(skood.__path__) if m.name[0] != "_")
    names = [*ORDER, *(name for name in subpackages if name not in ORDER)]
    for name in names:
        module = skood if name == "skood" else importlib.import_module(f"skood.{name}")
        members = (getattr(module, public) for public in sorted(module.__all__))
        for member in members:
            is_class = inspect.isclass(member) and issubclass(member, BaseEstimator)
            if (is_class and not inspect.isabstract(member)) or member is skood.make_monitor:
                found.setdefault(member.__name__, member)
    return found


def defaults_of(owner):
    """Names and defaults of the parameters that have one."""
    parameters = inspect.signature(owner).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def show(owner, name, default):
    """A default as one writes it: where its ``repr`` cannot be written, as the docstring has it."""
    if default is None or isinstance(default, (bool, int, float, str, tuple)):
        return repr(default).replace("'", '"')
    entry = re.search(rf"^{name} : .*default=(.+)$", inspect.cleandoc(owner.__doc__), re.M)
    return entry[1].removeprefix("torch.optim.")


def reasons():
    return tomllib.loads(REASONS.read_text(encoding="utf-8"))


def rows():
    """One row for each parameter with a default, by owner; those of all estimators once."""
    given, common, own = reasons(), {}, []
    for owner_name, owner in owners().items():
        for name, default in defaults_of(owner).items():
            shown = show(owner, name, default)
            if entry := given.get(owner_name, {}).get(name):
                own.append(_row(owner_name, name, default, shown, entry))
            else:
                row = _row(EVERYWHERE, name, default, shown, given[EVERYWHERE][name])
                if common.setdefault(name, row).default != default:
                    raise ValueError(f"{owner_name} has another default of {name!r}: {default!r}.")
    return [*common.values(), *own]


def _row(owner, name, default, shown, entry):
    whose, why, *advice = entry
    return Row(owner, name, default, shown, whose, why, *advice or [""])


class Defaults(Directive):
    """The table of all defaults."""

    def run(self):
        self.state.document.settings.env.note_dependency(str(REASONS))
        group = nodes.tgroup(cols=3)
        group += [nodes.colspec(colwidth=width) for width in (30, 16, 54)]
        head = nodes.row()
        head += [_entry(nodes.paragraph(text=text)) for text in ("Default", "Whose", "Why")]
        group += nodes.thead("", head)
        body = nodes.tbody()
        owner = None
        for row in rows():
            if row.owner != owner:
                owner = row.owner
                body += self._heading(owner)
            body += self._row(row)
        group += body
        return [nodes.table("", group, classes=["defaults"])]

    def _heading(self, owner):
        text = "The same in all estimators"
        if owner != EVERYWHERE:
            role = "func" if owner == "make_monitor" else "class"
            text = f":{role}:`~{public_path(owners()[owner])}`"
        entry = nodes.entry("", *self._parsed(text), morecols=2, classes=["defaults-of"])
        return nodes.row("", entry, ids=[f"defaults-{owner}"])

    def _row(self, row):
        why = row.why + (" See :ref:`above <defaults_advice>`." if row.advice else "")
        texts = f"``{row.parameter}={row.shown}``", WHOSE[row.whose], why
        return nodes.row("", *(_entry(*self._parsed(text)) for text in texts))

    def _parsed(self, text):
        node = nodes.container()
        self.state.nested_parse(StringList([text, ""]), 0, node)
        return node.children


class Advice(Directive):
    """What the guide advises instead of some defaults."""

    def run(self):
        lines = []
        for row in rows():
            if row.advice:
                name = f":class:`~{public_path(owners()[row.owner])}`"
                lines += [f"- {name}, ``{row.parameter}={row.shown}``: {row.advice}"]
        node = nodes.container()
        self.state.nested_parse(StringList([*lines, ""]), 0, node)
        return node.children


def _entry(*children):
    return nodes.entry("", *children)


def setup(app):
    app.add_directive("defaults", Defaults)
    app.add_directive("defaults-advice", Advice)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
