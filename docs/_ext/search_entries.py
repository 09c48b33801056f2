"""The entries of the index in the search, also after a build that read only what changed.

Sphinx hands them to the search as it writes a page, and loses those of all other pages.
"""

from sphinx.util.index_entries import split_index_msg


def entries_of(env):
    """For each page its entries: text, identifier, and "main" for what the page is about."""
    return {
        docname: sorted(
            {
                (text, target or "", main)
                for kind, value, target, main, _ in entries
                for text in split_index_msg(kind, value)
            }
        )
        for docname, entries in env.domains["index"].entries.items()
    }


def complete(app):
    if indexer := getattr(app.builder, "indexer", None):
        indexer._index_entries = entries_of(app.env)
    return ()


def setup(app):
    # The last event before the index of the search is written.
    app.connect("html-collect-pages", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
