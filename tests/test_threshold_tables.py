"""The numbers of rows and rates on the page about thresholds are those of the formulas."""

import re
from pathlib import Path

import pytest
from scipy.stats import beta

from skood._conformal import conformal_rank, rows_needed

PAGE = Path(__file__).parents[1] / "docs" / "user_guide" / "held_out_rows.rst"
if not PAGE.exists():
    pytest.skip("the documentation is not installed", allow_module_level=True)

ROWS = re.findall(r"^ {3}\* - ([\d.,]+)\n" + r" {5}- (\S.*)\n" * 3, PAGE.read_text("utf-8"), re.M)
OF_RATES = [row for row in ROWS if row[0].startswith(".")]
OF_NUMBERS = [row for row in ROWS if not row[0].startswith(".")]
SURE = {"guarantee": "training-conditional"}


def test_both_tables_are_found():
    assert len(OF_RATES) == 4
    assert len(OF_NUMBERS) == 5


@pytest.mark.parametrize("row", OF_RATES, ids=lambda row: row[0])
def test_fewest_rows_for_a_rate(row):
    rate = float(row[0])
    expected = [rows_needed(rate), *(rows_needed(rate, **SURE, confidence=c) for c in (0.95, 0.99))]
    assert [int(cell) for cell in row[1:]] == expected


@pytest.mark.parametrize("row", OF_NUMBERS, ids=lambda row: row[0])
def test_rates_of_nine_in_ten_calibration_sets(row):
    n = int(row[0].replace(",", ""))
    ranks = [conformal_rank(n, 0.05), conformal_rank(n, 0.05, **SURE)]
    spreads = [beta.ppf([0.05, 0.95], rank, n + 1 - rank) for rank in ranks]
    shown = [[float(number) for number in cell.split(" to ")] for cell in row[1:3]]
    for found, expected in zip(shown, spreads, strict=True):
        assert found == pytest.approx(expected, abs=0.00051)
    assert float(row[3]) == pytest.approx(ranks[1] / (n + 1), abs=0.00051)
