"""Small transformers of the three kinds: of words, of patches in a row, of patches in a grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .data import PADDING


class Block(nn.Module):
    """Attention and a perceptron, each beside a skip, on (n_samples, n_tokens, n_units)."""

    def __init__(self, n_units: int, n_heads: int = 4) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(n_units), nn.LayerNorm(n_units)
        self.attention = nn.MultiheadAttention(n_units, n_heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(n_units, 2 * n_units), nn.GELU(), nn.Linear(2 * n_units, n_units)
        )

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, key_padding_mask=padding, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class TextNet(nn.Module):
    """A transformer on word numbers and a mask that is 1 at words; the head reads their mean."""

    def __init__(self, n_words: int, length: int, n_classes: int, n_units: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(n_words, n_units, padding_idx=PADDING)
        self.positions = nn.Parameter(0.02 * torch.randn(length, n_units))
        self.blocks = nn.ModuleList(Block(n_units) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(n_units), nn.Linear(n_units, n_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.words(input_ids) + self.positions[: input_ids.shape[1]]
        for block in self.blocks:
            x = block(x, attention_mask == 0)
        weights = attention_mask[..., None].to(x.dtype)
        return self.head((self.norm(x) * weights).sum(1) / weights.sum(1))


class VisionTransformer(nn.Module):
    """A transformer on 16 patches of 2 x 2 pixels and a first token, which the head reads."""

    def __init__(self, n_classes: int, n_units: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, n_units, 2, stride=2)
        self.first = nn.Parameter(torch.zeros(1, 1, n_units))
        self.positions = nn.Parameter(0.02 * torch.randn(17, n_units))
        self.blocks = nn.ModuleList(Block(n_units) for _ in range(4))
        self.norm, self.head = nn.LayerNorm(n_units), nn.Linear(n_units, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class WindowBlock(nn.Module):
    """A block whose attention is within windows, which every second block shifts.

    It is given (n_samples, height, width, n_units).
    """

    def __init__(self, n_units: int, window: int, shift: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(n_units), nn.LayerNorm(n_units)
        self.attention = nn.MultiheadAttention(n_units, 4, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(n_units, 2 * n_units), nn.GELU(), nn.Linear(2 * n_units, n_units)
        )
        self.window, self.shift = window, shift

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def attend(self, x: Tensor) -> Tensor:
        n, height, width, units = x.shape
        size = self.window
        x = x.roll((-self.shift, -self.shift), (1, 2))
        x = x.reshape(n, height // size, size, width // size, size, units).transpose(2, 3)
        windows = x.reshape(-1, size * size, units)
        windows = self.attention(windows, windows, windows, need_weights=False)[0]
        x = windows.reshape(n, height // size, width // size, size, size, units).transpose(2, 3)
        return x.reshape(n, height, width, units).roll((self.shift, self.shift), (1, 2))


class Merging(nn.Module):
    """Four neighbours become one of twice as many units."""

    def __init__(self, n_units: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * n_units)
        self.reduction = nn.Linear(4 * n_units, 2 * n_units, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        quarters = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(quarters, dim=-1)))


class Swin(nn.Module):
    """Windows of 4 x 4 pixels, then of 2 x 2 of the merged ones; the head reads the mean."""

    def __init__(self, n_classes: int, n_units: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, n_units, 1)
        self.positions = nn.Parameter(0.02 * torch.randn(8, 8, n_units))
        self.stages = nn.Sequential(
            WindowBlock(n_units, 4, 0),
            WindowBlock(n_units, 4, 2),
            Merging(n_units),
            WindowBlock(2 * n_units, 2, 0),
            WindowBlock(2 * n_units, 2, 1),
        )
        self.norm, self.head = nn.LayerNorm(2 * n_units), nn.Linear(2 * n_units, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.patches(x).permute(0, 2, 3, 1) + self.positions)
        return self.head(self.norm(x).mean((1, 2)))
