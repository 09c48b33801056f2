"""What the markup of others lacks for readers who listen to pages."""


def mend_roles(app, pagename, templatename, context, doctree):
    """References are items of a list, whatever docutils calls them."""
    if body := context.get("body"):
        context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app):
    app.connect("html-page-context", mend_roles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
