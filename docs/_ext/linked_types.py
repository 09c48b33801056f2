"""Words in the types of parameters that become links: public classes, and those of others."""

import importlib
import inspect
import pkgutil

from numpydoc.xref import DEFAULT_LINKS

import skood

OF_OTHERS = {
    "Axes": "matplotlib.axes.Axes",
    "DataFrame": "pandas.DataFrame",
    "DataLoader": "torch.utils.data.DataLoader",
    "Figure": "matplotlib.figure.Figure",
    "Line2D": "matplotlib.lines.Line2D",
    "Path": "pathlib.Path",
    "Pipeline": "sklearn.pipeline.Pipeline",
    "Tensor": "torch.Tensor",
    "estimator": ":term:`sklearn:estimator`",
    # numpydoc takes the name for no link where it is the same as the text.
    **{
        name: f":class:`{name}`"
        for name in (
            "joblib.Memory",
            "numpy.ndarray",
            "pandas.DataFrame",
            "torch.Tensor",
            "torch.device",
            "torch.dtype",
            "torch.nn.Module",
        )
    },
}


def linked_types():
    """What each word links to, in the form of ``numpydoc_xref_aliases``.

    Words as plain as ``None`` and ``bool``, which numpydoc would link too, do not.
    """
    plain = {name: name for name, target in DEFAULT_LINKS.items() if "numpy" not in target}
    return (
        plain
        | OF_OTHERS
        | {
            name: f"{module.__name__}.{name}"
            for module in public_modules()
            for name in module.__all__
            if inspect.isclass(getattr(module, name))
        }
    )


def public_modules():
    names = [f"skood.{found.name}" for found in pkgutil.iter_modules(skood.__path__)]
    modules = [importlib.import_module(name) for name in names if "._" not in name]
    return [module for module in (*modules, skood) if hasattr(module, "__all__")]
