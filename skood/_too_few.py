"""What is raised where samples are too few, and more of them would help."""

from __future__ import annotations


class TooFewSamplesError(ValueError):
    """What was learnt from samples is too little to score others; more samples may complete it.

    ``fit`` raises it as any ValueError. ``partial_fit`` and ``merge`` keep what was learnt, and the
    estimator is not fitted until more batches complete it.
    """
