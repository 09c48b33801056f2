"""Small networks and data sets for the tests, and a check that a network is left as it was."""

import copy
import random
import tracemalloc
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from sklearn.neural_network import MLPClassifier
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from skood import ActivationExtractor

N_CLASSES = 3
IMAGE_SHAPE = (1, 8, 8)


@contextmanager
def untouched(network):
    """Assert that the network and all global states are the same afterwards, bit for bit."""
    before = _snapshot(network)
    try:
        yield
    finally:
        after = _snapshot(network)
        assert after.keys() == before.keys()
        for what, value in before.items():
            assert after[what] == value, what


def _snapshot(network):
    state = {
        "torch random state": _octets(torch.get_rng_state()),
        "numpy random state": repr(np.random.get_state()),  # noqa: NPY002
        "python random state": random.getstate(),
        "gradients on": torch.is_grad_enabled(),
        "fast path on": torch.backends.mha.get_fastpath_enabled(),
        "default dtype": torch.get_default_dtype(),
        "function modes": len(torch.overrides._get_current_function_mode_stack()),
    }
    for name, module in network.named_modules():
        # A frozen scripted module has no mode.
        state[name, "training"] = getattr(module, "training", None)
        for hooks, value in vars(module).items():
            if hooks.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")):
                state[name, hooks] = list(value.items())
        tensors = {**module._parameters, **module._buffers}
        state[name, "tensors"] = list(tensors)
        for key, tensor in tensors.items():
            state[name, key] = None if tensor is None else _describe(tensor)
    return state


def _describe(tensor):
    grad = None if tensor.grad is None else (id(tensor.grad), _octets(tensor.grad))
    return (
        id(tensor),
        tensor.data_ptr(),
        tensor.device,
        tensor.dtype,
        tensor.requires_grad,
        tensor.layout is torch.strided and tensor.untyped_storage().resizable(),
        _octets(tensor),
        grad,
    )


def _octets(tensor):
    copied = tensor.detach().cpu().reshape(-1).clone()  # whose memory nobody resizes
    return copied.view(torch.uint8).numpy().tobytes()


def images(n_samples=11, *, seed=0, dtype=np.float32):
    """Random images."""
    return np.random.default_rng(seed).normal(size=(n_samples, *IMAGE_SHAPE)).astype(dtype)


def cnn():
    """A convolutional network whose layers are numbered; ReLUs at 1, 4 and 7, in place at 4."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(96, 10),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(10, N_CLASSES),
    )


class FunctionalCNN(nn.Module):
    """Calls its activation functions without modules, two of them by one name."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.fc = nn.Linear(96, 10)
        self.out = nn.Linear(10, N_CLASSES)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = torch.relu(self.conv2(x))
        return self.out(self.fc(x.flatten(1)).tanh())


class SharedReLU(nn.Module):
    """Calls one module of an activation function twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = nn.Linear(6, 5), nn.Linear(5, 4)
        self.relu = nn.ReLU()
        self.out = nn.Linear(4, N_CLASSES)

    def forward(self, x):
        return self.out(self.relu(self.fc2(self.relu(self.fc1(x)))))


class Block(nn.Module):
    """A residual block, which adds and rectifies in place."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        out = F.relu(self.bn(self.conv(x)))
        out += x
        return F.relu(out, inplace=True)


class ResNet(nn.Module):
    """A stem, two residual blocks, pooling and a linear head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        self.blocks = nn.Sequential(Block(4), Block(4))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, N_CLASSES)

    def forward(self, x):
        return self.fc(self.pool(self.blocks(self.stem(x))).flatten(1))


class TextNet(nn.Module):
    """A transformer on sequences of word numbers, with positions added to the words."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(20, 8)
        self.positions = nn.Embedding(5, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(8, N_CLASSES)

    def forward(self, x):
        places = torch.arange(x.shape[1]).expand(x.shape)
        return self.out(self.encoder(self.words(x) + self.positions(places)).mean(1))


class Returning(nn.Module):
    """Returns whatever ``pack`` makes of the logits."""

    def __init__(self, pack, n_outputs=N_CLASSES):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.relu = nn.Linear(6, 5), nn.ReLU()
        self.out = nn.Linear(5, n_outputs)
        self.pack = pack

    def forward(self, x):
        return self.pack(self.out(self.relu(self.fc1(x))))


def vectors(n_samples=11, n_features=6, *, seed=0, dtype=np.float32):
    """Random inputs for :class:`Returning` and :class:`SharedReLU`."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_samples, n_features)).astype(dtype)


def trained_perceptron(X, y, hidden=(4,), *, kind=MLPClassifier, n_steps=20, **params):
    """A multilayer perceptron of scikit-learn after so many steps, where it need not converge.

    No fit that ends early, on one processor or on all, warns.
    """
    network = kind(hidden_layer_sizes=hidden, random_state=0, **params)
    classes = {"classes": np.unique(y)} if kind is MLPClassifier else {}
    for _ in range(n_steps):
        network.partial_fit(X, y, **classes)
    return network


def with_exact_sums(perceptron):
    """The perceptron with weights of few bits: of rows of few bits, its sums are exact.

    So a row has the same activations in batches of every size on every processor, where sums of
    any numbers may be added up in another order, and differ in their last bits.
    """
    for arrays in (perceptron.coefs_, perceptron.intercepts_):
        arrays[:] = [np.round(array.astype(np.float64) * 64) / 64 for array in arrays]
    return perceptron


class Counting(nn.Module):
    """Counts the samples that a network sees."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, x):
        self.seen.append(len(x))
        return self.network(x)


class Rows(Dataset):
    """A data set of inputs and labels."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], i % 2


class Stream(IterableDataset):
    """A data set of unknown length, of inputs alone."""

    def __init__(self, X):
        self.X = X

    def __iter__(self):
        return iter(self.X)


def extract(network, X, layers="auto", **params):
    """The activations of new inputs, by a new extractor."""
    return ActivationExtractor(network, layers, **params).fit_transform(X)


def assert_same(A, B, **tolerance):
    """Assert that two Activations hold the same layers and logits."""
    assert A.layer_names == B.layer_names
    for name, array in A.items():
        assert_allclose(np.asarray(array), np.asarray(B[name]), **tolerance)
    assert_allclose(A.logits, B.logits, **tolerance)


def assert_head_yields_logits(A):
    """Assert that the head makes the logits of the layer that it names."""
    assert_allclose(A.head.logits(A[A.head.input_layer]), A.logits, rtol=1e-4, atol=1e-5)


def run(network, X):
    """What the network returns in evaluation mode; a copy runs."""
    with torch.no_grad():
        return copy.deepcopy(network).eval()(torch.as_tensor(X))


def with_peak_memory(function):
    """What a function returns, and the bytes that NumPy and Python held at once in it."""
    function()  # what is imported and cached the first time does not count
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
