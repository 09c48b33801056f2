"""Plain functions of labels and scores, and scorers for scikit-learn's searches.

``y == -1`` marks an out-of-distribution (OOD) row, any other label an in-distribution row, and
a higher score means more in-distribution. Libraries in which a high score means OOD are
compared by passing the negated scores.
"""

from ._ranking import (
    detection_accuracy_score,
    fpr_at_tpr_score,
    ood_average_precision_score,
    ood_roc_auc_score,
)
from ._risk_coverage import (
    area_under_risk_coverage_score,
    excess_area_under_risk_coverage_score,
    risk_coverage_curve,
)
from ._scorer import make_ood_scorer

__all__ = [
    "area_under_risk_coverage_score",
    "detection_accuracy_score",
    "excess_area_under_risk_coverage_score",
    "fpr_at_tpr_score",
    "make_ood_scorer",
    "ood_average_precision_score",
    "ood_roc_auc_score",
    "risk_coverage_curve",
]
