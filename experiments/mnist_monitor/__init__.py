"""Monitors of a convolutional net trained on MNIST, against ten kinds of other images."""
