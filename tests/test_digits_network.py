"""A network that has learnt scikit-learn's digits, and the rows it comes with."""

import sys

import numpy as np
import pytest

from skood.datasets import load_digits_network, load_digits_ood

torch = pytest.importorskip("torch")


def right(digits, rows):
    """Share of the rows that the network names rightly."""
    with torch.no_grad():
        logits = digits.network(torch.from_numpy(digits.data[rows]))
    return np.mean(logits.argmax(dim=1).numpy() == digits.target[rows])


@pytest.fixture(scope="module")
def digits():
    return load_digits_network()


@pytest.fixture(scope="module")
def perceptron():
    return load_digits_network(
        (8, 9), channels=(), hidden=(12, 6), dropout=0.2, n_train=300, n_epochs=1
    )


def test_it_names_nearly_all_digits_that_it_knows(digits):
    assert right(digits, digits.train) > 0.99
    assert right(digits, digits.calibration) > 0.94
    assert right(digits, digits.test) > 0.94


def test_the_images_are_those_of_the_digits_and_every_row_has_one_part(digits):
    expected = load_digits_ood(held_out=(1, 5))
    for key in expected:
        np.testing.assert_array_equal(digits[key], expected[key])
    parts = [digits.train, digits.calibration, digits.test, digits.unknown]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(digits.data)))
    np.testing.assert_array_equal(digits.unknown, np.flatnonzero(expected.target == -1))
    assert [len(part) for part in parts[1:3]] == [200, 200]


def test_layers_have_the_names_of_the_docstring(digits):
    names = "conv1 relu1 conv2 relu2 pool conv3 relu3 flatten linear4 relu4 linear5"
    assert [name for name, _ in digits.network.named_children()] == names.split()


def test_it_is_ready_to_be_used(digits):
    assert not any(module.training for module in digits.network.modules())
    assert {p.dtype for p in digits.network.parameters()} == {torch.float32}
    assert all(p.grad is None for p in digits.network.parameters())


def test_layers_are_those_asked_for(perceptron):
    names = "flatten linear1 relu1 dropout1 linear2 relu2 dropout2 linear3"
    assert [name for name, _ in perceptron.network.named_children()] == names.split()
    weights = [tuple(p.shape) for p in perceptron.network.parameters() if p.ndim == 2]
    assert weights == [(12, 64), (6, 12), (8, 6)]
    assert perceptron.network.dropout1.p == 0.2
    assert len(perceptron.train) == 300
    assert set(perceptron.digit[perceptron.unknown]) == {8, 9}


@pytest.mark.parametrize("channels", [(3,), (3, 2), (3, 2, 5)])
def test_images_are_halved_once(channels):
    network = load_digits_network(channels=channels, hidden=(), n_epochs=0).network
    assert [name for name, _ in network.named_children()].count("pool") == 1
    assert network[-1].in_features == channels[-1] * 4 * 4
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 8)


def test_the_random_state_decides_rows_and_weights():
    def load(random_state):
        return load_digits_network(
            channels=(2,), hidden=(), n_train=64, n_epochs=1, random_state=random_state
        )

    first, again, other = load(3), load(np.random.RandomState(3)), load(4)
    np.testing.assert_array_equal(first.train, again.train)
    assert not np.array_equal(first.train, other.train)
    weights = [digits.network[-1].weight for digits in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_torch_is_left_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with torch.no_grad():
        network = load_digits_network(channels=(2,), n_train=64, n_epochs=1).network
    assert torch.equal(torch.rand(3), expected)
    assert all(p.requires_grad for p in network.parameters())


def test_it_learns_in_single_precision_on_the_cpu_whatever_the_defaults_are():
    with torch.device("meta"):
        torch.set_default_dtype(torch.float64)
        try:
            digits = load_digits_network(channels=(2,), n_train=64, n_epochs=1)
        finally:
            torch.set_default_dtype(torch.float32)
    assert {(p.dtype, p.device.type) for p in digits.network.parameters()} == {
        (torch.float32, "cpu")
    }


def test_more_rows_than_there_are_digits_are_refused():
    with pytest.raises(ValueError, match="1433 images of known digits, but n_calibration=700"):
        load_digits_network(n_calibration=700, n_test=700, n_train=34)
    assert len(load_digits_network(n_calibration=700, n_test=732, n_epochs=0).train) == 1


@pytest.mark.parametrize("name", ["channels", "hidden"])
@pytest.mark.parametrize("widths", [(0,), (4, -1), (2.0,)])
def test_layers_without_units_are_refused(name, widths):
    with pytest.raises(ValueError, match=f"{name} must be positive integers"):
        load_digits_network(**{name: widths})


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="load_digits_network needs torch"):
        load_digits_network()
