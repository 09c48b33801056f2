"""The transformer from raw inputs to activations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, Self

import joblib
import numpy as np
from numpy.random import RandomState
from numpy.typing import DTypeLike
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from .._block_transform import as_float_type, checksum_of_some_rows, in_blocks
from .._docstrings import FITTED_ON
from .._elsewhere import run_elsewhere
from .._fit_context import fit_context
from .._layer_names import check_layers_exist
from .._output import ActivationsOutputMixin
from .._sklearn import HasMethods, Interval, StrOptions, copy_settings
from .._warnings import warn_user
from ..activations import Activations, LinearHead
from ..networks import ContentReader, NetworkAdapter, adapt, explain_difference
from ._inputs import (
    Batches,
    as_arrays,
    as_batches,
    check_labels,
    check_number_of_labels,
    checksum_of_some,
)
from ._mode import Mode
from ._passes import Passes, draw_seed, with_passes
from ._perturbation import ODIN, MahalanobisPerturbation
from ._plan import AUTO, Plan, fits, make_plan, summarize, template_of
from ._raw_inputs import forget_features
from ._reduction import reduce_activations
from ._run import Cache, extract, store
from ._same_network import SameNetwork
from ._selection import find_extracted, match_extracted, refuse_numbers
from ._shapes import SHAPE_OF_FIT, samples_of


class ActivationExtractor(ActivationsOutputMixin, BaseEstimator):
    """Run a trained network and return the activations of its layers.

    The network is only read: its weights, buffers, modes, hooks and gradients, and the global
    random states, are the same after every call as before. Other threads may use it meanwhile:
    their calls are not heard, and what they draw from the random states is not drawn again, unless
    the network draws from these too: then they are put back to where they were.

    Parameters
    ----------
    network : object
        A trained network: any torch module, a program of ``torch.export``, a fitted skorch net, a
        fitted scikit-learn multilayer perceptron, or an ONNX model (the path of its file, a
        session of ONNX Runtime, a ``ModelProto`` or its bytes); or one of these at the end of a
        ``Pipeline``, in a fitted search, or in a ``FrozenEstimator``, as a search over networks
        needs it; or of a kind given to :func:`skood.networks.register`. Clones of the extractor
        share it.
    layers : str or sequence of str, default="auto"
        Names or glob patterns such as ``"features.*"``; "all" is every layer, and "auto"
        is explained in the notes. Not numbers, which could count modules, calls or activation
        functions: :class:`~skood.preprocessing.LayerSelector` takes layers by number once they are
        extracted.
    logits : "auto", "binary", str, int, tuple or callable, default="auto"
        Which output of a torch network or ONNX model holds the logits; "auto" is explained in the
        notes. A name or an index is that of one of several outputs; of nested ones, it is a name
        that no other has, all names joined by dots, or a tuple of keys. "binary" is a single
        log-odds ``z`` of the second class, which becomes the logits ``[0, z]``. A callable is given
        what the network returns, and returns the logits, (n_samples, n_classes).
    head : "auto", str or LinearHead, default="auto"
        The last linear layer of the network, as ``Activations.head`` is to hold it; "auto" is
        explained in the notes. A string is the name of the module, and a
        :class:`~skood.activations.LinearHead` holds weight and bias themselves. It must yield the
        logits.
    reducer : transformer, default=None
        Applied to the activations batch by batch, so that unreduced ones never pile up, for
        example :class:`~skood.PoolingReducer`. It must treat each sample on its own: a clone is
        fitted to each batch. A reducer with the method ``pool_layers`` is given each layer
        as soon as it is computed, where it is computed, by its ``pool_tokens`` where it has this
        and the layer is one of tokens; any other is given the ``Activations``
        of the batch and must return ``Activations``.
    batch_size : int, default=256
        Number of samples to run at once. A ``DataLoader`` has its own.
    device : "auto", str or torch.device, default="auto"
        Where to run a torch network or ONNX model. "auto" is where the parameters of the network
        are, and for a model where its session runs, or else the CPU. For another device a copy of a
        torch network is made in each call. Perceptrons of scikit-learn refuse another device.
    memory : str or object with the joblib.Memory interface, default=None
        Cache of results; a string is the path of its folder. It goes by all that decides the
        values of the network, as ``fingerprint_`` does, by the content of the inputs, and by
        layers, logits, head, reducer, precision, perturbation and gradients; with ``n_passes``,
        also by this, ``random_state`` and ``batch_size``. Data sets and loaders, whose content is
        not known beforehand, are not cached, nor are passes with ``random_state=None``. Where
        something in the network cannot be read, such as an object of compiled code, a warning names
        it, and nothing is cached.
    verbose : int, default=0
        Whether to show a progress bar, and what "auto" takes and leaves out; see
        :ref:`progress`.
    perturbation : ODIN or MahalanobisPerturbation, default=None
        Change of the inputs before the layers and logits are computed, for example
        :class:`~skood.extraction.ODIN`. The predictions stay those for the unchanged inputs.
    gradients : bool, default=False
        Whether each layer, say "relu1", is followed by its gradient, "relu1:gradient", of the same
        shape; see the notes.
    n_passes : int, default=None
        Number of stochastic forward passes (Monte Carlo dropout), whose logits become the layer
        "passes" of shape (n_samples, n_passes, n_classes); see the notes. By default there is no
        such layer.
    random_state : int, RandomState instance or None, default=None
        Decides what the stochastic passes leave out. With an int they are the same in every
        call on the same inputs with the same ``batch_size`` on the same kind of device.
    mask : "auto", str or None, default="auto"
        Which of the inputs in a mapping says which tokens are padding. "auto" is
        "attention_mask", which is 1 at tokens, or "src_key_padding_mask", "key_padding_mask" or
        "padding_mask", which are True at padding. Any other name is that of an input that is 1 or
        True at tokens. None counts padding as tokens.
    autocast : bool, "bfloat16", "float16" or torch.dtype, default=False
        Whether a torch network runs with automatic mixed precision, and in which type. It is off by
        default, also within a ``torch.autocast`` of the caller: scores are not to depend on where
        they are computed. With True the type is that of the caller's context, or else the usual
        one of the network's device. What a network does in its own ``forward`` counts in
        any case.
    changed_network : {"raise", "warn", "ignore"}, default="raise"
        What ``transform`` does where the network is not the one that ``fit`` saw: another one,
        trained on, or with other settings, hooks or code; see the notes. A warning or error
        names the parts that differ.

    Attributes
    ----------
    layers_ : list of str
        Names of the layers of the network that are extracted, in forward order.
    left_out_ : dict of str to str
        What "auto" might stand for and does not, by name, with the reasons. Empty for other
        ``layers``, and where ``fit`` was given ``Activations``.
    fingerprint_ : str
        Hash of what decides the values of the network that ``fit`` saw: its weights, buffers,
        other attributes and hooks, and the code that they lead to, where this is not of an
        installed library, which counts by its version. What a pass leaves behind, such as a
        count, has no part in it, nor has the device. Copies of a network have the same, in every
        process.
    n_features_in_ : int
        Size of the second axis of the inputs. Only defined for arrays, tensors, data sets and
        loaders of these.

    See Also
    --------
    PoolingReducer : Pools feature maps; the usual reducer.
    skood.preprocessing.LayerSelector : Selects among layers that are extracted already.

    Notes
    -----
    **Names of layers.** In a torch network a layer is the output of a module, under the name
    of the module in ``named_modules()``; of a tuple, list or mapping the first tensor. It must have
    one row for each sample. An activation function that is called without a module, such as
    ``F.relu`` or ``Tensor.tanh``, is a layer too: "relu" where the network's own ``forward``
    calls it, "block1.relu" where that of ``block1`` does. What is called several times
    in one pass has a layer for each call: "relu[0]", "relu[1]", ... The
    input of the head, see below, is the layer "penultimate". A perceptron of scikit-learn has
    "hidden_0", "hidden_1", ..., and "output", after their activation functions; there, and wherever
    else layers have names of their own, ``layers="penultimate"`` selects the one that the head
    reads. The layers of an ONNX model are the outputs of its nodes, named by the node, or by the
    output where the node has no name.

    **What "auto" selects.** The outputs of all activation functions and of all residual blocks,
    in place of the activation functions inside them, and the layer "penultimate", unless one of the
    others is that very matrix. A residual block is a module, other than the network, in whose own
    ``forward`` its input, or a projection of it, is added to what layers make of it, and that
    returns the sum, perhaps after a norm or an activation function. Each such sum of the network
    itself, or of a module with more than four, is a block, named by its call such as "add[3]",
    except a single one that the network returns. An activation function may also be a module of
    the user's own that has no parameters and bends each value on its own, or be written out, such
    as ``x * sigmoid(x)`` or ``x / (1 + abs(x))`` of what a layer with weights yields. Left out are
    the logits and what becomes them without another layer; values without a row for each sample,
    that have rows only where a condition holds, or that do not depend on the inputs; gates, which
    only multiply larger values or those that they are computed from; and of values that the same
    weights yield again and again from what they yielded before, as in a recurrence written by hand,
    all but the last, which for sequences of any length is the last under the name it has in
    ``fit``. Of more than 64 layers, 64 are taken, evenly spread over the depth, with the last and
    the input of the head. ``left_out_`` names what is left out, with the reasons; ``layers="all"``
    takes all.

    **Logits and head.** A matrix of at least two columns that the network returns is
    taken for the logits; of several outputs, what is called "logits", or else the first matrix
    that a last linear layer yields, perhaps pooled, scaled or shifted; or else the first
    tensor of a tuple or list, the first matrix of a mapping or another object. Features that
    other outputs are computed from with further weights are no logits, nor is what only becomes of
    the logits. Where this leaves several that may be the logits, a warning says so. Where the
    network ends in a softmax, log-softmax or sigmoid, the logits are what goes into it. Where they
    are the product of a weight of the network and of features, plus a bias, up to a constant scale,
    that is the ``head``, and ``head.input_layer`` names the layer it reads, if that was extracted
    and the reducer left it as it was. It is a linear layer, a convolution of one position, or a
    product that is written out, such as ``x @ self.weight.T``. Where it reads several vectors of a
    sample, such as one for each token or place, and the logits are what it makes of one of them, or
    the mean, be it of all or of those before or after padding, "penultimate" is that vector, or
    that mean. ``Activations.why_missing`` says why there is no head, as where a weight
    is computed for each batch, several heads are added, or values are clipped. A single log-odds
    ``z``, of ``NeuralNetBinaryClassifier`` or a two-class ``MLPClassifier``, becomes the logits
    ``[0, z]``. Regressors and multilabel classifiers have none.

    **Inputs of torch networks.** Floating point values are cast to the kind of the parameters.
    Integers stay what they are where the network runs on them; else they are cast
    to 64 bits, if it runs on those or if an embedding looks them up, or else to the kind of the
    parameters. In a mapping, which becomes keyword arguments of the network, they stay integers
    unless it runs on floats alone; an input that is alone there needs no name. Values of half
    precision are returned in single precision.

    **Data sets, loaders and streams.** A data set or loader yields inputs, or tuples or lists whose
    first item they are; rows are returned in the order in which they come. An iterator, such as
    a generator, is read as a loader is. What can be read once only is read whole by
    ``fit_transform`` and by ``transform``; ``fit`` alone refuses it. It must end, since all rows
    are kept. The columns of a data set of Hugging Face's ``datasets`` become keyword arguments,
    but for "label" and "labels".

    **Labels.** Where a data set or loader yields pairs of inputs and targets, or mappings with
    "labels" or "label", and all targets are one number or text a row, they become ``A.labels``.
    Targets of any other form, such as several values a row, mappings, or another number of values
    than of inputs, are no labels: ``A.labels`` is None then, as it is for arrays. No estimator
    learns from ``A.labels``; pass them as ``y``.

    **Units.** Of a layer with several axes beside that of the samples, one is that of the units
    (channels, neurons), and its column says which, by ``unit_axis``. It is the one whose size
    stays the same for shorter sequences, where the network takes them; else it is the axis along
    which the network multiplies or normalises vectors, or the second where it convolves or pools.
    So it is the last in transformers, (n_samples, n_tokens, n_units), and in recurrent layers, axis
    3 in networks of (n_samples, height, width, n_units), and the second in convolutions. Where the
    network does not tell, it is the second. A ``pool_layers`` is given layers whose units are
    moved to the second axis.

    **Sequences.** Where the inputs are sequences, a matrix of integers or an array of vectors, and
    the network takes shorter ones too, which is tried, ``transform`` takes inputs of any length.
    A reducer leaves out the padding that ``mask`` tells of, see :class:`~skood.PoolingReducer`. Of
    a layer with half as many tokens as the mask, or a quarter and so on, each stands for two or
    four of them, and is padding where these are all padding. Layers of which nothing tells what is
    padding are pooled whole, and ``fit`` warns of them; a sample of padding alone is refused.
    Without a reducer, ``Activations`` carry the mask, all of it True where no input is one, and
    batches of different length are padded to the longest by zeros, which the mask marks as padding.

    **Perturbation.** The network runs twice, and the gradient of its first run moves the inputs;
    of a mapping, those of floating point values. Integers that an embedding looks up cannot
    be moved. ``Activations`` that were extracted before are selected unchanged.

    **Gradients.** With ``gradients=True``, the column "relu1:gradient" holds the gradient, with
    respect to the values of "relu1", of the Kullback-Leibler divergence from the uniform
    distribution to the softmax of the logits, sample by sample, as NAC [1]_ uses it. At the input
    of a linear layer that yields the logits, it is ``(softmax(logits) - 1 / n_classes) @ weight``,
    even where the network detaches what this reads; layers before that have none, and are refused.
    A reducer is given gradients like other layers: a single pooling keeps their names, several
    make "relu1:gradient:max" and "relu1:gradient:avg" of them. The kind of these columns is
    "gradient", by which estimators find them. With a perturbation, they are gradients at the
    changed inputs.

    **The same network.** ``transform`` compares the network with that of ``fit``, since what was
    learnt from its activations holds for no other. It looks at once at the objects that make it up:
    weights and their versions, some of the values of each, attributes, hooks and code. Only where
    one seems changed is the fingerprint taken anew and compared, and now and then in any case, for
    changes that this does not show, such as that of a single weight behind the back of autograd;
    so seldom that it takes less than a hundredth of the time. A copy, the mode and the device make
    no difference. Where nothing but versions of libraries has changed, as in another environment, a
    warning says so.

    **Monte Carlo dropout.** With ``n_passes``, each batch also runs ``n_passes`` times with the
    dropout layers active, which are modules of torch's own classes or derived from these, and
    nothing else: batch normalisation keeps its statistics [2]_. For other threads dropout stays
    off, and torch's own layers draw from a generator of the extractor. Dropout that a network
    applies by function, or inside recurrent and attention layers, stays off. All other layers,
    logits and predictions are those without dropout. The column "passes", whose kind is "pass",
    comes last and is given to no reducer; ``layers`` does not name it, and where a layer of the
    network has its name, it is called "passes_2". With a perturbation, the passes are over the
    changed inputs. ``Activations`` that were extracted before must hold ``n_passes`` passes, which
    are selected unchanged.

    References
    ----------
    .. [1] Y. Liu, C. X. Tian, H. Li, L. Ma, S. Wang, "Neuron activation coverage: rethinking
       out-of-distribution detection and generalization", ICLR 2024. arXiv:2306.02879
    .. [2] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation: representing model
       uncertainty in deep learning", ICML 2016. arXiv:1506.02142

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skood import ActivationExtractor
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MLPClassifier((8, 5), max_iter=2000, random_state=0).fit(X, y)
    >>> A = ActivationExtractor(network).fit_transform(X)
    >>> A
    Activations(n_samples=150, layers={hidden_0: (8,), hidden_1: (5,)}, n_classes=3)
    >>> bool((A.predictions == network.predict(X)).all())
    True
    >>> A.head.input_layer
    'hidden_1'

    A convolutional network, with its maps pooled as they are computed:

    >>> import torch
    >>> from torch import nn
    >>> from skood import PoolingReducer
    >>> network = nn.Sequential(
    ...     nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(),
    ...     nn.Flatten(), nn.Linear(6 * 4 * 4, 3),
    ... )
    >>> images = torch.zeros(10, 1, 8, 8)
    >>> reducer = PoolingReducer(pooling=["max", "avg"])
    >>> ActivationExtractor(network, reducer=reducer).fit_transform(images)
    Activations(n_samples=10, layers={1:max: (4,), 1:avg: (4,), 3:max: (6,), 3:avg: (6,),
    penultimate: (96,)}, n_classes=3)
    """

    _learns_from_rows = False
    _n_stages_of_fit = 1

    # Both are for the user's own calls, and no pipeline passes them on.
    __metadata_request__transform = {"out": UNUSED, "dtype": UNUSED}
    # Inputs have no layers.
    _entries = {"feature_names_in_": FITTED_ON["feature_names_in_"]}
    _parameter_constraints: dict[str, Any] = {
        "network": "no_validation",
        "layers": [str, "array-like"],
        "logits": [str, Integral, tuple, callable],
        "head": [str, LinearHead],
        "reducer": [HasMethods(["fit", "transform"]), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": "no_validation",
        "memory": [str, HasMethods(["cache"]), None],
        "verbose": ["verbose"],
        "perturbation": [ODIN, MahalanobisPerturbation, None],
        "gradients": ["boolean"],
        "n_passes": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
        "mask": [str, None],
        "autocast": "no_validation",
        "changed_network": [StrOptions({"raise", "warn", "ignore"})],
    }

    def __init__(
        self,
        network: Any,
        layers: str | Sequence[str] = AUTO,
        *,
        logits: Any = "auto",
        head: Any = "auto",
        reducer: Any = None,
        batch_size: int = 256,
        device: Any = "auto",
        memory: Any = None,
        verbose: int = 0,
        perturbation: ODIN | MahalanobisPerturbation | None = None,
        gradients: bool = False,
        n_passes: int | None = None,
        random_state: int | RandomState | None = None,
        mask: str | None = "auto",
        autocast: Any = False,
        changed_network: str = "raise",
    ) -> None:
        self.network = network
        self.layers = layers
        self.logits = logits
        self.head = head
        self.reducer = reducer
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.verbose = verbose
        self.perturbation = perturbation
        self.gradients = gradients
        self.n_passes = n_passes
        self.random_state = random_state
        self.mask = mask
        self.autocast = autocast
        self.changed_network = changed_network

    @run_elsewhere("fit_extractor")
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the layers, by running the network on two of the samples.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, of shape (n_samples, n_features, ...), or its activations,
            extracted before: then the network is not run.
        y : array-like of shape (n_samples,), default=None
            Labels of the samples for the estimators that follow. Only their number is read.

        Returns
        -------
        self : object
            Fitted extractor.

        Raises
        ------
        TypeError
            If the network is of no known kind, or ``X`` no kind of input; or if ``X`` can be read
            once only.
        NotFittedError
            If the network is not trained yet.
        ValueError
            If a name or pattern selects nothing; the message lists the known layers. Or if a layer
            is given by its number, or ``mask`` names no input. Or if there are labels ``y`` of
            another number of samples, or beside a loader that shuffles.
        """
        adapter, batches = self._begin_fit(X, y)
        if batches is None:
            self._fit_extracted(adapter, X)
            return self
        batches.refuse_reading_on()
        self._fit(adapter, batches)
        with adapter.untouched():
            batches.warn_of_lost_rows()
        return self

    @run_elsewhere("fit_transform")
    @fit_context(prefer_skip_nested_validation=True)
    def fit_transform(  # type: ignore[override]
        self,
        X: Any,
        y: Any = None,
        *,
        out: str | PathLike[str] | None = None,
        dtype: DTypeLike | None = None,
    ) -> Activations:
        """Find the layers, and extract the activations; inputs are read once, and whole.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, iterator, dict or Activations
            Inputs of the network, as in ``fit`` and ``transform``. An iterator yields batches as a
            loader does.
        y : array-like of shape (n_samples,), default=None
            Labels of the samples for the estimators that follow. Only their number is read.
        out : str or path, default=None
            As in ``transform``.
        dtype : dtype, default=None
            As in ``transform``.

        Returns
        -------
        activations : Activations
            The layers in forward order, with logits and head where the network has them.

        Raises
        ------
        TypeError, ValueError, NotFittedError, MemoryError, OSError
            As ``fit`` and ``transform`` do.
        """
        dtype = as_float_type(dtype)
        adapter, batches = self._begin_fit(X, y)
        if batches is None:
            self._fit_extracted(adapter, X)
            return self._select_into(X, out, dtype)
        plan = self._fit(adapter, batches)
        with self._same_network.running(adapter, plan.trace):
            extracted = self._extract(adapter, plan, batches, out, dtype)
        check_number_of_labels(y, len(extracted))
        return extracted

    def _begin_fit(self, X: Any, y: Any) -> tuple[NetworkAdapter, Batches | None]:
        """The adapter and the batches of inputs, None where activations come; both checked."""
        refuse_numbers(self.layers)
        adapter = self._adapt()
        batches = None if isinstance(X, Activations) else self._batches(adapter, X, reset=True)
        check_labels(y, X, batches)
        return adapter, batches

    def _fit_extracted(self, adapter: NetworkAdapter, X: Activations) -> None:
        self._plan: Plan | None = None
        self.left_out_: dict[str, str] = {}
        forget_features(self)
        columns = match_extracted(self.layers, X, gradients=self.gradients)
        self.layers_ = list(dict.fromkeys(str(c.layer) for c in columns if c.kind == "value"))
        self._template = template_of(self._reduce(X[:1], [str(c.name) for c in columns]))
        self._same_network = SameNetwork(adapter, None)
        self.fingerprint_ = self._same_network.fingerprint.digest

    def _fit(self, adapter: NetworkAdapter, batches: Batches) -> Plan:
        plan = self._make_plan(adapter, batches)
        self.layers_, self._template = list(plan.layers), plan.template
        is_auto = isinstance(self.layers, str) and self.layers == AUTO
        self.left_out_ = dict(plan.trace.left_out) if is_auto else {}
        if self.verbose and is_auto:
            print(f"{type(self).__name__}: {summarize(self.layers_, self.left_out_)}")
        self._plan = plan
        self._same_network = SameNetwork(adapter, plan.trace)
        self.fingerprint_ = self._same_network.fingerprint.digest
        return plan

    @run_elsewhere("transform")
    def transform(
        self,
        X: Any,
        *,
        out: str | PathLike[str] | None = None,
        dtype: DTypeLike | None = None,
    ) -> Activations:
        """Extract the activations, or select among those extracted before.

        Where memory would not hold them, they go to temporary files, from which the rows are read
        that are asked for. With ``out`` they go to a folder that stays, and a call that was killed
        goes on where it was: see :ref:`on_disk`.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader, dict or Activations
            Inputs of the network, of shape (n_samples, n_features, ...). Of
            ``Activations``, the layers are selected, and reduced unless they have the names,
            kinds and shapes of reduced ones.
        out : str or path, default=None
            A folder to make, or to go on with. :meth:`Activations.load <skood.Activations.load>`
            reads it later.
        dtype : {"float16", "float32", "float64"} or dtype, default=None
            Type in which floating-point values of layers are kept; by default each its own. Logits
            keep theirs.

        Returns
        -------
        activations : Activations
            The layers in forward order, with logits and head where the network has them.

        Raises
        ------
        ValueError
            If values are not finite, the number of features is not that of ``fit``, a sample is
            padding alone, activations lack a layer, or the network is not that of ``fit``; if a
            value is beyond the largest number of ``dtype``, or this is no type of floating-point
            numbers; or if ``out`` was made from another network, other layers, settings or inputs,
            as far as these can be told apart, is damaged, or can not be gone on with, since a
            loader shuffles.
        MemoryError
            If neither memory nor the folder for temporary files can hold the layers.
        FileExistsError
            If ``out`` holds something else.
        BlockingIOError
            If another process writes to ``out``.
        ImportError
            If ``out`` is given and pyarrow is not installed.
        """
        check_is_fitted(self, "layers_")
        dtype = as_float_type(dtype)
        if isinstance(X, Activations):
            return self._select_into(X, out, dtype)
        adapter, plan, batches = self._adapt(), self._plan, None
        if plan is None:
            batches = self._batches(adapter, X, reset=False)
            plan = self._make_plan(adapter, batches)
        # Before it runs: the steps of a pipeline may keep something of what they transform.
        self._same_network.check(adapter, plan.trace, self.changed_network)
        with self._same_network.running(adapter, plan.trace):
            batches = batches or self._batches(adapter, X, reset=False)
            extracted = self._extract(adapter, plan, batches, out, dtype)
        batches.warn_of_rows(extracted.labels)
        return extracted

    def _network_digest(self) -> str | None:
        """Hash of the network as it is now, once it was compared with that of ``fit``.

        None where not all that it depends on can be read.
        """
        adapter, trace = self._adapt(), None if self._plan is None else self._plan.trace
        self._same_network.check(adapter, trace, self.changed_network)
        fingerprint = adapter.fingerprint(trace)
        return None if fingerprint.unread else fingerprint.digest

    def _check_network_in_full(self) -> None:
        """Compare all of the network with that of ``fit``, as ``transform`` does at a look."""
        if self.changed_network != "ignore":
            trace = None if self._plan is None else self._plan.trace
            self._same_network.check(self._adapt(), trace, self.changed_network, in_full=True)

    def _check_network(self) -> None:
        """Raise a ValueError where the network is not that of ``fit``, and say what differs."""
        if not hasattr(self, "_same_network") or self.changed_network == "ignore":
            return
        adapter = adapt(self.network, logits=self.logits, head=self.head)
        trace = None if self._plan is None else self._plan.trace
        try:
            self._same_network.check(adapter, trace, self.changed_network)
        except ValueError as error:
            before, now = self._same_network.fingerprint, adapter.fingerprint(trace)
            raise ValueError(
                f"The network is not the one that fit saw. It differs in "
                f"{explain_difference(before, now) or 'a part that is not known'}. Pass that "
                "network; or save the monitor with changed_network='ignore' or 'warn' in its "
                "extractor, where the change is meant."
            ) from error

    def _batches(self, adapter: NetworkAdapter, X: Any, *, reset: bool) -> Batches:
        any_length = not reset and self._plan is not None and self._plan.trace.takes_any_length
        return as_batches(
            self, X, self.batch_size, reset=reset, any_length=any_length, adapter=adapter
        )

    def _make_plan(self, adapter: NetworkAdapter, batches: Batches) -> Plan:
        return make_plan(adapter, batches, self.layers, self.reducer, self._mode(), self.mask)

    def _adapt(self) -> NetworkAdapter:
        return adapt(
            self.network,
            device=self.device,
            logits=self.logits,
            head=self.head,
            autocast=self.autocast,
        )

    def _extract(
        self,
        adapter: NetworkAdapter,
        plan: Plan,
        batches: Batches,
        out: str | PathLike[str] | None,
        dtype: np.dtype | None,
    ) -> Activations:
        mode, key = self._mode(draw_seed(self.random_state)), None
        is_repeatable = self.n_passes is None or self.random_state is not None
        if self.memory is not None and out is None and batches.data is not None and is_repeatable:
            key = self._cache_key(adapter, plan, mode, batches.data, dtype)
        seen = getattr(self, SHAPE_OF_FIT, None)
        known = "" if seen is None else f"inputs of shape {samples_of(seen)}"
        if plan.n_at_once > 2:
            known += f"{' in ' if known else ''}batches of {plan.n_at_once}"
        compute = partial(
            extract,
            adapter,
            batches,
            plan,
            self.reducer,
            mode,
            mask=self.mask,
            told_by=self,
            known=known,
            dtype=dtype,
        )
        order = "" if batches.loader is None else batches.loader.order
        if out is not None:
            made_from = self._made_from(adapter, plan, mode, batches, dtype)
            return store(Path(out), made_from, compute, batches.refuse_others, order)
        extracted = compute() if key is None else Cache(self.memory).get(key, compute)
        if batches.loader is not None:
            extracted._order = order
        return self._in_order(extracted)

    def _made_from(
        self,
        adapter: NetworkAdapter,
        plan: Plan,
        mode: Mode,
        batches: Batches,
        dtype: np.dtype | None,
    ) -> dict[str, Any]:
        """What decides what a folder holds, as far as it can be compared."""
        fingerprint, reader = adapter.fingerprint(plan.trace), ContentReader()
        chosen = [type(adapter).__name__, self.logits, self.head, adapter.classes]
        passes = self.batch_size if self.n_passes is not None else None
        return {
            "network": fingerprint.digest,
            "layers": plan.layers,
            "reducer": self._said_reducer(),
            "logits and head": reader.digest([*chosen, adapter.precision]).hex(),
            "mask": self.mask or "none",
            "perturbation, gradients and passes": joblib.hash([mode.content(), passes]),
            "dtype": None if dtype is None else dtype.name,
            "kind of inputs": "those of the network",
            "number of samples": batches.n_samples,
            "inputs": None if batches.data is None else checksum_of_some(batches.data),
        }

    def _said_reducer(self) -> str | None:
        reducer = clone(self.reducer, safe=False)
        return None if reducer is None else f"{reducer} {joblib.hash(reducer)[:8]}"

    def _cache_key(
        self, adapter: NetworkAdapter, plan: Plan, mode: Mode, data: Any, dtype: np.dtype | None
    ) -> tuple[Any, ...] | None:
        """What the result depends on; None, and a warning, where not all of it is known."""
        fingerprint, reader = adapter.fingerprint(plan.trace), ContentReader()
        chosen = [self.logits, self.head, adapter.classes, adapter.precision]
        logits = reader.digest([type(adapter).__name__, *chosen])
        if unread := [*fingerprint.unread, *(["logits"] if reader.unread else [])]:
            warn_user(
                f"Nothing is taken from the cache in memory={self.memory!r}, or put there: what "
                f"the network computes may depend on {unread}, whose content cannot be read."
            )
            return None
        reducer = clone(self.reducer, safe=False)  # what it was fitted to makes no difference
        inputs = as_arrays(data)
        network = (fingerprint.digest, logits, sorted(reader.versions.items()))
        return network, inputs, mode.content(), plan.layers, reducer, self.mask, dtype

    def _select_into(
        self, X: Activations, out: str | PathLike[str] | None, dtype: np.dtype | None
    ) -> Activations:
        """The layers of activations extracted before, in a folder or a type that is wanted."""
        if out is None and dtype is None:
            return self._select(X)
        make = partial(in_blocks, X, self._select, dtype=dtype)
        if out is None:
            return make()
        made_from = {
            "network": self.fingerprint_,
            "layers": list(self._template),
            "reducer": self._said_reducer(),
            "dtype": None if dtype is None else dtype.name,
            "kind of inputs": "Activations",
            "number of samples": len(X),
            "inputs": checksum_of_some_rows(X),
        }
        return store(Path(out), made_from, make, lambda said, is_whole: None, X._order)

    def _select(self, X: Activations) -> Activations:
        if X._trust is not None:  # just extracted
            return X
        if fits(X, self._template):
            return X[list(self._template)]
        names = find_extracted(self._mode().sources(self.layers_), X)
        return self._in_order(self._reduce(X, names))

    def _mode(self, seed: int = 0) -> Mode:
        passes = None
        if self.n_passes is not None:
            passes = Passes(self.n_passes, seed, self.batch_size)
        return Mode(self.perturbation, self.gradients, passes)

    def _in_order(self, reduced: Activations) -> Activations:
        names = list(self._template)
        check_layers_exist(reduced, names)
        return reduced[names]

    def _reduce(self, X: Activations, names: list[str]) -> Activations:
        """Some layers of activations extracted before, reduced, and the passes if wanted."""
        reduced = X[names]
        if self.reducer is not None:
            reduced = reduce_activations(self.reducer, reduced)
        return reduced if self.n_passes is None else with_passes(reduced, X, self.n_passes)

    def _returns_table(self) -> bool:
        return False

    def __sklearn_clone__(self) -> Self:
        # A trained network is shared: `clone` would copy a module, and a cloned net or
        # perceptron is untrained.
        params = self.get_params(deep=False)
        network = params.pop("network")
        new = type(self)(network, **{name: clone(p, safe=False) for name, p in params.items()})
        copy_settings(new, self)
        return new

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []
        return tags
