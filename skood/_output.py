"""What ``set_output`` does where ``transform`` may return ``Activations``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ._diagram import EstimatorMixin
from ._docstrings import FITTED_ON, complete
from ._sklearn import available_if, check_feature_names_in, set_container
from .activations import Activations

Container = Literal["default", "pandas", "polars"]


def has_feature_names(transformer: Any) -> bool:
    """Whether output features have names: ``transform`` returns a table, with a column for each."""
    return transformer._returns_table()


class ActivationsOutputMixin(EstimatorMixin, TransformerMixin):
    """Transformers that return ``Activations`` for ``Activations``, and arrays for arrays.

    scikit-learn wraps what comes out of a transformer with names of features into the container
    that ``set_output`` names. So there are names for arrays of two dimensions, and none where
    ``Activations`` come out, which stay what they are.
    """

    _entries: ClassVar[Mapping[str, str]] = FITTED_ON
    """Docstring entries of attributes that a class does not describe itself."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        complete(cls, {}, cls._entries)

    if TYPE_CHECKING:
        # scikit-learn's own method, which is not annotated there.
        @overload
        def fit_transform(self, X: Activations, y: Any = None, **params: Any) -> Activations: ...

        @overload
        def fit_transform(self, X: ArrayLike, y: Any = None, **params: Any) -> NDArray: ...

        def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Activations | NDArray: ...

    def _returns_table(self) -> bool:
        """Whether ``transform`` returns an array with a column for each feature."""
        return not hasattr(self, "layer_shapes_")

    @available_if(has_feature_names)
    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the names of the features that ``transform`` gives for a 2-D array.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the input features; by default those seen in ``fit``.

        Returns
        -------
        feature_names_out : ndarray of str
            The names: those of the input.
        """
        check_is_fitted(self)
        return check_feature_names_in(self, input_features)

    def set_output(self, *, transform: Container | None = None) -> Self:
        """Choose the container of what ``transform`` gives for an array.

        ``Activations`` stay what they are.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            The container; None leaves the choice unchanged.

        Returns
        -------
        self : object
            The transformer.
        """
        if self._returns_table():
            return super().set_output(transform=transform)
        if transform is not None:
            # The next ``fit`` may see an array.
            set_container(self, transform)
        return self
