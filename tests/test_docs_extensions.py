"""What the site adds to Sphinx: links of names, lists of pages, files in Markdown, inventories."""

import importlib
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.exists():
    pytest.skip("the documentation is not installed", allow_module_level=True)
pytest.importorskip("numpydoc")
pytest.importorskip("sphinx")
sys.path.insert(0, str(DOCS / "_ext"))
descriptions, link_names, linked_types, markdown_file, paper_links, result_tables, used_in = map(
    importlib.import_module,
    (
        "descriptions",
        "link_names",
        "linked_types",
        "markdown_file",
        "paper_links",
        "result_tables",
        "used_in",
    ),
)


def addresses(library):
    """Where the objects of a library are described, by role and name."""
    content = (DOCS / "inventories" / f"{library}.inv").read_bytes()
    *_, compressed = content.split(b"\n", 4)
    found = {}
    for line in zlib.decompress(compressed).decode().splitlines():
        name, role, _, address, _ = re.fullmatch(r"(.+) (\S+) (\S+) (\S+) (\S+)", line).groups()
        found[role, name] = address.replace("$", name)
    return found


@pytest.mark.parametrize(
    ("library", "role", "name", "address"),
    [
        (
            "sklearn",
            "py:class",
            "sklearn.neighbors.LocalOutlierFactor",
            "modules/generated/sklearn.neighbors.LocalOutlierFactor.html"
            "#sklearn.neighbors.LocalOutlierFactor",
        ),
        ("torch", "py:class", "torch.nn.Module", "generated/torch.nn.Module.html#torch.nn.Module"),
        ("torch", "py:class", "torch.Tensor", "tensors.html#torch.Tensor"),
        (
            "torch",
            "py:class",
            "torch.utils.data.DataLoader",
            "data.html#torch.utils.data.DataLoader",
        ),
        ("numpy", "std:term", "array_like", "glossary.html#term-array_like"),
        ("python", "py:exception", "ValueError", "library/exceptions.html#ValueError"),
        ("python", "py:class", "pathlib.Path", "library/pathlib.html#pathlib.Path"),
    ],
)
def test_inventories_know_where_objects_are_described(library, role, name, address):
    assert addresses(library)[role, name] == address


def test_types_in_docstrings_link_to_what_exists():
    targets = linked_types.linked_types()
    assert targets["Activations"] == "skood.Activations"
    assert targets["Tensor"] == "torch.Tensor"
    assert targets["None"] == "None"
    for word, target in targets.items():
        if "." not in target or target.startswith(("skood.", ":term:")):
            continue
        name = target.removeprefix(":class:").strip("`")
        library = "python" if name.startswith("pathlib") else name.split(".")[0]
        known = {name for _, name in addresses(library)}
        assert name in known, word


@pytest.mark.parametrize(
    ("word", "unusual"),
    [("GridSearchCV", True), ("train_test_split", True), ("Pipeline", False), ("save", False)],
)
def test_only_unusual_words_stand_for_an_object(word, unusual):
    assert link_names.is_unusual(word) == unusual


@pytest.mark.parametrize(("classes", "linked"), [([], True), (["names-of-others"], False)])
def test_names_in_tables_of_other_libraries_are_no_links(classes, linked):
    from docutils import nodes

    literal = nodes.literal(text="ReAct")
    nodes.table("", nodes.entry("", nodes.paragraph("", "", literal)), classes=classes)
    assert link_names.may_be_linked(literal) == linked


def test_a_missing_value_of_a_table_is_a_dash_and_no_list():
    from docutils.frontend import get_default_settings
    from docutils.parsers.rst import Parser, directives
    from docutils.utils import new_document

    directives.register_directive("result-table", result_tables.ResultTable)
    page = new_document("page", get_default_settings(Parser))
    Parser().parse('.. result-table::\n\n   whole rule,-,"-0.12 ± 0.13",a - b\n', page)
    (row,) = page.findall(lambda node: node.tagname == "row")
    assert [entry.astext() for entry in row] == [
        "whole rule",
        "\N{EN DASH}",
        "-0.12 ± 0.13",
        "a - b",
    ]


def test_pages_that_use_a_name_come_in_the_order_of_use_and_lists_last():
    texts = {
        "user_guide/faq": "KNNDetector " * 9,
        "user_guide/features": ":class:`KNNDetector` and ``KNNDetector(n_neighbors=5)``",
        "user_guide/monitor": "a KNNDetector",
        "user_guide/shaping": "MyKNNDetectors save time",
        "user_guide/deploy": ">>> skood.save(monitor)\n:func:`~skood.save`",
    }
    assert used_in.pages_that_use("skood.detectors.KNNDetector", texts) == [
        "user_guide/features",
        "user_guide/monitor",
        "user_guide/faq",
    ]
    assert used_in.pages_that_use("skood.save", texts) == ["user_guide/deploy"]
    assert used_in.pages_that_use("skood.Activations", texts) == []


def test_markdown_becomes_restructuredtext():
    text = "# Changes\n\nOf all.\n\n## [0.1]\n\n### Added\n\n- `a_b`s of [SPDX](https://spdx.org)\n"
    assert markdown_file.to_rst(text) == [
        "",
        "0.1",
        "===",
        "",
        "Added",
        "-----",
        "",
        r"- ``a_b``\ s of `SPDX <https://spdx.org>`__",
    ]


def test_files_that_style_sheet_and_front_page_name_are_there():
    style = (DOCS / "_static" / "custom.css").read_text(encoding="utf-8")
    files = [DOCS / "_static" / name for name in re.findall(r'url\("([^"]+)"\)', style)]
    front = (DOCS / "index.rst").read_text(encoding="utf-8")
    files += [DOCS / name for name in re.findall(r"image:: (\S+)", front)]
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    files += [DOCS.parent / name for name in re.findall(r'src(?:set)?="([^"]+)"', readme)]
    assert len(files) == 5
    assert all(file.exists() for file in files)


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("ICML 2022. arXiv:2204.06507", ["https://arxiv.org/abs/2204.06507"]),
        ("arXiv:1805.08206.", ["https://arxiv.org/abs/1805.08206"]),
        ("arXiv:1208.0806, doi:10.1007/b106715.", ["https://arxiv.org/abs/1208.0806", "https://doi.org/10.1007/b106715"]),
        ("doi:10.1111/j.2517-6161.1995.tb02031.x", ["https://doi.org/10.1111/j.2517-6161.1995.tb02031.x"]),
        ("doi:10.1023/A:1024068626366", ["https://doi.org/10.1023/A:1024068626366"]),
        ("arXiv: a preprint", []),
    ],
)  # fmt: skip
def test_publications_become_links(text, links):
    parts = paper_links.with_links(text)
    assert "".join(part.astext() for part in parts) == text
    assert [part["refuri"] for part in parts if hasattr(part, "attributes")] == links


def test_descriptions_are_cut_between_words():
    assert descriptions.shortened("one\n two ") == "one two"
    cut = descriptions.shortened("word " * 100)
    assert len(cut) <= descriptions.N_CHARACTERS
    assert cut.endswith("word\N{HORIZONTAL ELLIPSIS}")


def entries_in_the_search(folder):
    """What the search of a built site is given of the index: page, entry and whether it is main."""
    text = (folder / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    return {
        (index["docnames"][page], entry, bool(is_main))
        for entry, places in index["indexentries"].items()
        for page, _, is_main in places
    }


def test_entries_of_pages_that_are_not_read_again_stay_in_the_search(tmp_path):
    source, built = tmp_path / "source", tmp_path / "built"
    (source / "api" / "generated").mkdir(parents=True)
    pages = {
        "index": ".. index:: ! first, second\n\nFirst\n=====\n\nText.\n",
        "other": ".. index:: ! third\n\nOther\n=====\n\nText.\n",
        "api/generated/skood.detectors.KNNDetector": "KNNDetector\n===========\n\nText.\n",
    }
    for name, text in pages.items():
        (source / f"{name}.rst").write_text(":orphan:\n\n" + text)
    (source / "conf.py").write_text('extensions = ["search_entries"]\n')
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", source, built]
    paths = os.pathsep.join(map(str, [DOCS / "_ext", DOCS.parent]))
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run(build, env=environment, check=True)
    reference = "api/generated/skood.detectors.KNNDetector"
    wanted = {("index", "first", True), ("index", "second", False), ("other", "third", True)}
    found = entries_in_the_search(built)
    assert wanted | {(reference, "n_neighbors", False)} <= found
    (source / "other.rst").write_text(":orphan:\n\n" + pages["other"].replace("third", "fourth"))
    subprocess.run(build, env=environment, check=True)
    changed = found - {("other", "third", True)} | {("other", "fourth", True)}
    assert entries_in_the_search(built) == changed
