"""What the layers of a DenseNet give for each set of images, kept on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from skood import ActivationExtractor, Activations, PoolingReducer
from skood.extraction import ODIN

from .._common.images import DATA
from .data import STD, TEST, TRAIN, Task, load_images
from .densenet import DenseNet, load_densenet

FEATURES = "penultimate"
# Four of the sixteen layers of each block, and what each block ends in.
POOLED = [
    *(f"block{block}.layer.{layer}.relu1" for block in (1, 2, 3) for layer in (3, 7, 11, 15)),
    "trans1.relu",
    "trans2.relu",
    "relu",
]


@dataclass(frozen=True)
class Settings:
    """How many images of each set are seen, at most, and where their activations are kept."""

    folder: Path
    n_train: int
    n_samples: int
    n_odin: int
    """Images of each set for ODIN, which runs the network twice forwards and once backwards."""
    seed: int


@dataclass(frozen=True)
class Tested:
    """Activations of the images that detectors are to separate."""

    inside: Activations
    outside: dict[str, Activations]

    def select(self, layers: list[str]) -> Tested:
        return Tested(self.inside[layers], {name: A[layers] for name, A in self.outside.items()})


def load_network(task: Task) -> DenseNet:
    return load_densenet(DATA / "models" / f"densenet100_{task.name}.pt", task.n_classes)


def extract_pooled(network: DenseNet, task: Task, settings: Settings) -> tuple[Activations, Tested]:
    """Pooled layers, features and logits of the training images, and of the other sets."""
    extractor = make_extractor(network, [*POOLED, FEATURES])
    tested = extract_tested(
        extractor, task, pooled_folder(task, settings), settings.n_samples, settings.seed
    )
    return extract_train(network, task, settings), tested


def extract_train(network: DenseNet, task: Task, settings: Settings) -> Activations:
    """The same of the training images alone."""
    extractor, folder = make_extractor(network, [*POOLED, FEATURES]), pooled_folder(task, settings)
    return extract_set(extractor, task, folder, TRAIN, settings.n_train, settings.seed)


def pooled_folder(task: Task, settings: Settings) -> Path:
    return settings.folder / "activations" / task.name / "pooled"


def extract_odin(network: DenseNet, task: Task, settings: Settings) -> Tested:
    """The same without pooled layers, of images that ODIN has changed."""
    extractor = make_extractor(network, [FEATURES]).set_params(perturbation=ODIN(std=STD))
    folder = settings.folder / "activations" / task.name / "odin"
    return extract_tested(extractor, task, folder, settings.n_odin, settings.seed)


def make_extractor(network: DenseNet, layers: list[str]) -> ActivationExtractor:
    # Small batches stay in the cache of the processor.
    return ActivationExtractor(
        network, layers, reducer=PoolingReducer(pooling=("max", "avg")), batch_size=32, verbose=1
    )


def extract_tested(
    extractor: ActivationExtractor, task: Task, folder: Path, n_samples: int, seed: int
) -> Tested:
    see = partial(extract_set, extractor, task, folder, n_samples=n_samples, seed=seed)
    return Tested(see(TEST), {name: see(name) for name in task.outside})


def extract_set(
    extractor: ActivationExtractor, task: Task, folder: Path, name: str, n_samples: int, seed: int
) -> Activations:
    """What the extractor gives for a set; in a second run, what the first one saved."""
    folder = folder / f"{name.replace(' ', '_')}-{n_samples}-{seed}"
    if not folder.exists():
        X, _ = load_images(task, name, n_samples, seed)
        print(f"{task.title}: {len(X)} images, {name}")
        if not hasattr(extractor, "layers_"):
            extractor.fit(X[:2])
        extractor.transform(X).save(folder)
    return Activations.load(folder, mmap_mode="r")
