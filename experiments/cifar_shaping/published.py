"""What the authors of LINe report, FPR95 and AUROC in percent."""

from __future__ import annotations

from .._common.quality import Quality

SOURCE = 'Ahn, Park and Kim, "LINe", CVPR 2023, arXiv:2303.13995'

CIFAR = {
    "cifar10": {
        "MSP": Quality(48.73, 92.46),
        "ODIN": Quality(24.57, 93.71),
        "Mahalanobis": Quality(31.42, 89.15),
        "energy": Quality(26.55, 94.57),
        "ReAct": Quality(26.45, 94.95),
        "DICE": Quality(20.83, 95.24),
        "DICE + ReAct": Quality(16.48, 96.64),
        "LINe": Quality(14.71, 96.99),
    },
    "cifar100": {
        "MSP": Quality(80.13, 74.36),
        "ODIN": Quality(58.14, 84.49),
        "Mahalanobis": Quality(55.37, 82.73),
        "energy": Quality(68.45, 81.19),
        "ReAct": Quality(62.27, 84.47),
        "DICE": Quality(49.72, 87.23),
        "DICE + ReAct": Quality(49.57, 85.08),
        "LINe": Quality(35.67, 88.67),
    },
}
"""For the two networks of this experiment, means over six sets of OOD images."""

IMAGENET_STEPS = {
    "energy": Quality(58.41, 86.17),
    "energy + clipping": Quality(35.40, 91.86),
    "LINe without weight pruning": Quality(26.88, 93.77),
    "LINe without activation pruning": Quality(23.19, 94.57),
    "LINe": Quality(20.70, 95.03),
}
"""For a ResNet-50 on ImageNet, means over four sets."""

IMAGENET_THRESHOLDS = {
    "0.1": 41.18,
    "0.4": 23.43,
    "0.8": 20.70,
    "1.0": 21.69,
    "1.5": 26.96,
    "2.0": 31.88,
    "none": 44.88,
}
"""FPR95 there with different thresholds."""
