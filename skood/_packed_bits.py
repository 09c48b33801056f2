"""Boolean matrices of one bit a neuron."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._rows import row_index


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
        If the words have another dtype or number of columns than ``n_bits`` asks for.

    See Also
    --------
    PackedBits.pack : Build one from a boolean array.

    Examples
    --------
    >>> from skood import PackedBits
    >>> bits = PackedBits.pack([[True, False, True], [False, False, True]])
    >>> bits.shape, bits.nbytes
    ((2, 3), 16)
    >>> bits[[1]].unpack()
    array([[False, False,  True]])
    """

    ndim = 2
    dtype = np.dtype(bool)
    # Python would otherwise ask for row 0, 1, ... and take the refusal as the end.
    __iter__ = None

    def __init__(self, words: NDArray[np.uint64], n_bits: int) -> None:
        n_words = -(-n_bits // 64)
        if words.dtype != np.uint64 or words.ndim != 2 or words.shape[1] != n_words:
            raise ValueError(
                f"{n_bits} bits need words of shape (n_samples, {n_words}) and dtype uint64, "
                f"got shape {words.shape} and dtype {words.dtype}."
            )
        self.words = words
        self.n_bits = n_bits

    @classmethod
    def pack(cls, bits: ArrayLike) -> PackedBits:
        """Pack a boolean array.

        Parameters
        ----------
        bits : array-like of shape (n_samples, n_bits)
            One bit a neuron.

        Returns
        -------
        PackedBits
            The same bits, 64 to a word.

        Raises
        ------
        ValueError
            If the array is not two-dimensional.
        """
        bits = np.asarray(bits, dtype=bool)
        if bits.ndim != 2:
            raise ValueError(f"Expected a 2-D array of bits, got {bits.ndim} dimension(s).")
        octets = np.packbits(bits, axis=1)
        padded = np.zeros((len(bits), 8 * -(-bits.shape[1] // 64)), dtype=np.uint8)
        padded[:, : octets.shape[1]] = octets
        return cls(padded.view(np.uint64), bits.shape[1])

    def unpack(self) -> NDArray[np.bool_]:
        """Give the bits back.

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

    def __getitem__(self, rows: Any) -> PackedBits:
        return PackedBits(self.words[row_index(rows, len(self))], self.n_bits)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        if copy is False:
            raise ValueError("Packed bits cannot be seen as an array without a copy.")
        return self.unpack().astype(bool if dtype is None else dtype, copy=False)

    def __repr__(self) -> str:
        return f"PackedBits(n_samples={len(self)}, n_bits={self.n_bits})"
