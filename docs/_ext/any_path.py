"""Resolve references to a public name by whichever of its import paths they are written.

``skood.ensemble.AutoNAPDetector`` is also ``skood.ensemble.AutoNAPDetector``, and has one page.
"""

from sphinx.util.nodes import make_refnode


def find_by_ending(app, env, node, contnode):
    if node.get("refdomain") != "py":
        return None
    of_class = node["reftype"] in ("attr", "meth")
    n_parts = 2 if of_class else 1
    ending = "." + ".".join(node["reftarget"].split(".")[-n_parts:])
    found = [
        (name, entry)
        for name, entry in env.domains["py"].objects.items()
        if name.endswith(ending)
        and name.count(".") <= 1 + n_parts
        and not entry.aliased
        and (of_class or entry.objtype not in ("attribute", "method", "property"))
    ]
    if len(found) != 1:
        return None
    name, entry = found[0]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, name)


def setup(app):
    app.connect("missing-reference", find_by_ending)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
