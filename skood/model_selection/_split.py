"""K-fold and shuffled splitters that keep out-of-distribution (OOD) rows out of training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import (
    BaseCrossValidator,
    GroupKFold,
    KFold,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import column_or_1d

from .._marks import plain_labels
from ..activations import Activations
from ._checks import check_labels, warn_if_groups

Rows = NDArray[np.intp]
Split = tuple[Rows, Rows]


class _BaseOODSplitter(BaseCrossValidator):
    """Splits in-distribution and OOD rows separately, and joins the parts.

    A subclass has ``n_splits`` and ``ood_in_train`` and defines how each of the two is split.
    """

    n_splits: int
    ood_in_train: bool

    __metadata_request__split = {"groups": True}

    def split(
        self,
        X: Activations | ArrayLike,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Iterator[Split]:
        """Generate the row numbers of the training and test parts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Only its length is used.
        y : array-like of shape (n_samples,)
            Labels; -1 marks an OOD row, any other value is the class of an in-distribution row.
        groups : array-like of shape (n_samples,), default=None
            With ``ood_in_train=True``, the source of each OOD row: no source is in both parts
            of a split. Entries of in-distribution rows are ignored.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Row numbers of the training part, ascending.
        test : ndarray of shape (n_test,)
            Row numbers of the test part, ascending.
        """
        labels, is_in = check_labels(self, X, y)
        in_rows, ood_rows = np.flatnonzero(is_in), np.flatnonzero(~is_in)
        in_splits = self._split_in_distribution(class_numbers(labels[in_rows]))
        sources = self._ood_sources(labels, groups, ood_rows)
        ood_splits = self._split_ood(len(ood_rows), len(in_rows), sources)
        for (in_train, in_test), (ood_train, ood_test) in zip(in_splits, ood_splits, strict=True):
            train = in_rows[in_train]
            if self.ood_in_train:
                train = np.concatenate([train, ood_rows[ood_train]])
            test = np.concatenate([in_rows[in_test], ood_rows[ood_test]])
            yield np.sort(train), np.sort(test)

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Number of splits.

        Parameters
        ----------
        X, y, groups : object, default=None
            Ignored; they exist for compatibility.

        Returns
        -------
        int
            ``n_splits``.
        """
        return self.n_splits

    def _ood_sources(
        self, labels: NDArray, groups: ArrayLike | None, ood_rows: Rows
    ) -> NDArray | None:
        if groups is None or not self.ood_in_train:
            warn_if_groups(self, groups)
            return None
        check_consistent_length(labels, groups)
        sources: NDArray = column_or_1d(groups)[ood_rows]
        return sources

    @abstractmethod
    def _split_in_distribution(self, classes: Rows) -> Iterable[Split]:
        """Positions of training and test rows, given the class number of each row."""

    @abstractmethod
    def _split_ood(self, n_ood: int, n_in: int, sources: NDArray | None) -> Iterable[Split]:
        """Positions of training and test rows among the OOD rows.

        ``sources`` is None or says where each OOD row comes from.
        """


class OODKFold(_BaseOODSplitter):
    """K-fold cross-validation whose training parts hold in-distribution rows only.

    A detector learns from in-distribution rows and is scored on in-distribution and
    out-of-distribution (OOD) rows. The rows with ``y == -1`` are OOD: they are distributed over the
    test parts, in turn, and left out of the training parts. In-distribution rows are split by
    :class:`~sklearn.model_selection.StratifiedKFold`, or by
    :class:`~sklearn.model_selection.KFold` where their labels are no classes (fractions) or
    no class has ``n_splits`` rows. Every row is in exactly one test part.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether to shuffle the rows before they are split.
    random_state : int, RandomState instance or None, default=None
        Sets the order of the shuffled rows; an int gives the same splits in every call.
    ood_in_train : bool, default=False
        Whether the training parts hold the OOD rows of the other folds: for detectors that
        learn from OOD rows. Then ``groups``, if passed, is the source of each OOD row, and a source
        is in the test part of one fold and in the training parts of the others: the detector is
        always scored on sources that it has not seen.

    Raises
    ------
    ValueError
        On construction, if a parameter is not one of the values above. On splitting, if ``y`` is
        None or has another length than ``X``, or there are fewer in-distribution rows, OOD rows or
        sources of OOD rows than ``n_splits``.

    See Also
    --------
    OODShuffleSplit : Random parts of any size.
    OODPredefinedSplit : Test parts given by the user.

    Notes
    -----
    :func:`~sklearn.model_selection.cross_val_predict` returns the held-out decisions of all rows.
    For held-out scores (``method="decision_function"``) pass the splits themselves,
    ``cv=list(splitter.split(X, y))``, and no ``y``: given ``y``, it expects a classifier's column
    for each class.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.model_selection import OODKFold
    >>> X, y = np.zeros((6, 2)), [0, 0, 1, 1, -1, -1]
    >>> for train, test in OODKFold(2).split(X, y):
    ...     print(train, test)
    [1 3] [0 2 4]
    [0 2] [1 3 5]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = False,
        random_state: int | RandomState | None = None,
        ood_in_train: bool = False,
    ) -> None:
        # Refuses, on construction, what scikit-learn's own splitters refuse.
        KFold(n_splits, shuffle=shuffle, random_state=random_state)
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state
        self.ood_in_train = ood_in_train

    def _split_in_distribution(self, classes: Rows) -> Iterator[Split]:
        self._check_enough(len(classes), "in-distribution rows")
        can_stratify = np.bincount(classes).max() >= self.n_splits
        splitter = self._splitter(StratifiedKFold if can_stratify else KFold)
        yield from splitter.split(classes, classes)

    def _split_ood(self, n_ood: int, n_in: int, sources: NDArray | None) -> Iterator[Split]:
        self._check_enough(n_ood, "OOD rows")
        if sources is not None:
            self._check_enough(len(np.unique(sources)), "sources of OOD rows in groups")
            yield from self._splitter(GroupKFold).split(sources, groups=sources)
            return
        # In turn, not in blocks: rows sorted by their source still reach every fold.
        folds = np.arange(n_ood) % self.n_splits
        if self.shuffle:
            check_random_state(self.random_state).shuffle(folds)
        yield from PredefinedSplit(folds).split()

    def _splitter(self, splitter: type[BaseCrossValidator]) -> Any:
        return splitter(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)

    def _check_enough(self, n_found: int, what: str) -> None:
        if n_found < self.n_splits:
            raise ValueError(
                f"OODKFold with n_splits={self.n_splits} needs at least as many {what}, "
                f"got {n_found}."
            )


class OODShuffleSplit(_BaseOODSplitter):
    """Random splits whose training parts hold in-distribution rows only.

    The counterpart of :class:`~sklearn.model_selection.StratifiedShuffleSplit` for data in
    which ``y == -1`` marks out-of-distribution (OOD) rows. Test parts hold the same fraction of
    in-distribution and of OOD rows. In-distribution rows are split by
    :class:`~sklearn.model_selection.ShuffleSplit` instead where their labels are no classes
    (fractions), a class has one row only, or a part is smaller than the number of classes.

    Parameters
    ----------
    n_splits : int, default=10
        Number of splits.
    test_size : float or int, default=None
        Fraction or number of the in-distribution rows in the test parts. The same fraction of the
        OOD rows, rounded up, is in the test parts. By default the rest of ``train_size``, or 0.1.
    train_size : float or int, default=None
        Fraction or number of the in-distribution rows in the training parts. By default the rest of
        ``test_size``.
    random_state : int, RandomState instance or None, default=None
        Sets the random parts; an int gives the same splits in every call.
    ood_in_train : bool, default=False
        Whether OOD rows enter the training parts too, in the same fraction as in-distribution rows:
        for detectors that learn from them. Then ``groups``, if passed, is the source of each OOD
        row, and sources are drawn in place of rows: the detector is always scored on sources that
        it has not seen.

    Raises
    ------
    ValueError
        On splitting, if ``y`` is None or has another length than ``X``, in-distribution or OOD rows
        are missing, the sizes leave a part without in-distribution rows, or, with
        ``ood_in_train=True``, there are fewer than two OOD rows or sources of OOD rows.

    See Also
    --------
    OODKFold : Every row is in exactly one test part.
    OODPredefinedSplit : Test parts given by the user.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.model_selection import OODShuffleSplit
    >>> X, y = np.zeros((12, 2)), np.repeat([0, 1, -1], 4)
    >>> splitter = OODShuffleSplit(1, test_size=0.5, random_state=0)
    >>> for train, test in splitter.split(X, y):
    ...     print(len(train), y[train].min(), np.unique(y[test], return_counts=True))
    4 0 (array([-1,  0,  1]), array([2, 2, 2]))
    """

    def __init__(
        self,
        n_splits: int = 10,
        *,
        test_size: float | None = None,
        train_size: float | None = None,
        random_state: int | RandomState | None = None,
        ood_in_train: bool = False,
    ) -> None:
        self.n_splits = n_splits
        self.test_size = test_size
        self.train_size = train_size
        self.random_state = random_state
        self.ood_in_train = ood_in_train

    def _split_in_distribution(self, classes: Rows) -> Iterator[Split]:
        counts = np.bincount(classes)
        can_stratify = counts.min() > 1 and min(self._sizes(len(classes))) >= len(counts)
        splitter = StratifiedShuffleSplit if can_stratify else ShuffleSplit
        yield from splitter(
            self.n_splits,
            test_size=self.test_size,
            train_size=self.train_size,
            random_state=self.random_state,
        ).split(classes, classes)

    def _split_ood(self, n_ood: int, n_in: int, sources: NDArray | None) -> Iterator[Split]:
        # Packets are drawn, of one row each or of all rows from one source.
        packets = (
            np.arange(n_ood) if sources is None else np.unique(sources, return_inverse=True)[1]
        )
        n_packets = packets.max() + 1
        if self.ood_in_train and n_packets < 2:
            what = "OOD rows" if sources is None else "sources of OOD rows in groups"
            raise ValueError(
                f"OODShuffleSplit with ood_in_train=True needs at least 2 {what}, got {n_packets}."
            )
        n_train, n_test = (-(-n_packets * size // n_in) for size in self._sizes(n_in))
        if self.ood_in_train:
            n_test = min(n_test, n_packets - 1)
        rng = check_random_state(self.random_state)
        for _ in range(self.n_splits):
            order = rng.permutation(n_packets)
            train, test = order[n_test : n_test + n_train], order[:n_test]
            yield np.flatnonzero(np.isin(packets, train)), np.flatnonzero(np.isin(packets, test))

    def _sizes(self, n_in: int) -> list[int]:
        """Number of in-distribution rows in the training and in the test parts."""
        splitter = ShuffleSplit(
            1, test_size=self.test_size, train_size=self.train_size, random_state=0
        )
        return [len(part) for part in next(splitter.split(np.empty(n_in)))]


def class_numbers(labels: NDArray) -> Rows:
    """Number of each row's class; one class for all rows where the labels are fractions."""
    labels = plain_labels(labels)
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        return np.zeros(len(labels), dtype=np.intp)
    return np.unique(labels, return_inverse=True)[1]
