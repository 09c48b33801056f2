"""Which adapter reads a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from ._base import NetworkAdapter
from ._hints import explain_unknown
from ._options import known_options
from ._pipeline import PipelineAdapter, applied_steps, best_estimator, is_search
from ._registry import Kind, Registry

AdapterFactory = Callable[..., NetworkAdapter]

_ADAPTERS = Registry(
    "skood.networks",
    {
        "torch": "skood.networks._torch:TorchAdapter",
        "torch.export.ExportedProgram": "skood.networks._torch.exported:adapt_program",
        "torch.fx.GraphModule": "skood.networks._torch.exported:adapt_graph",
        "skorch": "skood.networks._skorch:adapt_skorch",
        "sklearn.neural_network.MLPClassifier": "skood.networks._sklearn_mlp:MLPAdapter",
        "sklearn.neural_network.MLPRegressor": "skood.networks._sklearn_mlp:MLPAdapter",
        ".onnx": "skood.networks._onnx:adapt_onnx",
        "onnx": "skood.networks._onnx:adapt_onnx",
        "onnxruntime": "skood.networks._onnx:adapt_onnx",
        "builtins.bytes": "skood.networks._onnx:adapt_onnx",
    },
)


def register(kind: Kind, adapter: AdapterFactory | str) -> None:
    """Say which adapter reads networks of a kind.

    From then on, whatever takes a network takes those of this kind: ``ActivationExtractor``,
    ``make_monitor`` and :func:`adapt`. A package registers its adapters when it is installed, by
    entry points of the group "skood.networks", whose names are the kinds.

    Parameters
    ----------
    kind : type or str
        A class, the dotted name of one, such as "torch.nn.Module", the name of a library or module,
        such as "torch", or the suffix of a file, such as ".onnx". A library is not imported. The
        adapter of the most specific kind is taken, and of one kind the one that was registered
        last: by the program, or else by a package, or else by skood.
    adapter : callable or str
        Called with a network, and by keyword with those of ``device``, ``logits``, ``head``
        and ``autocast`` that the user sets, where its signature names them; else they are refused.
        Returns a :class:`NetworkAdapter`, which the class of one does. As a string, "module:name",
        which is imported when the first such network comes.

    Raises
    ------
    TypeError
        If the kind or the adapter is none of these.

    See Also
    --------
    check_adapter : Checks what an adapter yields.

    Examples
    --------
    >>> from skood.networks import register
    >>> register("a_library.Network", "a_package.adapters:NetworkAdapter")
    """
    _ADAPTERS.register(kind, adapter)


def adapt(network: Any, **options: Any) -> NetworkAdapter:
    """Choose the adapter of a network; only the library of the network is imported.

    Parameters
    ----------
    network : object
        A network of a known kind, or an adapter of one, which is returned.
    **options : dict
        Of ``device``, ``logits``, ``head`` and ``autocast``, those that are set, as in
        :class:`skood.ActivationExtractor`.

    Returns
    -------
    adapter : NetworkAdapter
        Runs the network.

    Raises
    ------
    TypeError
        If the network is of no known kind; the message lists these. Or if what is registered for it
        returns no adapter.
    NotFittedError
        If it is not trained yet.
    ValueError
        If an option is set that the adapter does not know.
    ImportError
        If the adapter that is registered for it cannot be imported.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood.networks import adapt
    >>> X, y = load_iris(return_X_y=True)
    >>> adapter = adapt(MLPClassifier((8, 5), max_iter=2000, random_state=0).fit(X, y))
    >>> trace, values = adapter.trace(X[:3])
    >>> trace.auto, list(values)
    (['hidden_0', 'hidden_1'], ['hidden_0', 'hidden_1', 'output'])
    >>> adapter.supports("gradients"), adapter.supports("dropout")
    (True, False)
    """
    factory = _find(network)
    adapter = factory(network, **known_options(network, factory, options))
    if not isinstance(adapter, NetworkAdapter):
        raise TypeError(
            f"What is registered for a {type(network).__name__} must return a NetworkAdapter, but "
            f"returned {adapter!r}."
        )
    return adapter


def is_network(value: Any) -> bool:
    """Whether a value is of a kind that :func:`adapt` knows, or an adapter itself."""
    return isinstance(value, NetworkAdapter) or _find_known(value) is not None


def _find(network: Any) -> AdapterFactory:
    if isinstance(network, NetworkAdapter):
        return _unchanged
    factory = _find_known(network)
    if factory is None:
        kinds = _ADAPTERS.kinds()
        raise TypeError(explain_unknown(network, kinds, lambda held: _find_known(held) is not None))
    return factory


def _find_known(network: Any) -> AdapterFactory | None:
    return _ADAPTERS.find(network) or _find_opener(network)


def _unchanged(adapter: NetworkAdapter) -> NetworkAdapter:
    return adapter


def _find_opener(network: Any) -> AdapterFactory | None:
    """What adapts the network that an estimator holds, where it stands for one."""
    if isinstance(network, FrozenEstimator):
        return _adapt_frozen
    if isinstance(network, Pipeline):
        return _adapt_pipeline
    return _adapt_search if is_search(network) else None


def _adapt_frozen(frozen: FrozenEstimator, **options: Any) -> NetworkAdapter:
    return adapt(frozen.estimator, **options)


def _adapt_search(search: Any, **options: Any) -> NetworkAdapter:
    return adapt(best_estimator(search), **options)


def _adapt_pipeline(pipeline: Pipeline, **options: Any) -> NetworkAdapter:
    steps, (name, last) = applied_steps(pipeline)
    try:
        inner = adapt(last, **options)
    except TypeError as error:
        raise TypeError(
            f"The last step of the Pipeline, {name!r}, is not a network: {error}"
        ) from error
    return PipelineAdapter(steps, inner) if steps else inner
