"""The error of what cannot be exported."""

from __future__ import annotations


class ExportError(ValueError):
    """Something has no form in tensors; the message names it, and the reason.

    Examples
    --------
    >>> from sklearn.svm import OneClassSVM
    >>> from skood.export import ExportError, form
    >>> try:
    ...     form(OneClassSVM())
    ... except ExportError as error:
    ...     print(str(error)[:34])
    OneClassSVM cannot be exported: sk
    """

    __module__ = "skood.export"  # where it is public, as tracebacks show it
