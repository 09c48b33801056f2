"""Formats for activations on disk, side by side."""
