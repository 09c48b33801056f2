"""Run-time monitors of a network on MNIST: alarms for gamma 0 to 3, Gaussians against Hamming.

    python -m experiments.runtime_monitors

reads the image files in the folder that SKOOD_DATA names, and the published weights of the network
in its folder ``models``; without these, or with ``--train``, a network of the same architecture
is trained. The tables are printed and written to ``report.md`` in the folder ``--output``,
with figures and the alarms as ``alarms.csv``.

The alarms are published in C.-H. Cheng, G. Nührenberg, H. Yasuoka, "Runtime monitoring neuron
activation patterns", DATE 2019, arXiv:1809.06573, and Gaussians are compared with Hamming distances
in S. K. Gaddipati, J. Bandlamudi, "Monitoring neuron activations for out of distribution
detection", Hochschule Bonn-Rhein-Sieg, 2020 (slides).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib as mpl

from skood import ActivationExtractor

from .._common.image_sets import read_images
from .alarms import count_all_alarms
from .figures import draw_all
from .groups import compare_groups
from .net import MONITORED, get_net
from .report import Results, save_alarms, write_report
from .scores import compare_all, time_queries
from .sets import Sizes, watch

mpl.use("Agg")

QUICK = Sizes(n_train=6_000, n_test=2_000, n_outside=500, n_compared=100)
N_TIMED = 1_000


def compute(arguments: argparse.Namespace, sizes: Sizes) -> Results:
    start = time.perf_counter()

    def report(done: str) -> None:
        print(f"{time.perf_counter() - start:.0f} s: {done}", flush=True)

    X, y = read_images("mnist", "train")
    X, y = X[: sizes.n_train], y[: sizes.n_train]
    net = get_net(X, y, train_anew=arguments.train, epochs=arguments.epochs, seed=arguments.seed)
    report(f"network ready, {net.origin}")
    watched = watch(net, X, y, sizes, arguments.seed)
    report("activations extracted")
    alarms = count_all_alarms(watched)
    report("alarms counted")
    quality, shares = compare_all(watched, sizes.n_compared)
    report("scores compared")
    groups = compare_groups(watched, arguments.seed)
    report("groups compared")
    extractor = ActivationExtractor(net.module, [MONITORED]).fit(X[:2])
    seconds = time_queries(extractor, X[:N_TIMED], watched)
    return Results(net, watched, alarms, quality, shares, groups, seconds)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="train the network anew")
    parser.add_argument("--epochs", type=int, default=5, help="of training")
    parser.add_argument("--quick", action="store_true", help="use fewer images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("experiments/output/runtime_monitors"))
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    sizes = QUICK if arguments.quick else Sizes()
    start = time.perf_counter()
    results = compute(arguments, sizes)
    report = write_report(results, sizes, time.perf_counter() - start)
    print("\n" + report)
    (arguments.output / "report.md").write_text(report)
    save_alarms(results, arguments.output / "alarms.csv")
    draw_all(results.alarms, results.shares, results.groups, arguments.output)


if __name__ == "__main__":
    main()
