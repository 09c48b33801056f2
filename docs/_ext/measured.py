"""Numbers in the text that are read from the tables of results.

``:measured:`mnist_monitor/detectors | MSP | AUROC, uniform noise seen``` stands for the cell of
``docs/results/mnist_monitor/detectors.csv`` in the row that begins with "MSP" and in the last-named
column. Rows that share their first cell are distinguished by naming more of them.
"""

import csv
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"


def look_up(reference):
    """The text of a cell, and the file that it comes from."""
    table, *cells, column = (part.strip() for part in reference.split("|"))
    file = RESULTS / f"{table}.csv"
    with file.open(encoding="utf-8", newline="") as source:
        header, *rows = csv.reader(source)
    found = [row for row in rows if row[: len(cells)] == cells]
    if len(found) != 1 or column not in header:
        raise LookupError(
            f"{reference!r} names no single cell of {file.name}: {len(found)} rows begin with "
            f"{cells}, and its columns are {header}."
        )
    return found[0][header.index(column)], file


def measured(name, rawtext, text, lineno, inliner, options=None, content=()):
    from docutils import nodes

    try:
        value, file = look_up(text)
    except (LookupError, OSError) as error:
        return [], [inliner.reporter.error(str(error), line=lineno)]
    inliner.document.settings.env.note_dependency(str(file))
    return [nodes.Text(value)], []


def setup(app):
    app.add_role("measured", measured)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
