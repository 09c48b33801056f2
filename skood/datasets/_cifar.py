"""CIFAR-10 and CIFAR-100, colour images of 32 x 32 pixels."""

import os

from ._archive import Fetched, fetch_archive


def fetch_cifar10(
    *,
    subset: str = "train",
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read CIFAR-10, small photographs of animals and vehicles.

    10,000 training images of CIFAR-10 [1]_, which are 1,000 of the 5,000 of each of the 10 classes,
    and all 10,000 test images; both shuffled, so that any first rows mix the classes.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        Which images to read; "train" is the fifth of the training set, and "all" reads it and
        then the test images.
    data_home : str or path-like, default=None
        The folder that holds ``cifar10_train_subset.npz`` and ``cifar10_test.npz``.
        By default, the folder that the environment variable ``SKOOD_DATA`` names or, where there
        is none, ``~/skood_data``. Nothing is downloaded.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : ndarray of shape (n_samples, 3, 32, 32), dtype float32
            The images, channels first, red, green and blue from 0 to 1.
        target : ndarray of shape (n_samples,), dtype int64
            The class of each image, in the official numbering.
        target_names : list of str
            What each class shows.
        DESCR : str
            Origin, selection and licence.

    (data, target) : tuple if ``return_X_y`` is True
        The images and their classes, as above.

    Raises
    ------
    ValueError
        If ``subset`` is none of those above.
    FileNotFoundError
        If a file is not in the folder.
    OSError
        If a file has another SHA-256 sum than expected; it is computed once per process.

    References
    ----------
    .. [1] A. Krizhevsky, "Learning multiple layers of features from tiny images", technical report,
       University of Toronto, 2009.

    Examples
    --------
    >>> from skood.datasets import fetch_cifar10
    >>> X, y = fetch_cifar10(subset="test", return_X_y=True)
    >>> X.shape
    (10000, 3, 32, 32)
    """
    return fetch_archive("cifar10", subset=subset, data_home=data_home, return_X_y=return_X_y)


def fetch_cifar100(
    *,
    subset: str = "train",
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read a part of CIFAR-100, small photographs of 100 classes.

    5,000 training and 5,000 test images of CIFAR-100 [1]_, which are 50 of the 500 and 50 of the
    100 of each class; both shuffled.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        Which images to read; "train" and "test" are the parts named above, and "all" reads the
        one and then the other.
    data_home : str or path-like, default=None
        The folder that holds ``cifar100_train_subset.npz`` and ``cifar100_test_subset.npz``.
        By default, the folder that the environment variable ``SKOOD_DATA`` names or, where there
        is none, ``~/skood_data``. Nothing is downloaded.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : ndarray of shape (n_samples, 3, 32, 32), dtype float32
            The images, channels first, red, green and blue from 0 to 1.
        target : ndarray of shape (n_samples,), dtype int64
            The class of each image, in the official (alphabetical) numbering of the fine classes.
        DESCR : str
            Origin, selection and licence.

    (data, target) : tuple if ``return_X_y`` is True
        The images and their classes, as above.

    Raises
    ------
    ValueError
        If ``subset`` is none of those above.
    FileNotFoundError
        If a file is not in the folder.
    OSError
        If a file has another SHA-256 sum than expected; it is computed once per process.

    References
    ----------
    .. [1] A. Krizhevsky, "Learning multiple layers of features from tiny images", technical report,
       University of Toronto, 2009.

    Examples
    --------
    >>> from skood.datasets import fetch_cifar100
    >>> X, y = fetch_cifar100(subset="test", return_X_y=True)
    >>> X.shape
    (5000, 3, 32, 32)
    """
    return fetch_archive("cifar100", subset=subset, data_home=data_home, return_X_y=return_X_y)
