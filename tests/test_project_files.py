"""Workflows, guides and settings name what exists."""

import re
import tomllib
from pathlib import Path

import pytest

import skood

ROOT = Path(__file__).parents[1]
PACKAGE = Path(skood.__file__).parent
yaml = pytest.importorskip("yaml")

GUIDES = ["README.md", "CONTRIBUTING.md", "AGENTS.md", "RELEASING.md", "docs/install.rst"]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def make_targets():
    return set(re.findall(r"^([a-z-]+):.*##", read("Makefile"), flags=re.MULTILINE))


def named_targets(text):
    """Words after ``make`` in commands, which begin a line, follow a prompt or stand in code."""
    calls = re.findall(r"(?:^|[`$]|run:) *make ((?:[a-z-]+ ?)+)", text, flags=re.MULTILINE)
    return {target for call in calls for target in call.split()}


def workflows():
    return sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("      - run: make lint\n", {"lint"}),
        ("Then `make docs` and\n$ make test CONSTRAINTS=\n", {"docs", "test"}),
        ("   make coverage lint types\nto make a network\n", {"coverage", "lint", "types"}),
    ],
)
def test_named_targets_are_found(text, targets):
    assert named_targets(text) == targets


@pytest.mark.parametrize("name", [*GUIDES, ".ci/run", ".github/pull_request_template.md"])
def test_targets_in_guides_exist(name):
    assert named_targets(read(name)) <= make_targets()


@pytest.mark.parametrize("path", workflows(), ids=lambda path: path.stem)
def test_workflows_call_make_targets_and_nothing_else(path):
    for step in steps(yaml.safe_load(path.read_text(encoding="utf-8"))):
        if "run" in step:
            assert re.fullmatch(r"make [a-z-]+( [A-Z]+=\S*)?", step["run"])
            assert named_targets(step["run"]) <= make_targets()
        else:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])


@pytest.mark.parametrize("path", workflows(), ids=lambda path: path.stem)
def test_workflows_may_only_read_and_end(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())


def test_every_check_runs_in_a_workflow():
    called = set().union(*(named_targets(path.read_text("utf-8")) for path in workflows()))
    assert called >= {"coverage", "test-lowest", "lint", "types", "site-check", "bench-check"}
    assert called >= {"test-slow", "test-dist"}


def test_supported_versions_of_python_are_tested():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    stated = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == stated
    assert project["requires-python"] == f">={stated[0]}"


def test_forms_for_issues_ask_for_the_versions():
    form = yaml.safe_load(read(".github/ISSUE_TEMPLATE/bug_report.yml"))
    asked = [field["attributes"].get("description", "") for field in form["body"]]
    assert any("skood.show_versions()" in text for text in asked)
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_paths_in_guides_exist():
    """The first column of the table of folders, and the files that commands name."""
    folders = re.findall(r"^\| `([\w./]+/)` \|", read("CONTRIBUTING.md"), flags=re.MULTILINE)
    files = [
        path
        for guide in ("CONTRIBUTING.md", "AGENTS.md")
        for path in re.findall(r"pytest (\S+\.py)", read(guide))
    ]
    assert len(folders) > 5
    assert len(files) > 5
    missing = [
        path
        for path in [*folders, *files]
        # The package is elsewhere where the tests run against an installed wheel.
        if not (PACKAGE.parent if path.startswith("skood/") else ROOT).joinpath(path).exists()
    ]
    assert missing == []
