"""Link names that are written as code, such as ``GridSearchCV``, to where they are described.

Full names of other libraries become links, and the last part of those of scikit-learn and of public
classes of skood, where it stands for one object alone. In each section only the first one does.
"""

import re

from docutils import nodes
from linked_types import public_modules
from sphinx import addnodes
from sphinx.ext.intersphinx import InventoryAdapter

KINDS = ("py:class", "py:exception", "py:function")
# Already links, or headings, or names of what the page itself describes.
NOT_IN = (nodes.reference, nodes.title, addnodes.pending_xref, addnodes.desc_signature)


def describe(env):
    """The full name of the object that each word stands for."""
    full_names = {
        library: [name for kind in KINDS for name in inventory.get(kind, ())]
        for library, inventory in InventoryAdapter(env).named_inventory.items()
    }
    of_skood = {
        name: f"{module.__name__}.{name}" for module in public_modules() for name in module.__all__
    }
    words = {name: name for names in full_names.values() for name in names if "." in name}
    # The shortest path to a name is the one that its pages are under.
    for name in sorted(full_names.get("sklearn", ()), key=len, reverse=True):
        word = name.rpartition(".")[2]
        if re.search(r"[a-z][A-Z]|_", word) and word not in of_skood:
            words[word] = name
    return words | {word: name for word, name in of_skood.items() if re.search(r"[a-z][A-Z]", word)}


def link(app, doctree):
    words = app.env.words_to_link
    linked = set()
    for literal in list(doctree.findall(nodes.literal)):
        target = words.get(literal.astext().removesuffix("()"))
        section = parent_of_kind(literal, nodes.section)
        known = (section, target) in linked or app.env.docname.endswith(f"/{target}")
        if target and not known and not parent_of_kind(literal, NOT_IN):
            linked.add((section, target))
            replace(literal, target, app.env.docname)


def parent_of_kind(node, kinds):
    while node is not None and not isinstance(node, kinds):
        node = node.parent
    return node


def replace(literal, target, docname):
    reference = addnodes.pending_xref(
        refdomain="py", reftype="obj", reftarget=target, refdoc=docname, refexplicit=True
    )
    literal.replace_self(reference)
    literal["classes"] += ["xref", "py", "py-obj"]
    reference += literal


def setup(app):
    def prepare(app, env, docnames):
        env.words_to_link = describe(env)

    app.connect("env-before-read-docs", prepare)
    app.connect("doctree-read", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
