"""The lists of detectors that learn in batches and of those that need all samples at once.

``.. in-batches::`` stands for both, as found in the code: a detector that has ``partial_fit`` with
its default parameters learns in batches.
"""

import inspect

from docutils.parsers.rst import Directive
from docutils.statemachine import StringList


def by_learning():
    """Names of the detectors with ``partial_fit``, and of the others."""
    from skood.detectors import BaseDetector

    names = {True: [], False: []}
    for cls in subclasses_of(BaseDetector):
        of_methods = cls.__module__.startswith("skood.detectors.")
        if of_methods and not cls.__name__.startswith("_") and not inspect.isabstract(cls):
            names[hasattr(cls(), "partial_fit")].append(cls.__name__)
    return sorted(names[True]), sorted(names[False])


def subclasses_of(cls):
    found = set(cls.__subclasses__())
    return found.union(*map(subclasses_of, found))


class InBatches(Directive):
    def run(self):
        from docutils import nodes

        titles = ("With ``partial_fit`` and ``merge``", "From all samples at once")
        node = nodes.container()
        for title, names in zip(titles, by_learning(), strict=True):
            links = ", ".join(f":class:`~skood.detectors.{name}`" for name in names)
            self.state.nested_parse(StringList([f"{title}: {links}.", ""]), 0, node)
        return node.children


def setup(app):
    app.add_directive("in-batches", InBatches)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
