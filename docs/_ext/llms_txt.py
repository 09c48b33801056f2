"""The pages in Markdown, beside those in HTML, and ``llms.txt``, which lists those of the guide.

Language models read Markdown better than HTML: see https://llmstxt.org. Of the reference, whose
pages are many, there is the index alone.
"""

import re
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import urlsplit

from docutils import nodes
from sphinx import addnodes
from sphinx.ext.autosummary import autosummary_table

LEFT_OUT = ("api/generated/", "search", "genindex")
SECTIONS = {
    "Start": ["install", "getting_started", "conventions", "glossary"],
    "Guide": "user_guide/",
    "Reference": ["api/index"],
    "Optional": ["auto_examples/", "results/", "changelog", "about"],
}
# What the pages show and Markdown does not need.
SKIPPED = (
    nodes.comment,
    nodes.raw,
    nodes.system_message,
    nodes.substitution_definition,
    nodes.target,
    addnodes.index,
    addnodes.toctree,
)


class Markdown:
    """A page, node by node: blocks are texts with an empty line between them."""

    def __init__(self, docname, documents):
        self.docname, self.documents = docname, documents
        self.depth = 0

    def of(self, node):
        """Text of a node; kinds of nodes without a method of their own are what they consist of."""
        # A table of names is a comment to all writers but that of HTML.
        if isinstance(node, SKIPPED) and not isinstance(node, autosummary_table):
            return ""
        for kind in type(node).__mro__:
            if write := getattr(self, f"of_{kind.__name__.lower()}", None):
                return write(node)
        is_inline = isinstance(node, (nodes.Inline, nodes.TextElement))
        return self.inline(node) if is_inline else self.blocks(node)

    def inline(self, node):
        return "".join(map(self.of, node.children))

    def blocks(self, node):
        return "\n\n".join(filter(None, (self.of(child).strip("\n") for child in node.children)))

    def of_text(self, node):
        return re.sub(r"\s+", " ", node.astext())

    def of_section(self, node):
        self.depth += 1
        text = self.blocks(node)
        self.depth -= 1
        return text

    def of_title(self, node):
        return f"{'#' * max(self.depth, 1)} {self.inline(node)}"

    def of_rubric(self, node):
        return f"**{self.inline(node)}**"

    def of_emphasis(self, node):
        return f"*{self.inline(node)}*"

    def of_strong(self, node):
        return f"**{self.inline(node)}**"

    def of_literal(self, node):
        text = re.sub(r"\s+", " ", node.astext())
        return f"`` {text} ``" if "`" in text else f"`{text}`"

    def of_math(self, node):
        return f"${node.astext().strip()}$"

    def of_math_block(self, node):
        return f"$$\n{node.astext().strip()}\n$$"

    def of_literal_block(self, node):
        language = {"default": "python", "none": "text"}.get(
            node.get("language"), node.get("language")
        )
        return f"```{language or ''}\n{node.astext()}\n```"

    def of_doctest_block(self, node):
        return f"```python\n{node.astext()}\n```"

    def of_image(self, node):
        return f"*Picture: {node['alt']}*" if node.get("alt") else ""

    def of_reference(self, node):
        text, address = self.inline(node), self.address(node)
        return f"[{text}]({address})" if text and address else text

    def address(self, node):
        # Markdown has no names for places on the same page.
        uri = node.get("refuri", "")
        if not uri or urlsplit(uri).scheme:
            return uri
        path, _, _ = uri.partition("#")
        target = normpath(join(dirname(self.docname), path)).removesuffix(".html")
        if target in self.documents:
            return path.removesuffix(".html") + ".md"
        return uri

    def of_list_item(self, node, mark="-"):
        indent = " " * (len(mark) + 1)
        return f"{mark} " + self.blocks(node).replace("\n", f"\n{indent}").replace(
            f"\n{indent}\n", "\n\n"
        )

    def of_bullet_list(self, node):
        return "\n".join(map(self.of_list_item, node.children))

    def of_enumerated_list(self, node):
        start = node.get("start", 1)
        marks = [f"{start + i}." for i in range(len(node.children))]
        return "\n".join(map(self.of_list_item, node.children, marks))

    def of_definition_list_item(self, node):
        terms = ", ".join(f"**{self.inline(term)}**" for term in node.findall(nodes.term))
        definition = next(node.findall(nodes.definition))
        return self.of_list_item(nodes.list_item("", *definition.children)).replace(
            "- ", f"- {terms}: ", 1
        )

    def of_definition_list(self, node):
        return "\n".join(map(self.of_definition_list_item, node.children))

    def of_field(self, node):
        name, body = node.children
        return f"- **{self.inline(name)}**: {self.blocks(body)}"

    def of_block_quote(self, node):
        return "\n".join(f"> {line}".rstrip() for line in self.blocks(node).splitlines())

    def of_admonition(self, node):
        has_title = isinstance(node, nodes.admonition)
        title = "" if has_title else f"> **{type(node).__name__.title()}**\n>\n"
        return title + self.of_block_quote(node)

    def of_line(self, node):
        return self.inline(node) + "  "

    def of_footnote_reference(self, node):
        return f"[{node.astext()}]"

    def of_label(self, node):
        return f"[{node.astext()}]"

    def of_table(self, node):
        titles = [f"**{self.inline(title)}**" for title in node.findall(nodes.title)]
        rows = [self.cells(row) for row in node.findall(nodes.row)]
        rows[1:1] = [["---"] * len(rows[0])]
        return "\n\n".join([*titles, "\n".join(f"| {' | '.join(row)} |" for row in rows)])

    def of_autosummary_table(self, node):
        """A list, as the table has no titles of its columns."""
        rows = (self.cells(row) for row in node.findall(nodes.row))
        return "\n".join(f"- {name}: {summary}" for name, summary in rows)

    def cells(self, row):
        """One for each column: those that a wider one spans are empty."""
        return [
            text
            for entry in row.children
            for text in [self.cell(entry)] + [""] * entry.get("morecols", 0)
        ]

    def cell(self, entry):
        return self.blocks(entry).replace("|", "\\|").replace("\n\n", "<br>").replace("\n", " ")


def pages_of(env):
    return {name for name in env.all_docs if not name.startswith(LEFT_OUT)}


def write_page(app, doctree, docname):
    documents = pages_of(app.env)
    if app.builder.format == "html" and docname in documents:
        path = Path(app.outdir, docname + ".md")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Markdown(docname, documents).blocks(doctree) + "\n", encoding="utf-8")


def first_sentence(path):
    """What a page begins with, for its line in the list."""
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    text = next((block for block in blocks if re.match(r"[\w*`\[(]", block)), "")
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text.strip("*"))
    return re.split(r"(?<=[.:?]) (?=[A-Z])", text)[0].rstrip(":")


def in_order(env, docname, seen):
    """Pages in the order in which the tables of contents name them."""
    if docname not in seen:
        seen.append(docname)
        for child in env.toctree_includes.get(docname, ()):
            in_order(env, child, seen)
    return seen


def write_list(app, exception):
    if exception or app.builder.format != "html":
        return
    env = app.env
    documents = pages_of(env)

    def about(name):
        return first_sentence(Path(app.outdir, name + ".md"))

    order = [name for name in in_order(env, env.config.root_doc, []) if name in documents]
    lines = [f"# {app.config.project}", "", f"> {about(env.config.root_doc)}"]
    for section, beginnings in SECTIONS.items():
        lines += ["", f"## {section}", ""]
        for name in order:
            if name.startswith(tuple([beginnings] if isinstance(beginnings, str) else beginnings)):
                title = env.titles[name].astext()
                lines.append(f"- [{title}]({name}.md): {about(name)}")
    Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app):
    app.connect("doctree-resolved", write_page, priority=900)
    app.connect("build-finished", write_list)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
