"""Layer activation patterns on MNIST: ten findings of a thesis looked for, detectors compared.

    python -m experiments.layer_patterns

reads the image files in the folder that SKOOD_DATA names, trains a network of five hidden layers
on MNIST without the digits 1 and 5, and looks at the digits that it knows, at ones, at fives and at
noise. It prints which findings are seen and how well the detectors separate these sets, and writes
the tables of the site, a report, a figure for each finding and figures of the measures on neurons,
each against the others. A network takes five to ten minutes.

The thesis is V. Demuysere, "Investigating layer activation patterns in neural networks for
classification error detection", master's dissertation, UCLouvain, 2018.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl

from .._common.arguments import find_folders, make_parser
from .._common.tables import write_tables
from .figures import draw_all
from .findings import Finding
from .groups import (
    find_best_cluster_layer,
    find_best_detectors,
    find_clusters,
    find_noise_classes,
    find_progression,
)
from .net import QUICK, Settings
from .neurons import (
    find_active_neurons,
    find_mean_counts,
    find_neuron_accuracies,
    find_weak_neurons,
    find_what_coefficient_adds,
)
from .report import Run, describe, describe_network, make_tables, write_report
from .results import Results, compute

mpl.use("Agg")


def run(settings: Settings, seed: int, figures: Path | None) -> Run:
    """Everything for one network; figures where a folder is named."""
    results = compute(settings, seed)
    if figures is not None:
        draw_all(results, figures)
    return Run(
        seed=seed,
        network=describe_network(results.experiment),
        findings=look_for_findings(results),
        lines=results.lines,
        accuracies=results.accuracies,
    )


def look_for_findings(results: Results) -> list[Finding]:
    experiment, statistics = results.experiment, results.statistics
    return [
        find_active_neurons(experiment),
        find_what_coefficient_adds(results.scores, results.lines),
        find_mean_counts(experiment, statistics),
        find_neuron_accuracies(statistics, experiment.accuracy),
        find_weak_neurons(experiment, statistics),
        find_clusters(results.clusters),
        find_noise_classes(experiment),
        find_best_cluster_layer(results.patterns, results.clusters),
        find_progression(results.samples),
        find_best_detectors(results.lines),
    ]


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("layer_patterns", __doc__)
    parser.add_argument(
        "--widths", type=int, nargs="+", help="of three hidden layers or more, by default 5 of 256"
    )
    parser.add_argument(
        "--pre-activations", action="store_true", help="look at the values before the ReLU"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="one network each, by default 3"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    output, folder = find_folders(arguments)
    settings = QUICK if arguments.quick else Settings()
    settings = replace(
        settings,
        widths=arguments.widths or settings.widths,
        pre_activations=arguments.pre_activations,
    )
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    start = time.perf_counter()
    runs = [run(settings, seed, output if place == 0 else None) for place, seed in enumerate(seeds)]
    about, tables = describe(settings), make_tables(runs)
    report = write_report(runs, about.to_table(), tables, time.perf_counter() - start)
    print("\n" + report)
    (output / "report.md").write_text(report, encoding="utf-8")
    write_tables(folder, about, tables)


if __name__ == "__main__":
    main()
