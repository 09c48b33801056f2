"""What a page is about, for search engines: its first paragraph, in its head."""

import re
from html import escape

from docutils import nodes
from sphinx import addnodes

N_CHARACTERS = 200
"""Of longer ones, engines show no more."""


def describe(app, pagename, templatename, context, doctree):
    paragraphs = doctree.findall(nodes.paragraph) if doctree else ()
    if paragraph := next(filter(is_text_of_the_page, paragraphs), None):
        text = escape(shortened(paragraph.astext()))
        context["metatags"] += f'<meta name="description" content="{text}" />\n'


def is_text_of_the_page(paragraph):
    """Whether it is in no table, note or list."""
    return isinstance(paragraph.parent, (nodes.section, addnodes.desc_content))


def shortened(text):
    """The text in one line, cut between words."""
    text = re.sub(r"\s+", " ", text).strip()
    if len(text) <= N_CHARACTERS:
        return text
    return text[: N_CHARACTERS - 1].rpartition(" ")[0] + "\N{HORIZONTAL ELLIPSIS}"


def setup(app):
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
