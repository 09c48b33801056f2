"""The denoising classifier on MNIST: trained on the digits 1 to 9, with 0 as the unknown class.

    python -m experiments.denoising_classifier

reads the image files in the folder that SKOOD_DATA names, trains a network on 49,077 digits, sets
its thresholds by 5,000 others, and counts how many zeros of the test set it finds and how many
other digits it keeps and classifies right, beside the 96 % and 90 % that were published. Then
smaller networks are trained without one or the other loss. It writes the tables of the site, a
report, and figures of the scores, of the trade-off, of what the decoder draws, of the
reconstruction errors by class and of the images with the largest ones. It takes half an hour.

Published in Y. Song, "Deep Learning Lab, final project report", Yonsei University.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np

from skood.metrics import ood_roc_auc_score

from .._common.arguments import find_folders, make_parser
from .._common.figures import save_figures
from .._common.tables import write_tables
from .ablation import run_ablation
from .digits import QUICK, UNKNOWN, Sizes, load_digits
from .figures import draw_all
from .net import Training, trained_net
from .report import PUBLISHED, describe, make_tables, write_report
from .rules import RULES, evaluate

mpl.use("Agg")

SHOWN = ("scores", "trade_off")
"""The figures that the site shows."""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("denoising_classifier", __doc__)
    sizes = Sizes()
    parser.add_argument("--epochs", type=int, default=sizes.epochs)
    parser.add_argument(
        "--width", type=int, default=sizes.width, help="channels of the first stage"
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=5e-3, help="the highest learning rate")
    parser.add_argument("--images", type=int, help="to train on; all by default")
    parser.add_argument(
        "--ablation-images", type=int, default=sizes.n_ablation, help="0 for no ablation"
    )
    parser.add_argument("--ablation-epochs", type=int, default=sizes.ablation_epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="file to keep the trained network in")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def choose_sizes(arguments: argparse.Namespace) -> Sizes:
    if arguments.quick:
        return QUICK
    return Sizes(
        n_train=arguments.images,
        n_ablation=arguments.ablation_images,
        epochs=arguments.epochs,
        ablation_epochs=arguments.ablation_epochs,
        width=arguments.width,
    )


def main() -> None:
    arguments = parse_arguments()
    output, folder = find_folders(arguments)
    sizes = choose_sizes(arguments)
    training = Training(
        epochs=sizes.epochs,
        width=sizes.width,
        batch_size=arguments.batch_size,
        lr=arguments.lr,
        seed=arguments.seed,
        device=arguments.device,
    )
    shorter = training._replace(epochs=sizes.ablation_epochs)
    start = time.perf_counter()
    digits = load_digits(sizes, sizes.n_train, arguments.seed)
    net = trained_net(digits, training, arguments.weights)
    trained_after = time.perf_counter() - start
    rules = {name: evaluate(net, digits, rule) for name, rule in RULES.items()}
    evaluate(net, digits, RULES["automatic"])
    figures = draw_all(net, digits, rules, PUBLISHED)
    labels = np.where(digits.y_test == UNKNOWN, -1, 1)
    auroc = ood_roc_auc_score(labels, -net.reconstruction_error(digits.X_test))
    ablation = {}
    if sizes.n_ablation:
        ablation = run_ablation(load_digits(sizes, sizes.n_ablation, arguments.seed), shorter)
    about = describe(digits, training, shorter, sizes.n_ablation)
    tables = make_tables(rules, ablation, auroc)
    seconds = (trained_after, time.perf_counter() - start)
    report = write_report(about.to_table(), tables, seconds)
    print("\n" + report)
    (output / "report.md").write_text(report, encoding="utf-8")
    write_tables(folder, about, tables)
    save_figures({name: figures[name] for name in SHOWN}, folder)
    save_figures(figures, output)


if __name__ == "__main__":
    main()
