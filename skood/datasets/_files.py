"""Where the files of public data sets are, and how they get there."""

import os
from pathlib import Path
from typing import NamedTuple

from .._optional import import_optional
from ._originals import Layout, Original, Subset

_HOME_VARIABLE = "SKOOD_DATA"
_DEFAULT_HOME = "~/skood_data"


class Found(NamedTuple):
    """The files of a subset and the layout that they are in."""

    layout: Layout
    paths: list[Path]


def resolve_data_home(data_home: str | os.PathLike[str] | None) -> Path:
    """Folder of the data: the given one, that of the environment variable, or the default.

    Parameters
    ----------
    data_home : str, path-like or None
        The folder, if it is given.

    Returns
    -------
    folder : Path
        The folder, which need not exist.
    """
    if data_home is None:
        data_home = os.environ.get(_HOME_VARIABLE) or _DEFAULT_HOME
    return Path(data_home).expanduser()


def find_files(
    original: Original, subset: Subset, home: Path, *, download_if_missing: bool
) -> Found:
    """Find the files of a subset, downloaded where they are missing.

    Parameters
    ----------
    original : Original
        The data set.
    subset : Subset
        The part of it.
    home : Path
        The folder of the data.
    download_if_missing : bool
        Whether torchvision may download the files.

    Returns
    -------
    found : Found
        The files.

    Raises
    ------
    FileNotFoundError
        If files are missing and not to be downloaded, or torchvision is not installed.
    OSError
        If the download fails.
    """
    found = _search(subset, home)
    if found is not None:
        return found
    missing = _describe_missing(original, subset, home)
    if not download_if_missing:
        raise FileNotFoundError(
            f"{missing} With download_if_missing=True, torchvision downloads them."
        )
    _download(original, subset, home, missing)
    found = _search(subset, home)
    if found is None:
        raise FileNotFoundError(f"{missing} torchvision has not downloaded them, either.")
    return found


def _search(subset: Subset, home: Path) -> Found | None:
    for layout in subset.layouts:
        for folder in layout.folders:
            paths = layout.find(home / folder)
            if None not in paths:
                return Found(layout, [path for path in paths if path is not None])
    return None


def _download(original: Original, subset: Subset, home: Path, missing: str) -> None:
    try:
        datasets = import_optional("torchvision.datasets", "datasets", "Downloading them")
        download = getattr(datasets, original.torchvision_class)
        download(root=str(home), download=True, **subset.download_options)
    except ImportError as error:
        raise FileNotFoundError(f"{missing} {error}") from error
    # RuntimeError, too, is how torchvision says that no server answers.
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"torchvision could not download {original.title}: {error} {missing}"
        ) from error


def _describe_missing(original: Original, subset: Subset, home: Path) -> str:
    """What is missing, where it is expected, and where it comes from."""
    places = [(home / folder, layout) for layout in subset.layouts for folder in layout.folders]
    # The place that lacks the fewest files; the one that torchvision uses where none has any.
    folder, layout = min(places, key=lambda place: place[1].find(place[0]).count(None))
    names = [
        f"'{name}{''.join(f'[{end}]' for end in layout.endings if end)}'"
        for name, path in zip(layout.names, layout.find(folder), strict=True)
        if path is None
    ]
    others = dict.fromkeys(f"'{place}'" for place, _ in places if place != folder)
    return (
        f"Files of {original.title} are missing: {', '.join(names)} in '{folder}' (or all of them "
        f"in {' or '.join(others)}). They come from {original.page}: put them into that folder, "
        "or name the folder that holds them by data_home or by the environment variable "
        f"{_HOME_VARIABLE}."
    )
