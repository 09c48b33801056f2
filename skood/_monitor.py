"""A monitor of a trained network: extraction and detection in one estimator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags, estimator_html_repr, get_tags
from sklearn.utils.validation import check_is_fitted

from ._classes import tells_classes
from ._fit_context import unchanged_on_failure
from ._foreign import detector_of
from ._logits import MissingLogitsError
from ._marks import in_distribution, read_labels
from ._monitor_view import TARGETS, Watcher, as_html, as_text, listed, memory_of, network_name
from ._sklearn import StrOptions, available_if
from ._tables import memory_text
from ._warnings import warn_user
from .activations import Activations
from .extraction import ActivationExtractor
from .inspection import Explanation, explain
from .metrics import make_ood_scorer, ood_roc_auc_score

if TYPE_CHECKING:
    from .monitoring import MonitorReport

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]


def _last_step_has(name: str) -> Any:
    def check(monitor: Monitor) -> bool:
        getattr(detector_of(monitor), name)  # whose error says what is missing
        return True

    return check


class Monitor(Pipeline):
    """A pipeline from the inputs of a trained network to verdicts: whether to trust it on them.

    :func:`make_monitor` builds one with good defaults. A monitor of other parts is composed as any
    :class:`~sklearn.pipeline.Pipeline` is, and everything that works with a pipeline works with it:
    ``monitor["detect"]``, ``set_params(detect__false_alarm_rate=0.01)`` where the detector has that
    parameter (for two detectors, ``detect__ood__false_alarm_rate`` and so on), ``clone``, and
    searches over its steps.

    Parameters
    ----------
    steps : list of (str, estimator) tuples
        Names and estimators. One of them is an :class:`~skood.ActivationExtractor`, the last is an
        outlier detector, or a search over some.
    target : {"ood", "misclassified", "both"}, default="ood"
        What a low score stands for: inputs from another distribution, inputs that the network
        misclassifies, or either. It decides what :meth:`score` measures, and no more.
    transform_input : list of str, default=None
        As in :class:`~sklearn.pipeline.Pipeline`.
    memory : str or object with the joblib.Memory interface, default=None
        As in :class:`~sklearn.pipeline.Pipeline`. The cache that saves runs of the network is that
        of the extractor, ``extract__memory``.
    verbose : bool, default=False
        As in :class:`~sklearn.pipeline.Pipeline`.

    Attributes
    ----------
    network : object
        The network that is monitored.
    layers_ : list of str
        The layers of the network that are extracted, in forward order.
    offset_ : float
        Threshold: ``predict`` rejects samples whose score is below it.
    offsets_ : dict of str to float
        Threshold of each detector by its name, where there are several
        (:class:`~skood.ensemble.AnyAlarmDetector`).

    See Also
    --------
    make_monitor : Builds a monitor of a network in one line.
    skood.inspection.explain : What ``monitor.explain`` calls.

    Notes
    -----
    ``monitor[-1]`` is the detector. A slice, such as ``monitor[:-1]``, is a plain ``Pipeline`` of
    the same fitted steps: the part up to activations has no verdicts.

    A ``fit`` that fails leaves the steps as they were.

    As text, and in a notebook below scikit-learn's diagram, a monitor shows what it watches: before
    ``fit`` the network, the target and the layers that are wanted; afterwards the number of layers,
    which detectors watch which of them and with what weight, the thresholds, the number of rows
    that they come from, and the memory.

    Examples
    --------
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import ActivationExtractor, Monitor
    >>> from skood.datasets import load_digits_ood
    >>> from skood.detectors import KNNDetector
    >>> X, y = load_digits_ood(return_X_y=True)
    >>> X = X.reshape(len(X), -1)
    >>> inside = y != -1
    >>> net = MLPClassifier((64, 32), random_state=0).fit(X[inside], y[inside])
    >>> extractor = ActivationExtractor(net, "penultimate")
    >>> monitor = Monitor([("extract", extractor), ("detect", KNNDetector())]).fit(X[inside])
    >>> monitor
    Monitor
      network      MLPClassifier
      target       out-of-distribution inputs
      layers       1: hidden_1
      learnt from  1433 rows
      threshold    -0.3...
      memory       ... KiB
      detect: KNNDetector, reads hidden_1
    >>> monitor.score(X, y) > 0.9
    True
    """

    _parameter_constraints: dict = {
        **Pipeline._parameter_constraints,
        "target": [StrOptions(set(TARGETS))],
    }

    def __init__(
        self,
        steps: Sequence[tuple[str, Any]],
        *,
        target: str = "ood",
        transform_input: list[str] | None = None,
        memory: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(steps, transform_input=transform_input, memory=memory, verbose=verbose)
        self.target = target

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        if key.step not in (None, 1):
            raise ValueError("A slice of a Monitor must hold steps that follow each other.")
        return Pipeline(self.steps[key], memory=self.memory, verbose=self.verbose)

    @property
    def network(self) -> Any:
        """The network that is monitored."""
        return self._extractor.network

    @property
    def layers_(self) -> list[str]:
        """The layers of the network that are extracted, in forward order."""
        return self._extractor.layers_

    @property
    def offset_(self) -> float:
        """Threshold: ``predict`` rejects samples whose score is below it."""
        return detector_of(self).offset_

    @property
    def offsets_(self) -> dict[str, float]:
        """Threshold of each detector by its name, where there are several."""
        return detector_of(self).offsets_

    @property
    def _extractor(self) -> ActivationExtractor:
        if (extractor := self._find_extractor()) is None:
            raise ValueError(
                "A Monitor needs an ActivationExtractor among its steps, which says what network "
                f"it watches; got {[type(step).__name__ for _, step in self.steps]}."
            )
        return extractor

    def _find_extractor(self) -> ActivationExtractor | None:
        return next((step for _, step in self.steps if isinstance(step, ActivationExtractor)), None)

    def fit(self, X: Any, y: ArrayLike | None = None, **params: Any) -> Self:
        """Run the network, and learn what its activations are like in-distribution.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, as :class:`ActivationExtractor` takes them, or activations that
            were extracted before.
        y : array-like of shape (n_samples,), default=None
            Class labels; -1 marks an out-of-distribution row, which is not learnt from, except by
            detectors whose description says so.
        **params : dict
            Parameters of the steps' ``fit``, as in :class:`~sklearn.pipeline.Pipeline`.

        Returns
        -------
        self : object
            Fitted monitor.

        Raises
        ------
        ValueError
            If a step refuses the samples or labels; if no step is an ``ActivationExtractor``; or if
            the target needs the logits of a classifier, and the network has none.
        """
        with self._fitting():
            return super().fit(X, y, **params)

    def _fit(self, X: Any, y: ArrayLike | None = None, *args: Any, **kwargs: Any) -> Any:
        """Fit the steps before the detector; what comes out knows the labels of a data set."""
        A = super()._fit(X, y, *args, **kwargs)
        labels = A.labels if y is None and isinstance(A, Activations) else None
        if labels is not None and not in_distribution(labels).all():
            warn_user(
                "The inputs came with labels, of which some are -1, but fit got no y: all rows are "
                "learnt from, those marked out-of-distribution too. Pass the labels as y; "
                "monitor[:-1].transform(X).labels are those of a data set or loader."
            )
        return A

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        """Steps are as they were where an exception leaves the block, which says what it means."""
        _ = self._extractor  # there has to be one
        with ExitStack() as stack:
            stack.enter_context(unchanged_on_failure(self))
            for _, step in self.steps:
                if hasattr(step, "__dict__"):  # "passthrough" has none
                    stack.enter_context(unchanged_on_failure(step))
            try:
                yield
            except MissingLogitsError as error:
                raise MissingLogitsError(self._on_missing_logits(error)) from error

    def _on_missing_logits(self, error: MissingLogitsError) -> str:
        if self.target == "ood":
            return str(error)
        return (
            f"target={self.target!r} looks for inputs that are classified wrongly, and needs a "
            f"classifier with logits. {error} Monitor other networks with target='ood', which "
            "needs none."
        )

    def fit_predict(self, X: Any, y: ArrayLike | None = None, **params: Any) -> Labels:
        """Fit, then predict the same samples; the network runs once.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            As in ``fit``.
        y : array-like of shape (n_samples,), default=None
            As in ``fit``.
        **params : dict
            As in ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        with self._fitting():
            return super().fit_predict(X, y, **params)

    def predict(self, X: Any, **params: Any) -> Labels:
        """Predict whether to trust the network (1) or not (-1), sample by sample.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.
        **params : dict
            As in :class:`~sklearn.pipeline.Pipeline`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 or -1.
        """
        return super().predict(X, **params)

    def score_samples(self, X: Any) -> Scores:
        """Score samples: the higher, the more the network can be trusted.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Scores of the detector.
        """
        return super().score_samples(X)

    def decision_function(self, X: Any, **params: Any) -> Scores:
        """Score samples relative to the threshold: negative where ``predict`` gives -1.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.
        **params : dict
            As in :class:`~sklearn.pipeline.Pipeline`.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Scores less the threshold.
        """
        return super().decision_function(X, **params)

    @available_if(_last_step_has("score_each"))
    def score_each(self, X: Any) -> dict[str, Scores]:
        """Score samples by each of several detectors alone; see ``offsets_``.

        Only where the detector has it, as with ``target="both"`` in :func:`make_monitor`.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.

        Returns
        -------
        scores : dict of str to ndarray of shape (n_samples,)
            Scores by the name of the detector.
        """
        return detector_of(self).score_each(self._activations(X))

    @available_if(_last_step_has("predict_each"))
    def predict_each(self, X: Any) -> dict[str, Labels]:
        """Tell which of several detectors reject which samples.

        Only where the detector has it, as with ``target="both"`` in :func:`make_monitor`.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.

        Returns
        -------
        labels : dict of str to ndarray of shape (n_samples,)
            1 or -1, by the name of the detector.
        """
        return detector_of(self).predict_each(self._activations(X))

    def _activations(self, X: Any) -> Any:
        """What the detector itself is given."""
        steps = _flat_steps(self)[:-1]
        return Pipeline(steps).transform(X)

    def score(self, X: Any, y: ArrayLike, **params: Any) -> float:
        """Area under the ROC curve of telling inputs to trust from what the target names.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, or activations that were extracted before.
        y : array-like of shape (n_samples,)
            Class labels, and -1 for out-of-distribution rows. Not to be trusted are, by target,

            - "ood": rows marked -1;
            - "misclassified": rows whose prediction is not their label; those marked -1 are left
              out;
            - "both": either. Where ``y`` holds a single label beside -1, it tells no classes, and
              all these rows count as classified correctly.
        **params : dict
            As in :class:`~sklearn.pipeline.Pipeline`; not used for other targets than "ood".

        Returns
        -------
        auroc : float
            1 where every input to trust scores higher than all others, 0.5 for chance.
        """
        if self.target == "ood":
            return super().score(X, y, **params)
        if self.target == "misclassified":
            return float(make_ood_scorer(target="misclassified")(self, X, y))
        A = self[:-1].transform(X)
        labels = read_labels(y)
        is_in = in_distribution(labels)
        if tells_classes(labels[is_in]):
            is_in &= np.asarray(A.predictions == labels)
        return float(ood_roc_auc_score(np.where(is_in, 1, -1), self[-1].decision_function(A)))

    def explain(
        self,
        X: Any,
        *,
        X_train: Any = None,
        y_train: ArrayLike | None = None,
        n_neighbors: int = 5,
        n_neurons: int = 10,
    ) -> Explanation:
        """Explain the score of a few samples: by training examples, neurons and layers.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            The samples, as in ``predict``.
        X_train : array-like, Tensor, Dataset, DataLoader, dict or Activations, default=None
            What the monitor was fitted on, or other samples to compare with. Activations that were
            extracted before save a run of the network: ``monitor[:-1].transform(X)``. Detectors
            that keep their training samples need none, see :func:`~skood.inspection.explain`.
        y_train : array-like of shape (n_training_samples,), default=None
            Classes of the training samples; -1 marks out-of-distribution rows, which are not
            compared with. By default the classes that the network predicts.
        n_neighbors : int, default=5
            How many training examples to find for each sample.
        n_neurons : int, default=10
            How many neurons to name in the report.

        Returns
        -------
        Explanation
            What was found; ``print`` shows it.
        """
        check_is_fitted(self)
        return explain(
            Pipeline(_flat_steps(self)),
            X,
            X_train=X_train,
            y_train=y_train,
            n_neighbors=n_neighbors,
            n_neurons=n_neurons,
        )

    def report(
        self,
        X_test: Any,
        out_sets: Mapping[str, Any] | None = None,
        *,
        y_test: ArrayLike | None = None,
    ) -> MonitorReport:
        """Report what the monitor does on test rows: false alarms, and what it finds.

        Parameters
        ----------
        X_test : array-like, Tensor, Dataset, DataLoader, dict or Activations
            In-distribution inputs that neither the network nor the monitor has learnt from.
        out_sets : dict of str to inputs, default=None
            Sets of out-of-distribution inputs by name, of any kind that ``X_test`` may be.
        y_test : array-like of shape (n_samples,), default=None
            Class labels of ``X_test``, which tell the errors of the network; -1 marks rows that are
            out-of-distribution, and make one more set. By default the labels that came with the
            inputs, where these are classes of the network.

        Returns
        -------
        report : MonitorReport
            Tables, and the report as Markdown and HTML: ``report.save(folder)``.

        Raises
        ------
        ValueError
            If a set is None or empty, there are more or fewer labels than rows, all rows are marked
            -1, or a label is no class of a network whose errors are looked for.
        TypeError
            If ``out_sets`` is no mapping.

        Warns
        -----
        UserWarning
            If some rows of ``X_test`` are among those that ``fit`` or ``calibrate`` got, as far as
            they are known again.

        See Also
        --------
        skood.monitoring.MonitorReport : What is in it.

        Notes
        -----
        The network runs once over each set.
        """
        from .monitoring import MonitorReport

        check_is_fitted(self)
        return MonitorReport.from_monitor(self, X_test, out_sets, y_test=y_test)

    def memory_usage(self) -> int:
        """Memory of what the monitor has learnt.

        Returns
        -------
        n_bytes : int
            Bytes of all that the fitted detector holds, and the steps between it and the extractor;
            almost all of it are arrays. The network is not counted.
        """
        check_is_fitted(self)
        learnt = [step for _, step in self.steps if not isinstance(step, ActivationExtractor)]
        return memory_of(learnt)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # Steps after the extractor are given activations, whatever the inputs are.
        tags.input_tags = get_tags(self.steps[0][1]).input_tags
        return tags

    def _expected_failed_checks(self) -> dict[str, str]:
        reason = "As in scikit-learn's Pipeline, fit fits the steps themselves, not clones."
        names = ("check_dont_overwrite_parameters", "check_estimators_overwrite_params")
        return dict.fromkeys(names, reason)

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:  # noqa: N803 (scikit-learn's name)
        return as_text(*self._shown())

    def _repr_html_(self) -> str:
        return estimator_html_repr(self) + as_html(*self._shown())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        shown = {"text/plain": repr(self)}
        if get_config()["display"] == "diagram":
            shown["text/html"] = self._repr_html_()
        return shown

    def _shown(self) -> tuple[dict[str, str], Watcher | None]:
        """Facts by name, and once the monitor is fitted, what watches what."""
        extractor, (name, last) = self._find_extractor(), self.steps[-1]
        facts = {
            "network": "none" if extractor is None else network_name(extractor.network),
            "target": TARGETS.get(self.target, repr(self.target)),
        }
        if extractor is None or not _is_fitted(self):
            layers = "none" if extractor is None else repr(extractor.layers)
            detector = last if isinstance(last, str) else type(last).__name__
            return facts | {"layers": layers, "detector": detector, "state": "not fitted"}, None
        return facts | {
            "layers": f"{len(self.layers_)}: {listed(self.layers_)}",
            "learnt from": _learnt_from(detector_of(last)),
            "threshold": _thresholds(detector_of(last)),
            "memory": memory_text(self.memory_usage()),
        }, Watcher.of(name, last)


def _is_fitted(estimator: Any) -> bool:
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def _flat_steps(pipeline: Pipeline) -> list[tuple[str, Any]]:
    """Steps of a pipeline and of what is nested in its last one, for a search its best."""
    *before, (_, last) = pipeline.steps
    last = getattr(last, "best_estimator_", last)
    nested = _flat_steps(last) if isinstance(last, Pipeline) else [("", last)]
    steps = [step for _, step in (*before, *nested)]
    return [(f"step_{number}", step) for number, step in enumerate(steps)]


def _learnt_from(detector: Any) -> str:
    rows = getattr(detector, "training_rows_", None)
    return "unknown" if rows is None else f"{len(rows)} rows"


def _thresholds(detector: Any) -> str:
    if hasattr(detector, "offsets_"):
        return ", ".join(f"{name} {offset:.4g}" for name, offset in detector.offsets_.items())
    offset = getattr(detector, "offset_", None)
    return "unknown" if offset is None else f"{np.asarray(offset).item():.4g}"
