"""Checks of scikit-learn that some estimators fail by design, and why.

An estimator names them in ``_expected_failed_checks()``, as pairs of check and reason; see the
parameter of the same name of ``sklearn.utils.estimator_checks.parametrize_with_checks``.
"""

from __future__ import annotations

FEW_PATTERNS = (
    "The data of the check have two neurons and so four patterns, all of which are stored. Without "
    "broken ties every training sample has the smallest distance there is, and no threshold "
    "rejects only some of them."
)
LEFT_OUT = (
    "The threshold rejects the chosen share of new samples, and of training samples when each is "
    "left out. The check scores training samples as new ones, by statistics that they are part "
    "of, and then fewer are rejected."
)
THREE_LABELS = (
    "The check gives three labels to data with two columns of logits, and a label without a column "
    "is no class of the network."
)
NEEDS_LABELS = (
    "The check gives no labels, or labels without a column of logits, or a single column: which "
    "predictions of a classifier are wrong cannot be told."
)


def failed_outlier_checks(reason: str) -> dict[str, str]:
    """The checks that want a chosen share of outliers among the training samples."""
    return dict.fromkeys(("check_outliers_train", "check_outliers_fit_predict"), reason)


def failed_label_checks(reason: str) -> dict[str, str]:
    """The checks that fit with labels which scikit-learn chooses."""
    names = ("fit_returns_self", "overwrite_params")
    return dict.fromkeys(
        (*(f"check_estimators_{name}" for name in names), "check_readonly_memmap_input"), reason
    )


def failed_classifier_checks(reason: str) -> dict[str, str]:
    """The checks of outlier detectors that do not know the classes of a network, either."""
    names = (
        "classifier_data_not_an_array",
        "estimator_sparse_array",
        "estimator_sparse_matrix",
        "fit2d_1feature",
    )
    others = dict.fromkeys((f"check_{name}" for name in names), reason)
    return failed_outlier_checks(reason) | failed_label_checks(reason) | others
