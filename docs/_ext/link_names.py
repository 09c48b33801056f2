"""Link names that are written as code, such as ``GridSearchCV``, to where they are described.

Full names of skood and of other libraries become links, with or without a call, and so does the
last part of those of skood and scikit-learn that is no ordinary word: the first in each section.
"""

import re

from docutils import nodes
from linked_types import public_modules
from sphinx import addnodes
from sphinx.ext.intersphinx import InventoryAdapter

KINDS = ("py:class", "py:exception", "py:function")
# Already links, or headings, or names of what the page itself describes.
NOT_IN = (nodes.reference, nodes.title, addnodes.pending_xref, addnodes.desc_signature)
# Class of tables with names of other libraries, of which some are those of skood, too.
OTHERS = "names-of-others"


def describe(env):
    """The full name of the object that each word stands for."""
    full_names = {
        library: [name for kind in KINDS for name in inventory.get(kind, ())]
        for library, inventory in InventoryAdapter(env).named_inventory.items()
    }
    full_names["skood"] = [f"{m.__name__}.{name}" for m in public_modules() for name in m.__all__]
    words = {name: name for names in full_names.values() for name in names if "." in name}
    for library in ("sklearn", "skood"):
        # The shortest path to a name is the one that its page is under.
        for name in sorted(full_names.get(library, ()), key=len, reverse=True):
            word = name.rpartition(".")[2]
            if is_unusual(word):
                words[word] = name
    return words


def is_unusual(word):
    """Whether it has an underscore or two capitals, and is not taken for a word of the text."""
    return "_" in word or len(re.findall("[A-Z]", word)) > 1


def link(app, doctree):
    words = app.env.words_to_link
    linked = set()
    for literal in list(doctree.findall(nodes.literal)):
        named = re.fullmatch(r"([\w.]+)(\(.*\))?", literal.astext(), flags=re.DOTALL)
        target = words.get(named[1]) if named else None
        section = parent_of_kind(literal, nodes.section)
        known = (section, target) in linked or app.env.docname.endswith(f"/{target}")
        if target and not known and may_be_linked(literal):
            linked.add((section, target))
            replace(literal, target, app.env.docname)


def may_be_linked(literal):
    table = parent_of_kind(literal, nodes.table)
    is_of_others = table is not None and OTHERS in table["classes"]
    return not is_of_others and parent_of_kind(literal, NOT_IN) is None


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
