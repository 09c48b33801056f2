"""What the columns of layers are has to be the same in fit and later, as far as it is said."""

import re

import numpy as np
import pytest
from _estimators import detectors, transformers
from sklearn.base import clone

from skood import ActivationExtractor, Activations, PoolingReducer
from skood.activations import Column, LinearHead
from skood.calibration import ConformalDetector, RiskControlledDetector
from skood.detectors import KNNDetector, MCDropoutDetector
from skood.preprocessing import LayerSelector

# The extractor takes images, a selector any layers beside its own, and passes are of one kind. What
# is calibrated checks its columns by itself.
OTHERS = (
    ActivationExtractor,
    ConformalDetector,
    LayerSelector,
    MCDropoutDetector,
    RiskControlledDetector,
)
ESTIMATORS = {
    type(estimator).__name__: estimator
    for estimator in [*detectors(), *transformers()]
    if not isinstance(estimator, OTHERS) and hasattr(estimator, "fit")
}
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)
Y = np.arange(60) % 2


def samples(**said):
    """Activations whose layer is a column of which the given is said."""
    layer = np.abs(np.random.default_rng(0).normal(size=(60, 4))) + Y[:, np.newaxis]
    head = LinearHead(np.array([[1.0, 0, 1, 0], [0, 1, 0, 2]]), input_layer="relu")
    column = Column(layer, **said) if said else layer
    return Activations({"relu": column}, logits=head.logits(layer), head=head)


def fitted(name, A):
    estimator = clone(ESTIMATORS[name])
    if "n_neighbors" in estimator.get_params():
        estimator.set_params(n_neighbors=5)
    return estimator.fit(A, Y)


def use(estimator, A):
    return (
        estimator.score_samples(A)
        if hasattr(estimator, "score_samples")
        else estimator.transform(A)
    )


@every_estimator
def test_columns_that_are_something_else_are_refused(name):
    estimator = fitted(name, samples(pooling="max"))
    if "relu" not in getattr(estimator, "layer_shapes_", {}):
        pytest.skip("reads the logits alone")
    message = f"Layer 'relu' of X has pooling='avg', but {name} was fitted on one with pooling="
    with pytest.raises(ValueError, match=re.escape(message + "'max'")):
        use(estimator, samples(pooling="avg"))
    use(estimator, samples(pooling="max"))


@every_estimator
def test_columns_that_say_nothing_are_accepted(name):
    said, unsaid = samples(pooling="max"), samples()
    for learnt, new in ((said, unsaid), (unsaid, said), (unsaid, unsaid)):
        use(fitted(name, learnt), new)


@pytest.mark.parametrize(
    ("learnt", "new", "message"),
    [
        ({"kind": "gradient"}, {"kind": "pass"}, "kind='pass', but .* with kind='gradient'"),
        ({"layer": "a"}, {"layer": "b"}, "layer='b', but .* with layer='a'"),
        (
            {"layer": "a", "pooling": "max"},
            {"kind": "gradient"},
            "layer='relu', kind='gradient', pooling=None, but .* "
            "with layer='a', kind='value', pooling='max'",
        ),
    ],
)
def test_the_message_names_what_differs_and_nothing_else(learnt, new, message):
    with pytest.raises(ValueError, match=f"Layer 'relu' of X has {message}\\.$"):
        fitted("KNNDetector", samples(**learnt)).score_samples(samples(**new))


def test_pooled_layers_of_the_same_name_are_told_apart():
    maps = Activations({"relu": np.random.default_rng(0).random((60, 4, 3, 3))})
    pooled = {how: PoolingReducer(pooling=how).fit_transform(maps) for how in ("max", "avg")}
    detector = KNNDetector(n_neighbors=5).fit(pooled["max"])
    with pytest.raises(ValueError, match=r"pooling='avg', but KNNDetector .* pooling='max'"):
        detector.score_samples(pooled["avg"])
    plain = Activations(dict(pooled["avg"].items()))
    assert len(detector.score_samples(plain)) == 60


def test_axes_of_units_are_compared_where_both_are_said():
    tokens, others = (
        Activations({"block": Column(np.ones((4, 5, 3)), layer="b", unit_axis=axis)})
        for axis in (2, 1)
    )
    reducer = PoolingReducer().fit(tokens)
    assert reducer.transform(tokens)["block"].shape == (4, 3)
    with pytest.raises(ValueError, match=r"unit_axis=1, but PoolingReducer .* unit_axis=2"):
        reducer.transform(others)


def test_what_is_said_is_forgotten_by_the_next_fit():
    detector = fitted("KNNDetector", samples(pooling="max")).fit(samples(pooling="avg"))
    detector.score_samples(samples(pooling="avg"))
    detector.fit(np.asarray(samples(pooling="avg")))
    assert not hasattr(detector, "_known_columns")


INCREMENTAL = [
    name
    for name, estimator in ESTIMATORS.items()
    if hasattr(estimator, "merge") and "relu" in fitted(name, samples()).layer_shapes_
]
every_incremental = pytest.mark.parametrize("name", INCREMENTAL)


@every_incremental
def test_batches_and_merged_detectors_need_the_same_columns(name):
    detector = fitted(name, samples(pooling="max"))
    before = dict(vars(detector))
    message = f"has pooling='avg', but {name} was fitted on one with pooling='max'"
    with pytest.raises(ValueError, match=f"Layer 'relu' of X {message}"):
        detector.partial_fit(samples(pooling="avg"), Y)
    message = message.replace("but", "but this")
    with pytest.raises(ValueError, match=f"Layer 'relu' of the other {name} {message}"):
        detector.merge(fitted(name, samples(pooling="avg")))
    assert vars(detector) == before


@every_incremental
@pytest.mark.parametrize("way", ["merge", "partial_fit"])
def test_what_a_later_batch_says_is_known_from_then_on(name, way):
    detector = fitted(name, samples())
    if way == "merge":
        detector.merge(fitted(name, samples(pooling="max")))
    else:
        detector.partial_fit(samples(pooling="max"), Y)
    use(detector, samples())
    with pytest.raises(ValueError, match=r"pooling='avg', but .* pooling='max'"):
        use(detector, samples(pooling="avg"))
