"""Grey images of 28 x 28 pixels: MNIST and those that look like it."""

import os

from ._archive import Fetched, fetch_archive


def fetch_mnist(
    *,
    subset: str = "train",
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read MNIST, handwritten digits.

    60,000 training and 10,000 test images of the 10 digits [1]_: the complete sets, in their
    original order.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        Which images to read; "all" reads the training images, then the test images.
    data_home : str or path-like, default=None
        The folder that holds ``mnist_train.npz`` and ``mnist_test.npz``.
        By default, the folder that the environment variable ``SKOOD_DATA`` names or, where there
        is none, ``~/skood_data``. Nothing is downloaded.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : ndarray of shape (n_samples, 1, 28, 28), dtype float32
            The images, channels first, from 0 to 1.
        target : ndarray of shape (n_samples,), dtype int64
            The digit in each image.
        target_names : list of str
            The digits as text: "0" to "9".
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
    .. [1] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to
       document recognition", Proceedings of the IEEE 86(11), 1998. doi:10.1109/5.726791.

    Examples
    --------
    >>> from skood.datasets import fetch_mnist
    >>> X, y = fetch_mnist(subset="test", return_X_y=True)
    >>> X.shape
    (10000, 1, 28, 28)
    """
    return fetch_archive("mnist", subset=subset, data_home=data_home, return_X_y=return_X_y)


def fetch_fashion_mnist(
    *,
    subset: str = "train",
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read Fashion-MNIST, photographs of garments.

    20,000 training images of Fashion-MNIST [1]_, which are 2,000 of the 6,000 of each of the 10
    classes, and all 10,000 test images; both shuffled, so that any first rows mix the classes.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        Which images to read; "train" is the third of the training set, and "all" reads it and
        then the test images.
    data_home : str or path-like, default=None
        The folder that holds ``fashion_mnist_train_subset.npz`` and ``fashion_mnist_test.npz``.
        By default, the folder that the environment variable ``SKOOD_DATA`` names or, where there
        is none, ``~/skood_data``. Nothing is downloaded.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : ndarray of shape (n_samples, 1, 28, 28), dtype float32
            The images, channels first, from 0 to 1.
        target : ndarray of shape (n_samples,), dtype int64
            The class of each image, in the official numbering.
        target_names : list of str
            The garment that each class stands for.
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
    .. [1] H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
       machine learning algorithms", 2017. arXiv:1708.07747.

    Examples
    --------
    >>> from skood.datasets import fetch_fashion_mnist
    >>> X, y = fetch_fashion_mnist(subset="test", return_X_y=True)
    >>> X.shape
    (10000, 1, 28, 28)
    """
    return fetch_archive("fashion_mnist", subset=subset, data_home=data_home, return_X_y=return_X_y)


def fetch_kmnist(
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read the test images of Kuzushiji-MNIST, cursive Japanese characters.

    The 10,000 test images of 10 Hiragana characters [1]_, in their original order.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder that holds ``kmnist_test.npz``.
        By default, the folder that the environment variable ``SKOOD_DATA`` names or, where there
        is none, ``~/skood_data``. Nothing is downloaded.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : ndarray of shape (n_samples, 1, 28, 28), dtype float32
            The images, channels first, from 0 to 1.
        target : ndarray of shape (n_samples,), dtype int64
            The class of each image, in the official numbering.
        target_names : list of str
            The sound of the character that each class stands for.
        DESCR : str
            Origin, selection and licence.

    (data, target) : tuple if ``return_X_y`` is True
        The images and their classes, as above.

    Raises
    ------
    FileNotFoundError
        If the file is not in the folder.
    OSError
        If the file has another SHA-256 sum than expected; it is computed once per process.

    References
    ----------
    .. [1] T. Clanuwat et al., "Deep learning for classical Japanese literature", 2018.
       arXiv:1812.01718.

    Examples
    --------
    >>> from skood.datasets import fetch_kmnist
    >>> X, y = fetch_kmnist(return_X_y=True)
    >>> X.shape
    (10000, 1, 28, 28)
    """
    return fetch_archive("kmnist", data_home=data_home, return_X_y=return_X_y)


def fetch_notmnist(
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read a part of notMNIST, letters in many typefaces.

    5,000 images, 500 of each letter from A to J, shuffled. 82 images occur more than once, as in
    the source.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder that holds ``notmnist.npz``.
        By default, the folder that the environment variable ``SKOOD_DATA`` names or, where there
        is none, ``~/skood_data``. Nothing is downloaded.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : ndarray of shape (n_samples, 1, 28, 28), dtype float32
            The images, channels first, from 0 to 1.
        target : ndarray of shape (n_samples,), dtype int64
            The letter in each image: 0 for A to 9 for J.
        target_names : list of str
            The letters "A" to "J".
        DESCR : str
            Origin, selection and licence.

    (data, target) : tuple if ``return_X_y`` is True
        The images and their classes, as above.

    Raises
    ------
    FileNotFoundError
        If the file is not in the folder.
    OSError
        If the file has another SHA-256 sum than expected; it is computed once per process.

    Examples
    --------
    >>> from skood.datasets import fetch_notmnist
    >>> X, y = fetch_notmnist(return_X_y=True)
    >>> X.shape
    (5000, 1, 28, 28)
    """
    return fetch_archive("notmnist", data_home=data_home, return_X_y=return_X_y)


def fetch_usps(
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read the test images of USPS, digits from envelopes.

    The 2,007 test images [1]_, in their original order, enlarged from 16 x 16 pixels. The classes
    are those of MNIST under another acquisition: a shift of the inputs, not new classes.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder that holds ``usps_test.npz``.
        By default, the folder that the environment variable ``SKOOD_DATA`` names or, where there
        is none, ``~/skood_data``. Nothing is downloaded.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : ndarray of shape (n_samples, 1, 28, 28), dtype float32
            The images, channels first, from 0 to 1.
        target : ndarray of shape (n_samples,), dtype int64
            The digit in each image.
        target_names : list of str
            The digits as text: "0" to "9".
        DESCR : str
            Origin, selection and licence.

    (data, target) : tuple if ``return_X_y`` is True
        The images and their classes, as above.

    Raises
    ------
    FileNotFoundError
        If the file is not in the folder.
    OSError
        If the file has another SHA-256 sum than expected; it is computed once per process.

    References
    ----------
    .. [1] J. J. Hull, "A database for handwritten text recognition research", IEEE Transactions on
       Pattern Analysis and Machine Intelligence 16(5), 1994. doi:10.1109/34.291440.

    Examples
    --------
    >>> from skood.datasets import fetch_usps
    >>> X, y = fetch_usps(return_X_y=True)
    >>> X.shape
    (2007, 1, 28, 28)
    """
    return fetch_archive("usps", data_home=data_home, return_X_y=return_X_y)
