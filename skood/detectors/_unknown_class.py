"""What detectors do that learn class by class when a class has nothing to learn from."""

import numpy as np

from ._base import BaseOneClassDetector


class ClassWiseDetector(BaseOneClassDetector):
    """Template of detectors that reject the samples of classes they could learn nothing about.

    A subclass gives them the score -inf, and passes the scores of new samples through
    ``_fill_unknown``. They get a finite score below that of every training sample, and have no part
    in the threshold, which would otherwise lie among them where they are many.
    """

    def _set_threshold(self, training_scores):
        is_known = np.isfinite(training_scores)
        lowest = training_scores[is_known].min() if is_known.any() else 0.0
        self._score_of_unknown = float(lowest - max(1, 1e-9 * abs(lowest)))
        super()._set_threshold(self._fill_unknown(training_scores))

    def _threshold(self, training_scores):
        known = training_scores[training_scores > self._score_of_unknown]
        return super()._threshold(known) if len(known) else self._score_of_unknown / 2

    def _fill_unknown(self, scores):
        return np.where(np.isneginf(scores), self._score_of_unknown, scores)
