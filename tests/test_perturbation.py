"""Inputs that are moved along a gradient before their activations are extracted."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from _networks import (
    N_CLASSES,
    Counting,
    FunctionalCNN,
    Returning,
    Rows,
    SharedReLU,
    TextNet,
    assert_same,
    cnn,
    extract,
    images,
    run,
    trained_perceptron,
    untouched,
    vectors,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from skood import ActivationExtractor, HammingNAPDetector, PoolingReducer
from skood.detectors import MahalanobisDetector, MaxSoftmaxDetector
from skood.extraction import ODIN, MahalanobisPerturbation

WORDS = np.random.default_rng(0).integers(20, size=(11, 5))


def moved(network, X, perturbation):
    """The inputs as a perturbation changes them."""
    given = []
    hook = network.register_forward_pre_hook(
        lambda module, args: given.append(args[0].detach().clone().numpy())
    )
    extract(network, X, "all", perturbation=perturbation)
    hook.remove()
    return given[-1]


def balanced():
    """A network that predicts each class about as often as the others."""
    network = cnn()
    with torch.no_grad():
        network[9].bias -= run(network, images(50)).mean(0)
    return network


def moments(layers, y):
    """What a Mahalanobis detector learns of layers, whose spatial means are taken."""
    means, precisions = {}, {}
    for name, values in layers.items():
        features = values.reshape(*values.shape[:2], -1).mean(axis=2).astype(np.float64)
        means[name] = np.stack([features[y == label].mean(axis=0) for label in np.unique(y)])
        scatter = features - means[name][np.searchsorted(np.unique(y), y)]
        precisions[name] = np.linalg.pinv(scatter.T @ scatter, rcond=1e-6, hermitian=True)
    return SimpleNamespace(class_means_=means, precision_=precisions)


def distances(A, detector):
    """Half the squared distance to the nearest class, summed over layers."""
    total = 0
    for name, means in detector.class_means_.items():
        features = A[name].reshape(*A[name].shape[:2], -1).mean(axis=2)
        d = features[:, np.newaxis] - means
        total += np.einsum("nci,ij,ncj->nc", d, detector.precision_[name], d).min(axis=1) / 2
    return total


def signs_by_finite_differences(loss, X, step=1e-6):
    """Sign of the gradient of each sample's loss; 0 where it is too small to tell."""
    units = step * np.eye(X[0].size).reshape(-1, 1, *X.shape[1:])
    above, below = (
        loss(values.reshape(-1, *X.shape[1:])).reshape(-1, len(X))
        for values in (X + units, X - units)
    )
    gradient = ((above - below) / (2 * step)).T.reshape(X.shape)
    return np.where(np.abs(gradient) > 1e-7, np.sign(gradient), 0)


def assert_moved_against(signs, X, changed, epsilon):
    """Assert that inputs moved by epsilon against the signs, where these are known."""
    known = signs != 0
    assert known.mean() > 0.5
    assert_allclose((changed - X)[known], -epsilon * signs[known], rtol=1e-9)


def perceptron(y=None, activation="relu", kind=MLPClassifier):
    X = vectors(60, dtype=np.float64)
    y = np.array(["cat", "dog", "eel"])[np.abs(X).argmax(axis=1) % 3] if y is None else y(X)
    params = {"hidden_layer_sizes": (7, 5), "solver": "lbfgs", "max_iter": 30, "random_state": 0}
    return kind(activation=activation, **params).fit(X, y)


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# Agreement with others


@pytest.fixture
def reference(golden):
    """A small network in double precision, its inputs and what others make of them."""
    arrays = golden("gradient_mlp")
    network = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 8))
    with torch.no_grad():
        for number, layer in ((1, network[0]), (2, network[2])):
            layer.weight.copy_(torch.tensor(arrays[f"W{number}"]))
            layer.bias.copy_(torch.tensor(arrays[f"b{number}"]))
    return network.double(), arrays


def as_perceptron(arrays):
    mlp = trained_perceptron(arrays["x_train"], arrays["y_train"], (24,), n_steps=1)
    mlp.coefs_ = [arrays["W1"].T.astype(float), arrays["W2"].T.astype(float)]
    mlp.intercepts_ = [arrays["b1"].astype(float), arrays["b2"].astype(float)]
    return mlp


@pytest.mark.parametrize("setting", range(4))
@pytest.mark.parametrize("kind", ["torch", "perceptron"])
def test_odin_scores_are_those_of_the_reference(reference, setting, kind):
    network, arrays = reference
    network = network if kind == "torch" else as_perceptron(arrays)
    temperature, epsilon = arrays["odin_settings"][setting]
    A = extract(network, arrays["x"], perturbation=ODIN(epsilon, temperature))
    scores = -softmax(A.logits / temperature, axis=1).max(axis=1)
    assert_allclose(scores, arrays[f"odin_f64_{setting}"], rtol=1e-12)
    for library in ("odin_pytorch_ood", "odin_oodeel"):
        assert_allclose(scores, arrays[library][setting], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("setting", [0, 1])
def test_inputs_moved_by_odin_are_those_of_the_reference(reference, setting):
    network, arrays = reference
    temperature, epsilon = arrays["odin_settings"][setting]
    X = arrays["x"][:60]
    changed = moved(network.float(), X, ODIN(epsilon, temperature))
    assert_allclose(changed, arrays["odin_x_hat"][setting], atol=1e-6)


def test_inputs_without_gradient_stay(reference):
    network, arrays = reference
    X = arrays["x"]
    assert_array_equal(
        (moved(network, X, ODIN(0.1)) == X).sum(axis=1), arrays["zero_gradient_inputs"]
    )
    with torch.no_grad():
        network[0].weight[:, 5] = 0
    assert_array_equal((moved(network, X, ODIN(0.1)) == X).all(axis=0), np.arange(64) == 5)


@pytest.mark.parametrize("epsilon", [0, 0.01])
def test_mahalanobis_scores_are_those_of_the_reference(reference, epsilon):
    network, arrays = reference
    trained, plain = extract(network, arrays["x_train"]), extract(network, arrays["x"])
    detector = moments({"1": trained["1"]}, arrays["y_train"])
    A = extract(network, arrays["x"], perturbation=MahalanobisPerturbation(detector, epsilon))
    # Along neurons that are dead in training, the reference has a variance of rounding errors.
    compared = ~plain["1"][:, ~trained["1"].any(axis=0)].any(axis=1)
    assert compared.sum() == 249
    expected = arrays[f"mahalanobis_eps{epsilon}"]
    assert_allclose(distances(A, detector)[compared], expected[compared], rtol=1e-5)


def test_a_fitted_detector_is_told_by_its_attributes(reference):
    network, arrays = reference
    trained = extract(network, arrays["x_train"])
    A, B = (
        extract(network, arrays["x"], perturbation=MahalanobisPerturbation(detector, 0.01))
        for detector in (
            MahalanobisDetector().fit(trained, arrays["y_train"]),
            moments({"1": trained["1"]}, arrays["y_train"]),
        )
    )
    assert_same(A, B, rtol=1e-6, atol=1e-9)


# The gradient


@pytest.mark.parametrize("temperature", [1, 1000])
def test_odin_moves_against_the_gradient_of_the_cross_entropy(temperature):
    network, X = cnn().double(), images(4, dtype=np.float64)
    predicted = run(network, X).numpy().argmax(axis=1)

    def cross_entropy(values):
        logits = run(network, values).numpy() / temperature * 1000
        labels = np.tile(predicted, len(values) // len(X))
        scaled = log_softmax(logits / 1000, axis=1)
        return -temperature * scaled[np.arange(len(values)), labels]

    signs = signs_by_finite_differences(cross_entropy, X)
    assert_moved_against(signs, X, moved(network, X, ODIN(0.1, temperature)), 0.1)


@pytest.mark.parametrize("layers", [["1"], ["4", "7", "0"]])
def test_mahalanobis_moves_against_the_gradient_of_the_distance(layers):
    network, X = cnn().double(), images(4, dtype=np.float64)
    trained = extract(network, images(60, seed=1, dtype=np.float64), layers)
    detector = moments(dict(trained.items()), np.arange(60) % 3)
    signs = signs_by_finite_differences(
        lambda values: distances(extract(network, values, layers), detector), X
    )
    perturbation = MahalanobisPerturbation(detector, 0.1)
    assert_moved_against(signs, X, moved(network, X, perturbation), 0.1)


@pytest.mark.parametrize("layers", [["1"], ["4", "7", "0"]])
def test_with_normalised_features_it_moves_against_that_gradient(layers):
    network, X = cnn().double(), images(4, dtype=np.float64)

    def pooled(values):
        return extract(network, values, layers, reducer=PoolingReducer(pooling="avg"))

    trained = pooled(images(60, seed=1, dtype=np.float64))
    detector = MahalanobisDetector(normalize=True).fit(trained, np.arange(60) % 3)
    signs = signs_by_finite_differences(lambda values: -detector.score_samples(pooled(values)), X)
    perturbation = MahalanobisPerturbation(detector, 0.1)
    assert_moved_against(signs, X, moved(network, X, perturbation), 0.1)


ACTIVATIONS = {"identity": nn.Identity, "logistic": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


class Exponential(nn.Module):
    def forward(self, x):
        return x.exp()


OUTPUTS = {
    "exp": Exponential,
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "softmax": lambda: nn.Softmax(dim=1),
}


def as_torch(mlp):
    """The same network, with the layers "1" and "3" hidden ones and "5" the output."""
    modules = []
    for weight, bias in zip(mlp.coefs_, mlp.intercepts_, strict=True):
        linear = nn.Linear(*weight.shape).double()
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(weight.T))
            linear.bias.copy_(torch.tensor(bias))
        modules += [linear, ACTIVATIONS[mlp.activation]()]
    return nn.Sequential(*modules[:-1], OUTPUTS[mlp.out_activation_]())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_perceptron_is_moved_by_odin_like_the_same_torch_network(activation):
    network, X = perceptron(activation=activation), vectors(dtype=np.float64, seed=1)
    for perturbation in (ODIN(0.1), ODIN(0.1, temperature=1, std=[1, 2, 3, 4, 5, 6])):
        A = extract(network, X, "all", perturbation=perturbation)
        B = extract(as_torch(network), X, ["1", "3", "5"], perturbation=perturbation)
        for (_, array), (_, other) in zip(A.items(), B.items(), strict=True):
            assert_allclose(array, other, rtol=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("numbers", [[0], [0, 1, 2]])
def test_perceptron_is_moved_by_distances_like_the_same_torch_network(activation, output, numbers):
    network, X = perceptron(activation=activation), vectors(dtype=np.float64, seed=1)
    network.out_activation_ = output
    detectors, names = [], [["hidden_0", "hidden_1", "output"], ["1", "3", "5"]]
    trained = extract(network, X, names[0])
    for kind in names:
        layers = {kind[number]: trained[names[0][number]] for number in numbers}
        detectors.append(moments(layers, np.arange(11) % 2))
    A, B = (
        extract(net, X, kind, perturbation=MahalanobisPerturbation(detector, 0.1))
        for net, kind, detector in zip([network, as_torch(network)], names, detectors, strict=True)
    )
    for (_, array), (_, other) in zip(A.items(), B.items(), strict=True):
        assert_allclose(array, other, rtol=1e-9)
    assert np.abs(np.asarray(A) - np.asarray(trained)).max() > 0.01


def test_two_classes_of_one_output_are_moved_like_two_logits():
    network, X = perceptron(lambda X: X[:, 0] > 0), vectors(dtype=np.float64)
    A = extract(network, X, perturbation=ODIN(0.1))
    two = Returning(lambda z: torch.cat([torch.zeros_like(z), z], dim=1), 1).double()
    two.fc1, two.relu, two.out = nn.Identity(), nn.Identity(), as_torch(network)[:-1]
    assert_allclose(A.logits, extract(two, X, "all", perturbation=ODIN(0.1)).logits, rtol=1e-9)
    assert_array_equal(A.predictions, network.predict(X))


def test_odin_raises_the_confidence_of_the_predicted_class():
    network, X = cnn(), images()
    plain = softmax(extract(network, X).logits / 1000, axis=1)
    A = extract(network, X, perturbation=ODIN(0.01))
    rows = np.arange(len(X)), A.predictions
    assert (softmax(A.logits / 1000, axis=1)[rows] > plain[rows]).all()


def test_mahalanobis_brings_inputs_nearer():
    network, X = cnn(), images()
    trained = extract(network, images(60, seed=1), ["7"])
    detector = moments({"7": trained["7"]}, np.arange(60) % 3)
    plain, A = (
        extract(network, X, perturbation=perturbation)
        for perturbation in (None, MahalanobisPerturbation(detector, 0.001))
    )
    assert (distances(A, detector) < distances(plain, detector)).all()
    assert_array_equal(A.predictions, plain.predictions)


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_samples_of_certain_classes_are_moved_too(scale):
    network, X = cnn(), images()
    with torch.no_grad():
        network[9].weight *= scale
        network[9].bias *= scale
    assert_allclose(
        np.abs(moved(network, X, ODIN(0.1, temperature=1)) - X).max(axis=(1, 2, 3)), 0.1, rtol=1e-5
    )


# Parameters


@pytest.mark.parametrize("make", [cnn, FunctionalCNN])
def test_no_change_is_no_perturbation(make):
    plain = extract(make(), images(), "all")
    A = extract(make(), images(), "all", perturbation=ODIN(0))
    assert_same(A, plain, rtol=1e-6, atol=1e-7)
    assert_array_equal(A.predictions, plain.predictions)


def test_std_divides_the_step_of_each_channel():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, N_CLASSES))
    X = np.random.default_rng(0).normal(size=(5, 2, 6, 6)).astype(np.float32)
    change = moved(network, X, ODIN(0.1)) - X
    by_channel = moved(network, X, ODIN(0.1, std=[0.5, 2])) - X
    assert_allclose(by_channel[:, 0], 2 * change[:, 0], atol=1e-6)
    assert_allclose(by_channel[:, 1], change[:, 1] / 2, atol=1e-6)
    assert_allclose(moved(network, X, ODIN(0.1, std=0.5)) - X, 2 * change, atol=1e-6)


@pytest.mark.parametrize(
    ("std", "message"),
    [
        ([1, 2, 3], r"std has shape \(3,\), but the inputs have shape \(2, 1, 8, 8\)"),
        ([[1.0]], "one value for each channel"),
        ([0.0], "std must be positive"),
        ([np.nan], "std must be positive"),
        (0, "The 'std' parameter of ODIN"),
    ],
)
def test_standard_deviations_that_fit_no_channels_are_refused(std, message):
    with pytest.raises(ValueError, match=message):
        ActivationExtractor(cnn(), perturbation=ODIN(std=std)).fit(images())


@pytest.mark.parametrize("params", [{"epsilon": -1}, {"temperature": 0}, {"epsilon": "large"}])
def test_wrong_parameters_are_refused(params):
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter of ODIN"):
        ActivationExtractor(cnn(), perturbation=ODIN(**params)).fit(images())
    with pytest.raises(ValueError, match="The 'perturbation' parameter of ActivationExtractor"):
        ActivationExtractor(cnn(), perturbation=PoolingReducer()).fit(images())


def test_inputs_are_not_clipped():
    X = np.zeros((3, 1, 8, 8), dtype=np.float32)
    changed = moved(cnn(), X, ODIN(0.1))
    assert changed.min() < 0 < changed.max()


# Predictions


def narrow():
    """A network with two classes at the sides of a third, narrow one, and inputs inside it."""
    network = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, N_CLASSES))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        network[2].weight.copy_(torch.tensor([[10.0, 0], [0, 10], [1, 1]]))
        network[2].bias.copy_(torch.tensor([-1.0, -1, 0]))
    return network, np.array([[0.05], [-0.05], [0.02], [1]], dtype=np.float32)


def test_predictions_are_those_for_the_unchanged_inputs():
    network, X = narrow()
    plain, A = (extract(network, X, perturbation=p) for p in (None, ODIN(1, temperature=1)))
    assert plain.predictions.tolist() == [2, 2, 2, 0]
    assert_array_equal(A.predictions, plain.predictions)
    assert (A.logits.argmax(axis=1) != A.predictions).any()


@pytest.mark.parametrize(
    "reducer", [PoolingReducer(pooling="avg"), PoolingReducer(pooling=["max", "avg"])]
)
def test_predictions_survive_reduction_and_selection(reducer):
    network = balanced()
    perturbation = ODIN(1.0, temperature=1)
    plain = extract(network, images(50))
    A = extract(network, images(50), reducer=reducer, perturbation=perturbation, batch_size=7)
    assert (A.logits.argmax(axis=1) != plain.predictions).any()
    assert_array_equal(A.predictions, plain.predictions)
    selected = ActivationExtractor(network, ["7"], perturbation=perturbation).fit_transform(A[3:9])
    assert_array_equal(selected.predictions, plain.predictions[3:9])
    assert_array_equal(selected["7"], A["7"][3:9])


def test_reducers_see_the_predictions():
    network = balanced()
    plain = extract(network, images(50))
    seen = []
    reducer = FunctionTransformer(lambda A: seen.append(A.predictions) or A)
    extractor = ActivationExtractor(network, reducer=reducer, perturbation=ODIN(1.0, temperature=1))
    extractor.fit(images(50))
    seen.clear()
    extractor.transform(images(50))
    assert_array_equal(np.concatenate(seen), plain.predictions)


# Kinds of inputs and networks


@pytest.mark.parametrize("make", [cnn, FunctionalCNN])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("frozen", [False, True])
def test_network_is_left_as_it_was(make, mode, frozen):
    network = make().train().requires_grad_(not frozen)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    expected = extract(network, images(), perturbation=ODIN(0.1), gradients=True)
    with mode(), untouched(network):
        A = extract(network, images(), perturbation=ODIN(0.1), gradients=True, batch_size=4)
    # A gradient that is nearly 0 may have either sign.
    assert_same(A, expected, rtol=1e-3, atol=1e-3)


class Failing(nn.Module):
    """Fails from the given call on."""

    def __init__(self, n_calls):
        super().__init__()
        self.n_calls = n_calls

    def forward(self, x):
        torch.rand(1)
        self.n_calls -= 1
        if self.n_calls < 0:
            raise RuntimeError("out of order")
        return x


@pytest.mark.parametrize("n_calls", range(5))
def test_network_is_left_as_it_was_when_it_fails(n_calls):
    network = nn.Sequential(FunctionalCNN(), Failing(n_calls)).requires_grad_(False)
    with untouched(network), pytest.raises(RuntimeError, match="out of order"):
        extract(network, images(), perturbation=ODIN(), gradients=True, batch_size=6)


def test_inputs_are_left_as_they_were():
    for X in (images(), torch.tensor(images()), {"input": torch.tensor(images())}):
        before = copy.deepcopy(X)
        extract(nn.Sequential(nn.ReLU(inplace=True), cnn()), X, perturbation=ODIN(0.1))
        after, before = (v["input"] if isinstance(v, dict) else v for v in (X, before))
        assert_array_equal(after, before)
        assert not getattr(after, "requires_grad", False)


def test_batches_are_perturbed_one_at_a_time():
    network = Counting(cnn())
    extractor = ActivationExtractor(network, perturbation=ODIN(0.1), batch_size=4).fit(images())
    network.seen.clear()
    A = extractor.transform(Rows(images()))
    assert network.seen == [4, 4, 4, 4, 3, 3]
    assert_same(A, extractor.set_params(batch_size=256).transform(images()), rtol=1e-3, atol=1e-3)


def test_floating_point_values_of_a_mapping_are_moved():
    class Shifted(SharedReLU):
        def forward(self, x, unit):
            return super().forward(x + nn.functional.one_hot(unit, 6))

    network, X = Shifted(), vectors()
    units = np.arange(11) % 6
    A = extract(network, {"x": X, "unit": units}, perturbation=ODIN(0.1))
    B = extract(SharedReLU(), X + np.eye(6)[units], perturbation=ODIN(0.1))
    assert_allclose(A.logits, B.logits, rtol=1e-4, atol=1e-6)


def test_gradients_are_those_at_the_changed_inputs():
    network, X = cnn(), images()
    both = extract(network, X, perturbation=ODIN(0.1), gradients=True)
    after = extract(network, moved(network, X, ODIN(0.1)), gradients=True)
    assert_same(both, after, rtol=1e-4, atol=1e-6)


def test_half_precision_is_perturbed():
    A = extract(cnn().bfloat16(), images(), perturbation=ODIN(0.5, temperature=1))
    exact = extract(cnn(), images(), perturbation=ODIN(0.5, temperature=1))
    assert A.logits.dtype == np.float32
    assert np.abs(A.logits - exact.logits).mean() < 0.05


def test_inputs_are_moved_in_the_precision_of_the_perceptron():
    network, X = perceptron(), vectors(4)
    A = extract(network, X, perturbation=ODIN(0.1))
    assert A["hidden_0"].dtype == np.float64
    network.coefs_ = [array.astype(np.float32) for array in network.coefs_]
    network.intercepts_ = [array.astype(np.float32) for array in network.intercepts_]
    B = extract(network, X, perturbation=ODIN(0.1), gradients=True)
    assert {array.dtype for _, array in B.items()} == {np.dtype(np.float32)}
    assert_allclose(B["hidden_0"], A["hidden_0"], rtol=1e-3, atol=1e-4)


def test_skorch_nets_are_perturbed():
    skorch = pytest.importorskip("skorch")
    X = vectors(30)
    y = np.array(["a", "b", "c"])[np.arange(30) % 3]
    net = skorch.NeuralNetClassifier(
        SharedReLU, criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0
    ).fit(X, np.arange(30) % 3)
    net.classes_inferred_ = np.unique(y)
    with untouched(net.module_):
        A = extract(net, X, perturbation=ODIN(0.1), gradients=True)
    B = extract(net.module_, X, perturbation=ODIN(0.1), gradients=True)
    assert_same(A, B)
    assert_array_equal(A.predictions, np.unique(y)[B.predictions])
    binary = skorch.NeuralNetBinaryClassifier(
        Returning, module__pack=torch.ravel, module__n_outputs=1, max_epochs=1, verbose=0
    ).fit(X, (np.arange(30) % 2).astype(np.float32))
    A = extract(binary, X, perturbation=ODIN(0.1), gradients=True)
    assert_array_equal(A.predictions, binary.predict(X))
    assert_array_equal(A.logits[:, 0], 0)


# What cannot be perturbed


def test_networks_without_logits_have_no_cross_entropy():
    regressor = perceptron(lambda X: X[:, 0], kind=MLPRegressor)
    for network in (regressor, Returning(torch.sigmoid, 1)):
        with pytest.raises(ValueError, match="ODIN needs the logits of a classifier"):
            ActivationExtractor(network, perturbation=ODIN()).fit(vectors())


def test_networks_without_logits_have_distances():
    network, X = perceptron(lambda X: X[:, 0], kind=MLPRegressor), vectors(dtype=np.float64)
    trained = extract(network, X)
    detector = moments(dict(trained.items()), np.arange(11) % 2)
    A = extract(network, X, perturbation=MahalanobisPerturbation(detector, 1e-3))
    assert A.logits is None
    assert A.predictions is None
    assert (distances(A, detector) <= distances(trained, detector)).all()


@pytest.mark.parametrize("X", [WORDS, {"x": WORDS}], ids=["array", "mapping"])
def test_integers_cannot_be_moved(X):
    with pytest.raises(ValueError, match="ODIN needs inputs of floating point values: integers"):
        ActivationExtractor(TextNet(), perturbation=ODIN()).fit(X)


def test_integers_that_become_floating_point_values_are_moved():
    X = np.random.default_rng(0).integers(0, 9, size=(5, 1, 8, 8))
    A = extract(cnn(), X, perturbation=ODIN(0.1))
    assert_same(A, extract(cnn(), X.astype(np.float32), perturbation=ODIN(0.1)))


class Cutting(nn.Module):
    def forward(self, x):
        with torch.no_grad():
            return x * 2


def test_networks_that_cut_the_gradient_are_refused():
    for network in (nn.Sequential(Cutting(), cnn()), nn.Sequential(cnn(), Cutting())):
        with untouched(network), pytest.raises(ValueError, match=r"No gradient reaches the inputs"):
            ActivationExtractor(network, perturbation=ODIN()).fit(images())


def test_detectors_of_other_layers_or_networks_are_refused():
    def fit(detector):
        perturbation = MahalanobisPerturbation(detector)
        ActivationExtractor(cnn(), ["1"], perturbation=perturbation).fit(images())

    A = extract(cnn(), images())
    y = np.arange(11) % 2
    with pytest.raises(ValueError, match=r"\['fc'\], which the network does not have; its layers"):
        fit(moments({"fc": A["7"]}, y))
    with pytest.raises(ValueError, match=r"knows 96 units in layer '4', but.* has 6"):
        fit(moments({"4": A["4"].reshape(11, -1)}, y))
    with pytest.raises(NotFittedError):
        fit(HammingNAPDetector())
    with pytest.raises(TypeError, match=r"class_means_ and precision_.* got MaxSoftmaxDetector"):
        fit(MaxSoftmaxDetector().fit(A))
    with pytest.raises(TypeError, match="class_means_ and precision_"):
        fit(SimpleNamespace(class_means_={}, precision_={}))


# As a parameter


def test_clones_share_network_and_detector():
    detector = moments({"7": extract(cnn(), images())["7"]}, np.arange(11) % 2)
    for perturbation in (ODIN(0.2, 5, std=[1, 2]), MahalanobisPerturbation(detector, 0.2, std=3)):
        extractor = ActivationExtractor(cnn(), perturbation=perturbation, gradients=True)
        cloned = clone(extractor)
        assert cloned.network is extractor.network
        assert cloned.gradients
        assert cloned.perturbation is not perturbation
        assert cloned.perturbation.get_params(deep=False) == perturbation.get_params(deep=False)


def test_settings_are_searched_in_a_pipeline():
    network, X = cnn(), images(40)
    y = np.where(np.arange(40) % 3, 0, -1)
    pipeline = Pipeline(
        [
            ("extract", ActivationExtractor(network, ["7"], perturbation=ODIN())),
            ("detect", MaxSoftmaxDetector()),
        ]
    )
    grid = {"extract__perturbation__epsilon": [0, 0.3], "extract__perturbation": [None, ODIN(0.3)]}
    with untouched(network):
        search = GridSearchCV(pipeline, [{name: values} for name, values in grid.items()], cv=2)
        search.fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert_allclose(scores[:2], scores[2:])
    assert scores[0] != scores[1]
    assert pipeline[0].perturbation.epsilon == 0.0014


def test_cache_goes_by_the_perturbation(tmp_path):
    network = Counting(cnn())
    A = extract(network, images(), ["network.7"])
    detectors = [moments({"network.7": A["network.7"]}, np.arange(11) % n) for n in (2, 3)]
    perturbations = [
        None,
        ODIN(0.1),
        ODIN(0.2),
        ODIN(0.1, 1.0),
        ODIN(0.1, std=2.0),
        *(MahalanobisPerturbation(detector, 0.1) for detector in detectors),
    ]
    for repeated in (False, True):
        for perturbation in perturbations:
            extractor = ActivationExtractor(
                network,
                ["network.7"],
                memory=str(tmp_path),
                perturbation=clone(perturbation, safe=False),
            )
            extractor.fit(images())
            network.seen.clear()
            B = extractor.transform(images())
            assert (network.seen == []) == repeated
            assert_array_equal(B.predictions, A.predictions)


def test_copies_perturb_alike(tmp_path):
    detector = moments({"7": extract(cnn(), images())["7"]}, np.arange(11) % 2)
    extractor = ActivationExtractor(cnn(), perturbation=MahalanobisPerturbation(detector, 0.1))
    A = extractor.fit_transform(images())
    assert_same(copy.deepcopy(extractor).transform(images()), A)
