"""Uncertainty of the predictions by Monte Carlo dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import xlog1py, xlogy

from .._batches import row_batches
from .._column import usual_name
from .._layer_names import find_passes
from .._sklearn import StrOptions
from .._validation import check_activations
from .._values import LOGITS_ADVICE, Floats
from ..activations import Activations
from ._base_sample_wise import BaseSampleWiseDetector
from ._softmax import below_largest


class MCDropoutDetector(BaseSampleWiseDetector):
    """Minus the uncertainty of the predictions by Monte Carlo dropout.

    A network runs several times on each sample with dropout active: in each of these stochastic
    forward passes, other units are left out [1]_. Where the passes are uncertain or disagree, the
    sample is likely out-of-distribution.

    Parameters
    ----------
    statistic : {"entropy", "mutual_information", "variation_ratio", "variance"}, default="entropy"
        Measure of uncertainty; see the notes.
    layer : str, default=None
        Layer with the logits of the passes, of shape (n_samples, n_passes, n_classes). By default
        the column of the kind "pass", or else the layer "passes".

    Attributes
    ----------
    n_features_in_ : int
        Number of passes times number of classes.
    layer_shapes_ : dict of str to tuple
        Shape of one sample's passes, where ``fit`` saw ``Activations``.

    See Also
    --------
    EntropyDetector : Entropy of a deterministic forward pass.
    skood.ActivationExtractor : Runs the passes, with ``n_passes``.

    Notes
    -----
    Let p_t be the softmax of pass t and p their mean. The score is minus

    - "entropy": the entropy H(p), in nats;
    - "mutual_information": H(p) minus the mean of H(p_t) [2]_. It is large where the passes
      contradict each other, and 0 where all of them are uncertain in the same way;
    - "variation_ratio": the share of passes that do not vote for the most frequent class;
    - "variance": the variance of p_t over the passes, with divisor ``n_passes - 1``, averaged
      over the classes.

    For the entropy, ``Activations`` without ``layer`` have their logits taken as a single
    pass; the other statistics need the layer. An ordinary array is taken as the logits of a single
    pass. Of one pass, the entropy is that of :class:`~skood.detectors.EntropyDetector`, and
    the other statistics are 0 for all samples. Logits of passes that come from elsewhere can be
    scored as ``Activations({"passes": logits})``.

    Only the threshold is learnt: in batches, too, by ``partial_fit`` and ``merge``.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation: representing model
       uncertainty in deep learning", ICML 2016. arXiv:1506.02142
    .. [2] N. Houlsby, F. Huszár, Z. Ghahramani, M. Lengyel, "Bayesian active learning for
       classification and preference learning", 2011. arXiv:1112.5745

    Examples
    --------
    Two samples in two passes. The passes contradict each other for the second one:

    >>> from skood import Activations
    >>> from skood.detectors import MCDropoutDetector
    >>> A = Activations({"passes": [[[9.0, 0.0], [8.0, 0.0]], [[9.0, 0.0], [0.0, 9.0]]]})
    >>> for statistic in ("entropy", "mutual_information", "variation_ratio"):
    ...     print(MCDropoutDetector(statistic=statistic).fit(A).score_samples(A).round(3))
    [-0.002 -0.693]
    [-0.    -0.692]
    [ 0.  -0.5]
    """

    _parameter_constraints: dict = {
        **BaseSampleWiseDetector._parameter_constraints,
        "statistic": [StrOptions({"entropy", "mutual_information", "variation_ratio", "variance"})],
        "layer": [str, None],
    }

    def __init__(
        self,
        *,
        statistic: str = "entropy",
        layer: str | None = None,
        false_alarm_rate: float = 0.05,
        validation: Any = None,
    ) -> None:
        super().__init__(false_alarm_rate=false_alarm_rate, validation=validation)
        self.statistic = statistic
        self.layer = layer

    def _validate(self, X: Any, *, reset: bool) -> Activations:
        by_layer = isinstance(X, Activations)
        if by_layer:
            X = self._passes_or_logits(X)
        return check_activations(
            self,
            X,
            reset=reset,
            allow_nd=by_layer,
            ensure_min_features=2 if reset else 1,
            advice=LOGITS_ADVICE,
        )

    def _passes_or_logits(self, X: Activations) -> Activations:
        """The one layer to read; others may stay on disk."""
        layer = self._layer_of_passes(X)
        if layer not in X:
            if X.logits is None or self.statistic != "entropy":
                raise ValueError(
                    f"MCDropoutDetector with statistic={self.statistic!r} found no layer "
                    f"{layer!r} in {X!r}: extract it with "
                    "ActivationExtractor(network, n_passes=...). The logits can replace it for "
                    "statistic='entropy' alone."
                )
            return X.replace({"logits": X.logits})
        shape = X.layer_shapes[layer]
        if len(shape) != 2:
            raise ValueError(
                f"Layer {layer!r} must have shape (n_samples, n_passes, n_classes), got "
                f"{(len(X), *shape)}: extract it with ActivationExtractor(network, n_passes=...)."
            )
        return X[[layer]]

    def _layer_of_passes(self, X: Activations) -> str:
        if self.layer is not None:
            return self.layer
        column = find_passes(X)
        return usual_name("", "pass") if column is None else str(column.name)

    def _score_samples(self, X: Activations) -> Floats:
        (layer,) = X.layer_names
        logits = X[layer]
        if logits.ndim == 2:
            logits = logits[:, np.newaxis]
        statistic = _STATISTICS[self.statistic]
        scores = np.empty(len(logits))
        for rows in row_batches(len(logits), 4 * logits.shape[1] * logits.shape[2]):
            # By subtraction, so that no uncertainty is 0 and not -0.
            scores[rows] = 0.0 - statistic(np.asarray(logits[rows], dtype=np.float64))
        return scores


def _mean_and_deviations(logits: Floats) -> tuple[Floats, Floats]:
    """Mean softmax over passes, and the deviation of each pass from it.

    Computed from differences to the first pass, so that equal passes deviate by exactly 0.
    """
    others = below_largest(logits.reshape(-1, logits.shape[2]))[1].reshape(logits.shape)
    top = logits.argmax(axis=2)[:, :, np.newaxis]
    total = 1 + others.sum(axis=2, keepdims=True)
    np.put_along_axis(others, top, 1, axis=2)
    probabilities = others / total
    deviations = probabilities - probabilities[:, :1]
    mean_deviation = deviations.mean(axis=1, keepdims=True)
    return probabilities[:, 0] + mean_deviation[:, 0], deviations - mean_deviation


def _entropy(logits: Floats) -> Floats:
    mean, _ = _mean_and_deviations(logits)
    # The largest probability by its complement, which does not round to 0.
    np.put_along_axis(mean, mean.argmax(axis=1)[:, np.newaxis], 0, axis=1)
    complement = mean.sum(axis=1)
    return -xlogy(mean, mean).sum(axis=1) - xlog1py(1 - complement, -complement)


def _mutual_information(logits: Floats) -> Floats:
    mean, deviations = _mean_and_deviations(logits)
    mean = np.maximum(mean, np.finfo(float).tiny)[:, np.newaxis]
    # The mean divergence of the passes from their mean, as a sum of terms none of which is
    # negative: unlike the difference of two entropies it stays accurate near 0.
    relative = np.maximum(deviations / mean, -1)
    terms = mean * np.maximum(xlog1py(1 + relative, relative) - relative, 0)
    return terms.sum(axis=2).mean(axis=1)


def _variation_ratio(logits: Floats) -> Floats:
    n_passes, n_classes = logits.shape[1:]
    votes = logits.argmax(axis=2)[:, :, np.newaxis] == np.arange(n_classes)
    return 1 - votes.sum(axis=1).max(axis=1) / n_passes


def _variance(logits: Floats) -> Floats:
    _, deviations = _mean_and_deviations(logits)
    n_passes, n_classes = logits.shape[1:]
    return (deviations**2).sum(axis=(1, 2)) / (max(n_passes - 1, 1) * n_classes)


_STATISTICS = {
    "entropy": _entropy,
    "mutual_information": _mutual_information,
    "variation_ratio": _variation_ratio,
    "variance": _variance,
}
