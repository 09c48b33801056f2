"""The examples of the gallery: each has its place, and what the site needs of it."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(ROOT.glob("examples/*/plot_*.py"))
if not EXAMPLES or not (ROOT / "docs" / "_ext").is_dir():
    pytest.skip("the documentation is not installed", allow_module_level=True)

NAMES = [path.relative_to(ROOT / "examples").as_posix() for path in EXAMPLES]
each_example = pytest.mark.parametrize("path", EXAMPLES, ids=NAMES)


@pytest.fixture
def order(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    monkeypatch.delitem(sys.modules, "gallery_order", raising=False)
    return __import__("gallery_order").ORDER


def test_every_example_has_one_place_in_the_order_of_the_gallery(order):
    named = [f"{section}/plot_{name}.py" for section, names in order.items() for name in names]
    assert sorted(named) == NAMES


def test_every_section_has_a_header_with_a_label_and_a_title(order):
    for section in order:
        header = (ROOT / "examples" / section / "GALLERY_HEADER.rst").read_text(encoding="utf-8")
        assert re.match(rf"\.\. _gallery_{section}:\n\n(.+)\n=+\n\n\w", header)


@each_example
def test_an_example_begins_with_a_title_and_shows_figures(path):
    source = path.read_text(encoding="utf-8")
    assert re.match(r"(=+)\n.+\n\1\n\n\S", ast.get_docstring(ast.parse(source), clean=True))
    assert "plt.show()" in source or "Display" in source


@each_example
def test_an_example_downloads_nothing(path):
    source = path.read_text(encoding="utf-8")
    assert not re.findall(r"\bfetch_\w+|\burlopen\b|\brequests\b|from_pretrained", source)


def test_examples_that_pages_and_docstrings_link_to_exist():
    pages = [*ROOT.glob("docs/*.rst"), *ROOT.glob("docs/[uar]*/*.rst"), *ROOT.glob("README.md")]
    for path in [*pages, *ROOT.glob("skood/**/*.py"), *EXAMPLES]:
        if "generated" in path.parts or "auto_examples" in path.parts:
            continue
        for link in re.findall(r"sphx_glr_auto_examples_(\w+)\.py", path.read_text("utf-8")):
            found = [name for name in NAMES if name.replace("/", "_") == f"{link}.py"]
            assert found, f"{path.name} links to {link}"
