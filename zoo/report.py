"""The tables of the site, made of findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from experiments._common.tables import Measured, Table

from .examine import Finding, find_faults
from .specimen import N_CLASSES, N_OTHERS, N_SAMPLES, Specimen

PACKAGES = (
    "skood",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "peft",
    "pytorch-lightning",
    "datasets",
    "torch_geometric",
    "scikit-learn",
    "numpy",
)
MEASURED = Measured(
    data="random images, texts of random tokens with an attention mask, random sounds and graphs",
    samples=f"fitted on {N_SAMPLES}, in one batch; {N_OTHERS} others; {N_CLASSES} classes",
    settings="random weights; a ratio of times, of the process, is a median over turns",
    packages=PACKAGES,
)
LIBRARIES = ("torchvision", "timm", "transformers")
OTHERS = "others"
Examined = Sequence[tuple[Specimen, Finding]]

SUMMARY_HEADER = [
    "Library",
    "Networks",
    "As expected",
    "Logits as in a direct call",
    "Unchanged",
    "Monitor runs",
    "Head",
    "Layers, median",
    "Layers, most",
    "Ratio of times, median",
    "Ratio of times, largest",
]


def make_tables(examined: Examined) -> dict[str, Table]:
    """One for each large library, the summary, and the reasons why there is no head."""
    groups = group_by_library(examined)
    tables = {group: tabulate_nets(members) for group, members in groups.items()}
    return tables | {"summary": summarise(groups), "heads": tabulate_heads(examined)}


def group_by_library(examined: Examined) -> dict[str, Examined]:
    """The networks of each large library, and those of all others in one group."""
    groups: dict[str, list[tuple[Specimen, Finding]]] = {}
    for specimen, finding in examined:
        group = specimen.library if specimen.library in LIBRARIES else OTHERS
        groups.setdefault(group, []).append((specimen, finding))
    return dict(groups)


def tabulate_nets(examined: Examined) -> Table:
    header = [
        "Network",
        "Layers",
        "Left out",
        "Head",
        "Monitor",
        "Ratio of times",
        "Not as expected",
    ]
    return Table(
        header,
        [
            [
                specimen.name,
                str(len(finding.layers)),
                str(len(finding.left_out)),
                "yes" if finding.head else "none",
                describe_monitor(specimen, finding),
                format_ratio(finding.ratio),
                "; ".join(describe_faults(specimen, finding)),
            ]
            for specimen, finding in examined
        ],
    )


def describe_faults(specimen: Specimen, finding: Finding) -> list[str]:
    known = [f"known: {specimen.known}"] if specimen.known else []
    return known + find_faults(finding, specimen)


def describe_monitor(specimen: Specimen, finding: Finding) -> str:
    return "refused" if specimen.refusal else "runs" if finding.monitor else "fails"


def summarise(by_library: Mapping[str, Examined]) -> Table:
    """How many networks are read as they should be, and how many have what."""
    everything = [pair for members in by_library.values() for pair in members]
    groups = [*by_library.items(), ("all", everything)]
    return Table(SUMMARY_HEADER, [[name, *_count(members)] for name, members in groups])


def _count(examined: Examined) -> list[str]:
    findings = [finding for _, finding in examined]
    n_layers = [len(finding.layers) for finding in findings]
    ratios = [finding.ratio for finding in findings if finding.ratio is not None]
    counts = [
        len(findings),
        sum(not find_faults(finding, specimen) for specimen, finding in examined),
        sum(finding.logits_equal for finding in findings),
        sum(not finding.changes for finding in findings),
        sum(finding.monitor for finding in findings),
        sum(bool(finding.head) for finding in findings),
        int(median(n_layers)),
        max(n_layers),
    ]
    return [
        *map(str, counts),
        format_ratio(median(ratios) if ratios else None),
        format_ratio(max(ratios, default=None)),
    ]


def tabulate_heads(examined: Examined) -> Table:
    """The networks without a head, and why they have none."""
    rows = [[finding.name, finding.why_no_head] for _, finding in examined if finding.why_no_head]
    return Table(["Network", "Why it has no head"], rows or [["none", ""]])


def format_ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
