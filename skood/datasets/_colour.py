"""Colour images of 32 x 32 pixels that are foreign to CIFAR, more or less."""

import os

from ._archive import Fetched, fetch_archive


def fetch_gtsrb(
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read a part of the German traffic signs.

    A random 4,000 of the 12,630 test images of 43 traffic signs [1]_, resized to 32 x 32 pixels.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder that holds ``gtsrb_test.npz``.
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
    .. [1] J. Stallkamp, M. Schlipsing, J. Salmen and C. Igel, "Man vs. computer: benchmarking
       machine learning algorithms for traffic sign recognition", Neural Networks 32, 2012.
       doi:10.1016/j.neunet.2012.02.016.

    Examples
    --------
    >>> from skood.datasets import fetch_gtsrb
    >>> X, y = fetch_gtsrb(return_X_y=True)
    >>> X.shape
    (4000, 3, 32, 32)
    """
    return fetch_archive("gtsrb", data_home=data_home, return_X_y=return_X_y)


def fetch_scenes(
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read the Intel scene images, photographs of landscapes and streets.

    2,158 test images of 6 kinds of scene, shuffled, reduced from 100 x 100 pixels. Some show cars
    or ships, so they are near to CIFAR-10; CIFAR-100 has such scenes among its classes, so for a
    network trained on it they are not out-of-distribution at all.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder that holds ``scenes.npz``.
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
            The class of each image.
        target_names : list of str
            The kind of scene that each class stands for.
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
    >>> from skood.datasets import fetch_scenes
    >>> X, y = fetch_scenes(return_X_y=True)
    >>> X.shape
    (2158, 3, 32, 32)
    """
    return fetch_archive("scenes", data_home=data_home, return_X_y=return_X_y)


def fetch_streetview_chars(
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read a part of Chars74K, characters in photographs of streets.

    A random 3,000 of 6,283 images of 62 characters from Chars74K [1]_, stretched to 32 x 32 pixels.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder that holds ``streetview_chars.npz``.
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
            The character: digits are 0 to 9, capital letters 10 to 35, small ones 36 to 61.
        target_names : list of str
            The characters.
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
    .. [1] T. E. de Campos, B. R. Babu and M. Varma, "Character recognition in natural images",
       International Conference on Computer Vision Theory and Applications, 2009.

    Examples
    --------
    >>> from skood.datasets import fetch_streetview_chars
    >>> X, y = fetch_streetview_chars(return_X_y=True)
    >>> X.shape
    (3000, 3, 32, 32)
    """
    return fetch_archive("streetview_chars", data_home=data_home, return_X_y=return_X_y)


def fetch_textures(
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read a part of the Describable Textures.

    720 images of textures [1]_, all 120 of each of the first 6 of the 47 classes, shuffled; the
    centre of each, reduced to 32 x 32 pixels. Figures differ from published ones, which take all
    classes.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder that holds ``textures.npz``.
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
            The class of each image.
        target_names : list of str
            The texture that each class stands for.
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
    .. [1] M. Cimpoi, S. Maji, I. Kokkinos, S. Mohamed and A. Vedaldi, "Describing textures in the
       wild", CVPR 2014. arXiv:1311.3618.

    Examples
    --------
    >>> from skood.datasets import fetch_textures
    >>> X, y = fetch_textures(return_X_y=True)
    >>> X.shape
    (720, 3, 32, 32)
    """
    return fetch_archive("textures", data_home=data_home, return_X_y=return_X_y)


def fetch_tiny_imagenet(
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Fetched:
    """Read a part of Tiny ImageNet, photographs of 200 classes.

    4,000 validation images of classes of ImageNet [1]_, 20 of the 50 of each class, shuffled,
    reduced from 64 x 64 pixels. They share subjects with CIFAR-10 and CIFAR-100, so they are near
    to both.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder that holds ``tiny_imagenet_val.npz``.
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
            The class of each image: the place of its WordNet number in alphabetical order.
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
    .. [1] O. Russakovsky et al., "ImageNet large scale visual recognition challenge", International
       Journal of Computer Vision 115(3), 2015. arXiv:1409.0575.

    Examples
    --------
    >>> from skood.datasets import fetch_tiny_imagenet
    >>> X, y = fetch_tiny_imagenet(return_X_y=True)
    >>> X.shape
    (4000, 3, 32, 32)
    """
    return fetch_archive("tiny_imagenet", data_home=data_home, return_X_y=return_X_y)
