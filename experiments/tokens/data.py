"""Texts of key words at random places among others, and images of digits; both with OOD sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.datasets import load_digits_ood, make_noise

PADDING = 0
N_CLASSES = 8
"""Of which the last two are held out, of the texts and of the digits."""
N_HELD_OUT = 2
WORDS_OF_CLASS = 6
N_FILLERS = 40
N_WORDS = 1 + N_FILLERS + N_CLASSES * WORDS_OF_CLASS
LENGTH = 20

Inputs = Any


@dataclass(frozen=True)
class Data:
    """What a network learns, and what its monitor is tested on."""

    X_train: Inputs
    y_train: NDArray[np.int64]
    X_test: Inputs
    y_test: NDArray[np.int64]
    outside: dict[str, Inputs]
    """OOD sets by name."""
    n_classes: int


def make_texts(seed: int, n_train: int, n_test: int) -> Data:
    """Texts of 10 to 20 words, three of them key words of the class; padded at the end."""
    rng = np.random.default_rng(seed)
    n_known = N_CLASSES - N_HELD_OUT
    y = rng.integers(n_known, size=n_train + n_test)
    X = _write(rng, np.stack([y] * 3, axis=1))
    one = rng.integers(n_known, size=n_test)
    other = (one + rng.integers(1, n_known, size=n_test)) % n_known
    held_out = n_known + rng.integers(N_HELD_OUT, size=n_test)
    outside = {
        "mixtures": _write(rng, np.stack([one, other, one], axis=1)),
        "held-out classes": _write(rng, np.stack([held_out] * 3, axis=1)),
        "no key words": _write(rng, np.empty((n_test, 0), dtype=int)),
    }
    return Data(_rows(X, slice(n_train)), y[:n_train], _rows(X, slice(n_train, None)),
                y[n_train:], outside, n_known)  # fmt: skip


def _rows(X: dict[str, NDArray], rows: slice) -> dict[str, NDArray]:
    return {name: values[rows] for name, values in X.items()}


def _write(rng: np.random.Generator, classes: NDArray) -> dict[str, NDArray]:
    """Texts with a key word of each given class, (n_texts, n_key_words), at random places."""
    n_texts, n_keys = classes.shape
    words = 1 + rng.integers(N_FILLERS, size=(n_texts, LENGTH))
    lengths = rng.integers(LENGTH // 2, LENGTH + 1, size=(n_texts, 1))
    inside = np.arange(LENGTH) < lengths
    # Places of words in random order, those of the padding last.
    places = np.argsort(rng.random(words.shape) + ~inside, axis=1)[:, :n_keys]
    keys = (
        1 + N_FILLERS + classes * WORDS_OF_CLASS + rng.integers(WORDS_OF_CLASS, size=classes.shape)
    )
    np.put_along_axis(words, places, keys, axis=1)
    return {
        "input_ids": np.where(inside, words, PADDING),
        "attention_mask": inside.astype(np.int64),
    }


def make_images(seed: int, n_train: int, n_test: int) -> Data:
    """Digits, two of which are held out; and noise of three kinds."""
    held_out = np.random.default_rng(100 + seed).choice(10, N_HELD_OUT, replace=False)
    X, y = load_digits_ood(held_out, return_X_y=True)
    known = np.random.default_rng(seed).permutation(np.flatnonzero(y != -1))
    train, test = known[:n_train], known[n_train : n_train + n_test]
    kinds = ("blobs", "salt_and_pepper", "gaussian")
    noise = [make_noise(kind, (n_test // 3, 1, 8, 8), random_state=seed) for kind in kinds]
    outside = {
        "held-out classes": X[y == -1][:n_test],
        "turned digits": np.rot90(X[test], axes=(2, 3)).copy(),
        "noise": np.concatenate(noise),
    }
    return Data(X[train], y[train], X[test], y[test], outside, 10 - N_HELD_OUT)


MAKERS: dict[str, Callable[[int, int, int], Data]] = {"text": make_texts, "images": make_images}
