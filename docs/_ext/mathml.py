"""Write formulas as MathML, which browsers show by themselves, in a font that the site brings."""

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def to_mathml(formula, **options):
    """The formula, in which both bars of a norm are as high as a letter.

    Of a norm with an index, the first bar alone would grow with what is within.
    """
    written = tex2mathml(formula, **options)
    return re.sub(r"<mo([^>]*)>‖</mo>", r'<mo\1 stretchy="false">‖</mo>', written)


def visit_inline(translator, node):
    translator.body.append(to_mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(translator, node):
    formula = to_mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
