"""A file of the project that is written in Markdown, such as its changelog, as a part of a page.

``.. markdown-file:: ../CHANGELOG.md`` shows the file from its first heading of the second level on.
It knows headings, paragraphs, lists, code in the text and links: what such files consist of.
"""

import re
from pathlib import Path

from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

UNDERLINES = {"##": "=", "###": "-", "####": "~"}


def to_rst(markdown):
    """The lines of a text in reStructuredText."""
    lines = markdown[markdown.index("\n## ") :].splitlines()
    return [converted for line in lines for converted in convert(line)]


def convert(line):
    marks, _, title = line.partition(" ")
    if marks in UNDERLINES:
        title = title.replace("[", "").replace("]", "")
        return [title, UNDERLINES[marks] * len(title)]
    line = re.sub(r"\[([^]]+)\]\(([^)]+)\)", r"`\1 <\2>`__", line)
    # Text that follows code at once, as the s of a plural, must not make it one word.
    return [re.sub(r"(?<![`\w])`([^`<]+)`(?!_)(\w)?", code, line)]


def code(found):
    return f"``{found[1]}``" + (rf"\ {found[2]}" if found[2] else "")


class MarkdownFile(Directive):
    required_arguments = 1

    def run(self):
        from docutils import nodes

        environment = self.state.document.settings.env
        file = Path(environment.srcdir, self.arguments[0]).resolve()
        environment.note_dependency(str(file))
        node = nodes.section()
        node.document = self.state.document
        lines = StringList(to_rst(file.read_text(encoding="utf-8")), source=str(file))
        self.state.nested_parse(lines, 0, node, match_titles=True)
        return node.children


def setup(app):
    app.add_directive("markdown-file", MarkdownFile)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
