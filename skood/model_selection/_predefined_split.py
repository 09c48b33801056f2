"""The splitter with predefined test parts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import column_or_1d

from ..activations import Activations
from ._checks import check_labels, warn_if_groups


class OODPredefinedSplit(BaseCrossValidator):
    """Predefined splits whose training parts hold in-distribution rows only.

    The counterpart of :class:`~sklearn.model_selection.PredefinedSplit` for data in which
    ``y == -1`` marks out-of-distribution (OOD) rows.

    Parameters
    ----------
    test_fold : array-like of int of shape (n_samples,)
        Number of the test part that each row belongs to. -1 keeps a row out of all test parts:
        such an in-distribution row is in every training part, such an OOD row in no part at
        all, unless ``ood_in_train=True``.
    ood_in_train : bool, default=False
        Whether OOD rows enter the training parts as other rows do: for detectors that learn
        from them.

    Raises
    ------
    ValueError
        On construction, if ``test_fold`` does not hold integers or names no test part. On
        splitting, if ``y`` is None or has another length, or one of the test parts lacks
        in-distribution or OOD rows, or its training part lacks in-distribution rows.

    See Also
    --------
    OODKFold : Test parts of equal size.
    OODShuffleSplit : Random parts of any size.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.model_selection import OODPredefinedSplit
    >>> X, y = np.zeros((6, 2)), [0, 1, 0, 1, -1, -1]
    >>> splitter = OODPredefinedSplit([-1, -1, 0, 1, 0, 1])
    >>> for train, test in splitter.split(X, y):
    ...     print(train, test)
    [0 1 3] [2 4]
    [0 1 2] [3 5]
    """

    def __init__(self, test_fold: ArrayLike, *, ood_in_train: bool = False) -> None:
        self.test_fold: NDArray[np.integer] = column_or_1d(test_fold)
        self.ood_in_train = ood_in_train
        if self.test_fold.dtype.kind not in "iu":
            raise ValueError(f"test_fold must hold integers, got dtype {self.test_fold.dtype}.")
        if self.get_n_splits() == 0:
            raise ValueError("test_fold names no test part: all of its entries are -1.")

    def split(
        self,
        X: Activations | ArrayLike,
        y: ArrayLike | None = None,
        groups: object = None,
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Generate the row numbers of the training and test parts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Only its length is used.
        y : array-like of shape (n_samples,)
            Labels; -1 marks an OOD row.
        groups : object, default=None
            Ignored; it exists for compatibility.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Row numbers of the training part, ascending.
        test : ndarray of shape (n_test,)
            Row numbers of the test part, ascending.
        """
        warn_if_groups(self, groups)
        labels, is_in = check_labels(self, X, y)
        if len(labels) != len(self.test_fold):
            raise ValueError(
                f"test_fold has {len(self.test_fold)} entries, but y has {len(labels)}."
            )
        for fold in self._folds():
            is_test = self.test_fold == fold
            is_train = ~is_test if self.ood_in_train else ~is_test & is_in
            for part, kind, rows in (
                ("test", "in-distribution", is_test & is_in),
                ("test", "OOD", is_test & ~is_in),
                ("training", "in-distribution", is_train & is_in),
            ):
                if not rows.any():
                    raise ValueError(f"The {part} part of fold {fold} has no {kind} rows.")
            yield np.flatnonzero(is_train), np.flatnonzero(is_test)

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Number of test parts.

        Parameters
        ----------
        X, y, groups : object, default=None
            Ignored; they exist for compatibility.

        Returns
        -------
        int
            How many different numbers other than -1 ``test_fold`` holds.
        """
        return len(self._folds())

    def _folds(self) -> NDArray[np.integer]:
        folds = np.unique(self.test_fold)
        return folds[folds != -1]
