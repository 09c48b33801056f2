"""How the network of the denoising classifier is trained: what skorch calls in its loop."""

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochTimer, PassthroughScoring, PrintLog
from skorch.dataset import unpack_data
from skorch.utils import is_dataset, to_tensor

from ._image_classes import check_images, encode_classes
from ._images import add_noise, cover_square
from ._penalties import SpreadPenalty


class DenoisingTraining(NeuralNetClassifier):
    """Hooks of skorch, which describes them; the parameters are those of DenoisingClassifier."""

    def initialize_module(self):
        kwargs = self.get_params_for("module")
        if not isinstance(self.module, torch.nn.Module) and hasattr(self, "image_shape_"):
            found = {"n_channels": self.image_shape_[0], "n_classes": len(self.classes_)}
            kwargs = found | kwargs
        self.module_ = self.initialized_instance(self.module, kwargs)
        return self

    def check_data(self, X, y=None):
        pass  # Images and labels are checked where they become data sets.

    def get_dataset(self, X, y=None):
        if not is_dataset(X):
            X = check_images(X, getattr(self, "image_shape_", None))
        return super().get_dataset(X, y)

    def get_split_datasets(self, X, y=None, **fit_params):
        X, y = encode_classes(X, y, self.classes_)
        train, held_out = super().get_split_datasets(X, y, **fit_params)
        self._held_out = train if held_out is None else held_out
        return train, held_out

    def train_step_single(self, batch, **fit_params):
        self._set_training(True)
        images, labels = self._on_device(batch)
        outputs = self.infer(self._corrupt(images), **fit_params)
        losses = self._losses(outputs, labels, images)
        self._record(losses, "train")
        loss = self._weigh(losses)
        loss.backward()
        return {"loss": loss, "y_pred": outputs}

    def _corrupt(self, images):
        noisy = add_noise(cover_square(images, self.square), self.noise_std)
        is_clean = torch.rand(len(images), 1, 1, 1, device=images.device) < self.clean_share
        return torch.where(is_clean, images, noisy)

    def validation_step(self, batch, **fit_params):
        self._set_training(False)
        images, labels = self._on_device(batch)
        with torch.no_grad():
            outputs = self.infer(images, **fit_params)
            losses = self._losses(outputs, labels, images)
        hits = outputs[0].argmax(dim=1) == labels
        self._record(losses | {"acc": hits.float().mean()}, "valid")
        return {"loss": self._weigh(losses), "y_pred": outputs}

    def _on_device(self, batch):
        images, labels = unpack_data(batch)
        return to_tensor(images, device=self.device), to_tensor(labels, device=self.device)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        images, labels = self._on_device((X, y_true))
        return self._weigh(self._losses(y_pred, labels, images))

    def _losses(self, outputs, labels, images):
        logits, drawn = outputs
        return {
            "reconstruction": torch.nn.functional.mse_loss(drawn, images),
            "classification": self.criterion_(logits, labels),
            "spread": SpreadPenalty().penalty(logits, labels).mean(),
        }

    def _weigh(self, losses):
        return sum(getattr(self, f"{name}_weight") * loss for name, loss in losses.items())

    def _record(self, losses, prefix):
        for name, loss in losses.items():
            self.history.record_batch(f"{prefix}_{name}", loss.item())

    @property
    def _default_callbacks(self):
        losses = ["train_loss", "valid_loss", "valid_reconstruction"]
        return [
            ("epoch_timer", EpochTimer()),
            *((name, PassthroughScoring(name, on_train=name == "train_loss")) for name in losses),
            ("valid_acc", PassthroughScoring("valid_acc", lower_is_better=False)),
            ("print_log", PrintLog()),
        ]
