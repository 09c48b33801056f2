"""How well skood's detectors work: a folder for each paper or question.

Each runs from the root of the repository, for example ``python -m experiments.mnist_monitor``.
"""
