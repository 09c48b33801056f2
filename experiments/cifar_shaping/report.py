"""The report of the CIFAR experiment, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .._common.quality import BySet, Quality, mean_over
from .._common.tables import Measured, Table, list_lines
from .activations import Settings
from .data import N_NOISE, NOISES, TEST, TRAIN, Task
from .line import DELTAS, OVERLAP, delta_name
from .published import CIFAR, IMAGENET_STEPS, IMAGENET_THRESHOLDS, SOURCE
from .results import Results

SETTINGS = (
    "a DenseNet of 100 layers, trained by the authors of DICE; parameters are the defaults of "
    "skood, but for LINe's percentiles and threshold, which are published for each network, and "
    "the percentile 30 of the NAP ensembles"
)


def make_tables(results: Results) -> dict[str, Table]:
    """The tables of the site, about one network."""
    task, by_delta = results.task, results.thresholds
    return {
        "methods": tabulate_methods(results.by_method, task),
        "sets": tabulate_sets(results.by_method, task),
        "steps": tabulate_steps(results.steps, task, IMAGENET_STEPS),
        "thresholds": tabulate_steps(
            {delta_name(delta): by_delta[delta] for delta in DELTAS}, task, IMAGENET_THRESHOLDS
        ),
    }


def describe(results: Results, settings: Settings) -> Measured:
    task, accuracies = results.task, results.accuracies
    train, test = accuracies[TRAIN], accuracies[TEST]
    return Measured(
        data=f"{task.title}; near: {', '.join(task.near)}; far: {', '.join(task.far)}; noise: "
        f"{', '.join(NOISES)}",
        samples=f"detectors {train.n_images:,} training images; test {test.n_images:,} images, of "
        f"which the network is right on {test.value:.1%}; up to {settings.n_samples:,} images of "
        f"each other kind, {N_NOISE:,} of each noise; {settings.n_odin:,} of each for ODIN (*)",
        settings=f"{SETTINGS}; seed {settings.seed}",
    )


def describe_sharing(by_net: Mapping[str, NDArray], settings: Settings) -> Measured:
    return Measured(
        data=" and ".join(by_net),
        samples=f"at most {settings.n_train:,} training images",
        settings=f"the networks of the other tables, seed {settings.seed}",
    )


def write_report(
    all_results: Sequence[Results],
    abouts: Sequence[Table],
    all_tables: Sequence[Mapping[str, Table]],
    sharing: Table,
    seconds: float,
) -> str:
    parts = [
        "# Outputs, features and shaping on CIFAR",
        "Every figure is in percent. FPR95 is the share of OOD images accepted where 95 % of the "
        "test images are: in-distribution is the positive class, and lower is better. "
        f"{seconds:.0f} s, without what an earlier run extracted.",
        "## What differs from the published figures",
        list_differences(all_results),
    ]
    for results, about, tables in zip(all_results, abouts, all_tables, strict=True):
        parts += report_task(results, about, tables)
    return "\n\n".join([*parts, *report_sharing(sharing)]) + "\n"


def list_differences(all_results: Sequence[Results]) -> str:
    learnt = " and ".join(f"{r.accuracies[TRAIN].n_images:,} ({r.task.title})" for r in all_results)
    lines = [
        f"Published: {SOURCE}, for the same networks. The figures are means over SVHN, Textures, "
        "iSUN, LSUN (cropped), LSUN (resized) and Places.",
        "None of these sets is here but a part of the textures, 6 of 47 classes. The near sets "
        "are harder than the published ones. Compare the order of the methods, not their figures.",
        "CIFAR-10 and CIFAR-100 have no class in common, but similar ones, such as truck and "
        "pickup truck.",
        f"Means, covariances, neighbours and patterns come from {learnt} training images rather "
        "than 50,000. DICE is also run with the published means of all 50,000.",
        "ReAct clips at the percentile 90 of the training features, as its authors do for other "
        "networks. It is also run with the threshold 1.0, which LINe has for both networks.",
        "Nothing is tuned on OOD images.",
    ]
    return list_lines(lines)


def report_task(results: Results, about: Table, tables: Mapping[str, Table]) -> list[str]:
    title = results.task.title
    return [
        f"## {title}",
        about.to_markdown(),
        describe_accuracies(results),
        tables["methods"].to_markdown(),
        f"AUROC of each set of OOD images, {title}:",
        tables["sets"].to_markdown(),
        f"### Steps of LINe, {title}",
        "Means over near and far sets; the last columns are what its authors report for a "
        "ResNet-50 on ImageNet.",
        tables["steps"].to_markdown(),
        f"### Threshold of LINe, {title}",
        tables["thresholds"].to_markdown(),
    ]


def report_sharing(sharing: Table) -> list[str]:
    return [
        "## What the classes share",
        "Of a class's top 10 % of the neurons, the share that is among the top ones of more than a "
        "share of the classes, in percent: mean over the classes.",
        sharing.to_markdown(),
    ]


def describe_accuracies(results: Results) -> str:
    parts = []
    for subset, known in results.task.accuracies.items():
        found = results.accuracies[subset]
        parts.append(
            f"{found.value:.2%} of {found.n_images:,} {subset} images (known: {known.value:.2%} "
            f"of {known.n_images:,})"
        )
    return f"The network is right on {' and '.join(parts)}."


def tabulate_methods(by_method: Mapping[str, BySet], task: Task) -> Table:
    """Means over groups of sets; a variant stands beside the published figure of its method."""
    measures = ("FPR95", "AUROC")
    header = [f"{measure}, {group}" for group in ("near", "far") for measure in measures]
    published = [f"{measure}, published" for measure in measures]
    rows = []
    for name, by_set in by_method.items():
        near, far, noise = (mean_over(by_set, task.groups[g]) for g in ("near", "far", "noise"))
        method = name.split(",")[0].rstrip("*")
        cells = [*format_quality(near), *format_quality(far), f"{noise.auroc:.1f}"]
        rows.append([name, *cells, *format_quality(CIFAR[task.name].get(method))])
    return Table(["Method", *header, "AUROC, noise", *published], rows)


def tabulate_sets(by_method: Mapping[str, BySet], task: Task) -> Table:
    """AUROC of each set."""
    rows = [
        [name, *(f"{by_set[outside].auroc:.1f}" for outside in task.outside)]
        for name, by_set in by_method.items()
    ]
    return Table(["Method", *task.outside], rows)


def tabulate_steps(
    by_name: Mapping[str, BySet], task: Task, published: Mapping[str, Quality | float]
) -> Table:
    """Means over near and far sets."""
    rows = []
    for name, by_set in by_name.items():
        quality = mean_over(by_set, task.groups["mean"])
        rows.append([name, *format_quality(quality), *format_quality(published.get(name))])
    return Table(
        ["LINe", "FPR95", "AUROC", "FPR95, published, ImageNet", "AUROC, published, ImageNet"],
        rows,
    )


def tabulate_sharing(by_net: Mapping[str, NDArray]) -> Table:
    rows = [
        [f"{title}, {len(shares)} classes", *(f"{100 * s:.1f}" for s in np.nanmean(shares, axis=0))]
        for title, shares in by_net.items()
    ]
    return Table(["Network", *(f"more than {100 * level:g} %" for level in OVERLAP)], rows)


def format_quality(quality: Quality | float | None) -> tuple[str, str]:
    """FPR95, and AUROC where it is known."""
    if quality is None:
        return "", ""
    if isinstance(quality, Quality):
        return f"{quality.fpr95:.1f}", f"{quality.auroc:.1f}"
    return f"{quality:.1f}", ""
