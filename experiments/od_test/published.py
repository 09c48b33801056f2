"""Figures that the authors of NAP report for this protocol, in percent."""

from __future__ import annotations

from typing import NamedTuple

SOURCE = (
    "B. Olber, K. Radlak, A. Popowicz, M. Szczepankiewicz, K. Chachula, CVPR 2023, arXiv:2212.14268"
)


class Published(NamedTuple):
    """Means over all triples of one network."""

    network: str
    method: str
    """Its name here."""
    accuracy: float
    auroc: float | None


PUBLISHED = (
    Published("VGG", "NAP, published, weighted", 82.23, 91.37),
    Published("VGG", "NAP, published, vote", 83.26, None),
    Published("VGG", "Mahalanobis, layers, regression", 82.29, 88.36),
    Published("VGG", "energy", 72.61, 81.48),
    Published("VGG", "ReAct", 72.36, 81.20),
    Published("VGG", "MSP", 72.72, 76.15),
    Published("ResNet", "NAP, published, threshold criterion, 3 votes", 80.38, 85.93),
    Published("ResNet", "Mahalanobis, layers, regression", 78.92, 84.59),
)
