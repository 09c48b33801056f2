"""A residual network that classifies an image and draws it without noise."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualDenoiser(nn.Module):
    """The first two stages of a ResNet-18, shared by a classifier and a decoder.

    Parameters
    ----------
    n_channels, n_classes : int
        Channels of the images; classes.
    width : int, default=32
        Channels of the first stage; the second has twice as many. A ResNet-18 has 64.
    """

    def __init__(self, n_channels: int, n_classes: int, width: int = 32) -> None:
        super().__init__()
        self.stem = _convolution(n_channels, width, stride=2)
        self.stage1 = nn.Sequential(_ResidualBlock(width), _ResidualBlock(width))
        self.stage2 = nn.Sequential(_ResidualBlock(width, 2), _ResidualBlock(2 * width))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(2 * width, n_classes)
        self.decoder1 = _convolution(2 * width, width)
        self.decoder2 = _convolution(width, width)
        self.decoder3 = nn.Conv2d(width, n_channels, 3, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of shape (n, n_classes), and images of the shape of the input."""
        half = self.stem(images)
        quarter = self.stage2(self.stage1(half))
        logits = self.classifier(self.pool(quarter))
        drawn = self.decoder1(_enlarge(quarter, half))
        drawn = self.decoder2(_enlarge(drawn, images))
        return logits, self.decoder3(drawn)


class _ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; a ``growth`` of 2 halves the side, with more channels."""

    def __init__(self, n_channels: int, growth: int = 1) -> None:
        super().__init__()
        n_out = n_channels * growth
        self.convolutions = nn.Sequential(
            _convolution(n_channels, n_out, stride=growth),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if growth > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_channels, n_out, 1, stride=growth, bias=False), nn.BatchNorm2d(n_out)
            )
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        return self.relu(self.convolutions(maps) + self.shortcut(maps))


def _convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
    )


def _enlarge(maps: Tensor, like: Tensor) -> Tensor:
    return nn.functional.interpolate(maps, size=like.shape[-2:], mode="nearest")
