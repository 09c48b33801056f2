"""A test of detectors on every choice of validation and test sets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from sklearn.pipeline import Pipeline

from .._foreign import is_search
from .._optional import import_optional
from .._sklearn import StrOptions, validate_params
from ._od_test_cells import CellFolder
from ._od_test_fits import ALL_METRICS
from ._od_test_protocol import Protocol
from ._od_test_run import Run
from ._od_test_sets import check_names, read_sources

if TYPE_CHECKING:
    import pandas as pd


@validate_params(
    {
        "target": [StrOptions({"ood", "misclassified", "both"})],
        "validation": [StrOptions({"each", "others"}), None],
        "results": [str, os.PathLike, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=False,
)
def od_test(
    detectors: Any,
    in_distribution: Any,
    out_sets: Mapping[str, Any] | None,
    *,
    y: Any = None,
    target: str = "ood",
    metrics: Sequence[str] = ALL_METRICS,
    validation: str | None = "each",
    results: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Test detectors on every pair of out-of-distribution (OOD) sets, to configure and to report.

    What a detector will meet is not known beforehand, so it must not be reported on the OOD samples
    that it was configured with. For every triple of a source and two different OOD sets, those for
    validation and for testing, a detector learns from the source's training part and the validation
    set, whose rows are marked -1, and is reported on equal numbers of samples of the source's test
    part and the test set [1]_. A detector that learns nothing from marked rows is fitted once for
    each source and scores each set once; its values stand in the rows of all triples, so that
    tables of all detectors have the same rows.

    Parameters
    ----------
    detectors : dict of str to estimator, list of estimators, or estimator
        Detectors of this package, pipelines, monitors, searches such as ``GridSearchCV``, and
        outlier detectors of other libraries: whatever has ``fit``, and ``score_samples`` or
        ``decision_function``. Without names, they are named by their class. Detectors of PyOD,
        recognised by their base class, are read with the opposite sign. Copies are fitted.
    in_distribution : Activations, array-like, tuple of two, or dict of str to any of these
        One source, or several by name: all samples of it, of which one half is for training and
        the other for testing, with the same share of each class where labels or predictions are
        known; or a tuple ``(train, test)``.
    out_sets : dict of str to Activations or array-like, or dict of str to such dicts
        OOD sets by name, for all sources; or, where there are several, such a dict for each
        source. A set that has the name of a source is left out for this source. Not used for
        ``target="misclassified"``, where None will do.
    y : array-like, tuple of two, or dict of str to any of these, default=None
        Class labels of the sources, in the form of ``in_distribution``. Detectors learn from them,
        and errors of the network are found by them.
    target : {"ood", "misclassified", "both"}, default="ood"
        What is to be told from in-distribution samples: OOD samples; or, among the test samples of
        the source, those that the network misclassifies, from all others. Detectors learn from no
        marked rows for the latter.
    metrics : sequence of str, default=("accuracy", "auroc", ..., "aurc")
        Any of the following; by default all, in this order.

        - "accuracy": mean of the shares of in-distribution samples that the detector's own
          threshold accepts and of OOD samples that it rejects.
        - "auroc": :func:`~skood.metrics.ood_roc_auc_score`.
        - "aupr_in", "aupr_out": :func:`~skood.metrics.ood_average_precision_score` with
          in-distribution or OOD samples as positives.
        - "fpr95_in", "fpr95_out": :func:`~skood.metrics.fpr_at_tpr_score` at 95 %, with these
          as positives.
        - "aurc": :func:`~skood.metrics.area_under_risk_coverage_score`, of errors alone: NaN for
          OOD sets, and no column for ``target="ood"``.

        Misclassified samples count as OOD, correctly classified ones as in-distribution.
    validation : {"each", "others"} or None, default="each"
        Which rows are marked -1: each of the other sets by itself, one after the other; all sets
        but the one for testing together; or none at all, which is all that an OOD-free detector
        needs. Searches are refused then.
    results : str or Path, default=None
        Folder in which finished cells are kept, and from which they are taken: a run that was
        killed goes on where it was, also if there are more detectors or sets. See the notes.
    n_jobs : int, default=None
        How many fits run at once, by joblib: with :class:`joblib.parallel_config` in threads,
        processes or on a cluster. None means 1, -1 all processors.
    verbose : int, default=0
        1 shows the progress, 2 also each fit; see :ref:`progress`.

    Returns
    -------
    table : pandas.DataFrame
        A row for each source, detector, validation set and test set, with the columns "source",
        "detector", "target", "validation", "test", one for each of the ``metrics``, "n_in" and
        "n_out", the numbers of samples, and "fit_time" and "score_time" in seconds, without
        extraction. "validation" is "others" or "none" where it names no single set, and "test"
        is "errors" for misclassified samples. A source without a name is "in-distribution".

    Raises
    ------
    ValueError
        If names are given twice or metrics are unknown; a set is empty, or has other layers than
        the source; there are too few OOD sets; labels or predictions are missing that errors are
        found by; a search is to choose by no marked rows; ``results`` is a folder of something
        else, or of another version; or all cells failed.
    TypeError
        If a detector is none, or a name no string.
    ImportError
        If pandas is not installed.

    Warns
    -----
    FitFailedWarning
        If a detector fails, as in :class:`~sklearn.model_selection.GridSearchCV`: its rows are
        NaN, all others are not touched. Failures are not kept in ``results``.
    UserWarning
        If a metric is NaN since a detector has no threshold or the network makes no errors, or
        since errors are told without the marked rows that a search (``DetectorSearchCV``, or one
        with a splitter such as ``OODKFold``) or weights need; if kept results cannot be read.

    See Also
    --------
    OODKFold : Splits for a search.
    skood.metrics.make_ood_scorer : The metrics as scorers of a search.

    Notes
    -----
    **Inputs.** All sets may be raw inputs, arrays of any shape, where a pipeline begins with an
    :class:`~skood.ActivationExtractor`, as a monitor does. Each set then goes through the network
    once for all detectors whose extractors have the same network and settings. A search that tries
    several settings of the extractor is given the inputs themselves.

    **Marked rows.** They are given to detectors that learn from them, such as
    :class:`~skood.ensemble.AutoNAPDetector`, and to searches, whose last fit is repeated for the
    best setting. All others learn from in-distribution samples alone, as do the steps of a pipeline
    before its last. PyOD is given no ``y``, where 1 would mean an outlier.

    **Numbers of samples.** Of the larger of the two sets that are compared, the first samples in a
    random order that is always the same are used, by all detectors. For errors, all samples of the
    test part are.

    **Kept results.** A cell is a file, named by a hash of the detector's class, with its source and
    the version of its library, its parameters, the content of its network, and that of the sets.
    Names have no part in it, nor has ``n_jobs``, nor have functions that the class calls. Any
    number of runs may share a folder.

    Numbers depend on nothing but the arguments, if detectors that draw random numbers have an int
    as ``random_state``.

    References
    ----------
    .. [1] A. Shafaei, M. Schmidt, J. J. Little, "A less biased evaluation of out-of-distribution
       sample detectors", BMVC 2019. arXiv:1809.04729

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import LocalOutlierFactor
    >>> from skood.detectors import MahalanobisDetector
    >>> from skood.model_selection import od_test
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 3))
    >>> out_sets = {"far": X[:100] + 4, "wide": 4 * X[:100], "near": X[:50] + 1}
    >>> detectors = {"Gaussian": MahalanobisDetector(), "LOF": LocalOutlierFactor(novelty=True)}
    >>> table = od_test(detectors, X, out_sets, metrics=["accuracy", "auroc"])
    >>> len(table)
    12
    >>> table.groupby("detector")["auroc"].mean().round(2)
    detector
    Gaussian    0.92
    LOF         0.92
    Name: auroc, dtype: float64
    """
    pandas = import_optional("pandas", "pandas", "od_test")
    named = _read_detectors(detectors)
    chosen = _read_metrics(metrics, target)
    sources = read_sources(in_distribution, out_sets, y, needs_labels=target != "ood")
    protocol = Protocol(target, validation)
    protocol.check(sources, named)
    folder = None if results is None else CellFolder.open(results)
    run = Run(named, sources, protocol, folder)
    run.compute(n_jobs, verbose)
    run.report(chosen)
    return pandas.DataFrame(run.table(chosen))


def _read_detectors(detectors: Any) -> dict[str, Any]:
    """The detectors by name.

    Raises
    ------
    ValueError
        If there is none, or two have the same name.
    TypeError
        If one of them is no detector, or a name no string.
    """
    if isinstance(detectors, Mapping):
        named = list(detectors.items())
    else:
        given = detectors if isinstance(detectors, list | tuple) else [detectors]
        named = [item if isinstance(item, tuple) else (_name(item), item) for item in given]
    names = [name for name, _ in named]
    if twice := sorted({str(name) for name in names if names.count(name) > 1}):
        raise ValueError(f"Several detectors have the names {twice}: pass a dict of names.")
    for name, detector in named:
        _check_detector(name, detector)
    return check_names(dict(named), "detectors")


def _name(detector: Any) -> str:
    """The class of a detector; of a plain pipeline, that of its last step."""
    while type(detector) is Pipeline:
        detector = detector[-1]
    return type(detector).__name__


def _check_detector(name: Any, detector: Any) -> None:
    if isinstance(detector, type):
        raise TypeError(f"Detector {name!r} is a class: pass an instance, {detector.__name__}().")
    # A search without a last fit has no scores itself.
    scores = detector.estimator if is_search(detector) else detector
    if not any(hasattr(scores, method) for method in ("score_samples", "decision_function")):
        raise TypeError(
            f"Detector {name!r} has neither score_samples nor decision_function: got {detector!r}. "
            "(LocalOutlierFactor has both with novelty=True.)"
        )
    if not hasattr(detector, "fit"):
        raise TypeError(f"Detector {name!r} has no method fit: got {detector!r}.")


def _read_metrics(metrics: Sequence[str] | str, target: str) -> list[str]:
    """Names of metrics, each once; that of errors only where there are any.

    Raises
    ------
    ValueError
        If a name is unknown, or none is left.
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if unknown := [name for name in names if name not in ALL_METRICS]:
        raise ValueError(f"Unknown metrics {unknown}: choose among {list(ALL_METRICS)}.")
    chosen = [name for name in dict.fromkeys(names) if name != "aurc" or target != "ood"]
    if not chosen:
        raise ValueError(f"metrics={metrics!r} leaves no metric for target={target!r}.")
    return chosen
