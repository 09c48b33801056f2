"""A calibrated detector whose scores are its inputs."""

import numpy as np

from skood._conformal import conformal_p_values, conformal_threshold


class Calibrated:
    """Scores are the first column, or the input itself."""

    def __init__(self, calibration_scores, false_alarm_rate=0.05, guarantee="marginal"):
        self.calibration_scores_ = np.asarray(calibration_scores, dtype=float)
        self.false_alarm_rate = false_alarm_rate
        self.guarantee = guarantee
        self.n_features_in_ = 1

    def score_samples(self, X):
        X = np.asarray(X, dtype=float)
        assert X.ndim == 2
        return X[:, 0]

    def decision_function(self, X):
        threshold = conformal_threshold(
            self.calibration_scores_, self.false_alarm_rate, guarantee=self.guarantee
        )
        return self.score_samples(X) - threshold

    def p_values(self, X):
        return conformal_p_values(self.calibration_scores_, self.score_samples(X))
