"""Parameters that are lists of named detectors, which are reached by these names."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from ._foreign import are_named
from ._sklearn import BaseComposition


class NamedDetectors(BaseComposition):
    """Nested parameters of estimators that take named detectors, as a pipeline has of its steps."""

    _lists_of_detectors: ClassVar[tuple[str, ...]]
    """Parameters that are lists of pairs of a name and a detector, or None for detectors that only
    ``fit`` makes."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, with those of the named detectors under their names.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return the detectors by name, and their parameters.

        Returns
        -------
        params : dict
            Values by name; those of a detector "knn" are "knn__n_neighbors" and so on.
        """
        params: dict[str, Any] = {}
        for parameter in self._lists_of_detectors:
            params |= self._get_params(parameter, deep=deep)
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, exchange a detector by its name, or set one of its parameters.

        Parameters
        ----------
        **params : dict
            Values by name, as ``get_params`` has them.

        Returns
        -------
        self : object
            This detector.

        Raises
        ------
        ValueError
            If there is no such parameter, and no detector of that name.
        """
        for parameter in self._lists_of_detectors:
            if parameter in params:
                setattr(self, parameter, params.pop(parameter))
        self._refuse_unknown(params)
        for parameter in self._lists_of_detectors:
            for name in params.keys() & set(self._names_in(parameter)):
                self._replace_estimator(parameter, name, params.pop(name))
        super().set_params(**params)
        return self

    def _names_in(self, parameter: str) -> list[str]:
        pairs = getattr(self, parameter)
        is_list = isinstance(pairs, list | tuple) and are_named(pairs)
        return [name for name, _ in pairs] if is_list else []

    def _refuse_unknown(self, params: dict[str, Any]) -> None:
        known = self.get_params()
        first_parts = (key.partition("__")[0] for key in params)
        if (unknown := next((part for part in first_parts if part not in known), None)) is None:
            return
        lists = self._lists_of_detectors
        unset = [key for key in lists if getattr(self, key) is None]
        named = {key: self._names_in(key) for key in lists if key not in unset}
        defaults = (
            f" None, for {', '.join(unset)}, stands for detectors that only fit makes: give "
            "pairs of a name and a detector instead to reach them by these names."
        )
        raise ValueError(
            f"Invalid parameter {unknown!r} for estimator {type(self).__name__}: its parameters "
            f"are {list(self.get_params(deep=False))}, and the names of its detectors {named}."
            + (defaults if unset else "")
        )
