"""The pages of the guide that use a public name, on its page of the reference.

``.. used-in:: skood.detectors.KNNDetector`` lists those that name it most often, under a heading of
their own; where there are none, it leaves nothing. The gallery's examples have a list of theirs.
"""

import re
from collections import Counter
from pathlib import Path

from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.util.nodes import nested_parse_with_titles

N_PAGES = 8
PAGES = ("getting_started.rst", "conventions.rst", "user_guide/*.rst", "results/*.rst")
# They name everything, and teach the use of nothing.
LISTS = re.compile(r"coming_from|defaults|faq|troubleshooting|results/")


def read_pages(app):
    source = Path(app.srcdir)
    app.env.guide_texts = {
        str(file.relative_to(source).with_suffix("")): file.read_text(encoding="utf-8")
        for pattern in PAGES
        for file in sorted(source.glob(pattern))
    }


def pages_that_use(full_name, texts):
    """Names of pages, those that use it most often first, and lists last."""
    name = re.escape(full_name.rpartition(".")[2])
    if not re.search(r"[A-Z]", name):  # an ordinary word, where it stands alone
        name = (
            rf"(`[~!]?([\w.]+\.)?{name}`|\bskood\.([\w.]+\.)?{name}|import\b.*\b{name}|\b{name}\()"
        )
    pattern = re.compile(rf"(?<!\w){name}(?!\w)" if name[0] != "(" else name)
    counts = Counter({page: len(pattern.findall(text)) for page, text in texts.items()})
    pages = [page for page, count in counts.most_common() if count]
    return sorted(pages, key=lambda page: bool(LISTS.search(page)))[:N_PAGES]


class UsedIn(Directive):
    required_arguments = 1

    def run(self):
        from docutils import nodes

        texts = self.state.document.settings.env.guide_texts
        pages = pages_that_use(self.arguments[0], texts)
        if not pages:
            return []
        lines = ["Used in", "-------", "", *(f"- :doc:`/{page}`" for page in pages)]
        node = nodes.section()
        node.document = self.state.document
        nested_parse_with_titles(self.state, StringList(lines, source="used-in"), node)
        return node.children


def setup(app):
    app.connect("builder-inited", read_pages)
    app.add_directive("used-in", UsedIn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
