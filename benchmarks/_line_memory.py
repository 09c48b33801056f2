"""Shape samples with LINe, and print the seconds that it takes and the memory in MiB.

    python _line_memory.py N_CLASSES N_UNITS N_SAMPLES

The memory is what the peak of this process rises by in ``fit`` and ``transform``: the head and the
features are there before. `_peer_speed.py` runs this in processes of their own.
"""

import sys
from time import perf_counter

import numpy as np
from _peak_memory import peak_in_mib

from skood import Activations
from skood.activations import LinearHead
from skood.shaping import LINe


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
