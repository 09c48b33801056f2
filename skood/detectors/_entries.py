"""Entries that the docstrings of all detectors share."""

from .._docstrings import FITTED_ON

_GROUP_BY = """group_by : {{"prediction", "label", "correct"}}, default={default}
    Class under which a training sample counts: the predicted one; its label in ``y``; or, with
    "correct", the predicted one where it is right, while other samples do not count. """

LABELS_NEEDED = (
    _GROUP_BY
    + """Samples are
    always looked up under their predicted class."""
)
LABELS_OPTIONAL = (
    _GROUP_BY
    + """By
    default, without class labels, where ``y`` is None or holds one label besides -1, every
    prediction counts as right."""
)

PARAMETERS = {
    "group_by": LABELS_NEEDED,
    "false_alarm_rate": """false_alarm_rate : float in (0, 0.5], default={default}
    Share of the in-distribution training samples that the threshold rejects. Of new ones this is an
    estimate, which is too low where the network has learnt from the training samples; with
    ``validation``, or in a :class:`~skood.calibration.ConformalDetector`, it is calibrated.""",
    "validation": """validation : float in (0, 1) or splitter, default={default}
    Which in-distribution samples set the threshold and are not learnt from: a random share, or the
    test part of the first split of a scikit-learn splitter. Then, of new samples of their
    distribution, at most the ``false_alarm_rate`` is rejected on average; for that the network must
    not have learnt from them either. By default all are learnt from, and set the threshold each as
    if it had not been.""",
}

ATTRIBUTES = {
    "learnt_rows_": """learnt_rows_ : ndarray of shape (n_learnt_samples,)
    Rows of ``X`` in ``fit`` that were learnt from: those not marked -1, and with ``validation``
    those of them that are not held out.""",
    "training_rows_": """training_rows_ : ndarray of shape (n_in_distribution_samples,)
    Rows of ``X`` in ``fit`` that set the threshold: those not marked -1, and with ``validation``
    those of them that are held out.""",
    "training_scores_": """training_scores_ : ndarray of shape (n_in_distribution_samples,)
    Their scores, which set the threshold.""",
    "offset_": """offset_ : float
    Threshold on ``score_samples``.""",
    "unknown_class_score_": """unknown_class_score_ : float
    Score of a sample of a predicted class of which nothing was learnt; -inf where no score stands
    for that.""",
    "score_error_": """score_error_ : float
    Standard error of the scores that comes from which samples happen to be in training; 0 where it
    is not known.""",
    "n_samples_seen_": """n_samples_seen_ : int
    Number of rows of ``X`` in ``fit``.""",
    **FITTED_ON,
}

OF_BATCHES = {
    "learnt_rows_": """learnt_rows_ : ndarray of shape (n_learnt_samples,)
    Rows that were learnt from: those not marked -1, and with ``validation`` those of them that are
    not held out, numbered over all batches. Runs of them are kept, 16 bytes for each run, and the
    numbers made when they are asked for: where all rows of a stream are learnt from, that is one
    run, however long it is, and where rows are held out or marked here and there, one for each of
    these at most.""",
    "training_rows_": """training_rows_ : ndarray of shape (n_in_distribution_samples,)
    Rows that set the threshold: those not marked -1, and with ``validation`` those of them that
    are held out, numbered over all batches. After ``partial_fit`` or ``merge``, of more than 32 MiB
    of them (and more than 1,000) those that are kept.""",
    "n_samples_seen_": """n_samples_seen_ : int
    Number of rows that ``fit``, ``partial_fit`` and ``merge`` were given.""",
}
