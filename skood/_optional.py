"""Packages that only some of skood needs."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

# Packages that are installed under another name than they are imported by.
_DISTRIBUTIONS = {"PIL": "pillow"}


def import_optional(module: str, extra: str, needed_by: str) -> ModuleType:
    """Import a module of an optional package.

    Parameters
    ----------
    module : str
        Its full name.
    extra : str
        The extra of skood that installs the package.
    needed_by : str
        What the user called.

    Returns
    -------
    module : ModuleType
        The module.

    Raises
    ------
    ImportError
        If the package is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        package = _DISTRIBUTIONS.get(name, name)
        raise ImportError(
            f"{needed_by} needs {package}, which is not installed. Install it with "
            f"'pip install {package}', or install skood with its extra '{extra}'."
        ) from error
