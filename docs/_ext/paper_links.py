"""Link the publications that docstrings name, such as arXiv:2204.06507 and doi:10.1007/b106715."""

import re

from docutils import nodes
from link_names import parent_of_kind

ADDRESSES = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
NAMED = re.compile(r"(arXiv|doi):(\d{4}\.\d{4,5}|10\.\d{4,}/[^\s,;]*[^\s,;.])")
# Already links, or as they are written.
NOT_IN = (nodes.reference, nodes.literal, nodes.literal_block, nodes.title)


def link(app, doctree):
    for text in list(doctree.findall(nodes.Text)):
        if not parent_of_kind(text, NOT_IN):
            parts = with_links(text.astext())
            if len(parts) > 1:
                text.parent.replace(text, parts)


def with_links(text):
    """The text in pieces, of which those that name a publication are links to it."""
    pieces, end = [], 0
    for named in NAMED.finditer(text):
        pieces.append(nodes.Text(text[end : named.start()]))
        address = ADDRESSES[named[1]] + named[2]
        pieces.append(nodes.reference("", named[0], refuri=address, internal=False))
        end = named.end()
    return [*pieces, nodes.Text(text[end:])]


def setup(app):
    app.connect("doctree-read", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
