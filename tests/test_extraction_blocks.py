"""Which sums make a residual block."""

import pytest
import torch
import torch.nn.functional as F
from _networks import Block, extract, vectors
from torch import nn


def around(block):
    torch.manual_seed(0)
    before = [nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5)]
    return nn.Sequential(*before, block, nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3))


class Custom(nn.Module):
    """Its forward is given; it has two linear modules, a norm and parameters."""

    def __init__(self, forward):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)
        self.norm, self.act, self.gain = nn.LayerNorm(5), nn.Softplus(), nn.Parameter(torch.ones(5))
        self.compute = forward

    def forward(self, x):
        return self.compute(self, x)


def post_norm(net, x):
    x = net.norm(x + net.a(x))
    return net.norm(x + net.b(x))


def in_place(net, x):
    out = net.b(F.relu(net.a(x)))
    out += x
    return F.relu(out, inplace=True)


BLOCKS = {
    "identity": lambda net, x: x + net.b(net.act(net.a(x))),
    "the other way round": lambda net, x: net.a(x) + x,
    "by function": lambda net, x: torch.add(net.act(net.a(x)), x),
    "projection": lambda net, x: F.relu(net.c(x) + net.b(net.act(net.a(x)))),
    "projection of several modules": lambda net, x: net.c(net.norm(x)) + net.b(net.act(net.a(x))),
    "two projections": lambda net, x: net.c(net.norm(net.c(x))) + net.b(net.act(net.a(x))),
    "towards": lambda net, x: x + net.gain * (net.b(net.act(net.a(x))) - x),
    "post norm": post_norm,
    "pre norm": lambda net, x: (lambda y: y + net.b(net.norm(y)))(x + net.a(net.norm(x))),
    "in place": in_place,
}


@pytest.mark.parametrize("forward", BLOCKS.values(), ids=BLOCKS)
def test_sum_of_the_input_and_what_modules_make_of_it_is_a_block(forward):
    assert extract(around(Custom(forward)), vectors()).layer_names == ("1", "3", "5")


NO_BLOCKS = {
    "GELU written out": lambda net, x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.0447 * x**3))),
    "affine": lambda net, x: net.a(x) * net.b(x) + net.c(x),
    "low rank": lambda net, x: net.a(x) + net.c(net.b(x)),
    "response norm": lambda net, x: net.gain * (x * x.norm(dim=1, keepdim=True)) + x,
    "noise": lambda net, x: x + 0.01 * torch.ones_like(x),
    "rotation": lambda net, x: net.c(net.a(x) * 0.6 + net.a(x).roll(1, 1) * 0.8),
    "inner sum": lambda net, x: net.a(x * (x + net.b(x))),
}


@pytest.mark.parametrize("forward", NO_BLOCKS.values(), ids=NO_BLOCKS)
def test_other_sums_make_no_block(forward):
    layers = extract(around(Custom(forward)), vectors()).layer_names
    assert "3" not in layers
    assert {"1", "5"} <= set(layers)


def test_block_of_a_block_is_found_too():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(Block(4), Block(4)), nn.Flatten())
    assert extract(network, torch.ones(3, 1, 8, 8)).layer_names == ("1.0", "1.1")


def test_block_with_many_sums_of_differences_is_one_block():
    def forward(net, x):
        for part in (net.a, net.b, net.c):
            x = x + net.gain * (net.act(part(x)) - x)
        return x

    assert extract(around(Custom(forward)), vectors()).layer_names == ("1", "3", "5")


def test_projection_that_is_pooled_by_hand_makes_a_block():
    class Pooled(Custom):
        def forward(self, x):
            x = self.norm(x)
            skip = self.c(x).unflatten(1, (2, -1)).amax(1)
            return skip + self.b(F.relu(self.a(x)).unflatten(1, (2, -1)).amax(1))

    tokens = nn.Unflatten(1, (6, 1))
    before, after = nn.Sequential(tokens, nn.Linear(1, 5), nn.ReLU()), nn.Linear(15, 3)
    network = nn.Sequential(before, Pooled(None), nn.Flatten(), after)
    assert extract(network, vectors()).layer_names == ("0.2", "1", "penultimate")
