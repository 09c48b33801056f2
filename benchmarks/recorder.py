"""What recording the neurons costs beside the training itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice, pairwise, repeat

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from experiments._common.timing import Timings
from skood.training import TrainingRecorder

from .measure import Comparison, Line, Sizes

BATCH_SIZE = 100
N_CLASSES = 10
# Short turns, many of them: the difference is smaller than what else goes on in a machine.
TURNS_PER_REPETITION = 5

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]


def dense_net() -> nn.Sequential:
    """Five hidden layers of 256 neurons."""
    widths = [784, *[256] * 5]
    layers: list[nn.Module] = [nn.Flatten()]
    for n_inputs, n_units in pairwise(widths):
        layers += [nn.Linear(n_inputs, n_units), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], N_CLASSES))


def convolutional_net() -> nn.Sequential:
    """Three convolutions with batch norm, and a hidden dense layer."""
    layers: list[nn.Module] = []
    channels = 1
    for width in (16, 32, 32):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = width
    layers += [nn.Flatten(), nn.Linear(32 * 9, 64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, N_CLASSES))


def make_data() -> TensorDataset:
    """Noise of the size of MNIST, with labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(10 * BATCH_SIZE, 1, 28, 28, generator=generator)
    labels = torch.randint(N_CLASSES, (len(images),), generator=generator)
    return TensorDataset(images, labels)


class Training:
    """A network and its optimizer, trained some steps at a time."""

    def __init__(self, make_network: Callable[[], nn.Module], batches: Batches) -> None:
        torch.manual_seed(0)
        self.network = make_network()
        self._optimizer = torch.optim.Adam(self.network.parameters())
        self._batches = batches

    def run(self, n_steps: int) -> None:
        """Go on for some steps."""
        epochs = (batch for epoch in repeat(self._batches) for batch in epoch())
        for X, y in islice(epochs, n_steps):
            self._optimizer.zero_grad()
            nn.functional.cross_entropy(self.network(X), y).backward()
            self._optimizer.step()


def compare_recorder(sizes: Sizes) -> Comparison:
    """Training inside of a recorder over the same training without one."""
    data = make_data()
    X, y = data.tensors
    ready = list(zip(X.split(BATCH_SIZE), y.split(BATCH_SIZE), strict=True))
    loader = DataLoader(data, BATCH_SIZE)
    lines = [
        *time_training("dense net", dense_net, lambda: ready, sizes),
        *time_training("dense net, `DataLoader`", dense_net, lambda: loader, sizes),
        *time_training("convolutional net", convolutional_net, lambda: ready, sizes),
    ]
    n_turns = TURNS_PER_REPETITION * sizes.repetitions
    settings = (
        f"Steps of Adam on batches of {BATCH_SIZE} images of 28 x 28, which are ready or come from "
        "a `DataLoader`. Dense net: five hidden layers of 256 neurons; convolutional net: 16, 32 "
        f"and 32 channels with batch norm, and 64 neurons. {n_steps(sizes)} steps a turn, "
        f"{n_turns} turns, after {warm_up_steps(sizes)} steps."
    )
    return Comparison("Training with a recorder", settings, "over training without", lines)


def n_steps(sizes: Sizes) -> int:
    return max(1, sizes.n_calls // 20)


def warm_up_steps(sizes: Sizes) -> int:
    """So many that the recorder asks few neurons whether they are active on any sample."""
    return min(256, 2 * sizes.n_calls)


def time_training(
    name: str, make_network: Callable[[], nn.Module], batches: Batches, sizes: Sizes
) -> list[Line]:
    bare, recorded = (Training(make_network, batches) for _ in range(2))
    steps, warm_up = n_steps(sizes), warm_up_steps(sizes)
    bare.run(warm_up)
    with TrainingRecorder(recorded.network) as recorder:
        recorded.run(warm_up)
        tasks = {"bare": lambda: bare.run(steps), "recorded": lambda: recorded.run(steps)}
        timings = Timings(tasks, TURNS_PER_REPETITION * sizes.repetitions)
    n_turns = TURNS_PER_REPETITION * sizes.repetitions + 1
    assert recorder.n_iterations_ == warm_up + n_turns * steps
    for one, other in zip(bare.network.parameters(), recorded.network.parameters(), strict=True):
        assert torch.equal(one, other)
    return [
        Line(f"a step, {name}", timings.seconds("bare") / steps, 1.0),
        Line(
            "with `TrainingRecorder`",
            timings.seconds("recorded") / steps,
            timings.ratio("recorded", "bare"),
            "<= 1.1",
            name,
            "the step without it",
        ),
    ]
