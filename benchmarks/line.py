"""Memory of LINe, which has masks for every class, with a large head.

    python -m benchmarks.line N_CLASSES N_UNITS N_SAMPLES

shapes samples with LINe, and prints the seconds that it takes and the memory in MiB. The memory is
what the peak of this process rises by in ``fit`` and ``transform``: the head and the features are
there before.
"""

from __future__ import annotations

import sys
from time import perf_counter

import numpy as np

from experiments._common.tables import Table
from skood import Activations
from skood.activations import LinearHead
from skood.shaping import LINe

from .measure import Comparison, Line, Sizes
from .memory import peak_in_mib, run_apart


def compare_line(sizes: Sizes) -> tuple[Comparison, Table]:
    """Time and memory in a process of its own."""
    n_classes, n_units = sizes.large_head
    seconds, memory = run_apart("line", n_classes, n_units, sizes.n_scored)
    note = f"peak memory {memory:+.0f} MiB; a mask for each class would take "
    note += f"{n_classes**2 * n_units / 2**20:.0f} MiB"
    settings = f"{n_classes} classes, {n_units} units, {sizes.n_scored} samples."
    line = Line("`LINe`, fit and transform", seconds, None, "< 1024 MiB", note)
    numbers = (n_classes, n_units, sizes.n_scored, seconds, memory, n_classes**2 * n_units / 2**20)
    return Comparison("Memory of LINe", settings, "", [line]), Table(
        [
            "Classes",
            "Units",
            "Samples",
            "Seconds",
            "Peak memory, MiB",
            "A mask for each class, MiB",
        ],
        [[f"{number:.4g}" for number in numbers]],
    )


def main() -> None:
    n_classes, n_units, n_samples = map(int, sys.argv[1:])
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(n_classes, n_units)).astype(np.float32), input_layer="fc")
    features = rng.exponential(size=(n_samples, n_units)).astype(np.float32)
    A = Activations({"fc": features}, logits=head.logits(features), head=head)
    labels = np.arange(n_samples) % n_classes
    before, start = peak_in_mib(), perf_counter()
    LINe(activation_percentile=10, weight_percentile=10, clip=0.8).fit(A, labels).transform(A)
    print(perf_counter() - start, peak_in_mib() - before)


if __name__ == "__main__":
    main()
