"""A monitor with good defaults, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline, make_pipeline

from .detectors import HammingNAPDetector
from .ensemble import LayerEnsembleDetector
from .extraction import ActivationExtractor
from .preprocessing import PercentileBinarizer, PoolingReducer

if TYPE_CHECKING:

    class Monitor(Pipeline):
        """The methods of the pipeline with their types, which scikit-learn does not declare."""

        def fit(self, X: Any, y: ArrayLike | None = None, **params: Any) -> Self: ...

        def score_samples(self, X: Any) -> NDArray[np.float64]: ...

        def decision_function(self, X: Any, **params: Any) -> NDArray[np.float64]: ...

        def predict(self, X: Any, **params: Any) -> NDArray[np.int64]: ...

        def score(self, X: Any, y: ArrayLike | None = None, **params: Any) -> float: ...
else:
    Monitor = Pipeline


def make_monitor(
    network: Any,
    *,
    layers: str | list[str] = "auto",
    logits: Any = "auto",
    head: Any = "auto",
    percentiles: Sequence[float] = (30, 50, 70),
    false_alarm_rate: float = 0.05,
    batch_size: int = 256,
    device: str = "auto",
    verbose: int = 0,
) -> Monitor:
    """Build a monitor of a trained network that needs no out-of-distribution data.

    The monitor extracts all layers, pools feature maps and tokens by their maximum and by their
    mean, and tokens at fixed places, such as those of an image, also each over its units. It
    compares the binary activation patterns of every layer, at several percentiles, with those of
    the training samples of the predicted class. The distances are standardised and averaged, over
    the percentiles of each layer and then over the layers.

    Parameters
    ----------
    network : object
        The trained classifier, of any kind that :class:`ActivationExtractor` takes. It is only
        read.
    layers : "auto", str or list of str, default="auto"
        Layers to monitor, as in :class:`ActivationExtractor`.
    logits : "auto", "binary", str, int, tuple or callable, default="auto"
        Which output holds the logits, as in :class:`ActivationExtractor`.
    head : "auto", str or LinearHead, default="auto"
        The last linear layer, as in :class:`ActivationExtractor`.
    percentiles : sequence of float, default=(30, 50, 70)
        Percentiles of the binarisation, as in :class:`PercentileBinarizer`. No single one is
        best for every network and every kind of input; one alone is faster.
    false_alarm_rate : float in (0, 0.5], default=0.05
        Fraction of in-distribution samples that ``predict`` rejects.
    batch_size : int, default=256
        Samples that go through the network at a time.
    device : str, default="auto"
        Where the network runs, as in :class:`ActivationExtractor`.
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    monitor : sklearn.pipeline.Pipeline
        With the steps "extract" and "detect". ``fit(X_train).predict(X)`` gives 1 for
        in-distribution and -1 for out-of-distribution samples.

    See Also
    --------
    skood.ensemble.AutoNAPDetector : Configures itself where OOD samples are available.

    Examples
    --------
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import make_monitor
    >>> from skood.datasets import load_digits_ood
    >>> X, y = load_digits_ood(return_X_y=True)
    >>> X = X.reshape(len(X), -1)
    >>> inside = y != -1
    >>> net = MLPClassifier((64, 32), random_state=0).fit(X[inside], y[inside])
    >>> monitor = make_monitor(net).fit(X[inside])
    >>> bool((monitor.predict(X[~inside]) == -1).mean() > (monitor.predict(X[inside]) == -1).mean())
    True
    """
    of_one_layer = LayerEnsembleDetector(
        [
            make_pipeline(PercentileBinarizer(percentile=p), HammingNAPDetector())
            for p in percentiles
        ],
        combine="mean",
    )
    monitor = Pipeline(
        [
            (
                "extract",
                ActivationExtractor(
                    network,
                    layers,
                    logits=logits,
                    head=head,
                    reducer=PoolingReducer(pooling=("max", "avg"), token_pooling=("max", "avg")),
                    batch_size=batch_size,
                    device=device,
                    verbose=verbose,
                ),
            ),
            (
                "detect",
                LayerEnsembleDetector(
                    of_one_layer, combine="mean", false_alarm_rate=false_alarm_rate
                ),
            ),
        ]
    )
    return cast(Monitor, monitor)
