"""The table on the front page names the best methods, and says where skood is behind."""

import csv
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
FRONT = DOCS / "index.rst"
if not FRONT.exists():
    pytest.skip("the documentation is not installed", allow_module_level=True)


def rows():
    """The references to results of each row of the table, and the row."""
    for row in FRONT.read_text(encoding="utf-8").split("\n   * - ")[1:]:
        text = row.split("\n\n")[0]
        found = re.findall(r":measured:`([^`]+)`", text)
        if found:
            yield [[part.strip() for part in reference.split("|")] for reference in found], text


def value(text):
    return float(text.split(" ")[0]) if text not in ("", "-") else 0.0


def measured(reference):
    """What each method has, in the rows and the column that a reference is to."""
    table, _, *keys, column = reference
    with (DOCS / "results" / f"{table}.csv").open(encoding="utf-8", newline="") as source:
        return {
            row["Method"]: value(row[column])
            for row in csv.DictReader(source)
            if not keys or row["Networks"] == keys[0]
        }


ROWS = [pytest.param(*row, id=row[0][0][0] + row[0][0][-1]) for row in rows() if len(row[0]) == 3]


def test_the_table_has_rows():
    assert len(ROWS) >= 8


@pytest.mark.parametrize(("references", "text"), ROWS)
def test_the_best_other_method_of_a_row_is_the_best(references, text):
    of_skood, msp, best = references
    found = measured(best)
    others = {
        name: auroc
        for name, auroc in found.items()
        if not name.startswith(("monitor", "whole rule", "without ", "MSP"))
    }
    assert found[best[1]] == max(others.values())
    assert ("behind" in text) == (found[of_skood[1]] < max(found[best[1]], found[msp[1]]))
