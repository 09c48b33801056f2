"""The table of all neurons: what is in it, how it is read and how it is shown."""

import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from skood import Activations
from skood.inspection import (
    NeuronStatistics,
    activation_count,
    neuron_accuracy,
    neuron_influence,
    weak_neurons,
)

WIDTHS = {"relu1": 3, "relu2": 4}
MEASURES = {
    "activation_count": {"relu1": [9, 0, 4], "relu2": [5, 7, 1, 2]},
    "accuracy": {"relu1": [0.8, np.nan, 1.0], "relu2": [0.6, 1.0, 0.0, 0.5]},
}


@pytest.fixture
def X():
    """Twenty samples of two hidden layers, of which unit 1 of the first never fires."""
    rng = np.random.default_rng(0)
    layers = {name: rng.normal(size=(20, width)) for name, width in WIDTHS.items()}
    layers["relu1"][:, 1] = 0
    return Activations(layers, logits=rng.normal(size=(20, 2)))


@pytest.fixture
def y():
    return np.random.default_rng(1).integers(-1, 2, 20)


@pytest.fixture
def network():
    """Weight matrices of the two hidden layers and the output."""
    rng = np.random.default_rng(2)
    return [rng.normal(size=shape) for shape in [(3, 5), (4, 3), (2, 4)]]


@pytest.fixture
def recorder():
    """What was recorded: by weight layer, and not what ``X`` shows."""
    return SimpleNamespace(
        activation_counts_={"fc1": np.array([0, 3, 5]), "fc2": np.array([1, 0, 7, 7])},
        average_gradients_={
            "fc1": np.array([0.1, 0.4, 0.2]),
            "fc2": np.array([0.05, 0.0, 0.3, 0.4]),
        },
    )


def assert_column_equals(statistics, column, by_layer):
    assert list(by_layer) == list(statistics.layer_names)
    np.testing.assert_array_equal(statistics[column], np.concatenate(list(by_layer.values())))


# From measures


def test_there_is_a_row_for_each_neuron():
    statistics = NeuronStatistics(MEASURES)
    assert len(statistics) == 7
    assert statistics.columns == ("layer", "unit", "activation_count", "accuracy")
    assert statistics.layer_names == ("relu1", "relu2")
    assert statistics["layer"].tolist() == ["relu1"] * 3 + ["relu2"] * 4
    assert statistics["unit"].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert statistics["activation_count"].tolist() == [9, 0, 4, 5, 7, 1, 2]
    assert statistics["activation_count"].dtype.kind == "i"


def test_by_layer_gives_back_what_was_given():
    statistics = NeuronStatistics(MEASURES)
    for name, measure in MEASURES.items():
        found = statistics.by_layer(name)
        assert list(found) == list(measure)
        for layer, values in measure.items():
            np.testing.assert_array_equal(found[layer], values)


def test_a_table_of_columns_is_a_table_of_the_same():
    first = NeuronStatistics(MEASURES)
    again = NeuronStatistics({name: first.by_layer(name) for name in first.columns[2:]})
    assert again.columns == first.columns
    for column in first.columns:
        np.testing.assert_array_equal(again[column], first[column])


def test_it_can_be_asked_for_a_column_as_a_mapping_can():
    statistics = NeuronStatistics(MEASURES)
    assert list(statistics) == list(statistics.columns)
    assert "accuracy" in statistics
    assert "weak" not in statistics
    with pytest.raises(KeyError, match=r"No column 'weak'; the columns are \['layer', 'unit', "):
        statistics["weak"]
    with pytest.raises(KeyError, match="No column 'weak'"):
        statistics.by_layer("weak")


def test_a_table_does_not_change_with_the_arrays_it_was_made_of():
    counts = np.array([1, 2])
    statistics = NeuronStatistics({"count": {"fc": counts}})
    counts[:] = 0
    assert statistics["count"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("measures", "error", "message"),
    [
        ({}, ValueError, "at least one measure"),
        ({"unit": {"fc": [1]}}, ValueError, r"\['unit'\] say which neuron"),
        ({"count": [1]}, TypeError, "count is of type list"),
        ({"count": {"fc": [1, 2]}, "rate": {"fc": [1]}}, ValueError, "count.*'fc': 2.*rate.*: 1"),
    ],
)
def test_what_makes_no_table_is_refused(measures, error, message):
    with pytest.raises(error, match=message):
        NeuronStatistics(measures)


# From activations


def test_activations_alone_tell_counts_and_rates(X):
    statistics = NeuronStatistics.from_activations(X)
    assert statistics.columns == ("layer", "unit", "activation_count", "activation_rate")
    assert_column_equals(statistics, "activation_count", activation_count(X))
    rates = np.concatenate([(X[layer] > 0).mean(axis=0) for layer in X.layer_names])
    np.testing.assert_allclose(statistics["activation_rate"], rates)


def test_labels_add_accuracy_and_its_support(X, y):
    statistics = NeuronStatistics.from_activations(X, y)
    assert statistics.columns[-2:] == ("accuracy", "support")
    assert_column_equals(statistics, "accuracy", neuron_accuracy(X, y))
    assert_column_equals(statistics, "support", activation_count(X[y != -1]))
    # All samples count for the activation count, those marked -1 too.
    assert_column_equals(statistics, "activation_count", activation_count(X))
    assert (statistics["support"] < statistics["activation_count"]).any()


def test_the_accuracy_of_the_network_is_on_the_samples_of_the_neurons(X, y):
    expected = np.mean((X.predictions == y)[y != -1])
    assert NeuronStatistics.from_activations(X, y).network_accuracy == expected
    assert NeuronStatistics.from_activations(X).network_accuracy is None
    assert NeuronStatistics(MEASURES, network_accuracy=0.5).network_accuracy == 0.5


def test_supports_are_those_of_the_reference(golden):
    reference = golden("neuron_statistics")
    layers = {f"relu{i}": np.maximum(reference[f"pre{i}_eval"], 0) for i in range(1, 6)}
    X = Activations(layers, logits=reference["logits_eval"])
    support = NeuronStatistics.from_activations(X, reference["y_eval"]).by_layer("support")
    for number in range(1, 6):
        expected = reference[f"neuron_support_{number}"]
        np.testing.assert_array_equal(support[f"relu{number}"], expected)


def test_a_network_adds_influence_and_who_is_weak(X, network):
    statistics = NeuronStatistics.from_activations(X, network=network, quantile=0.5)
    assert statistics.columns[-3:] == ("influence_l1", "influence_l2", "weak")
    counts = activation_count(X)
    for norm in ("l1", "l2"):
        influence = neuron_influence(network, norm, activation_counts=counts)
        assert_column_equals(statistics, f"influence_{norm}", influence)
    assert statistics.by_layer("influence_l2")["relu1"][1] == 0
    assert_column_equals(statistics, "weak", weak_neurons(counts, influence, quantile=0.5))
    assert 0 < statistics["weak"].sum() < len(statistics)


def test_a_recorder_adds_what_it_saw_and_who_is_weak(X, recorder):
    statistics = NeuronStatistics.from_activations(X, recorder=recorder, quantile=0.5)
    assert statistics.columns[-3:] == ("training_count", "average_gradient", "weak")
    assert statistics["training_count"].tolist() == [0, 3, 5, 1, 0, 7, 7]
    assert statistics["average_gradient"].tolist() == [0.1, 0.4, 0.2, 0.05, 0.0, 0.3, 0.4]
    assert statistics["weak"].tolist() == [True, False, False, True, True, False, False]
    assert_column_equals(statistics, "activation_count", activation_count(X))


def test_who_never_fired_in_training_is_told_by_the_recorder(X, network, recorder):
    statistics = NeuronStatistics.from_activations(X, network=network, recorder=recorder)
    expected = neuron_influence(
        network, "l2", activation_counts=recorder.activation_counts_, layers=X.layer_names
    )
    assert_column_equals(statistics, "influence_l2", expected)
    assert statistics["influence_l2"][[0, 4]].tolist() == [0, 0]
    # Unit 1 of the first layer fires on no sample of X, but did in training.
    assert statistics["influence_l2"][1] > 0


def test_all_training_samples_are_asked_which_neurons_never_fired(X, network, recorder):
    # Seen by the recorder on samples that were not the first of their batch.
    recorder.ever_active_ = {"fc1": np.array([True, True, True]), "fc2": np.ones(4, dtype=bool)}
    recorder.ever_active_["fc2"][2] = False
    statistics = NeuronStatistics.from_activations(X, network=network, recorder=recorder)
    assert statistics["training_count"].tolist() == [0, 3, 5, 1, 0, 7, 7]
    assert np.flatnonzero(statistics["influence_l2"] == 0).tolist() == [5]


def test_training_samples_are_asked_where_nothing_was_recorded(X, network):
    # Unit 1 of the first layer fires on no sample of X, but on one training sample.
    layers = {name: np.zeros((6, width)) for name, width in WIDTHS.items()}
    layers["relu1"][5] = [0.0, 2.0, 1.0]
    layers["relu2"][2] = 1.0
    X_train = Activations(layers)
    statistics = NeuronStatistics.from_activations(X, network=network, X_train=X_train)
    assert statistics["training_count"].tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert np.flatnonzero(statistics["influence_l1"] == 0).tolist() == [0]


def test_a_neuron_is_dead_if_neither_recorder_nor_samples_saw_it_active(X, network, recorder):
    layers = {name: np.zeros((2, width)) for name, width in WIDTHS.items()}
    layers["relu1"][:, 0] = 1
    statistics = NeuronStatistics.from_activations(
        X, network=network, recorder=recorder, X_train=Activations(layers)
    )
    assert statistics["training_count"].tolist() == [0, 3, 5, 1, 0, 7, 7]
    assert np.flatnonzero(statistics["influence_l2"] == 0).tolist() == [4]


def test_weak_is_low_in_count_gradient_and_influence_alike(X):
    recorder = SimpleNamespace(
        activation_counts_={"fc1": np.array([1, 1, 9]), "fc2": np.array([1, 9, 9, 9])},
        average_gradients_={"fc1": np.array([1, 1, 1]), "fc2": np.array([9, 9, 9, 9])},
    )
    # The influences are 9, 1, 1 and 1, 1, 1, 1: only unit 1 is low in all three.
    network = [np.ones((3, 5)), np.diag([9.0, 1, 1, 1])[:, :3], np.eye(4)]
    statistics = NeuronStatistics.from_activations(X, network=network, recorder=recorder)
    assert statistics["influence_l2"].tolist() == [9, 1, 1, 1, 1, 1, 1]
    assert statistics["weak"].tolist() == [False, True, False, False, False, False, False]


def test_a_trained_network_and_its_recorder_fill_the_whole_table():
    torch = pytest.importorskip("torch")
    from skood import ActivationExtractor
    from skood.training import TrainingRecorder

    torch.manual_seed(0)
    nn = torch.nn
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    inputs, labels = torch.randn(40, 4), torch.arange(40) % 3
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with TrainingRecorder(net) as recorder:
        for batch in torch.arange(40).split(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    X = ActivationExtractor(net, layers=["1", "3"]).fit_transform(inputs.numpy())
    statistics = NeuronStatistics.from_activations(
        X, labels.numpy(), network=net, recorder=recorder
    )
    assert statistics.layer_names == ("1", "3")
    for column, recorded in (
        ("training_count", recorder.activation_counts_),
        ("average_gradient", recorder.average_gradients_),
    ):
        np.testing.assert_array_equal(statistics[column], np.concatenate(list(recorded.values())))
    never = ~np.concatenate(list(recorder.ever_active_.values()))
    assert (never <= (statistics["training_count"] == 0)).all()
    np.testing.assert_array_equal(statistics["influence_l2"] == 0, never)


def test_layers_of_other_widths_than_the_network_are_refused(X, network, recorder):
    one_layer = X[["relu2"]]
    with pytest.raises(ValueError, match="layers"):
        NeuronStatistics.from_activations(one_layer, network=network)
    with pytest.raises(ValueError, match=r"X has {'relu2': 4}.*{'fc1': 3, 'fc2': 4}"):
        NeuronStatistics.from_activations(one_layer, recorder=recorder)
    turned = X[["relu2", "relu1"]]
    with pytest.raises(ValueError, match=r"X has {'relu2': 4, 'relu1': 3}"):
        NeuronStatistics.from_activations(turned, recorder=recorder)


def test_only_activations_of_some_samples_are_measured(X):
    with pytest.raises(TypeError, match="needs Activations, got ndarray as X"):
        NeuronStatistics.from_activations(np.ones((3, 2)))
    with pytest.raises(TypeError, match="got ndarray as X_train"):
        NeuronStatistics.from_activations(X, X_train=np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"X has .*'relu2': 4}, and X_train has {'relu2': 4}"):
        NeuronStatistics.from_activations(X, X_train=X[["relu2"]])
    with pytest.raises(ValueError, match="Found 0 samples"):
        NeuronStatistics.from_activations(X[:0])


# Shown


def test_a_data_frame_has_the_columns_with_their_types():
    pandas = pytest.importorskip("pandas")
    statistics = NeuronStatistics(MEASURES | {"weak": {"relu1": [True] * 3, "relu2": [False] * 4}})
    frame = statistics.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert tuple(frame.columns) == statistics.columns
    for column in statistics.columns:
        np.testing.assert_array_equal(frame[column].to_numpy(), statistics[column])
    assert frame["weak"].dtype == bool
    assert frame.groupby("layer")["activation_count"].max().to_dict() == {"relu1": 9, "relu2": 7}


def test_a_notebook_shows_the_data_frame():
    pytest.importorskip("pandas")
    assert "<td>relu2</td>" in NeuronStatistics(MEASURES)._repr_html_()


def test_without_pandas_the_table_works_and_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    statistics = NeuronStatistics(MEASURES)
    with pytest.raises(
        ImportError, match=r"to_frame needs pandas, .*'pip install pandas', or .* 'pandas'"
    ):
        statistics.to_frame()
    assert statistics._repr_html_() is None
    assert len(statistics["accuracy"]) == 7


def test_the_text_form_is_short():
    assert repr(NeuronStatistics(MEASURES)) == (
        "NeuronStatistics(n_neurons=7, layers={relu1: 3, relu2: 4}, "
        "measures=[activation_count, accuracy])"
    )


def test_a_table_survives_pickle():
    twin = pickle.loads(pickle.dumps(NeuronStatistics(MEASURES)))
    np.testing.assert_array_equal(twin["accuracy"], NeuronStatistics(MEASURES)["accuracy"])
