"""The classifier that learns to remove noise: training, thresholds and answers."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

torch = pytest.importorskip("torch")
skorch = pytest.importorskip("skorch")

from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring  # noqa: E402

from skood import ActivationExtractor  # noqa: E402
from skood.metrics import make_ood_scorer, ood_roc_auc_score  # noqa: E402
from skood.training import DenoisingClassifier, OverconfidencePenalty, SpreadPenalty  # noqa: E402

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no CUDA device"
))]  # fmt: skip


def bars(n_samples, seed=0):
    """Images of 12 x 12: an upright bar on the left (class 3) or on the right (class 7)."""
    rng = np.random.default_rng(seed)
    X = np.zeros((n_samples, 12, 12), dtype=np.float32)
    y = np.where(np.arange(n_samples) % 2, 7, 3)
    for image, label, start in zip(X, y, rng.integers(0, 4, n_samples), strict=True):
        first = start if label == 3 else 7 + start
        image[:, first : first + 2] = 1
    return X, y


def small_classifier(**params):
    settings = {"module__width": 4, "max_epochs": 8, "batch_size": 32, "lr": 0.01}
    return DenoisingClassifier(**settings | {"random_state": 0, "verbose": 0} | params)


@pytest.fixture(scope="module")
def fitted():
    return small_classifier().fit(*bars(400))


@pytest.fixture(scope="module")
def images():
    return bars(60, seed=1)


# What it learns


def test_it_tells_the_classes_and_finds_unlike_images(fitted, images):
    X, y = images
    assert fitted.score(X, y) > 0.95
    turned = np.rot90(X, axes=(1, 2))
    scores = fitted.score_samples(np.concatenate([X, turned]))
    assert ood_roc_auc_score(np.repeat([1, -1], len(X)), scores) > 0.9


def test_the_decoder_removes_noise(fitted, images):
    X, _ = images
    noisy = X + np.random.default_rng(0).normal(0, 0.3, X.shape).astype(np.float32)
    drawn = fitted.reconstruct(noisy)
    assert drawn.shape == X.shape
    assert np.square(drawn - X).mean() < 0.5 * np.square(noisy - X).mean()


def test_probabilities_are_those_of_the_network(fitted, images):
    X, _ = images
    with torch.no_grad():
        logits, drawn = fitted.module_.eval()(torch.from_numpy(X[:, np.newaxis]))
    np.testing.assert_allclose(fitted.predict_proba(X), logits.softmax(1).numpy(), atol=1e-6)
    np.testing.assert_allclose(fitted.reconstruct(X), drawn[:, 0].numpy(), atol=1e-5)
    errors = np.square(drawn[:, 0].numpy() - X).mean(axis=(1, 2))
    np.testing.assert_allclose(fitted.reconstruction_error(X), errors, rtol=1e-4)


def test_rows_marked_out_of_distribution_are_left_out(fitted, images):
    X, y = bars(400)
    noise = np.random.default_rng(0).random((50, 12, 12), dtype=np.float32)
    mixed = small_classifier().fit(np.concatenate([X, noise]), np.append(y, [-1] * 50))
    np.testing.assert_array_equal(mixed.classes_, [3, 7])
    np.testing.assert_allclose(
        mixed.score_samples(images[0]), fitted.score_samples(images[0]), rtol=1e-3
    )


def test_channels_may_be_given_and_are_kept(fitted, images):
    X, y = images
    with_axis = X[:, np.newaxis]
    assert fitted.reconstruct(with_axis).shape == with_axis.shape
    np.testing.assert_array_equal(fitted.predict(with_axis), fitted.predict(X))
    coloured = np.repeat(with_axis, 3, axis=1)
    net = small_classifier(max_epochs=1).fit(coloured, y)
    assert net.image_shape_ == (3, 12, 12)
    assert net.reconstruct(coloured).shape == coloured.shape


def test_bytes_are_taken_as_shares_of_255(fitted, images):
    as_bytes = (255 * images[0]).astype(np.uint8)
    np.testing.assert_allclose(fitted.predict_proba(as_bytes), fitted.predict_proba(images[0]))


@pytest.mark.parametrize("shape", [(9, 9), (7, 10), (2, 3)])
def test_images_of_any_size_come_back_in_their_size(shape):
    X = np.random.default_rng(0).random((40, *shape), dtype=np.float32)
    net = small_classifier(max_epochs=1, pseudo_ood=("occlusion",)).fit(X, np.arange(40) % 2)
    assert net.reconstruct(X).shape == X.shape


# Losses


def test_the_loss_is_the_weighted_sum_of_three(fitted, images):
    X, y = torch.from_numpy(images[0][:, np.newaxis]), torch.tensor([0, 1] * 30)
    net = copy.deepcopy(fitted)
    net.reconstruction_weight, net.classification_weight, net.spread_weight = 2.0, 3.0, 5.0
    outputs = net.infer(X)
    logits, drawn = outputs
    expected = (
        2 * (drawn - X).square().mean()
        + 3 * OverconfidencePenalty()(logits, y)
        + 5 * SpreadPenalty().penalty(logits, y).mean()
    )
    assert net.get_loss(outputs, y, X=X).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_parts_of_the_loss_are_in_the_history(fitted):
    for prefix, position in [("train", 0), ("valid", -1)]:
        batch = fitted.history[-1, "batches", position]
        whole = 10 * batch[f"{prefix}_reconstruction"] + batch[f"{prefix}_classification"]
        whole += fitted.spread_weight * batch[f"{prefix}_spread"]
        assert batch[f"{prefix}_loss"] == pytest.approx(whole)
    assert fitted.history[-1, "valid_acc"] > 0.9


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_that_share_of_the_training_images_stays_clean(share):
    seen = []

    class Watched(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = torch.nn.Linear(144, 2)

        def forward(self, images):
            if self.training:
                seen.append(images.detach())
            return self.classifier(images.flatten(1)), 0 * images

    X, y = bars(400)
    DenoisingClassifier(
        Watched(), clean_fraction=share, max_epochs=1, train_split=None, random_state=0, verbose=0
    ).fit(X, y)
    # The bars are of zeros and ones.
    images = torch.cat(seen)
    is_clean = ((images == 0) | (images == 1)).all(dim=(1, 2, 3))
    assert len(images) == 400
    assert is_clean.double().mean().item() == pytest.approx(share, abs=0.1)


def test_a_loss_of_weight_0_is_not_learnt():
    X, y = bars(200)
    undrawn = small_classifier(reconstruction_weight=0.0).fit(X, y)
    drawn = small_classifier().fit(X, y)
    assert undrawn.reconstruction_error(X).mean() > 2 * drawn.reconstruction_error(X).mean()


def test_the_criterion_and_its_weight_are_parameters():
    X, y = bars(60)
    net = small_classifier(max_epochs=1, criterion__penalty_weight=0.25).fit(X, y)
    assert net.criterion_.penalty_weight == 0.25
    net = small_classifier(max_epochs=1, criterion=torch.nn.CrossEntropyLoss).fit(X, y)
    np.testing.assert_allclose(net.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


# Thresholds and answers


def test_an_image_is_rejected_where_one_of_the_thresholds_is_missed(fitted, images):
    X = np.concatenate([images[0], np.rot90(images[0], axes=(1, 2))])
    # Probabilities in float32 are no match for a threshold next to 1.
    with torch.no_grad():
        logits = fitted.module_.eval()(torch.from_numpy(X[:, np.newaxis].copy()))[0].double()
    unsure = logits.softmax(dim=1).amax(dim=1).numpy() < fitted.softmax_threshold_ - 1e-9
    badly_drawn = fitted.reconstruction_error(X) > fitted.error_threshold_
    is_ood = fitted.is_ood(X)
    assert is_ood.any()
    assert not is_ood.all()
    np.testing.assert_array_equal(is_ood, unsure | badly_drawn)
    np.testing.assert_array_equal(is_ood, fitted.score_samples(X) < fitted.offset_)


def test_thresholds_can_be_chosen():
    X, y = bars(120)
    net = small_classifier(max_epochs=2, softmax_threshold=0.659, error_quantile=None).fit(X, y)
    assert net.softmax_threshold_ == pytest.approx(0.659)
    assert net.error_threshold_ == np.inf
    np.testing.assert_array_equal(net.is_ood(X), net.predict_proba(X).max(axis=1) < 0.659)


def test_a_higher_quantile_accepts_larger_errors():
    X, y = bars(120)
    thresholds = [
        small_classifier(max_epochs=2, error_quantile=quantile).fit(X, y).error_threshold_
        for quantile in (0.0, 0.1, 0.5)
    ]
    assert sorted(thresholds) == thresholds
    assert thresholds[0] < thresholds[-1]


def test_thresholds_can_be_changed_without_new_training(fitted, images):
    net = copy.deepcopy(fitted).set_params(softmax_threshold=0.9, error_quantile=0.0)
    net.set_thresholds(bars(200, seed=2)[0])
    assert net.softmax_threshold_ == pytest.approx(0.9)
    np.testing.assert_array_equal(net.reconstruct(images[0]), fitted.reconstruct(images[0]))


@pytest.mark.parametrize(
    "kinds",
    [
        ("rotation",),
        ("occlusion",),
        ("decoder",),
        ["rotation", "decoder"],
        ("noise+rotation+decoder", "noise+occlusion+decoder"),
        ("occlusion+rotation",),
    ],
)
def test_every_kind_of_pseudo_ood_sets_thresholds(kinds):
    net = small_classifier(max_epochs=1, pseudo_ood=kinds).fit(*bars(60))
    assert 0 < net.softmax_threshold_ <= 1
    assert np.isfinite(net.error_threshold_)


# Without chance, and so that the order makes a difference.
DETERMINISTIC = {
    "noise": lambda images: images + 0.1 * torch.linspace(0, 1, 12),
    "rotation": lambda images: torch.rot90(images, 1, (-2, -1)),
    "occlusion": lambda images: torch.where(torch.arange(12) < 8, 0.5, images),
}


@pytest.mark.parametrize(
    "kind",
    [
        "noise+rotation+decoder",
        "noise+occlusion+decoder",
        "rotation+noise+decoder",
        "occlusion+rotation",
        "decoder+rotation",
        "decoder",
    ],
)
def test_steps_are_done_in_the_order_in_which_they_are_named(fitted, images, kind, monkeypatch):
    net = copy.deepcopy(fitted).set_params(pseudo_ood=(kind,), error_quantile=0.0)
    steps = {
        **DETERMINISTIC,
        "decoder": lambda images: torch.from_numpy(net.reconstruct(images.numpy())),
    }
    stds, sides = [], []
    name = "skood.training._denoising_classifier"
    monkeypatch.setattr(
        f"{name}.add_noise", lambda X, std: stds.append(std) or DETERMINISTIC["noise"](X)
    )
    monkeypatch.setattr(f"{name}.turn_quarter", DETERMINISTIC["rotation"])
    monkeypatch.setattr(
        f"{name}.cover_square",
        lambda X, side: sides.append(side) or DETERMINISTIC["occlusion"](X),
    )
    net.set_thresholds(images[0])
    made = torch.from_numpy(images[0][:, np.newaxis])
    for step in ["rotation", "decoder"] if kind == "decoder" else kind.split("+"):
        made = steps[step](made)
    smallest = net.reconstruction_error(made.numpy()).min()
    np.testing.assert_allclose(net.error_threshold_, smallest, rtol=1e-4)
    # One call for each batch of 32.
    assert stds == [net.noise_std] * (2 * ("noise" in kind))
    assert sides == [net.occlusion] * (2 * ("occlusion" in kind))


def test_the_decoder_alone_draws_what_was_turned(fitted, images):
    thresholds = set()
    for kind in ("decoder", "rotation+decoder", "occlusion+decoder"):
        net = copy.deepcopy(fitted).set_params(pseudo_ood=(kind,), error_quantile=0.0)
        thresholds.add(net.set_thresholds(images[0]).error_threshold_)
    assert len(thresholds) == 2


def test_images_that_are_not_square_are_not_turned():
    X, y = bars(40)
    for kinds in (("noise+rotation+decoder",), ("occlusion", "decoder")):
        with pytest.raises(ValueError, match=r"10 x 12 cannot be turned"):
            small_classifier(max_epochs=1, pseudo_ood=kinds).fit(X[:, 1:-1], y)
    net = small_classifier(max_epochs=1, pseudo_ood=("noise+occlusion+decoder", "occlusion"))
    assert net.fit(X[:, 1:-1], y).error_threshold_ > 0


@pytest.mark.parametrize(("reject_label", "dtype"), [(-1, int), (None, int), ("unknown", object)])
def test_rejected_images_get_the_label_that_was_asked_for(fitted, images, reject_label, dtype):
    X = np.concatenate([images[0], np.rot90(images[0], axes=(1, 2))])
    net = copy.deepcopy(fitted).set_params(reject_label=reject_label)
    labels, is_ood = net.predict(X), net.is_ood(X)
    assert labels.dtype == dtype
    most_probable = net.classes_[net.predict_proba(X).argmax(axis=1)]
    np.testing.assert_array_equal(labels[~is_ood], most_probable[~is_ood])
    if reject_label is None:
        np.testing.assert_array_equal(labels, most_probable)
    else:
        assert all(label == reject_label for label in labels[is_ood])


def test_labels_may_be_texts():
    X, y = bars(200)
    net = small_classifier(reject_label="none of them").fit(X, np.where(y == 3, "left", "right"))
    assert set(net.classes_) == {"left", "right"}
    assert set(net.predict(np.rot90(X, axes=(1, 2)))) <= {"left", "right", "none of them"}
    assert net.set_params(reject_label=None).score(X, np.where(y == 3, "left", "right")) > 0.9


def test_texts_may_stand_beside_the_mark_of_unknown_images():
    X, y = bars(60)
    labels = np.where(y == 3, "left", "right").astype(object)
    labels[:5] = -1
    net = small_classifier(max_epochs=1).fit(X, labels)
    assert net.classes_.tolist() == ["left", "right"]


@pytest.mark.parametrize("as_kind", [float, np.uint8, str, object])
def test_accuracy_is_counted_whatever_the_labels_and_the_reject_label(as_kind):
    X, y = bars(120)
    labels = (
        np.array(["left", "right"])[(y == 7).astype(int)] if as_kind is str else y.astype(as_kind)
    )
    net = small_classifier(reject_label="unknown").fit(X, labels)
    answers = net.predict(X)
    assert net.score(X, labels) == np.mean([a == b for a, b in zip(answers, labels, strict=True)])
    assert net.set_params(reject_label=-1).score(X, labels) == net.score(X, labels)
    assert net.score(X[:20], [-1] * 20) == net.is_ood(X[:20]).mean()


def test_the_network_runs_once_for_an_answer(fitted, images):
    runs = []
    net = copy.deepcopy(fitted).set_params(reject_label=-1)
    net.module_.register_forward_hook(lambda *_: runs.append(1))
    net.predict(images[0][:10])
    assert len(runs) == 1


def test_a_score_that_is_no_number_accepts_nothing(fitted):
    net = copy.deepcopy(fitted)
    with torch.no_grad():
        net.module_.classifier.bias.fill_(torch.nan)
    assert net.is_ood(bars(6)[0]).all()
    with pytest.raises(ValueError, match="training has diverged"):
        net.set_thresholds(bars(20)[0])


# skorch's means


@pytest.mark.parametrize("given", [None, False])
def test_images_come_in_another_order_in_every_epoch_unless_told_otherwise(given):
    seen = []

    class Watch(skorch.callbacks.Callback):
        def on_batch_begin(self, net, batch, training, **kwargs):
            if training:
                seen.append(batch[1].tolist())

    params = {} if given is None else {"iterator_train__shuffle": given}
    X, y = bars(60)
    small_classifier(callbacks=[Watch()], max_epochs=2, batch_size=60, **params).fit(X, np.sort(y))
    assert sorted(seen[0]) == sorted(seen[1])
    assert (seen[0] == seen[1]) == (given is False)


def test_training_on_has_other_noise_each_time():
    noisy = []

    class Watched(DenoisingClassifier):
        def _corrupt(self, images):
            noisy.append(super()._corrupt(images) - images)
            return images

    X, y = bars(20)
    net = Watched(
        module__width=4,
        max_epochs=1,
        train_split=None,
        clean_fraction=0.0,
        random_state=0,
        verbose=0,
    )
    net.partial_fit(X, y).partial_fit(X, y).partial_fit(X, y)
    assert not torch.equal(noisy[1], noisy[2])


def test_a_seed_gives_the_same_net_and_leaves_the_global_state_alone(images):
    X, y = bars(80)
    before = torch.get_rng_state()
    first, second = (small_classifier(max_epochs=2).fit(X, y) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first.score_samples(X), second.score_samples(X))
    other = small_classifier(max_epochs=2, random_state=1).fit(X, y)
    assert not np.array_equal(other.score_samples(X), first.score_samples(X))


def test_without_a_seed_the_global_one_decides():
    X, y = bars(80)
    scores = []
    for _ in range(2):
        torch.manual_seed(3)
        scores.append(small_classifier(max_epochs=1, random_state=None).fit(X, y).score_samples(X))
    np.testing.assert_array_equal(*scores)


def test_early_stopping_and_checkpoints_are_those_of_skorch(tmp_path):
    X, y = bars(120)
    net = small_classifier(
        max_epochs=30,
        callbacks=[
            Checkpoint(monitor="valid_loss_best", dirname=tmp_path, load_best=True),
            EarlyStopping(patience=1),
        ],
    ).fit(X, y)
    assert len(net.history) < 30
    assert (tmp_path / "params.pt").exists()
    best = torch.load(tmp_path / "params.pt", weights_only=True)
    for name, weights in net.module_.state_dict().items():
        assert torch.equal(weights, best[name])


def test_a_scoring_callback_sees_labels_as_positions():
    net = small_classifier(
        max_epochs=4, callbacks=[EpochScoring("accuracy", name="acc", lower_is_better=False)]
    )
    net.fit(*bars(120))
    assert net.history[-1, "acc"] == net.history[-1, "valid_acc"]


def test_partial_fit_trains_on():
    X, y = bars(120)
    net = small_classifier(max_epochs=2)
    net.partial_fit(X[:60], y[:60], classes=[3, 7]).partial_fit(X[60:], y[60:])
    assert len(net.history) == 4
    assert np.isfinite(net.score_samples(X)).all()
    with pytest.raises(ValueError, match=r"labels among \[3, 7\].*got \[5\]"):
        net.partial_fit(X, np.where(y == 3, 5, 7))


def test_a_training_that_breaks_off_leaves_nothing_behind():
    class Stop(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("the disk is full")

    net = small_classifier(callbacks=[Stop()])
    with pytest.raises(RuntimeError, match="disk is full"):
        net.fit(*bars(60))
    assert set(net.predict(bars(6)[0])) <= {3, 7}
    assert not [
        name for name, value in vars(net).items() if isinstance(value, torch.utils.data.Dataset)
    ]


def test_without_a_split_the_training_images_set_the_thresholds():
    X, y = bars(60)
    net = small_classifier(max_epochs=1, train_split=None).fit(X, y)
    assert np.isfinite(net.score_samples(X)).all()


@pytest.mark.parametrize("device", DEVICES)
def test_it_trains_on_any_device(device, images):
    net = small_classifier(max_epochs=2, device=device).fit(*bars(80))
    assert next(net.module_.parameters()).device.type == device
    assert net.reconstruct(images[0]).shape == images[0].shape
    assert np.isfinite(net.score_samples(images[0])).all()


def test_own_networks_can_be_trained():
    class Network(torch.nn.Module):
        def __init__(self, n_channels, n_classes, n_units):
            super().__init__()
            self.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, n_units))
            self.classifier = torch.nn.Linear(n_units, n_classes)
            self.decoder = torch.nn.Linear(n_units, n_channels * 144)

        def forward(self, images):
            code = self.encoder(images).relu()
            return self.classifier(code), self.decoder(code).view_as(images)

    X, y = bars(80)
    params = {"max_epochs": 2, "random_state": 0, "verbose": 0}
    by_class = DenoisingClassifier(Network, module__n_units=8, **params).fit(X, y)
    instance = DenoisingClassifier(Network(1, 2, 8), **params).fit(X, y)
    for net in (by_class, instance):
        assert net.predict_proba(X).shape == (80, 2)


# scikit-learn's means


def test_it_can_be_cloned_and_pickled(fitted, images):
    again = clone(fitted)
    assert not again.initialized_
    assert again.get_params()["spread_weight"] == fitted.spread_weight
    restored = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        restored.score_samples(images[0]), fitted.score_samples(images[0])
    )


def test_it_works_in_searches_and_pipelines():
    X, y = bars(90)
    flat = X.reshape(90, -1)
    pipeline = make_pipeline(
        FunctionTransformer(lambda rows: rows.reshape(-1, 12, 12)), small_classifier(max_epochs=2)
    )
    grid = {"denoisingclassifier__spread_weight": [0.0, 0.5]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(flat, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    probabilities = cross_val_predict(
        small_classifier(max_epochs=1), X, y, cv=2, method="predict_proba"
    )
    assert probabilities.shape == (90, 2)


def test_an_ood_scorer_ranks_by_its_scores(fitted, images):
    X = np.concatenate([images[0], np.rot90(images[0], axes=(1, 2))])
    y = np.append(images[1], [-1] * len(images[0]))
    expected = ood_roc_auc_score(y, fitted.score_samples(X))
    assert make_ood_scorer()(fitted, X, y) == expected


def test_activations_can_be_extracted(fitted, images):
    X = images[0][:, np.newaxis]
    A = ActivationExtractor(fitted, layers=["stage2"]).fit_transform(X)
    assert A["stage2"].shape == (60, 8, 3, 3)
    np.testing.assert_array_equal(A.predictions, fitted.predict(X))


# Errors


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((4, 9)), r"images, of shape .* got an array of shape \(4, 9\)"),
        (np.zeros((4, 0, 9)), r"images, of shape .* got an array of shape \(4, 0, 9\)"),
        (np.full((4, 9, 9), np.nan), "contains NaN"),
        (np.full((4, 9, 9), 200, dtype=np.int64), "of dtype uint8, got int64"),
        (np.full((4, 9, 9), np.inf), "contains infinity"),
        (np.zeros((4, 9, 7)), "Images of 9 x 7 cannot be turned"),
    ],
)
def test_wrong_images_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        small_classifier().fit(X, [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 0], "X has 4 samples, but y has 3"),
        ([1, 1, 1, 1], r"At least two classes are needed, got \[1\]"),
        ([-1, -1, -1, -1], "All 4 samples are marked out-of-distribution"),
        ([0.5, 1.5, 0.5, 1.5], "Unknown label type"),
        (None, "class labels y are needed"),
    ],
)
def test_wrong_labels_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        small_classifier().fit(np.zeros((4, 9, 9)), y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"spread_weight": -1}, "'spread_weight' parameter"),
        ({"softmax_threshold": 2.0}, "'softmax_threshold' parameter"),
        ({"error_quantile": 1.5}, "'error_quantile' parameter"),
        ({"pseudo_ood": ("flip",)}, r"pseudo_ood must be some of .* got \('flip',\)"),
        ({"pseudo_ood": ()}, "pseudo_ood must be some of"),
        ({"pseudo_ood": ("noise+decoder",)}, "a rotation or an occlusion among them"),
        ({"pseudo_ood": ("rotation", "noise")}, "a rotation or an occlusion among them"),
        ({"pseudo_ood": ("rotation+rotation",)}, "each at most once"),
        ({"pseudo_ood": ("rotation+",)}, "pseudo_ood must be some of"),
        ({"pseudo_ood": (None,)}, "pseudo_ood must be some of"),
        ({"square": (0.5, 0.2)}, r"square must be .* got \(0.5, 0.2\)"),
        ({"occlusion": (0.5, 1.2)}, r"occlusion must be .* got \(0.5, 1.2\)"),
    ],
)
def test_wrong_parameters_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        small_classifier(**params).fit(*bars(20))


@pytest.mark.parametrize(
    "params", [{"pseudo_ood": ("nonsense",)}, {"softmax_threshold": "atuo"}, {"error_quantile": 7}]
)
def test_parameters_are_checked_before_thresholds_are_set(fitted, params):
    net = copy.deepcopy(fitted).set_params(**params)
    with pytest.raises(ValueError, match=next(iter(params))):
        net.set_thresholds(bars(20)[0])


def test_images_of_another_size_are_refused(fitted):
    with pytest.raises(ValueError, match=r"trained on images of \(1, 12, 12\).*got .*\(1, 8, 8\)"):
        fitted.predict(np.zeros((2, 8, 8)))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score_samples", "reconstruct"])
def test_an_unfitted_one_says_so(method):
    with pytest.raises(NotFittedError):
        getattr(small_classifier(), method)(bars(4)[0])


def test_weights_without_thresholds_predict_but_do_not_score(fitted, tmp_path):
    fitted.save_params(tmp_path / "weights.pt")
    net = small_classifier(module__n_channels=1, module__n_classes=2, classes=[3, 7]).initialize()
    net.load_params(tmp_path / "weights.pt")
    X, _ = bars(6)
    np.testing.assert_array_equal(net.predict(X), fitted.predict(X))
    with pytest.raises(NotFittedError, match="has weights but no thresholds"):
        net.score_samples(X)
    net.set_thresholds(bars(200, seed=2)[0])
    assert np.isfinite(net.score_samples(X)).all()
    net.load_params(tmp_path / "weights.pt")
    with pytest.raises(NotFittedError, match="has weights but no thresholds"):
        net.score_samples(X)
