"""Why no linear map yields the logits of a torch network, as far as values can tell."""

from __future__ import annotations

import torch
from torch import Tensor

from .heads import Search, widened
from .products import Product, reads_positions
from .recorded import RecordedCall

_N_ADDED = 4
"""Of the last linear layers, as many may be added."""


def explain_missing_head(search: Search, logits: Tensor | None, direct: RecordedCall | None) -> str:
    """Why there is no head, as the end of a sentence; ``direct`` yields the logits but is none."""
    if logits is None:
        return "the network returns nothing that could be the logits"
    if direct is not None:
        return explain_other_map(direct)
    if not len(logits):
        return "the logits are of no sample"
    values = widened(logits).reshape(len(logits), -1)
    products = [p for p in search.products(logits) if p.output.shape == values.shape]
    for product in products:
        if why := explain_difference(product, values):
            return f"the last linear layer {product.name!r} {why}"
    return (
        _explain_sum(products[:_N_ADDED], values)
        or _explain_computed_weight(search, logits)
        or _explain_unknown(search)
    )


def explain_other_map(direct: RecordedCall) -> str:
    """Why a call that yields the logits is no product with a weight of the network."""
    if direct.is_product:
        return (
            f"{direct.call.name!r} yields them with a weight that is no parameter or buffer of the "
            "network but computed from one, such as the normalised one of a cosine classifier"
        )
    return (
        f"the last linear layer {direct.call.name!r} does not yield the product of its weight and "
        "input plus its bias: its class computes something else, such as a cosine or a low-rank "
        "term beside it, or a hook changes it"
    )


def explain_difference(product: Product, logits: Tensor) -> str:
    """What comes between a product and logits of the same shape, where that can be told."""
    outputs = widened(product.output)
    if outputs.shape != logits.shape:
        return ""
    if torch.equal(outputs, logits):
        return "yields them only as long as no function clips or bends them"
    if torch.allclose(outputs.clamp(logits.min(), logits.max()), logits, rtol=1e-6):
        return "yields them only up to a function that clips them, such as clamp"
    ratios = logits / outputs
    of_each = ratios.mean(1, keepdim=True)
    is_constant = torch.allclose(of_each, of_each[:1], rtol=1e-4)
    if not is_constant and logits.shape[1] > 1 and torch.allclose(ratios, of_each, rtol=1e-5):
        return "yields them only up to a scale that is another one for each sample"
    return ""


def _explain_sum(products: list[Product], logits: Tensor) -> str:
    """Where logits are a sum of the outputs of several products, each times a constant."""
    if not 2 <= len(products) <= logits.numel() // 2:
        return ""
    terms = torch.stack([widened(product.output).flatten() for product in products], dim=1)
    total = logits.reshape(-1, 1)
    factors = torch.linalg.lstsq(terms, total, driver="gelsd").solution
    if not torch.allclose(terms @ factors, total, rtol=1e-4, atol=1e-5 * float(total.abs().max())):
        return ""
    added = [p.name for p, f in zip(products, factors.flatten(), strict=True) if abs(f) > 1e-4]
    return f"what several linear layers yield, {added[::-1]}, is added or averaged to the logits"


def _explain_computed_weight(search: Search, logits: Tensor) -> str:
    """Where logits are a constant times what a product with a computed weight yields."""
    for c in search.linear_layers():
        if c.output is None or c.output.ndim > 2 or c.output.numel() != logits.numel():
            continue
        if search.fit(logits, c.output) is not None:
            return explain_other_map(c)
    return ""


def _explain_unknown(search: Search) -> str:
    last = next(search.linear_layers(), None)
    if last is None:
        return (
            "no linear layer, nor a product with a weight of the network, is called with one "
            "vector for each sample"
        )
    name = last.call.name
    why = (
        f"the network does not return what its last linear layer {name!r} yields, but something "
        "computed from it or beside it"
    )
    if reads_positions(last):
        why += (
            f": {name!r} yields several vectors for each sample, and the logits are neither one of "
            "them nor the mean of all or of those before or after padding; where they are another "
            f"weighted mean, pool what {name!r} is given in the same way instead, which yields the "
            "same logits"
        )
    return why
