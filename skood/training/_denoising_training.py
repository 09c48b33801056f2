"""The network of the denoising classifier, and its training: the hooks that skorch calls."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Self

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochTimer, PassthroughScoring, PrintLog
from skorch.dataset import unpack_data
from skorch.utils import is_dataset, to_tensor
from torch import Tensor, nn
from torch.utils.data import Dataset

from .._diagram import EstimatorMixin
from .._progress import Progress, steps
from ._images import add_noise, check_images, cover_square
from ._penalties import SpreadPenalty
from ._rejection import encode_classes

_told: ContextVar[Progress] = ContextVar("_told")
"""What is told of the epochs of the training in this thread."""


class DenoisingTraining(EstimatorMixin, NeuralNetClassifier):
    """Hooks of skorch, which describes them; the parameters are those of DenoisingClassifier."""

    square: tuple[float, float]
    noise_std: float
    clean_fraction: float
    image_shape_: tuple[int, ...]

    _n_stages_of_fit = 1

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **fit_params: Any) -> Self:
        """Train for some epochs, which are told to the log and to callbacks.

        Parameters
        ----------
        X : array-like or Dataset
            Images, or a data set of them.
        y : array-like, default=None
            Their labels.
        epochs : int, default=None
            How many; by default ``max_epochs``.
        **fit_params : dict
            Further arguments of the module.

        Returns
        -------
        self : object
            The classifier.
        """
        n_epochs = self.max_epochs if epochs is None else epochs
        # With ``verbose``, skorch prints a table.
        with steps(self, n_epochs, "epochs", verbose=0, are_counted=True) as told:
            token = _told.set(told)
            try:
                return super().fit_loop(X, y, epochs, **fit_params)
            finally:
                _told.reset(token)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Note that an epoch is over.

        Parameters
        ----------
        net : object
            The classifier.
        **kwargs : dict
            What skorch passes to callbacks.
        """
        super().on_epoch_end(net, **kwargs)
        _told.get().advance()

    def initialize_module(self) -> Self:
        """Make the network, with the channels of the images and the number of classes.

        Returns
        -------
        self : object
            The classifier.
        """
        kwargs = self.get_params_for("module")
        if not isinstance(self.module, nn.Module) and hasattr(self, "image_shape_"):
            found = {"n_channels": self.image_shape_[0], "n_classes": len(self.classes_)}
            kwargs = found | kwargs
        self.module_ = self.initialized_instance(self.module, kwargs)
        return self

    def check_data(self, X: Any, y: Any = None) -> None:
        """Accept everything: images and labels are checked where they become data sets.

        Parameters
        ----------
        X : array-like or Dataset
            Images, or a data set of them.
        y : array-like, default=None
            Their labels.
        """

    def get_dataset(self, X: Any, y: Any = None) -> Dataset:
        """Check images, and make a data set of them.

        Parameters
        ----------
        X : array-like or Dataset
            Images, or a data set of them.
        y : array-like, default=None
            Their labels.

        Returns
        -------
        Dataset
            The data set; ``X`` itself where it is one.

        Raises
        ------
        ValueError
            If ``X`` is no array of images, or one of images of another shape than in ``fit``.
        """
        if not is_dataset(X):
            X = check_images(X, getattr(self, "image_shape_", None))
        return super().get_dataset(X, y)

    def get_split_datasets(
        self, X: Any, y: Any = None, **fit_params: Any
    ) -> tuple[Dataset, Dataset | None]:
        """Split images for training from those that are held out.

        Parameters
        ----------
        X : array-like or Dataset
            Images, or a data set of them.
        y : array-like, default=None
            Their labels.
        **fit_params : dict
            Further arguments of the split.

        Returns
        -------
        train : Dataset
            Images to train on, with the numbers of their classes.
        held_out : Dataset or None
            Images for validation and for the thresholds.
        """
        X, y = encode_classes(X, y, self.classes_)
        train, held_out = super().get_split_datasets(X, y, **fit_params)
        self._held_out = train if held_out is None else held_out
        return train, held_out

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute the loss on corrupted images and its gradients.

        Parameters
        ----------
        batch : tuple of Tensor
            Images and the numbers of their classes.
        **fit_params : dict
            Further arguments of the module.

        Returns
        -------
        dict
            The ``loss``, and the outputs as ``y_pred``.
        """
        self._set_training(True)
        images, labels = self._on_device(batch)
        outputs = self.infer(self._corrupt(images), **fit_params)
        losses = self._losses(outputs, labels, images)
        self._record(losses, "train")
        loss = self._weigh(losses)
        loss.backward()
        return {"loss": loss, "y_pred": outputs}

    def _corrupt(self, images: Tensor) -> Tensor:
        noisy = add_noise(cover_square(images, self.square), self.noise_std)
        is_clean = torch.rand(len(images), 1, 1, 1, device=images.device) < self.clean_fraction
        return torch.where(is_clean, images, noisy)

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute the loss and the accuracy on held-out images.

        Parameters
        ----------
        batch : tuple of Tensor
            Images and the numbers of their classes.
        **fit_params : dict
            Further arguments of the module.

        Returns
        -------
        dict
            The ``loss``, and the outputs as ``y_pred``.
        """
        self._set_training(False)
        images, labels = self._on_device(batch)
        with torch.no_grad():
            outputs = self.infer(images, **fit_params)
            losses = self._losses(outputs, labels, images)
        hits = outputs[0].argmax(dim=1) == labels
        self._record(losses | {"acc": hits.float().mean()}, "valid")
        return {"loss": self._weigh(losses), "y_pred": outputs}

    def _on_device(self, batch: Any) -> tuple[Tensor, Tensor]:
        images, labels = unpack_data(batch)
        return to_tensor(images, device=self.device), to_tensor(labels, device=self.device)

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """Sum up the weighted losses of reconstruction, classification and spread.

        Parameters
        ----------
        y_pred : tuple of Tensor
            Outputs of the module.
        y_true : Tensor of shape (n_samples,)
            Numbers of the classes.
        X : Tensor of shape (n_samples, channels, height, width), default=None
            The images, without corruption.
        training : bool, default=False
            Not used.

        Returns
        -------
        Tensor
            The loss, a scalar.
        """
        images, labels = self._on_device((X, y_true))
        return self._weigh(self._losses(y_pred, labels, images))

    def _losses(
        self, outputs: tuple[Tensor, Tensor], labels: Tensor, images: Tensor
    ) -> dict[str, Tensor]:
        logits, drawn = outputs
        return {
            "reconstruction": nn.functional.mse_loss(drawn, images),
            "classification": self.criterion_(logits, labels),
            "spread": SpreadPenalty().penalty(logits, labels).mean(),
        }

    def _weigh(self, losses: dict[str, Tensor]) -> Tensor:
        total: Any = sum(getattr(self, f"{name}_weight") * loss for name, loss in losses.items())
        return total

    def _record(self, losses: dict[str, Tensor], prefix: str) -> None:
        for name, loss in losses.items():
            self.history.record_batch(f"{prefix}_{name}", loss.item())

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        losses = ["train_loss", "valid_loss", "valid_reconstruction"]
        return [
            ("epoch_timer", EpochTimer()),
            *((name, PassthroughScoring(name, on_train=name == "train_loss")) for name in losses),
            ("valid_acc", PassthroughScoring("valid_acc", lower_is_better=False)),
            ("print_log", PrintLog()),
        ]


class ResidualDenoiser(nn.Module):
    """The first two stages of a ResNet-18, shared by a classifier and a decoder.

    Parameters
    ----------
    n_channels, n_classes : int
        Channels of the images; classes.
    width : int, default=32
        Channels of the first stage; the second has twice as many. A ResNet-18 has 64.
    """

    def __init__(self, n_channels: int, n_classes: int, width: int = 32) -> None:
        super().__init__()
        self.stem = _convolution(n_channels, width, stride=2)
        self.stage1 = nn.Sequential(_ResidualBlock(width), _ResidualBlock(width))
        self.stage2 = nn.Sequential(_ResidualBlock(width, 2), _ResidualBlock(2 * width))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(2 * width, n_classes)
        self.decoder1 = _convolution(2 * width, width)
        self.decoder2 = _convolution(width, width)
        self.decoder3 = nn.Conv2d(width, n_channels, 3, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of shape (n, n_classes), and images of the shape of the input."""
        half = self.stem(images)
        quarter = self.stage2(self.stage1(half))
        logits = self.classifier(self.pool(quarter))
        drawn = self.decoder1(_enlarge(quarter, half))
        drawn = self.decoder2(_enlarge(drawn, images))
        return logits, self.decoder3(drawn)


class _ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; a ``growth`` of 2 halves the side, with more channels."""

    def __init__(self, n_channels: int, growth: int = 1) -> None:
        super().__init__()
        n_out = n_channels * growth
        self.convolutions = nn.Sequential(
            _convolution(n_channels, n_out, stride=growth),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if growth > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_channels, n_out, 1, stride=growth, bias=False), nn.BatchNorm2d(n_out)
            )
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        return self.relu(self.convolutions(maps) + self.shortcut(maps))


def _convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
    )


def _enlarge(maps: Tensor, like: Tensor) -> Tensor:
    return nn.functional.interpolate(maps, size=like.shape[-2:], mode="nearest")
