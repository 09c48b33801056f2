"""Scoring the batches of Ray's data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from .._optional import import_optional
from .._streams import check_fitted
from ..extraction import ActivationExtractor

_OUTPUTS = {"score": "score_samples", "prediction": "predict"}
_INTEGERS = ("predict",)


class RayScorer:
    """Scores the batches of a data set of Ray, by ``Dataset.map_batches``.

    Pass the class, and the monitor as an argument of its constructor: then each actor of Ray's pool
    gets network and monitor once, and keeps them for all of its batches. An instance works as well,
    but is sent with each task. The network runs once for all outputs of a batch.

    Parameters
    ----------
    estimator : Monitor, Pipeline or detector
        What is fitted already, and scores the inputs.
    inputs : str, list of str, dict of str to str, default=None
        Columns of the data set with the inputs of the network. A string is that of one column of
        arrays; a list those of numbers, which become the columns of a matrix, or of a data frame
        where the estimator was fitted on one: it refuses other names, or another order; a dict the
        inputs of a network that takes several, by their names there, such as
        ``{"input_ids": "tokens", "attention_mask": "mask"}``. By default the only column that
        there is.
    outputs : dict of str to str, default=None
        Names of the columns to add, and the method of the estimator that each is made by, such as
        ``{"p": "p_values"}``. By default ``{"score": "score_samples", "prediction": "predict"}``.
    keep : list of str, default=None
        Columns of the data set to pass on; by default all that are no inputs.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted, or not calibrated for an output that needs it.
    ValueError
        If it has no such method, or this looks at all rows at once, as ``select`` does; or an
        output has the name of a column to keep.

    See Also
    --------
    skood.Monitor : What is usually passed.

    Notes
    -----
    Ray is not imported: a batch is a dict of arrays, Ray's default ``batch_format="numpy"``.

    Examples
    --------
    With a data set ``rows`` of Ray, whose column "image" holds the inputs::

        rows.map_batches(
            RayScorer, fn_constructor_args=(monitor, "image"), concurrency=2, batch_size=256
        )

    What an actor does with one batch:

    >>> import numpy as np
    >>> from skood.detectors import KNNDetector
    >>> from skood.engines import RayScorer
    >>> detector = KNNDetector(normalize=False).fit(np.random.default_rng(0).normal(size=(99, 2)))
    >>> scorer = RayScorer(detector, "x")
    >>> batch = {"x": np.array([[0.0, 0.1], [8.0, 9.0]]), "id": np.array([7, 8])}
    >>> scored = scorer(batch)
    >>> list(scored)
    ['id', 'score', 'prediction']
    >>> scored["prediction"]
    array([ 1, -1])
    """

    def __init__(
        self,
        estimator: Any,
        inputs: str | Sequence[str] | Mapping[str, str] | None = None,
        *,
        outputs: Mapping[str, str] | None = None,
        keep: Sequence[str] | None = None,
    ) -> None:
        check_fitted(estimator)
        self._fitted = estimator
        self._inputs = inputs
        self._outputs = dict(_OUTPUTS if outputs is None else outputs)
        self._keep = keep
        for method in self._outputs.values():
            if not hasattr(estimator, method):
                raise ValueError(f"{type(estimator).__name__} has no method {method!r}.")
            if method == "select":
                raise ValueError(
                    "select compares all rows with each other, of which a batch has some: output "
                    "'p_values', and choose among those of all rows by "
                    "scipy.stats.false_discovery_control."
                )
            if hasattr(estimator, "_refuse_unready"):
                estimator._refuse_unready(method)

    def __call__(self, batch: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Score the rows of a batch.

        Parameters
        ----------
        batch : dict of str to ndarray
            Its columns, of which each has the same number of rows, maybe none.

        Returns
        -------
        scored : dict of str to ndarray
            The columns that are kept, and the outputs.

        Raises
        ------
        TypeError
            If the batch is of another format.
        ValueError
            If the inputs are not among its columns, or their rows differ in shape; if an output
            has the name of a column that is kept, or not one value for each row; or if the
            estimator refuses the inputs.
        """
        if not isinstance(batch, Mapping):
            raise TypeError(
                "RayScorer takes batches as dicts of arrays, as map_batches gives them with "
                f"batch_format='numpy', its default, got {type(batch).__name__}."
            )
        X, read = self._read(batch)
        kept = [name for name in batch if name not in read] if self._keep is None else self._keep
        if taken := sorted(set(kept) & self._outputs.keys()):
            raise ValueError(
                f"The data set has columns {taken} already, as outputs are called: name others by "
                "outputs, or the columns to keep by keep."
            )
        self._check_columns(batch, kept)
        return {**{name: batch[name] for name in kept}, **self._score(X, len(batch[read[0]]))}

    def _read(self, batch: Mapping[str, NDArray]) -> tuple[Any, list[str]]:
        """The inputs of the network, and the columns that they are read from."""
        inputs = self._inputs
        if inputs is None:
            if len(batch) != 1:
                raise ValueError(
                    f"The data set has columns {list(batch)}: name those with the inputs of the "
                    "network by inputs."
                )
            inputs = next(iter(batch))
        read = _columns_of(inputs)
        self._check_columns(batch, read)
        if isinstance(inputs, str):
            return _as_numbers(batch, inputs), read
        if isinstance(inputs, Mapping):
            return {key: _as_numbers(batch, column) for key, column in inputs.items()}, read
        if hasattr(self._fitted, "feature_names_in_"):
            pandas = import_optional("pandas", "pandas", type(self).__name__)
            return pandas.DataFrame({column: batch[column] for column in read}), read
        return np.column_stack([batch[column] for column in read]), read

    def _check_columns(self, batch: Mapping[str, NDArray], wanted: Sequence[str]) -> None:
        if missing := [name for name in wanted if name not in batch]:
            raise ValueError(f"The data set has no columns {missing}; it has {list(batch)}.")

    def _score(self, X: Any, n_rows: int) -> dict[str, NDArray]:
        if n_rows == 0:
            return {
                name: np.empty(0, np.int64 if method in _INTEGERS else np.float64)
                for name, method in self._outputs.items()
            }
        if _begins_with_extraction(self._fitted):
            X = self._fitted[0].transform(X)
        return {name: self._output(method, X, n_rows) for name, method in self._outputs.items()}

    def _output(self, method: str, X: Any, n_rows: int) -> NDArray:
        values = np.asarray(getattr(self._fitted, method)(X))
        if values.shape[:1] != (n_rows,):
            raise ValueError(
                f"An output needs a value for each row of a batch, but {method} of "
                f"{type(self._fitted).__name__} gives an array of shape {values.shape} for "
                f"{n_rows} rows: name a method such as 'score_samples'."
            )
        return values


def _columns_of(inputs: str | Sequence[str] | Mapping[str, str]) -> list[str]:
    if isinstance(inputs, str):
        return [inputs]
    return list(inputs.values() if isinstance(inputs, Mapping) else inputs)


def _as_numbers(batch: Mapping[str, NDArray], column: str) -> NDArray:
    """A column as one array; one of lists, as a file may have, holds an array for each row."""
    values = np.asarray(batch[column])
    if values.dtype != object or not len(values):
        return values
    rows = [np.asarray(row) for row in values]
    if len(shapes := {row.shape for row in rows}) > 1:
        raise ValueError(
            f"The rows of column {column!r} need one shape, got {sorted(shapes)[0]} and "
            f"{sorted(shapes)[1]}, which are no inputs of one network."
        )
    return np.stack(rows)


def _begins_with_extraction(estimator: Any) -> bool:
    """Whether the estimator takes activations that were extracted before in place of inputs."""
    return isinstance(estimator, Pipeline) and isinstance(estimator[0], ActivationExtractor)
