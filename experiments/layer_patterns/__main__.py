"""Layer activation patterns on MNIST: ten findings of a thesis looked for, detectors compared.

    python -m experiments.layer_patterns

reads the image files in the folder that SKOOD_DATA names, trains a network of five hidden layers
on MNIST without the digits 1 and 5, and looks at the digits that it knows, at ones, at fives and at
noise. It prints which findings are seen and how well the detectors tell these sets apart,
and writes the same to ``report.md`` in the folder ``--output``, with a figure for each finding
and figures of the measures on neurons, each against the others.

The thesis is V. Demuysere, "Investigating layer activation patterns in neural networks for
classification error detection", master's dissertation, UCLouvain, 2018.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib as mpl

from .figures import draw_all
from .findings import Finding
from .groups import (
    find_best_cluster_layer,
    find_best_detectors,
    find_clusters,
    find_noise_classes,
    find_progression,
)
from .net import Settings
from .neurons import (
    find_active_neurons,
    find_mean_counts,
    find_neuron_accuracies,
    find_weak_neurons,
    find_what_coefficient_adds,
)
from .report import Run, describe_sets, write_report
from .results import Results, compute

mpl.use("Agg")


def run(settings: Settings, seed: int, figures: Path | None) -> Run:
    """Everything for one network; figures where a folder is named."""
    results = compute(settings, seed)
    if figures is not None:
        draw_all(results, figures)
    return Run(
        seed=seed,
        description=describe_sets(results.experiment),
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--widths", type=int, nargs="+", default=[256] * 5, help="of three hidden layers or more"
    )
    parser.add_argument(
        "--pre-activations", action="store_true", help="look at the values before the ReLU"
    )
    parser.add_argument("--n-fit", type=int, default=20_000, help="digits that detectors learn")
    parser.add_argument("--n-noise-drawn", type=int, default=5_000)
    parser.add_argument("--n-noise", type=int, default=2_000, help="noise images used, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one network each")
    parser.add_argument("--output", type=Path, default=Path("experiments/output/layer_patterns"))
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        widths=arguments.widths,
        pre_activations=arguments.pre_activations,
        n_fit=arguments.n_fit,
        n_noise_drawn=arguments.n_noise_drawn,
        n_noise=arguments.n_noise,
    )
    start = time.perf_counter()
    runs = [
        run(settings, seed, arguments.output if place == 0 else None)
        for place, seed in enumerate(arguments.seeds)
    ]
    report = write_report(runs, settings, time.perf_counter() - start)
    print("\n" + report)
    (arguments.output / "report.md").write_text(report)


if __name__ == "__main__":
    main()
