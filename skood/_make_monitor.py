"""A monitor with good defaults, in one line."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from ._defaults import default_detector
from ._held_out import VALIDATION
from ._monitor import Monitor
from ._monitor_view import TARGETS
from ._sklearn import Interval, StrOptions, validate_params
from .extraction import ActivationExtractor
from .preprocessing import PoolingReducer


@validate_params(
    {
        "target": [StrOptions(set(TARGETS))],
        "false_alarm_rate": [Interval(Real, 0, 0.5, closed="right")],
        "validation": VALIDATION,
        "search": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def make_monitor(
    network: Any,
    *,
    target: str = "ood",
    layers: str | list[str] = "auto",
    logits: Any = "auto",
    head: Any = "auto",
    false_alarm_rate: float = 0.05,
    validation: Any = None,
    search: bool = False,
    batch_size: int = 256,
    device: str = "auto",
    verbose: int = 0,
) -> Monitor:
    """Build a monitor of a trained network that needs no out-of-distribution data.

    The monitor extracts all layers and pools feature maps and tokens by their mean, and tokens at
    fixed places, such as those of an image, also each over its units, maximum and mean. An
    :class:`~skood.ensemble.AdaptiveEnsembleDetector` weighs distances and patterns of all layers
    against what logits and head say, by how much the layers know of the classes. Where their norms
    are far from usual, as for inputs on a wrong scale, they count as well.

    Parameters
    ----------
    network : object
        The trained network, of any kind that :class:`ActivationExtractor` takes. It is only
        read.
    target : {"ood", "misclassified", "both"}, default="ood"
        What the monitor is to find:

        - "ood": inputs from another distribution than the training data. It serves networks without
          classes, such as regressors, and without a head as well.
        - "misclassified": inputs that the network classifies wrongly, by the softmax and, where
          they know the classes, by all layers. It needs the logits of a classifier, and no head.
        - "both": either, by the two detectors side by side, each with its own threshold;
          ``monitor.predict_each`` tells which one rejects. With a ``false_alarm_rate`` of 5 %
          each, both together reject between 5 % and 10 % of inputs that are neither, as far as
          the thresholds hold.
    layers : "auto", str or list of str, default="auto"
        Layers to monitor, as in :class:`ActivationExtractor`.
    logits : "auto", "binary", str, int, tuple or callable, default="auto"
        Which output holds the logits, as in :class:`ActivationExtractor`.
    head : "auto", str or LinearHead, default="auto"
        The last linear layer, as in :class:`ActivationExtractor`.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Fraction of in-distribution samples that ``predict`` is to reject; for ``target="both"``,
        that each of the two detectors is to reject. Of new samples, ``fit`` alone only estimates
        it: where the network was trained on the rows of ``fit``, two to six times as many were
        rejected in measurements. :meth:`Monitor.calibrate` sets thresholds that hold it, by rows
        that the network has not seen. ``monitor.set_params(detect__false_alarm_rate=0.01)``
        sets another, with ``search=True`` too; for both, ``detect__ood__false_alarm_rate`` and
        ``detect__misclassified__false_alarm_rate``.
    validation : float in (0, 1) or splitter, default=None
        Which in-distribution rows of ``fit`` set the threshold and are not learnt from: a random
        share, or the test part of the first split of a scikit-learn splitter. It calibrates the
        monitor where the network has not learnt from these rows either.
    search : bool, default=False
        Whether the rows marked -1 in ``fit(X, y)``, which are needed then, choose what detects
        out-of-distribution inputs (:class:`~skood.model_selection.DetectorSearchCV`). Candidates
        are the default alone, and the default beside one of: the detector of errors, energy, fDBD,
        ViM, nearest neighbours or relative Mahalanobis distances on the last layer, or activation
        patterns of all layers weighted by these rows. Another than the default alone is taken
        only if it is better by more than twice the standard error over five folds, and by more than
        .02 of AUROC. The network runs once. All eight are fitted in each fold, and what is chosen
        once more, which takes fifteen to twenty times as long as to fit the default.
        ``monitor["detect"].cv_results_`` is the table of candidates. Rows that the network was not
        trained on are better for it than its training rows.
    batch_size : int, default=256
        Samples that go through the network at a time.
    device : str, default="auto"
        Where the network runs, as in :class:`ActivationExtractor`.
    verbose : int, default=0
        Whether the monitor and its parts show what is done, and how far it is: in ``fit``, and of
        later calls in those that read more rows than one batch; see :ref:`progress`.

    Returns
    -------
    monitor : Monitor
        With the steps "extract" and "detect". ``fit(X_train).predict(X)`` gives 1 for
        samples to trust the network on, and -1 for others.

    Raises
    ------
    ValueError
        If a parameter is none of the above, or ``search=True`` for ``target="misclassified"``:
        errors of the network are no rows marked -1.

    See Also
    --------
    Monitor : What is returned, and how to compose one of other parts.
    skood.ensemble.AutoNAPDetector : The published ensemble, which configures itself by OOD samples.

    Examples
    --------
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import make_monitor
    >>> from skood.datasets import load_digits_ood
    >>> X, y = load_digits_ood(return_X_y=True)
    >>> X = X.reshape(len(X), -1)
    >>> inside = y != -1
    >>> net = MLPClassifier((64, 32), random_state=0).fit(X[inside], y[inside])
    >>> make_monitor(net)
    Monitor
      network   MLPClassifier
      target    out-of-distribution inputs
      layers    'auto'
      detector  AdaptiveEnsembleDetector
      state     not fitted
    >>> monitor = make_monitor(net).fit(X[inside])
    >>> bool((monitor.predict(X[~inside]) == -1).mean() > (monitor.predict(X[inside]) == -1).mean())
    True
    """
    if search and target == "misclassified":
        raise ValueError(
            "search=True chooses by rows marked out-of-distribution, which say nothing about "
            "target='misclassified': leave one of the two out."
        )
    extractor = ActivationExtractor(
        network,
        layers,
        logits=logits,
        head=head,
        reducer=PoolingReducer(pooling="avg", token_pooling=("max", "avg")),
        batch_size=batch_size,
        device=device,
        verbose=verbose,
    )
    detector = default_detector(target, false_alarm_rate, search=search, validation=validation)
    detector.set_params(verbose=verbose)
    return Monitor([("extract", extractor), ("detect", detector)], target=target, verbose=verbose)
