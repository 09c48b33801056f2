"""Tables of results: what the site and the README show is what the experiments wrote."""

import csv
import importlib.util
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from experiments._common.tables import ABOUT, Measured, Table, write_tables
from experiments._common.timing import format_number

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.rst"))
    if not {"_build", "auto_examples", "generated"} & set(page.relative_to(DOCS).parts)
]
TABLES = sorted(RESULTS.rglob("*.csv"))
EXPERIMENTS = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/__main__.py"))
# They fit nearly every detector many times: half a minute or more each, however few the rows are.
SLOW = {"auto_layers", "cifar_shaping", "default_rule", "layer_patterns", "od_test", "thresholds"}

spec = importlib.util.spec_from_file_location("measured", DOCS / "_ext" / "measured.py")
measured = importlib.util.module_from_spec(spec)
spec.loader.exec_module(measured)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.01234, "0.0123"), (99.96, "100"), (999.6, "1,000"), (1048.2, "1,050")]
)
def test_numbers_of_tables_have_no_exponents(value, shown):
    assert format_number(value) == shown
    assert format_number(110.4, 2) == "110"


@pytest.mark.parametrize("file", TABLES, ids=lambda path: path.stem)
def test_large_numbers_are_written_out(file):
    assert not re.search(r"\de\+\d", file.read_text(encoding="utf-8"))


def name_of(path):
    return str(path.relative_to(DOCS))


def read(file):
    with file.open(encoding="utf-8", newline="") as source:
        return list(csv.reader(source))


def shown_files(page):
    names = re.findall(r"^ *:file: (\S+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [page.parent / name for name in names]


def references(text):
    return re.findall(r":measured:`([^`]+)`", text)


def test_every_table_that_a_page_shows_exists():
    shown = [file for page in PAGES for file in shown_files(page)]
    assert len(shown) > 30
    assert [file for file in shown if not file.is_file()] == []


@pytest.mark.parametrize("table", TABLES, ids=name_of)
def test_a_table_has_named_columns_and_full_rows(table):
    header, *rows = read(table)
    assert all(header)
    assert len(set(header)) == len(header)
    assert rows
    assert {len(row) for row in rows} == {len(header)}
    assert all(row[0] for row in rows)


@pytest.mark.parametrize("folder", sorted({table.parent for table in TABLES}), ids=name_of)
def test_a_folder_says_how_its_tables_were_measured(folder):
    header, *rows = read(folder / "about.csv")
    assert header == list(ABOUT)
    about = dict(rows)
    written = [entry for entry, _ in Measured("", "", "").to_table().rows]
    assert [entry for entry in about if entry != "Origin"] == written
    assert all(about.values())
    assert re.match(r"python -m (experiments\.\w+|benchmarks|zoo)\b", about["Command"])
    assert date.fromisoformat(about["Date"]) > date(2020, 1, 1)
    assert "skood" in about["Versions"]


@pytest.mark.parametrize("folder", sorted({table.parent for table in TABLES}), ids=name_of)
def test_only_transcribed_tables_lack_the_form_that_a_command_writes(folder):
    about = dict(read(folder / "about.csv")[1:])
    is_written = bool(
        re.match(r"Python \d+\.\d+\.\d+, ", about["Versions"])
        and re.search(r", \d+ threads, load \d+\.\d$", about["Machine"])
    )
    assert is_written != ("Origin" in about)
    if not is_written:
        assert re.match(
            rf"transcribed from the report of .* on {about['Date']}, when its script was "
            r"benchmarks/\w+\.py",
            about["Origin"],
        )


def test_the_first_page_of_results_says_which_tables_are_transcribed():
    text = (RESULTS / "index.rst").read_text(encoding="utf-8")
    written, transcribed = re.search(
        r"The\stables\sof(.*?)are those that their commands wrote\.\s+The\stables\sof(.*?)are\s+"
        r"transcribed",
        text,
        flags=re.DOTALL,
    ).groups()
    expected = {True: set(), False: set()}
    for table in RESULTS.rglob("about.csv"):
        is_transcribed = "Origin" in dict(read(table)[1:])
        expected[is_transcribed].add(table.relative_to(RESULTS).parts[0])
    assert set(re.findall(r"``(\w+)``", written)) == expected[False]
    assert set(re.findall(r"``(\w+)``", transcribed)) == expected[True]


@pytest.mark.parametrize("page", sorted(RESULTS.glob("*.rst")), ids=name_of)
def test_a_page_of_results_writes_out_no_table(page):
    text = page.read_text(encoding="utf-8")
    assert "list-table::" not in text
    assert re.findall(r"^ *(?:\+[-=+]+\+|=+ +=[ =]*)$", text, flags=re.MULTILINE) == []
    directives = re.findall(r"csv-table::.*\n((?: +:.*\n)*)", text)
    assert all(":file:" in options for options in directives)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if references(page.read_text(encoding="utf-8"))], ids=name_of
)
def test_numbers_of_a_page_are_cells_of_the_tables(page):
    for reference in references(page.read_text(encoding="utf-8")):
        value, _ = measured.look_up(reference)
        assert re.fullmatch(r"\d+(\.\d+)?( ± \d+(\.\d+)?)?", value)


@pytest.mark.parametrize(
    "reference",
    [
        "mnist_monitor/detectors | no such row | Detector",
        "mnist_monitor/detectors | MSP | no column",
    ],
)
def test_a_number_that_is_no_single_cell_is_refused(reference):
    with pytest.raises(LookupError, match="names no single cell"):
        measured.look_up(reference)


def test_numbers_of_the_readme_are_those_of_the_tables():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    number = r" ([\d.*]+) \|"
    rows = re.findall(rf"^\| ([^|]+) \|{number * 3}$", text, flags=re.MULTILINE)
    shown = {name: tuple(value.strip("*") for value in values) for name, *values in rows}
    names = {
        "maximum softmax probability": "MSP",
        "energy": "energy",
        "fDBD": "fDBD",
        "ViM": "ViM",
        "5 nearest neighbours": "KNN 5",
        "Mahalanobis++": "Mahalanobis++",
        "Mahalanobis++ of all layers": "Mahalanobis++, all layers, mean",
        "activation patterns of all layers": "NAP, all layers, mean",
        "`make_monitor`": "whole rule",
    }
    table = "default_rule/singles"
    expected = {
        name: tuple(
            measured.look_up(f"{table} | {detector} | {kind} | AUROC, confirmation")[0].split()[0]
            for kind in ("images", "tables", "tokens")
        )
        for name, detector in names.items()
    }
    assert shown == expected


def test_ratios_of_the_readme_are_those_of_the_tables():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    low, high = re.search(r"takes ([\d.]+) to ([\d.]+) times the bare forward pass", text).groups()
    ratios = [row[2] for row in read(RESULTS / "speed" / "extraction" / "ratios.csv")[1:]]
    assert [low, high] == sorted(ratios)
    grid = measured.look_up("speed/grid/ratios | AutoNAPDetector.fit | Ratio of times")[0]
    assert "less than a fifth of one extraction" in text
    assert float(grid) < 0.2


def test_written_tables_are_read_back(tmp_path):
    table = Table(["Name, in full", "Value"], [["a, b", "0.5"], ['"c"', ""]])
    write_tables(
        tmp_path / "run", Measured("digits", "5", "none", packages=["skood"]), {"t": table}
    )
    assert read(tmp_path / "run" / "t.csv") == [table.header, *table.rows]
    about = dict(read(tmp_path / "run" / "about.csv")[1:])
    assert about["Data"] == "digits"
    assert about["Date"] == date.today().isoformat()
    assert "skood 0" in about["Versions"]


def run(*arguments):
    # What experiments reach of the package says nothing of its tests: no coverage is measured.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    environment |= {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def marked_if_slow(name):
    return pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))


@pytest.mark.parametrize("name", list(map(marked_if_slow, EXPERIMENTS)))
def test_an_experiment_writes_the_tables_that_the_site_shows(name, tmp_path):
    for library in ("torch", "skorch", "matplotlib"):
        pytest.importorskip(library)
    if not os.environ.get("SKOOD_DATA"):
        pytest.skip("SKOOD_DATA names no folder with the files")
    arguments = (f"experiments.{name}", "--quick", "--output", str(tmp_path))
    finished = run(*arguments)
    assert finished.returncode == 0, finished.stderr
    written = tmp_path / "tables"
    assert list(written.rglob("*.csv"))
    for file in written.rglob("*.csv"):
        published = RESULTS / name / file.relative_to(written)
        # The tables of some runs are not shown.
        if published.exists() and file.name != "about.csv":
            compare_form(read(file), read(published), few_layers=name == "layer_patterns")
    about = dict(read(next(written.rglob("about.csv")))[1:])
    assert about["Command"].startswith(f"python -m experiments.{name} --quick")


def compare_form(written, published, *, few_layers):
    """The same columns, and all rows; ``--quick`` trains one network, of few layers."""
    n_columns = len(written[0])
    assert written[0] == published[0][:n_columns]
    assert n_columns == len(published[0]) or published[0][n_columns] in ("Seed 1", "Network 2")
    missing = {row[0] for row in published} - {row[0] for row in written}
    if few_layers:
        missing -= {"1", "2", "cluster distance, relu4", "cluster distance, relu5"}
    assert not missing


def test_benchmarks_write_the_tables_that_the_site_shows(tmp_path):
    pytest.importorskip("torch")
    finished = run("benchmarks", "--check", "--only", "grid", "line", "--tables", str(tmp_path))
    assert finished.returncode == 0, finished.stderr
    for table in ("grid/ratios", "line/memory"):
        published = read(RESULTS / "speed" / f"{table}.csv")
        assert read(tmp_path / f"{table}.csv")[0] == published[0]
