"""The networks: two that are trained in minutes, and the given DenseNets."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from .._common.images import DATA
from ..cifar_shaping.densenet import load_densenet
from ..mnist_monitor.net import small_vgg, train
from .sources import Sizes, Source, load_source


class ResidualBlock(nn.Module):
    """Two convolutions beside a skip, which a 1 x 1 convolution adapts where sizes change."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.bn1, self.relu1 = nn.BatchNorm2d(n_out), nn.ReLU()
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(n_out), nn.ReLU()
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.skip = nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.skip(x) + self.bn2(self.conv2(y)))


class SmallResNet(nn.Module):
    """Six residual blocks of 16 to 64 channels; the head reads their means."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        sizes = [(16, 16, 2), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
        self.blocks = nn.Sequential(*(ResidualBlock(*size) for size in sizes))
        self.head = nn.Linear(64, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.first(x)).mean(dim=(2, 3)))


TRAINED = {"VGG": small_vgg, "ResNet": SmallResNet}


def load_network(source: Source, sizes: Sizes, folder: Path) -> nn.Module:
    """The network of a source; one that is trained here is kept in the folder."""
    if source.network not in TRAINED:
        name = f"densenet100_{source.name.replace('-', '').lower()}.pt"
        return load_densenet(DATA / "models" / name, source.n_classes).eval()
    file = folder / f"{source.folder_name}-{sizes.n_network}-{sizes.epochs}.pt"
    torch.manual_seed(0)
    network = TRAINED[source.network]()
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
        return network.eval()
    print(f"{source.title}: training")
    X, y = load_source(source, "train", sizes.n_network)
    train(network, X, y, epochs=sizes.epochs, seed=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), file)
    return network.eval()
