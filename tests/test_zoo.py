"""The harness that reads networks of other people, on networks of a few layers."""

import copy
import csv
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skood import Activations
from zoo.__main__ import choose, examine_all, list_specimens, parse_arguments
from zoo.examine import Finding, _find_twice, examine, find_faults
from zoo.marks import find_changes, take_marks
from zoo.records import add_finding, read_findings
from zoo.report import SUMMARY_HEADER, group_by_library, make_tables, tabulate_nets
from zoo.specimen import N_CLASSES, N_OTHERS, N_SAMPLES, Case, Specimen, stir
from zoo.transformers_nets import make_texts

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "zoo"


def make_network():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, N_CLASSES),
    )


def make_case(network=None, size=8):
    images = torch.randn(N_SAMPLES + N_OTHERS, 3, size, size)
    return Case(network or make_network(), images[:N_SAMPLES], images[N_SAMPLES:])


def examine_network(network, **expected):
    specimen = Specimen("torch/net", lambda: make_case(network), **expected)
    finding = examine(specimen, repetitions=1)
    return finding, find_faults(finding, specimen)


def test_a_network_that_is_read_as_it_should_be_has_no_fault():
    finding, faults = examine_network(make_network(), layers=("2",))
    assert faults == []
    assert "2" in finding.layers
    assert finding.head == "penultimate"
    assert finding.why_no_head == ""
    assert finding.n_parameters == 3 * 4 * 9 + 4 + 2 * 4 + 4 * N_CLASSES + N_CLASSES
    assert finding.n_compared == 1
    assert finding.logits_equal
    assert finding.monitor
    assert finding.ratio > 0
    assert finding.changes == []


class OfTwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.first, self.second = make_network(), nn.Linear(8, 10), nn.Linear(8, 10)
        self.body[6] = nn.Linear(4, 8)

    def forward(self, x):
        x = self.body(x)
        return (self.first(x) + self.second(x.relu())) / 2


def test_layers_and_heads_that_are_missing_or_too_many_are_faults():
    _, faults = examine_network(make_network(), layers=("block*", "2"), has_head=False)
    assert faults == [
        "no layer fits ['block*']",
        "penultimate was taken for the input of a head",
    ]
    network = OfTwoHeads()
    finding, faults = examine_network(network)
    assert finding.head == ""
    assert finding.why_no_head
    assert faults == [f"no head was found: {finding.why_no_head}"]
    assert examine_network(network, has_head=False)[1] == []


class Leaky(nn.Module):
    """Changes its weights when it is called for the fourth time, as no copy of it was."""

    def __init__(self):
        super().__init__()
        self.body, self.n_calls = make_network(), 0

    def forward(self, x):
        self.n_calls += 1
        if self.n_calls == 4:
            with torch.no_grad():
                self.body[0].weight.add_(1)
        return self.body(x)


def test_what_is_changed_and_what_differs_then_is_found():
    finding, faults = examine_network(Leaky())
    assert finding.changes == ["content of body.0.weight"]
    # Whether this is refused or seen as other logits, it is not as expected.
    assert faults


def test_layers_that_hold_the_same_are_found():
    values = np.random.default_rng(0).normal(size=(4, 6))
    A = Activations(
        {"a": values, "b": values + 1, "c": values.copy(), "d": values.reshape(4, 3, 2)}
    )
    assert _find_twice(A) == ["c"]


class OfOneSize(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = make_network()

    def forward(self, x):
        if len(x) == N_OTHERS:
            raise RuntimeError("too few\nof them")
        return self.body(x)


def test_a_step_that_fails_is_named_and_the_others_are_done():
    finding, faults = examine_network(OfOneSize())
    (fault,) = faults
    assert fault.startswith("decisions: ")
    assert "RuntimeError: too few" in fault
    assert not finding.monitor
    assert finding.logits_equal
    assert finding.ratio > 0


def test_a_network_that_cannot_be_made_or_called_is_a_finding():
    def make():
        raise ImportError("No module named 'timm'")

    specimen = Specimen("timm/net", make)
    finding = examine(specimen)
    assert find_faults(finding, specimen) == ["make: ImportError: No module named 'timm'"]
    nan = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, N_CLASSES))
    nan[1].weight.data[0, 0] = torch.nan
    _, faults = examine_network(nan)
    assert faults == ["direct call: ValueError: the logits are not finite"]


def test_a_known_fault_is_said_but_is_not_unexpected():
    sound = {"logits_equal": True, "head": "x", "monitor": True}
    specimen = Specimen("a/b", make_case, known="padding changes values")
    finding = Finding("a/b", **sound, padding=0.1)
    assert find_faults(finding, specimen) == []
    assert tabulate_nets([(specimen, finding)]).rows[0][-1] == "known: padding changes values"
    mended = Finding("a/b", **sound, padding=0.0)
    assert find_faults(mended, specimen) == ["no longer so: padding changes values"]


def test_a_refusal_may_be_what_is_expected():
    specimen = Specimen("a/b", make_case, refusal="pass dense ones")
    refused = Finding("a/b", errors={"extraction": "TypeError: graphs; pass dense ones"})
    assert find_faults(refused, specimen) == []
    assert tabulate_nets([(specimen, refused)]).rows[0][4] == "refused"
    other = Finding("a/b", errors={"extraction": "KeyError: x"})
    assert find_faults(other, specimen) == ["'pass dense ones' is not in 'KeyError: x'"]
    read = Finding("a/b", logits_equal=True, head="x", monitor=True)
    assert find_faults(read, specimen) == ["'pass dense ones' is not in 'no error'"]


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({"logits_equal": False}, "the logits differ from those of a direct call"),
        ({"wrong_layers": ["a"]}, "layers ['a'] differ from what a hook sees"),
        ({"logits_among_layers": ["a"]}, "['a'] are the logits"),
        ({"twice": ["a"]}, "['a'] hold what other layers hold"),
        ({"layers": [str(n) for n in range(100)]}, "100 layers are too many"),
        ({"head_error": 0.1}, "the head does not reproduce the logits"),
        ({"changes": ["a.weight"]}, "changed: a.weight"),
        ({"padding": 0.1}, "padding changes values"),
        ({"errors": {"head": "ValueError: no"}}, "head: ValueError: no"),
    ],
)
def test_each_kind_of_fault_is_said(entry, fault):
    sound = {"logits_equal": True, "head": "penultimate", "monitor": True, "padding": 0.0}
    specimen = Specimen("a/b", make_case)
    assert find_faults(Finding("a/b", **sound), specimen) == []
    assert find_faults(Finding("a/b", **(sound | entry)), specimen) == [fault]


CHANGES = {
    "content of 0.weight": lambda net: net[0].weight.data.add_(1),
    "content of 1.running_mean": lambda net: net[1].running_mean.fill_(2),
    "1.training": lambda net: setattr(net[1], "training", False),
    "2._forward_hooks": lambda net: net[2].register_forward_hook(lambda *args: None),
    "0._parameters": lambda net: setattr(net[0], "bias", nn.Parameter(net[0].bias.detach())),
    "4.added": lambda net: setattr(net[4], "added", 3),
    "6.out_features": lambda net: setattr(net[6], "out_features", 3),
    "random state of torch": lambda net: torch.rand(1),
    "random state of NumPy": lambda net: np.random.rand(),  # noqa: NPY002
    "random state of Python": lambda net: random.random(),
}


@pytest.mark.parametrize(("name", "change"), CHANGES.items(), ids=CHANGES)
def test_changes_are_found(name, change):
    network = make_network()
    before = take_marks(network)
    assert find_changes(before, take_marks(network)) == set()
    change(network)
    assert find_changes(before, take_marks(network)) == {name}


def test_a_gradient_is_a_change_of_what_it_belongs_to():
    network = make_network()
    before = take_marks(network)
    network[6].weight.grad = torch.ones_like(network[6].weight)
    assert find_changes(before, take_marks(network)) == {"content of 6.weight"}
    assert find_changes(before, take_marks(copy.deepcopy(network))) != set()


def test_weights_that_are_all_the_same_are_stirred_and_others_are_not():
    network = make_network()
    nn.init.zeros_(network[6].weight)
    convolution = network[0].weight.detach().clone()
    stir(network)
    assert torch.equal(network[0].weight, convolution)
    assert len(network[6].weight.unique()) > N_CLASSES
    assert len(network[1].weight.unique()) == 4
    assert network[1].weight.mean().item() == pytest.approx(1, abs=0.3)


def test_texts_have_lengths_that_their_masks_tell():
    texts, padded = make_texts(16, 12), make_texts(16, 12, n_padding=5)
    assert texts["input_ids"].shape == (16, 12)
    assert torch.equal(padded["input_ids"][:, :12], texts["input_ids"])
    assert padded["attention_mask"].shape == (16, 17)
    lengths = texts["attention_mask"].sum(1)
    assert torch.equal(padded["attention_mask"].sum(1), lengths)
    assert lengths.max() == 12
    assert lengths.min() >= 4
    assert torch.equal(texts["input_ids"] != 0, texts["attention_mask"] == 1)
    assert (texts["input_ids"] == 2).sum() == 16


def test_findings_are_read_as_they_were_written(tmp_path):
    file = tmp_path / "new" / "findings.jsonl"
    assert read_findings(file) == {}
    first = Finding("a/b", layers=["x"], left_out={"y": "a gate"}, ratio=1.5)
    second = Finding("a/c", errors={"make": "OSError: no"})
    for finding in (Finding("a/b"), second, first):
        add_finding(file, finding)
    assert read_findings(file) == {"a/b": first, "a/c": second}


def test_a_run_that_was_interrupted_goes_on(tmp_path, capsys):
    made = []

    def make(name):
        made.append(name)
        return make_case()

    specimens = [Specimen(f"a/{name}", lambda name=name: make(name)) for name in "bc"]
    file = tmp_path / "findings.jsonl"
    add_finding(file, Finding("a/b", logits_equal=True, head="x"))
    examined = examine_all(specimens, file, resume=True, repetitions=1)
    assert made == ["c"]
    assert [finding.head for _, finding in examined] == ["x", "penultimate"]
    assert "a/b: 0 layers, 0 left out, head" in capsys.readouterr().out
    examine_all(specimens, file, resume=False, repetitions=1)
    assert made == ["c", "b", "c"]
    assert list(read_findings(file)) == ["a/b", "a/c"]


def test_networks_are_chosen_by_patterns():
    specimens = [Specimen(name, make_case) for name in ("a/net18", "a/net50", "b/net18")]
    chosen = choose(specimens, ["a/*", "*18"])
    assert [specimen.name for specimen in chosen] == ["a/net18", "a/net50", "b/net18"]
    assert choose(specimens, ["b/*"]) == specimens[2:]
    assert choose(specimens, []) == specimens
    with pytest.raises(SystemExit, match="No network fits 'c/"):
        choose(specimens, ["a/*", "c/*"])


def test_options_of_the_command():
    arguments = parse_arguments(["timm/*", "--check", "--resume"])
    assert arguments.patterns == ["timm/*"]
    assert arguments.check
    assert arguments.resume
    assert arguments.tables is None


def test_there_are_networks_of_every_library():
    specimens = list_specimens()
    names = [specimen.name for specimen in specimens]
    assert len(set(names)) == len(names)
    libraries = [specimen.library for specimen in specimens]
    assert libraries.count("torchvision") >= 22
    assert libraries.count("timm") >= 80
    assert libraries.count("transformers") >= 12
    assert set(libraries) >= {"lightning", "peft", "datasets", "torch_geometric"}


def test_a_network_of_timm_is_read_by_the_command(tmp_path):
    pytest.importorskip("timm")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "zoo", "timm/resnet10t", "--check", "--repetitions", "1"]
    finished = subprocess.run(
        [*command, "--output", str(tmp_path)], cwd=ROOT, env=environment, check=False
    )
    assert finished.returncode == 0
    assert list(read_findings(tmp_path / "findings.jsonl")) == ["timm/resnet10t"]


def test_the_summary_counts_what_the_tables_say():
    sound = {"logits_equal": True, "head": "x", "monitor": True, "layers": ["a", "b"]}
    examined = [
        (Specimen("timm/1", make_case), Finding("timm/1", **sound, ratio=1.25)),
        (Specimen("timm/2", make_case), Finding("timm/2", **sound, ratio=1.5, changes=["weight"])),
        (Specimen("b/3", make_case), Finding("b/3", errors={"make": "OSError: no"})),
    ]
    tables = make_tables(examined)
    assert list(tables) == ["timm", "others", "summary", "heads"]
    assert tables["summary"].rows == [
        ["timm", "2", "1", "2", "1", "2", "2", "2", "2", "1.38", "1.50"],
        ["others", "1", "0", "0", "1", "0", "0", "0", "0", "-", "-"],
        ["all", "3", "1", "2", "2", "2", "2", "2", "2", "1.38", "1.50"],
    ]
    assert tables["timm"].rows[1] == ["timm/2", "2", "0", "yes", "runs", "1.50", "changed: weight"]
    assert tables["others"].rows == [["b/3", "0", "0", "none", "fails", "-", "make: OSError: no"]]
    assert tables["heads"].rows == [["none", ""]]


def read(name):
    with (RESULTS / f"{name}.csv").open(encoding="utf-8", newline="") as source:
        return list(csv.reader(source))


def test_the_tables_of_the_site_are_of_these_networks():
    header, *rows = read("summary")
    assert header == SUMMARY_HEADER
    groups = group_by_library([(specimen, None) for specimen in list_specimens()])
    by_library = {
        group: [specimen.name for specimen, _ in members] for group, members in groups.items()
    }
    assert {row[0]: int(row[1]) for row in rows[:-1]} == {
        library: len(names) for library, names in by_library.items()
    }
    for library, names in by_library.items():
        header, *nets = read(library)
        assert header == tabulate_nets([]).header
        assert [net[0] for net in nets] == names
        expected = next(row for row in rows if row[0] == library)
        n_expected = sum(net[-1] == "" or net[-1].startswith("known: ") for net in nets)
        assert n_expected == int(expected[2])
