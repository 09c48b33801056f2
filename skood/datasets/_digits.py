"""Scikit-learn's digits with some classes held out."""

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from .._marks import OOD_LABEL
from .._sklearn import validate_params
from ._arrays import ImagesAndTarget


@overload
def load_digits_ood(held_out: ArrayLike = ..., *, return_X_y: Literal[False] = ...) -> Bunch: ...


@overload
def load_digits_ood(held_out: ArrayLike = ..., *, return_X_y: Literal[True]) -> ImagesAndTarget: ...


@overload
def load_digits_ood(held_out: ArrayLike = ..., *, return_X_y: bool) -> Bunch | ImagesAndTarget: ...


@validate_params(
    {"held_out": ["array-like"], "return_X_y": ["boolean"]},
    prefer_skip_nested_validation=True,
)
def load_digits_ood(
    held_out: ArrayLike = (1, 5), *, return_X_y: bool = False
) -> Bunch | ImagesAndTarget:
    """Load scikit-learn's digits with some digits marked as out-of-distribution.

    The held-out digits look like the others and yet belong to no class that a network trained
    without them knows: a small and quick problem of unknown classes.

    =================   ====================================
    Samples total                                       1797
    Shape of a sample                              (1, 8, 8)
    Features                         float32, from 0 to 1
    Classes             10 digits without those held out
    =================   ====================================

    Parameters
    ----------
    held_out : array-like of int, default=(1, 5)
        The digits to mark as out-of-distribution: 1 to 9 distinct ones.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : ndarray of shape (1797, 1, 8, 8), dtype float32
            The images, channels first, from 0 (background) to 1.
        target : ndarray of shape (1797,), dtype int64
            The class of each image: the digits that are kept, numbered 0, 1, ... without gaps as
            a network needs them, and -1 for the held-out ones.
        digit : ndarray of shape (1797,), dtype int64
            The digit in each image, held out or not.
        target_names : ndarray of shape (n_classes,), dtype int64
            The digit that each class stands for.
        DESCR : str
            Where the data come from.

    (data, target) : tuple if ``return_X_y`` is True
        The images and their classes, as above.

    Raises
    ------
    ValueError
        If ``held_out`` is not 1 to 9 distinct digits.

    Examples
    --------
    >>> from skood.datasets import load_digits_ood
    >>> digits = load_digits_ood(held_out=(1, 5))
    >>> digits.data.shape
    (1797, 1, 8, 8)
    >>> digits.target_names
    array([0, 2, 3, 4, 6, 7, 8, 9])
    >>> digits.digit[:6], digits.target[:6]
    (array([0, 1, 2, 3, 4, 5]), array([ 0, -1,  1,  2,  3, -1]))
    """
    is_held_out = np.isin(np.arange(10), _check_digits(held_out))
    kept = np.flatnonzero(~is_held_out)
    class_of_digit = np.full(10, OOD_LABEL)
    class_of_digit[kept] = np.arange(len(kept))

    source = load_digits()
    data = (source.images[:, np.newaxis] / 16).astype(np.float32)
    target = class_of_digit[source.target]
    if return_X_y:
        return data, target
    return Bunch(
        data=data, target=target, digit=source.target, target_names=kept, DESCR=source.DESCR
    )


def _check_digits(held_out: ArrayLike) -> NDArray[np.integer]:
    digits = np.asarray(held_out)
    is_one_to_nine_ints = digits.ndim == 1 and 1 <= len(digits) <= 9 and digits.dtype.kind in "iu"
    if not is_one_to_nine_ints or len(np.intersect1d(digits, np.arange(10))) < len(digits):
        raise ValueError(f"held_out must be 1 to 9 distinct digits from 0 to 9, got {held_out!r}.")
    return digits
