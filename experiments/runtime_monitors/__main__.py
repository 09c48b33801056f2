"""Run-time monitors of a network on MNIST: alarms for gamma 0 to 3, Gaussians against Hamming.

    python -m experiments.runtime_monitors

reads the image files in the folder that SKOOD_DATA names, and the published weights of the network
in its folder ``models``; without these, or with ``--train``, a network of the same architecture
is trained. It writes the tables of the site, a report and figures, in a few minutes.

The alarms are published in C.-H. Cheng, G. Nührenberg, H. Yasuoka, "Runtime monitoring neuron
activation patterns", DATE 2019, arXiv:1809.06573, and Gaussians are compared with Hamming distances
in S. K. Gaddipati, J. Bandlamudi, "Monitoring neuron activations for out of distribution
detection", Hochschule Bonn-Rhein-Sieg, 2020 (slides).
"""

from __future__ import annotations

import argparse
import time

import matplotlib as mpl

from skood import ActivationExtractor

from .._common.arguments import find_folders, make_parser
from .._common.image_sets import read_images
from .._common.tables import write_tables
from .alarms import count_all_alarms
from .figures import draw_all
from .groups import compare_groups
from .net import MONITORED, get_net
from .report import Results, describe, make_tables, write_report
from .scores import compare_all, time_queries
from .sets import QUICK, Sizes, watch

mpl.use("Agg")

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
    parser = make_parser("runtime_monitors", __doc__)
    parser.add_argument("--train", action="store_true", help="train the network anew")
    parser.add_argument("--epochs", type=int, default=5, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    output, folder = find_folders(arguments)
    sizes = QUICK if arguments.quick else Sizes()
    start = time.perf_counter()
    results = compute(arguments, sizes)
    about, tables = describe(results, sizes), make_tables(results)
    report = write_report(results, about.to_table(), tables, time.perf_counter() - start)
    print("\n" + report)
    (output / "report.md").write_text(report, encoding="utf-8")
    write_tables(folder, about, tables)
    draw_all(results.alarms, results.shares, results.groups, output)


if __name__ == "__main__":
    main()
