"""The README's code runs as it stands, and its tables say what the code and the results say."""

import csv
import re
from pathlib import Path

import pytest
import sklearn
from _estimators import public_modules

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results" / "default_rule" / "singles.csv"
METHODS = {
    "maximum softmax probability": "MSP",
    "5 nearest neighbours": "KNN 5",
    "Mahalanobis++ of all layers": "Mahalanobis++, all layers, mean",
    "activation patterns of all layers": "NAP, all layers, mean",
    "`make_monitor`": "whole rule",
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_readme_code_runs_and_finds_the_held_out_digits(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 3
    names = {}
    with sklearn.config_context(display="text"):
        for block in blocks:
            exec(compile(block, str(README), "exec"), names)
    assert names["search"].best_score_ > 0.8
    assert (tmp_path / "monitor.onnx").exists()


def section(title):
    return README.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(text):
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return rows[0], rows[2:]


def test_the_table_of_methods_names_every_detector_and_shaping_method():
    listed = set(re.findall(r"`(\w+)`", section("Methods")))
    modules = {module.__name__: module for module in public_modules()}
    classes = {
        name
        for module in modules.values()
        for name in module.__all__
        if name.endswith(("Detector", "Classifier")) and not name.startswith("Base")
    }
    shaping = {name for name in modules["skood.shaping"].__all__ if name.isupper()} | {
        "LINe",
        "ReAct",
    }
    assert classes | shaping <= listed
    public = {name for module in modules.values() for name in module.__all__}
    assert listed - public == {"make_monitor"} - public


def test_the_table_of_results_says_what_was_measured():
    with RESULTS.open(encoding="utf-8", newline="") as source:
        measured = {
            (row["Method"], row["Networks"]): row["AUROC, confirmation"].split(" ")[0]
            for row in csv.DictReader(source)
        }
    _, rows = table(section("How good it is"))
    assert rows
    for detector, *figures in rows:
        name = METHODS.get(detector, detector)
        kinds = ("images", "tables", "tokens")
        assert [figure.strip("*") for figure in figures] == [measured[name, kind] for kind in kinds]
