"""Methods of another library beside those of skood, from ``docs/user_guide/coming_from``.

``.. counterparts:: oodeel`` stands for the table of ``oodeel.csv``, in which defaults have columns
of their own. They are put under the names here, so that the table fits on a screen.
"""

import csv
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from link_names import OTHERS

TABLES = Path(__file__).parents[1] / "user_guide" / "coming_from"


class Counterparts(Directive):
    required_arguments = 1

    def run(self):
        path = TABLES / f"{self.arguments[0]}.csv"
        self.state.document.settings.env.note_dependency(str(path))
        with path.open(encoding="utf-8", newline="") as file:
            (theirs, ours, _, _, scores), *rows = csv.reader(file)
        lines = [
            ".. list-table::",
            f"   :class: {OTHERS}",
            "   :header-rows: 1",
            "   :widths: 29 35 36",
            "",
        ]
        lines += _row([theirs], [ours], [scores])
        for theirs, ours, their_defaults, our_defaults, scores in rows:
            lines += _row([theirs, their_defaults], [ours, our_defaults], [scores])
        node = nodes.container()
        self.state.nested_parse(StringList([*lines, ""]), 0, node)
        return node.children


def _row(*cells):
    """A row of cells with several paragraphs each."""
    lines = []
    for paragraphs in cells:
        start = "     - " if lines else "   * - "
        lines.append(start + paragraphs[0])
        for paragraph in filter(None, paragraphs[1:]):
            lines += ["", f"       {paragraph}"]
    return lines


def setup(app):
    app.add_directive("counterparts", Counterparts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
