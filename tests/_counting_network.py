"""A network that notes when it is packed and unpacked."""

import os

import torch
from torch import nn


class CountingNetwork(nn.Module):
    """Writes a line into a file whenever it is packed or unpacked, with the process."""

    def __init__(self, log):
        super().__init__()
        self.log = str(log)
        self.body = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))
        self.weight = nn.Parameter(torch.zeros(1_000_000))

    def forward(self, x):
        return self.body(x) + self.weight[0]

    def __getstate__(self):
        self.note("packed")
        return self.__dict__.copy()

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.note("unpacked")

    def note(self, what):
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{what} {os.getpid()}\n")
