"""Warnings in the output of examples: the same in each process that runs some of them."""

import linecache
import warnings
from pathlib import Path


def set_up(gallery_conf, fname):
    """Show what Python shows by default, whatever an example before has asked for."""
    warnings.resetwarnings()
    for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", hidden)
    # Matplotlib cannot show figures while the gallery is built.
    warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive.*")
    warnings.formatwarning = _without_folders


def _without_folders(message, category, filename, lineno, line=None):
    """A warning as examples print it, without the folders of the machine that builds the site."""
    line = linecache.getline(filename, lineno) if line is None else line
    return _format_warning(message, category, Path(filename).name, lineno, line)


_format_warning = warnings.formatwarning


def setup(app):
    # joblib replaces a process whose memory has grown, and says so.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
