"""Losses that keep a classifier from being sure where it is wrong."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra.numpy import arrays  # noqa: E402
from scipy.special import softmax  # noqa: E402

from skood.training import OverconfidencePenalty, SpreadPenalty  # noqa: E402

LOSSES = [OverconfidencePenalty, SpreadPenalty]
EVEN = [0.0, 0.0, 0.0, 0.0]
CONFIDENT = [8.0, 0.0, 0.0, 0.0]


def overconfidence_by_hand(p, target):
    return -sum(p[i] * np.log(1 - p[i]) for i in range(len(p)) if i != target)


def spread_by_hand(p, target):
    return np.std(p) if np.argmax(p) != target else 0.0


BY_HAND = {OverconfidencePenalty: overconfidence_by_hand, SpreadPenalty: spread_by_hand}


def losses_of(loss, logits, targets):
    return loss(torch.tensor(logits, dtype=torch.float64), torch.tensor(targets)).numpy()


def a_batch(n_samples=30, n_classes=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, (n_samples, n_classes)), rng.integers(0, n_classes, n_samples)


# Values


@pytest.mark.parametrize("cls", LOSSES)
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_the_cross_entropy_and_the_weighted_penalty(cls, weight):
    logits, targets = a_batch()
    expected = [
        -np.log(p[t]) + weight * BY_HAND[cls](p, t)
        for p, t in zip(softmax(logits, axis=1), targets, strict=True)
    ]
    found = losses_of(cls(weight, reduction="none"), logits, targets)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("cls", LOSSES)
def test_the_losses_of_the_samples_are_reduced_as_asked(cls):
    logits, targets = a_batch()
    each = losses_of(cls(reduction="none"), logits, targets)
    assert each.shape == (30,)
    assert losses_of(cls(), logits, targets) == pytest.approx(each.mean())
    assert losses_of(cls(reduction="sum"), logits, targets) == pytest.approx(each.sum())


@pytest.mark.parametrize("cls", LOSSES)
@given(arrays(np.float32, (3, 4), elements=st.floats(-1e4, 1e4, width=32)))
def test_loss_and_gradient_are_finite_whatever_the_logits(cls, values):
    logits = torch.tensor(values, requires_grad=True)
    loss = cls()(logits, torch.tensor([0, 1, 3]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_the_penalty_stays_finite_where_a_wrong_probability_rounds_to_one():
    logits = torch.tensor([[0.0, 300.0]])
    assert logits.softmax(dim=1)[0, 1] == 1
    penalty = OverconfidencePenalty().penalty(logits, torch.tensor([0]))
    assert penalty.item() == pytest.approx(300)


# Gradients


@pytest.mark.parametrize("cls", LOSSES)
@pytest.mark.parametrize("method", ["__call__", "penalty"])
def test_gradients_are_those_of_finite_differences(cls, method):
    logits, targets = a_batch(8)
    function, step = getattr(cls(0.7), method), 1e-6
    variable = torch.tensor(logits, requires_grad=True)
    function(variable, torch.tensor(targets)).sum().backward()
    numeric = np.zeros_like(logits)
    for position in np.ndindex(logits.shape):
        moved = np.zeros_like(logits)
        moved[position] = step
        high, low = (
            function(torch.tensor(logits + sign * moved), torch.tensor(targets)).sum().item()
            for sign in (1, -1)
        )
        numeric[position] = (high - low) / (2 * step)
    np.testing.assert_allclose(variable.grad.numpy(), numeric, atol=1e-7)


@pytest.mark.parametrize("cls", LOSSES)
def test_a_step_down_the_penalty_makes_the_wrong_class_less_sure(cls):
    logits = torch.tensor([[3.0, 0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    cls().penalty(logits, torch.tensor([1])).sum().backward()
    after = logits.detach() - 0.1 * logits.grad
    assert after.softmax(dim=1)[0, 0] < logits.softmax(dim=1)[0, 0]
    assert after.softmax(dim=1)[0, 1] > logits.softmax(dim=1)[0, 1]


# Aim


@pytest.mark.parametrize("cls", LOSSES)
def test_a_confident_wrong_prediction_costs_more_than_an_even_one(cls):
    logits, target = torch.tensor([CONFIDENT, EVEN]), torch.tensor([1, 1])
    confident, even = cls().penalty(logits, target)
    assert confident > even
    confident, even = cls(reduction="none")(logits, target)
    assert confident > even


@pytest.mark.parametrize("cls", LOSSES)
def test_spread_penalty_is_smallest_for_uniform_wrong_classes(cls):
    # The class 0 is true and has the probability 0.1 in all of them: the cross entropy is equal.
    rest = [[0.3, 0.3, 0.3], [0.5, 0.3, 0.1], [0.7, 0.1, 0.1], [0.88, 0.01, 0.01]]
    logits = np.log([[0.1, *others] for others in rest])
    costs = losses_of(cls(reduction="none"), logits, [0] * 4)
    assert (np.diff(costs) > 0).all()


def test_a_right_prediction_costs_no_spread():
    logits, targets = a_batch()
    penalty = SpreadPenalty().penalty(torch.tensor(logits), torch.tensor(targets)).numpy()
    right = logits.argmax(axis=1) == targets
    assert right.any()
    assert (penalty[right] == 0).all()
    assert (penalty[~right] > 0).all()


def test_the_spread_is_largest_where_one_wrong_class_has_all():
    worst = SpreadPenalty().penalty(torch.tensor([[50.0, 0.0]]), torch.tensor([1]))
    assert worst.item() == pytest.approx(0.5)
    even = SpreadPenalty().penalty(torch.tensor([EVEN]), torch.tensor([1]))
    assert even.item() == 0


# In skorch


@pytest.mark.parametrize("cls", LOSSES)
def test_skorch_takes_it_as_criterion_and_gives_probabilities(cls):
    skorch = pytest.importorskip("skorch")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(np.int64)
    torch.manual_seed(0)
    net = skorch.NeuralNetClassifier(
        torch.nn.Linear(4, 2),
        criterion=cls,
        criterion__penalty_weight=0.5,
        lr=0.5,
        max_epochs=30,
        train_split=None,
        verbose=0,
    ).fit(X, y)
    assert net.criterion_.penalty_weight == 0.5
    np.testing.assert_allclose(net.predict_proba(X).sum(axis=1), 1, rtol=1e-5)
    assert net.score(X, y) > 0.9


# Errors


@pytest.mark.parametrize("cls", LOSSES)
def test_wrong_parameters_are_refused(cls):
    with pytest.raises(ValueError, match="penalty_weight == -1"):
        cls(-1)
    with pytest.raises(TypeError, match="penalty_weight must be an instance of"):
        cls("much")
    with pytest.raises(ValueError, match="'mean', 'sum' or 'none', got 'median'"):
        cls(reduction="median")


@pytest.mark.parametrize("cls", LOSSES)
def test_probabilities_are_no_targets(cls):
    with pytest.raises(TypeError, match="target must hold classes"):
        cls()(torch.zeros(2, 2), torch.full((2, 2), 0.5))
