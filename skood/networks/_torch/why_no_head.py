"""Why no linear map yields the logits of a torch network, as far as values can tell."""

from __future__ import annotations

from itertools import combinations, islice

import torch
from torch import Tensor

from .heads import Search, widened
from .products import Product
from .recorded import RecordedCall

_N_COMPARED = 4
"""Of the last linear layers, as many are looked at in pairs."""


def explain_missing_head(
    search: Search, logits: Tensor | None, direct: RecordedCall | None
) -> str:
    """Why there is no head, as the end of a sentence; ``direct`` yields the logits but is none."""
    if logits is None:
        return "the network returns nothing that could be the logits"
    if direct is not None:
        return explain_other_map(direct)
    products = list(islice(search.products(logits), _N_COMPARED)) if len(logits) else []
    values = widened(logits).flatten(1)
    for product in products:
        if why := explain_difference(product, values):
            return f"the last linear layer {product.name!r} {why}"
    for one, other in combinations(products, 2):
        if _is_sum(one, other, values):
            return (
                f"two linear layers, {other.name!r} and {one.name!r}, are added or averaged to "
                "make the logits"
            )
    return _explain_unknown(search)


def explain_other_map(direct: RecordedCall) -> str:
    if direct.is_product:
        return (
            f"{direct.call.name!r} yields the logits with a weight that is no parameter or "
            "buffer of the network but computed from one, such as the normalised one of a cosine "
            "classifier"
        )
    return (
        f"the last linear layer {direct.call.name!r} does not yield the product of its weight and "
        "input plus its bias: its class computes something else, such as a cosine or a low-rank "
        "term beside it, or a hook changes it"
    )


def explain_difference(product: Product, logits: Tensor) -> str:
    """What comes between a product and the logits, where that can be told."""
    outputs = widened(product.output)
    if outputs.shape != logits.shape:
        return ""
    clipped = outputs.clamp(logits.min(), logits.max())
    if torch.allclose(clipped, logits, rtol=1e-5, atol=1e-7):
        return "yields them only up to a function that clips or bends them, such as clamp"
    ratios = logits / outputs
    if logits.shape[1] > 1 and torch.allclose(ratios, ratios[:, :1].expand_as(ratios), rtol=1e-4):
        return "yields them only up to a scale that is another one for each sample"
    return ""


def _is_sum(one: Product, other: Product, logits: Tensor) -> bool:
    """Whether logits are a sum of the outputs of two products, each times a constant."""
    if not one.output.shape == other.output.shape == logits.shape or logits.numel() < 3:
        return False
    terms = torch.stack([widened(p.output).flatten() for p in (one, other)], dim=1)
    factors = torch.linalg.lstsq(terms, logits.reshape(-1, 1), driver="gelsd").solution
    return torch.allclose(terms @ factors, logits.reshape(-1, 1), rtol=1e-4, atol=1e-6)


def _explain_unknown(search: Search) -> str:
    last = next(search.linear_layers(), None)
    if last is None:
        return (
            "no linear layer, nor a product with a weight of the network, is called with one "
            "vector for each sample"
        )
    return (
        f"the network does not return what its last linear layer {last.call.name!r} yields, but "
        "something computed from it or beside it"
    )
