"""What KNN and NNGuide lose where they store a part of the training samples.

    SKOOD_DATA=folder python -m experiments.subsampling

Both read the last hidden layer of the networks of ``od_test``, whose activations it keeps or takes
from there. How the number of neighbours should follow the number of stored samples is chosen on
some networks and sets of images, and what a part costs is reported on the others, too. It takes
some minutes after the activations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from skood import Activations
from skood.detectors import KNNDetector, NNGuideDetector
from skood.metrics import ood_roc_auc_score

from .._common.arguments import OUTPUT, find_folders, make_parser
from .._common.figures import save_figures
from .._common.tables import Measured, Table, write_tables
from ..od_test.activations import extract
from ..od_test.sources import ALL_SETS, CHOICE, QUICK, QUICK_SETS, SOURCES, Sizes, Source

mpl.use("Agg")

SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)
RULES = ("as it is", "in proportion")
"""How the number of neighbours follows the share that is stored."""
DETECTORS: dict[str, tuple[type, int]] = {
    "KNN": (KNNDetector, 50),
    "NNGuide": (NNGuideDetector, 10),
}


class Seen(NamedTuple):
    """The last hidden layer, and logits."""

    train: Activations
    test: Activations
    outside: dict[str, Activations]


class Loss(NamedTuple):
    """What is lost of the area under the ROC curve, on average over some OOD sets."""

    network: str
    chosen_on: bool
    """Whether the rule was chosen on this network and these sets."""
    detector: str
    rule: str
    share: float
    n_stored: int
    auroc: float
    lost: float
    """Against all that is stored, positive where it is less."""


def see(source: Source, sizes: Sizes, folder: Path) -> Seen:
    """What the head of the network reads, for all sets."""
    seen = extract(source, sizes, folder, QUICK_SETS if sizes is QUICK else ALL_SETS)
    return Seen(
        _last_layer(seen.train),
        _last_layer(seen.test),
        {name: _last_layer(A) for name, A in seen.outside.items()},
    )


def _last_layer(A: Activations) -> Activations:
    assert A.head is not None
    assert A.head.input_layer is not None
    return A[[A.head.input_layer]]


def measure(source: Source, seen: Seen) -> Iterator[Loss]:
    """Both detectors, with each rule and share."""
    n_train = len(seen.train)
    for name, (kind, k) in DETECTORS.items():
        whole = _aurocs(kind(n_neighbors=min(k, n_train - 1)), seen)
        for rule in RULES:
            for share in SHARES:
                n_stored = max(2, round(share * n_train))
                detector = kind(
                    n_neighbors=_neighbors_given(kind, k, rule, share, n_stored),
                    max_samples=n_stored,
                )
                aurocs = whole if share == 1 else _aurocs(detector, seen)
                print(f"{source.title}, {name}, {share:.0%}, k {rule}", flush=True)
                for chosen_on, names in _parts(source, seen):
                    auroc, all_stored = (np.mean([a[n] for n in names]) for a in (aurocs, whole))
                    what = source.title, chosen_on, name, rule, share, n_stored
                    yield Loss(*what, float(auroc), float(all_stored - auroc))


def _neighbors_given(kind: type, k: int, rule: str, share: float, n_stored: int) -> int:
    """The parameter with which a detector looks for as many neighbours as the rule wants."""
    wanted = min(max(1, round(k * share)) if rule == RULES[1] else k, n_stored - 1)
    # KNN goes by the share itself.
    return round(wanted / share) if kind is KNNDetector else wanted


def _parts(source: Source, seen: Seen) -> Iterator[tuple[bool, list[str]]]:
    """The OOD sets that the rule is chosen on, and the others."""
    chosen = [name for name in seen.outside if source.is_chosen_on and name in CHOICE]
    others = [name for name in seen.outside if name not in chosen]
    yield from ((True, chosen), (False, others)) if chosen else ((False, others),)


def _aurocs(detector: Any, seen: Seen) -> dict[str, float]:
    detector.fit(seen.train)
    inside = detector.score_samples(seen.test)
    aurocs = {}
    for name, A in seen.outside.items():
        scores = detector.score_samples(A)
        both = np.concatenate([inside, scores])
        aurocs[name] = ood_roc_auc_score(_marks(inside, scores), both)
    return aurocs


def _marks(inside: NDArray, outside: NDArray) -> NDArray[np.int64]:
    return np.repeat([1, -1], [len(inside), len(outside)])


def _mean(losses: Iterable[Loss], what: str) -> float:
    return float(np.mean([getattr(loss, what) for loss in losses]))


def tabulate_means(losses: list[Loss]) -> Table:
    """Means over networks, of what the rule was chosen on and of the rest."""
    header = ["Detector", "Share stored", "Neighbours", "Lost, chosen on", "Lost, others", "AUROC"]
    rows = []
    for name, (_, k) in DETECTORS.items():
        for rule in RULES:
            for share in SHARES:
                own = [x for x in losses if (x.detector, x.rule, x.share) == (name, rule, share)]
                chosen, others = (
                    [x for x in own if x.chosen_on is is_on] for is_on in (True, False)
                )
                n_neighbors = max(1, round(k * share)) if rule == RULES[1] else k
                lost = [f"{_mean(part, 'lost'):+.4f}" for part in (chosen, others)]
                row = [name, f"{share:.0%}", f"{n_neighbors}, {rule}", *lost]
                rows.append([*row, f"{_mean(others, 'auroc'):.3f}"])
    return Table(header, rows)


def tabulate_networks(losses: list[Loss]) -> Table:
    """What is lost on each network, on the sets that the rule was not chosen on, in proportion."""
    rows = [
        [x.detector, f"{x.share:.0%}", x.network, f"{x.lost:+.4f}", f"{x.auroc:.3f}"]
        for x in sorted(losses, key=lambda loss: (loss.detector, -loss.share))
        if not x.chosen_on and x.rule == RULES[1]
    ]
    return Table(["Detector", "Share stored", "Network", "Lost", "AUROC"], rows)


def draw(losses: list[Loss], folder: Path) -> None:
    """What is lost against the share stored, on the sets that the rule was not chosen on."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    titles = dict.fromkeys(loss.network for loss in losses)
    for axes, detector in zip(panels, DETECTORS, strict=True):
        for color, title in enumerate(titles):
            for rule, style in zip(RULES, ("x--", "o-"), strict=True):
                own = [x for x in losses if x[:4] == (title, False, detector, rule)]
                shares, lost = [x.share for x in own], [x.lost for x in own]
                label = title if rule == RULES[1] else None
                axes.plot(shares, lost, style, color=f"C{color}", label=label)
        axes.set(xscale="log", xlabel="share of the training samples stored", title=detector)
    panels[0].set(ylabel="AUROC lost")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save_figures({"losses": figure}, folder)


def main() -> None:
    parser = make_parser("subsampling", __doc__)
    parser.add_argument(
        "--activations",
        type=Path,
        help="folder of the networks and activations, by default that of od_test",
    )
    arguments = parser.parse_args()
    output, folder = find_folders(arguments)
    torch.set_num_threads(1)
    sizes = QUICK if arguments.quick else Sizes()
    kept = arguments.activations or (output if arguments.quick else OUTPUT / "od_test")
    losses = []
    for source in SOURCES[:2] if arguments.quick else SOURCES:
        losses += list(measure(source, see(source, sizes, kept)))
    tables = {"means": tabulate_means(losses), "networks": tabulate_networks(losses)}
    report = "\n\n".join(table.to_markdown() for table in tables.values())
    (output / "report.md").write_text(report, encoding="utf-8")
    about = Measured(
        data="the networks and image sets of od_test, the last hidden layer",
        samples=f"{sizes.n_train:,} training images, {sizes.n_test:,} test images, and at most "
        f"{sizes.n_outside:,} of each OOD set",
        settings="KNN with k=50 and NNGuide with k=10 where all samples are stored",
    )
    write_tables(folder, about, tables)
    draw(losses, folder)


if __name__ == "__main__":
    main()
