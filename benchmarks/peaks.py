"""Peak memory of learning and scoring, each library in a process of its own.

    python -m benchmarks.peaks LIBRARY METHOD N_SAMPLES N_UNITS N_CLASSES

learns from samples and scores as many, and prints the MiB by which the peak of its memory exceeds
what it held when it began: the samples were there.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from experiments._common.tables import Table
from experiments._common.timing import format_number

from .libraries import (
    Contestant,
    Oodeel,
    PytorchOOD,
    Samples,
    Skood,
    import_oodeel,
    import_pytorch_ood,
)
from .measure import Comparison, Line, Sizes
from .memory import peak_in_mib, run_apart
from .methods import Method, make_methods

METHODS = ("energy", "KNN", "ViM", "SHE", "NNGuide")
SKOOD, PYTORCH_OOD, OODEEL = "skood", "pytorch-ood", "oodeel"
LEAST = 1
"""Peaks below so many MiB are the allocator's."""


def compare_peaks(sizes: Sizes) -> tuple[Comparison, Table]:
    """Peaks of every library that has the method and is installed."""
    libraries = [SKOOD]
    libraries += [PYTORCH_OOD] if import_pytorch_ood() is not None else []
    libraries += [OODEEL] if import_oodeel() is not None else []
    methods = {method.name: method for method in make_methods(sizes.n_units)}
    names = METHODS[:1] if sizes.repetitions == 1 else METHODS
    rows, lines = [], []
    for name in names:
        has = [one for one in libraries if one != OODEEL or methods[name].oodeel is not None]
        peaks = {one: measure_peak(one, name, sizes) for one in has}
        for one, peak in peaks.items():
            ratio = max(peak, LEAST) / max(peaks[SKOOD], LEAST)
            shown = f"{peak:.0f}" if peak >= LEAST else f"below {LEAST}"
            rows.append([name, one, shown, format_number(ratio)])
            reference = "" if one == SKOOD else SKOOD
            lines.append(Line(f"{name}, {one}", None, ratio, "", f"{shown} MiB", reference))
    settings = (
        f"{sizes.n_scored} samples to learn from and as many to score, {sizes.n_units} units, "
        f"{sizes.n_classes} classes; a process each; the samples are not counted."
    )
    table = Table(["Method", "Library", "Peak memory, MiB", "Times skood's"], rows)
    return Comparison(
        "Peak memory of learning and scoring", settings, "times skood's", lines
    ), table


def measure_peak(library: str, method: str, sizes: Sizes) -> float:
    return run_apart("peaks", library, method, sizes.n_scored, sizes.n_units, sizes.n_classes)[0]


def make_contestant(library: str, method: Method, samples: Samples) -> Contestant:
    if library == PYTORCH_OOD:
        return PytorchOOD(import_pytorch_ood(), method.pair, samples)
    if library == OODEEL and method.oodeel is not None:
        return Oodeel(partial(method.oodeel, import_oodeel()), samples)
    return Skood(method.pair.estimator, samples)


def forget_peak() -> None:
    """Let the high-water mark of this process start at what it holds now, where Linux allows it."""
    marks = Path("/proc/self/clear_refs")
    if marks.exists():
        marks.write_text("5", encoding="ascii")


def main() -> None:
    library, name, *sizes = sys.argv[1:]
    n_samples, n_units, n_classes = map(int, sizes)
    method = {method.name: method for method in make_methods(n_units)}[name]
    # What a library loads when it is first used is not what it takes for the samples.
    warm = make_contestant(library, method, Samples.draw(20 * n_classes, n_units, n_classes))
    warm.fit()
    warm.score()
    samples = Samples.draw(n_samples, n_units, n_classes)
    contestant = make_contestant(library, method, samples)
    forget_peak()
    before = peak_in_mib()
    contestant.fit()
    contestant.score()
    print(peak_in_mib() - before)


if __name__ == "__main__":
    main()
