"""A monitor written in tensors, for torch and for ONNX."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from torch import nn


class ExportMixin:
    """The methods of :class:`~skood.Monitor` that export it."""

    def to_torch(self, X: Any = None) -> nn.Module:
        """Write network and monitor as one module of torch.

        The module runs the network once, reads the layers that the monitor watches, and says what
        :meth:`score_samples`, :meth:`p_values` and :meth:`predict` say. All that was learnt is in
        its buffers, so that ``module.to("cuda")`` moves it; ``torch.export`` and ``torch.compile``
        trace it, for batches of any size.

        Parameters
        ----------
        X : array-like, Tensor, Dataset, DataLoader or dict, default=None
            Some inputs of the network. They are needed only where the monitor was fitted on
            activations that were extracted before, which do not tell what inputs are like.

        Returns
        -------
        module : torch.nn.Module
            Maps a batch of inputs, several of them one after the other or as a dict by name, to a
            dict of tensors:

            - "logits", of shape (n_samples, n_classes), where the network has some;
            - "score", of shape (n_samples,), the higher, the more the network can be trusted;
            - "p_value", of shape (n_samples,), NaN where no held-out rows have set the threshold;
            - "verdict", of shape (n_samples,), 1 to trust the network and -1 not to.

        Raises
        ------
        NotFittedError
            If the monitor is not fitted, or its detector is another than the one calibrated.
        ExportError
            If a part has no form in tensors, or torch cannot trace the network; the message names
            it.

        See Also
        --------
        to_onnx : Writes the same graph to a file.

        Notes
        -----
        The module holds a copy of the network's weights, and is in evaluation mode always. The
        network that is monitored stays as it is, and training it further changes nothing in the
        module. Scores are computed with 64-bit floats, as the monitor does: a device needs to have
        these. Inputs are not checked.

        Distances of patterns are products of bits, which are exact. They are held packed, one bit a
        neuron, and are unpacked in a batch's time, which pays for many inputs at once. For one
        input at a time on a CPU, the monitor itself is faster.

        Examples
        --------
        >>> import torch
        >>> from torch import nn
        >>> from skood import make_monitor
        >>> from skood.datasets import load_digits_ood
        >>> X, y = load_digits_ood(return_X_y=True)
        >>> X = torch.as_tensor(X[y != -1], dtype=torch.float32).flatten(1)
        >>> network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        >>> monitor = make_monitor(network, validation=0.2).fit(X)
        >>> module = monitor.to_torch()
        >>> said = module(X[:5])
        >>> list(said), said["verdict"].shape
        (['logits', 'score', 'p_value', 'verdict'], torch.Size([5]))
        >>> bool(abs(said["score"].numpy() - monitor.score_samples(X[:5])).max() < 1e-4)
        True
        """
        from .export import MonitorModule

        check_is_fitted(self)
        return MonitorModule(self, X)

    def to_onnx(self, path: str | PathLike[str], X: Any = None, *, opset: int = 18) -> None:
        """Write network and monitor as one graph of ONNX.

        Its outputs are those of :meth:`to_torch` by the same names; its inputs are called "input",
        or by the names of several, and any number of samples goes through. Before the file is
        there, onnxruntime runs it, and what it says is compared with what the monitor says: of some
        rows, of one alone, and of rows with values ten times as large as those that ``fit`` has
        seen.

        Parameters
        ----------
        path : str or path
            The file to write; one that is there is replaced. Where weights and patterns take more
            than 1.5 GB they lie beside it, in ``path`` + ".data".
        X : array-like, Tensor, Dataset, DataLoader or dict, default=None
            Inputs to compare on, of which 64 are taken, from the first to the last, or of the first
            batch of a loader. By default such as lie between those that ``fit`` has seen, which are
            out-of-distribution as a rule, and may be of some classes alone. Needed where the
            monitor was fitted on activations.
        opset : int, default=18
            Version of the operators of ONNX, from 18 to the latest that torch can write.

        Raises
        ------
        NotFittedError
            If the monitor is not fitted, or its detector is another than the one calibrated.
        ExportError
            If a part has no form in tensors, or something in the network none in ONNX; or if scores
            or logits of the file differ from those of the monitor by more than 1e-4, of those above
            1 as a share of them, p-values by more than 0.02, or verdicts away from the threshold.
            No file is left then.
        ValueError
            If ``opset`` is no integer of at least 18, or none that torch can write; if ``X`` has no
            rows, or not such as the monitor takes.
        TypeError
            If ``X`` holds activations.
        OSError
            If ``path`` is a folder, or is in one that does not exist or cannot be written to.
        ImportError
            If onnx, onnxscript or onnxruntime is not installed.

        Notes
        -----
        Where a value is as good as equal to the percentile of its layer, rounding decides a bit of
        a pattern. What a change of inputs by four times the precision of 32-bit floats does to a
        score, a logit or a p-value is added to the difference that is allowed. A quarter of the
        rows with large values may differ: units that saturate have values that are equal but
        for rounding, of which patterns are then made.

        The file holds the weights of the network, patterns as one bit a neuron, and Gaussians as
        64-bit floats: some 8 octets for each unit of a layer squared. onnxruntime unpacks patterns
        to 32-bit floats when it loads the file.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from sklearn.neural_network import MLPClassifier
        >>> from skood import ActivationExtractor, Monitor
        >>> from skood.detectors import EnergyDetector
        >>> X = np.random.default_rng(0).normal(size=(200, 4))
        >>> net = MLPClassifier((8,), tol=0.1, random_state=0).fit(X, X[:, 0] > 0)
        >>> detector = EnergyDetector(validation=0.5)
        >>> monitor = Monitor([("extract", ActivationExtractor(net)), ("detect", detector)]).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     monitor.to_onnx(f"{folder}/monitor.onnx", X)
        """
        from .export import write_onnx

        check_is_fitted(self)
        write_onnx(self, path, X, opset=opset)
