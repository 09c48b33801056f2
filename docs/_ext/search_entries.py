"""The entries of the index in the search, also after a build that read only what changed.

Sphinx hands them to the search as it writes a page, and loses those of all other pages. On a page
of the reference, the parameters of its class or function are entries, too.
"""

import inspect
from posixpath import basename

from linked_types import public_modules
from sphinx.util.index_entries import split_index_msg


def entries_of(env):
    """For each page its entries: text, identifier, and "main" for what the page is about."""
    parameters = parameters_of_pages()
    return {
        docname: sorted(
            {
                (text, target or "", main)
                for kind, value, target, main, _ in entries
                for text in split_index_msg(kind, value)
            }
            | {(name, "", "") for name in parameters.get(basename(docname), ())}
        )
        for docname, entries in env.domains["index"].entries.items()
    }


def parameters_of_pages():
    """Names of the parameters of all public classes and functions, by the names of their pages."""
    return {
        f"{module.__name__}.{name}": parameters_of(getattr(module, name))
        for module in public_modules()
        for name in module.__all__
    }


def parameters_of(thing):
    """Names by which somebody may look for it: not X, nor y, nor those of Python's exceptions."""
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return []
    return [name for name in inspect.signature(thing).parameters if len(name) > 1]


def complete(app):
    if indexer := getattr(app.builder, "indexer", None):
        indexer._index_entries = entries_of(app.env)
    return ()


def setup(app):
    # The last event before the index of the search is written.
    app.connect("html-collect-pages", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
