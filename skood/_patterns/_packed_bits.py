"""Boolean matrices of one bit a neuron."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._rows import row_index
from .._values import is_real, without_mask


class PackedBits:
    """A boolean matrix that holds one bit per neuron, in 64-bit words.

    Parameters
    ----------
    words : ndarray of shape (n_samples, n_words), dtype uint64
        The bits of each sample, padded with zeros to whole words.
    n_bits : int
        Number of bits (neurons) per sample; ``n_words`` is ``n_bits / 64`` rounded up.

    Raises
    ------
    ValueError
        If the words have another dtype, byte order or number of columns than ``n_bits`` asks
        for, or bits beyond ``n_bits`` are set, which would count in every distance; or
        ``n_bits`` is negative.
    TypeError
        If ``n_bits`` is not an integer.

    See Also
    --------
    PackedBits.pack : Build one from a boolean array.

    Examples
    --------
    >>> from skood.activations import PackedBits
    >>> bits = PackedBits.pack([[True, False, True], [False, False, True]])
    >>> bits.shape, bits.nbytes
    ((2, 3), 16)
    >>> bits[[1]].unpack()
    array([[False, False,  True]])
    """

    ndim = 2
    dtype = np.dtype(bool)
    words: NDArray[np.uint64]
    n_bits: int
    # Python would otherwise ask for row 0, 1, ... and take the refusal as the end.
    __iter__ = None

    def __init__(self, words: NDArray[np.uint64], n_bits: int) -> None:
        if isinstance(n_bits, bool | np.bool_) or not isinstance(n_bits, Integral):
            raise TypeError(f"n_bits must be an integer, got {n_bits!r}.")
        if n_bits < 0:
            raise ValueError(f"n_bits must be at least 0, got {n_bits}.")
        self.words = np.asanyarray(without_mask(words, "words"))
        self.n_bits = int(n_bits)
        self._check_words()

    def _check_words(self) -> None:
        n_words = n_words_of(self.n_bits)
        words = self.words
        if words.dtype != np.uint64 or words.ndim != 2 or words.shape[1] != n_words:
            raise ValueError(
                f"{self.n_bits} bits need words of shape (n_samples, {n_words}) and dtype uint64, "
                f"got shape {words.shape} and dtype {words.dtype.str}."
            )
        if self.n_bits % 64 and len(words):
            held = _pack_words(np.ones((1, self.n_bits), dtype=bool))[0, -1]
            # The last word of each sample is enough, and no copy of it is made.
            if np.bitwise_or.reduce(words[:, -1]) & ~held:
                raise ValueError(
                    f"The padding of some samples, beyond their {self.n_bits} bits, is not zero: "
                    "it would count in every distance. Build packed bits by PackedBits.pack."
                )

    @classmethod
    def pack(cls, bits: ArrayLike) -> PackedBits:
        """Pack a boolean array.

        Parameters
        ----------
        bits : array-like of shape (n_samples, n_bits)
            One bit a neuron; of numbers, those other than 0 are set.

        Returns
        -------
        PackedBits
            The same bits, 64 to a word.

        Raises
        ------
        ValueError
            If the array is not two-dimensional, or holds other things than booleans and numbers.
        """
        array = np.asarray(without_mask(bits, "bits"))
        if array.ndim != 2:
            raise ValueError(f"Expected a 2-D array of bits, got {array.ndim} dimension(s).")
        if not is_real(array) or (array.dtype.kind == "f" and np.isnan(array).any()):
            raise ValueError(
                f"Bits must be booleans or numbers, without NaN; got dtype {array.dtype}."
            )
        return cls._of(_pack_words(array.astype(bool, copy=False)), array.shape[1])

    @classmethod
    def _of(cls, words: NDArray[np.uint64], n_bits: int) -> PackedBits:
        """From words that are known to be right, of which none is read."""
        bits = object.__new__(cls)
        bits.words, bits.n_bits = words, n_bits
        return bits

    def unpack(self) -> NDArray[np.bool_]:
        """Unpack to a boolean array.

        Returns
        -------
        ndarray of shape (n_samples, n_bits), dtype bool
            One bit a neuron.
        """
        octets = np.ascontiguousarray(self.words).view(np.uint8)
        return np.unpackbits(octets, axis=1, count=self.n_bits).view(bool)

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_bits)."""
        return (len(self.words), self.n_bits)

    @property
    def nbytes(self) -> int:
        """Memory that the words take, in bytes."""
        return self.words.nbytes

    def __len__(self) -> int:
        return len(self.words)

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.nbytes

    def __getitem__(self, rows: Any) -> PackedBits:
        return PackedBits._of(self.words[row_index(rows, len(self))], self.n_bits)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        if copy is False:
            raise ValueError("Packed bits cannot be seen as an array without a copy.")
        return self.unpack().astype(bool if dtype is None else dtype, copy=False)

    def __repr__(self) -> str:
        return f"PackedBits(n_samples={len(self)}, n_bits={self.n_bits})"


def _pack_words(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    n_rows, n_bits = bits.shape
    if n_bits % 64 == 0 and bits.flags.c_contiguous:
        # Row by row takes longer, and here no row ends within a word.
        return np.packbits(bits.reshape(-1)).view(np.uint64).reshape(n_rows, n_bits // 64)
    octets = np.packbits(bits, axis=1)
    padded = np.zeros((n_rows, 8 * n_words_of(n_bits)), dtype=np.uint8)
    padded[:, : octets.shape[1]] = octets
    return padded.view(np.uint64)


def n_words_of(n_bits: int) -> int:
    """How many words of 64 bits hold so many."""
    return -(-n_bits // 64)
