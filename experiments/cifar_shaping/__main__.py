"""Outputs, features, shaping and LINe on the DenseNets of CIFAR-10 and CIFAR-100.

    python -m experiments.cifar_shaping

reads the image files in the folder that SKOOD_DATA names, and the networks in its folder
``models``. Detectors tell test images from other kinds of images; the tables show how
well each does, beside the published figures. They are printed and written to ``report.md`` in the
folder ``--output``, with figures. Activations are kept there too, about a gigabyte, so that a
second run is quick.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib as mpl

from .activations import Settings
from .data import TASKS
from .figures import draw_all, draw_sharing
from .report import report_sharing, write_report
from .results import compute, compute_sharing

mpl.use("Agg")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=TASKS, nargs="+", default=list(TASKS))
    parser.add_argument("--samples", type=int, default=2_000, help="images of each set, at most")
    parser.add_argument(
        "--train-samples", type=int, default=10_000, help="images that detectors learn, at most"
    )
    parser.add_argument("--odin-samples", type=int, default=500, help="images of each set for ODIN")
    parser.add_argument(
        "--sharing", action="store_true", help="only what the classes share, to `sharing.md`"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("experiments/output/cifar_shaping"))
    return parser.parse_args()


def report_only_sharing(names: list[str], settings: Settings) -> None:
    """A part of the report that needs the training images alone."""
    by_net = {TASKS[name].title: compute_sharing(TASKS[name], settings) for name in names}
    report = "\n\n".join(report_sharing(by_net)) + "\n"
    print("\n" + report)
    (settings.folder / "sharing.md").write_text(report)
    draw_sharing(by_net).savefig(settings.folder / "shared_neurons.png", dpi=110)


def main() -> None:
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        folder=arguments.output,
        n_train=arguments.train_samples,
        n_samples=arguments.samples,
        n_odin=arguments.odin_samples,
        seed=arguments.seed,
    )
    if arguments.sharing:
        report_only_sharing(arguments.net, settings)
        return
    start = time.perf_counter()
    all_results = [compute(TASKS[name], settings) for name in arguments.net]
    report = write_report(all_results, settings, time.perf_counter() - start)
    print("\n" + report)
    (arguments.output / "report.md").write_text(report)
    draw_all(all_results, arguments.output)


if __name__ == "__main__":
    main()
