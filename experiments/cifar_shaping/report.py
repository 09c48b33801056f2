"""The report of the CIFAR benchmark, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray

import skood

from .._common.markdown import list_lines, table
from .._common.quality import BySet, Quality, cell, mean_over
from .activations import Settings
from .data import N_NOISE, NOISES, TRAIN, Task
from .line import DELTAS, OVERLAP, delta_name
from .published import CIFAR, IMAGENET_STEPS, IMAGENET_THRESHOLDS, SOURCE
from .results import Results


def write_report(all_results: Sequence[Results], settings: Settings, seconds: float) -> str:
    parts = [
        "# Outputs, features and shaping on CIFAR",
        describe(settings, seconds),
        "## What differs from the published figures",
        list_differences(all_results),
        *(part for results in all_results for part in report_task(results)),
        *report_sharing({results.task.title: results.sharing for results in all_results}),
    ]
    return "\n\n".join(parts) + "\n"


def describe(settings: Settings, seconds: float) -> str:
    lines = [
        "Networks: the DenseNets with 100 layers of the authors of DICE, one trained on CIFAR-10 "
        "and one on CIFAR-100.",
        "Every cell is FPR95 / AUROC in percent. FPR95 is the share of OOD images accepted where "
        "95 % of the test images are: in-distribution is the positive class, and lower is better.",
        f"Up to {settings.n_samples:,} images of each set, drawn at random (seed "
        f"{settings.seed}); {N_NOISE:,} of each kind of noise; {settings.n_odin:,} for ODIN (*), "
        "which runs the network backwards too.",
        f"skood {skood.__version__}, torch {torch.__version__}, scikit-learn "
        f"{sklearn.__version__}, NumPy {np.__version__}; {seconds:.0f} s, without what an earlier "
        "run extracted.",
    ]
    return list_lines(lines)


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
        "Nothing is tuned on OOD images. Parameters are the defaults of skood, but for LINe's "
        "percentiles, which are published for each network, and the 30 of the NAP ensembles.",
    ]
    return list_lines(lines)


def report_task(results: Results) -> list[str]:
    task = results.task
    return [
        f"## {task.title}",
        f"{describe_accuracies(results)} Near sets: {', '.join(task.near)}. Far sets: "
        f"{', '.join(task.far)}. Noise, which the mean leaves out: {', '.join(NOISES)}.",
        tabulate_groups(results.by_method, task, CIFAR[task.name]),
        f"Each set of OOD images, {task.title}:",
        tabulate_sets(results.by_method, task),
        f"### Steps of LINe, {task.title}",
        "The last column is what its authors report for a ResNet-50 on ImageNet.",
        tabulate_groups(results.steps, task, IMAGENET_STEPS),
        f"### Threshold of LINe, {task.title}",
        "The last column is the FPR95 that they report there.",
        tabulate_groups(
            {delta_name(delta): results.thresholds[delta] for delta in DELTAS},
            task,
            IMAGENET_THRESHOLDS,
        ),
    ]


def report_sharing(by_net: Mapping[str, NDArray]) -> list[str]:
    rows = [
        [f"{title}, {len(shares)} classes", *(f"{100 * s:.1f}" for s in np.nanmean(shares, axis=0))]
        for title, shares in by_net.items()
    ]
    return [
        "## What the classes share",
        "Of a class's top 10 % of the neurons, the share that is among the top ones of more than a "
        "share of the classes, in percent: mean over the classes.",
        table(["", *(f"more than {100 * level:g} %" for level in OVERLAP)], rows),
    ]


def describe_accuracies(results: Results) -> str:
    parts = []
    for subset, known in results.task.accuracies.items():
        found = results.accuracies[subset]
        parts.append(
            f"{found.value:.2%} of {found.n_images:,} {subset} images (known: {known.value:.2%} "
            f"of {known.n_images:,})"
        )
    return f"The network is right for {' and '.join(parts)}."


def tabulate_groups(
    by_name: Mapping[str, BySet], task: Task, published: Mapping[str, Quality | float]
) -> str:
    """Means over groups of sets; a variant stands beside the published figure of its method."""
    rows = []
    for name, by_set in by_name.items():
        method = name.split(",")[0].rstrip("*")
        means = (mean_over(by_set, names) for names in task.groups.values())
        rows.append([name, *map(cell, means), cell(published.get(method))])
    return table(["", *task.groups, "published"], rows)


def tabulate_sets(by_name: Mapping[str, BySet], task: Task) -> str:
    rows = [
        [name, *(cell(by_set[outside]) for outside in task.outside)]
        for name, by_set in by_name.items()
    ]
    return table(["", *task.outside], rows)
