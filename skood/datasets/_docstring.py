"""The docstring that all ``fetch_*`` functions share."""

import textwrap

from ._originals import ORIGINALS, Original

_WIDTH = 96

_DOCSTRING = """Load {title}, {summary}.

{description}

{origin}

Read more in the :ref:`User Guide <public_images>`.

Parameters
----------
subset : {{{choices}}}, default="train"
    Which images to load; "all" is all subsets, one after the other.
{image_size}data_home : str or path-like, default=None
{data_home}
download_if_missing : bool, default=True
    Whether torchvision downloads what is missing. If False, missing files raise an error.
return_X_y : bool, default=False
    Whether to return ``(data, target)`` instead of a Bunch.

Returns
-------
data : :class:`~sklearn.utils.Bunch`
    Dictionary-like object, with the following attributes.

    data : ndarray of shape (n_samples, {shape}), dtype float32
        The images, channels first, from 0 to 1.
    target : ndarray of shape (n_samples,), dtype int64
        {target}
    target_names : list of str of length {n_classes}
        What each class stands for.
    DESCR : str
        Description, origin and licence.

(data, target) : tuple if ``return_X_y`` is True
    The images and their classes, as above.

Raises
------
ValueError
    If a parameter has none of the values above, or a file does not hold what it should: it is
    damaged, cut short, or belongs to another data set.
FileNotFoundError
    If files are missing, and ``download_if_missing`` is False or torchvision is not installed.
OSError
    If the download fails.
{pillow}
References
----------
{reference}
   {page}

Examples
--------
>>> from skood.datasets import fetch_{dataset}
>>> X, y = fetch_{dataset}(subset="test", return_X_y=True)
>>> X.shape[1:], X.dtype
({example_shape}, dtype('float32'))
"""

_ORIGIN = (
    "The function reads the published files [1]_ from ``data_home``, laid out as torchvision does "
    "it. Where they are missing, torchvision downloads them, if it is installed. Subsets and their "
    "numbers of images, in the original order: {subsets}."
)

_DATA_HOME = (
    "The folder that holds {places}, or the files themselves. By default, the folder that the "
    "environment variable ``SKOOD_DATA`` names or, where it is not set, ``~/skood_data``."
)

_IMAGE_SIZE = (
    "Height and width in pixels. Each image is {resizing}, by a bilinear filter without aliasing."
)

_PILLOW = """ImportError
    If Pillow is not installed, which reads the images.
"""


def describe(dataset: str) -> str:
    """Write the docstring of a ``fetch_*`` function.

    Parameters
    ----------
    dataset : str
        A key of ``ORIGINALS``.

    Returns
    -------
    docstring : str
        The docstring, in numpydoc's form.
    """
    original = ORIGINALS[dataset]
    subsets = [f'"{name}" ({part.n_samples:,})' for name, part in original.subsets.items()]
    resizes = bool(original.resizing)
    return _DOCSTRING.format(
        dataset=dataset,
        title=original.title,
        summary=original.summary,
        description=_wrap(original.description),
        origin=_wrap(_ORIGIN.format(subsets=", ".join(subsets))),
        choices=", ".join(f'"{name}"' for name in [*original.subsets, "all"]),
        image_size=_describe_size(original) if resizes else "",
        data_home=_wrap(_DATA_HOME.format(places=_list_places(original)), "    ", "    "),
        shape=", ".join(map(str, original.shape)),
        target=original.target,
        n_classes=len(original.target_names),
        pillow=_PILLOW if resizes else "",
        reference=_wrap(original.reference, ".. [1] ", "   "),
        page=original.page,
        example_shape=tuple(32 if side == "image_size" else side for side in original.shape),
    )


def _describe_size(original: Original) -> str:
    text = _IMAGE_SIZE.format(resizing=original.resizing)
    return f"image_size : int, default=32\n{_wrap(text, '    ', '    ')}\n"


def _list_places(original: Original) -> str:
    """Folders below ``data_home``, or the files where there is none."""
    layouts = [layout for subset in original.subsets.values() for layout in subset.layouts]
    places = [layout.folders[0] or layout.names[0] + layout.endings[0] for layout in layouts]
    *others, last = [f"``{place}``" for place in dict.fromkeys(places)]
    return f"{', '.join(others)} or {last}" if others else last


def _wrap(text: str, first_indent: str = "", indent: str = "") -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=first_indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
