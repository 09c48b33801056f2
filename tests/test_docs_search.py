"""The search of the site shows the page on thresholds first for the words of users.

Sphinx gives the highest score to the main entries of the index, which the terms of the glossary are
too, and orders pages of equal scores by their titles.
"""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [*DOCS.glob("*.rst"), *DOCS.glob("user_guide/*.rst"), *DOCS.glob("results/*.rst")]
if not PAGES:
    pytest.skip("the documentation is not installed", allow_module_level=True)

PAGE = "Choosing a threshold"


def title_of(text):
    return re.search(r"^(=+)\n(.+)\n\1$", text, flags=re.MULTILINE)[2]


def main_entries(text):
    directives = re.findall(r"^\.\. index::((?:.+\n)+)", text, flags=re.MULTILINE)
    marked = [entry.strip() for found in directives for entry in found.split(",")]
    terms = re.findall(r"^ {3}(\w.*)$", text, flags=re.MULTILINE) if ".. glossary::" in text else []
    return {entry.removeprefix("! ") for entry in marked if entry.startswith("! ")} | set(terms)


@pytest.mark.parametrize(
    "word",
    ["threshold", "thresholds", "false alarm", "false alarms", "false alarm rate", "calibration"],
)
def test_the_page_on_thresholds_comes_first(word):
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    found = [title_of(text) for text in texts if word in main_entries(text)]
    assert PAGE in found
    assert min(found, key=str.lower) == PAGE
