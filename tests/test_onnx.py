"""ONNX models as networks: where they come from, inputs, logits, heads, and all that is refused."""

import pickle
import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from _onnx_models import FLOAT, INT64, make_model, mlp, mlp_constants, node, weights  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402

from skood import ActivationExtractor, make_monitor  # noqa: E402
from skood.activations import LinearHead  # noqa: E402
from skood.detectors import MahalanobisDetector  # noqa: E402
from skood.extraction import ODIN  # noqa: E402
from skood.networks import adapt, check_adapter  # noqa: E402

(X,) = weights((20, 5), seed=1)
C = mlp_constants()
HIDDEN = np.maximum(X @ C["W1"] + C["b1"], 0)
LOGITS = HIDDEN @ C["W2"] + C["b2"]


def extract(network, inputs=X, layers="auto", **params):
    return ActivationExtractor(network, layers, **params).fit_transform(inputs)


def plain(model, **inputs):
    """The outputs of a session that was not touched."""
    return ort.InferenceSession(model.SerializeToString()).run(None, inputs)


@pytest.fixture
def path(tmp_path):
    """A model in a file."""
    onnx.save(mlp(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def external(tmp_path):
    """The same model with its weights in another file."""
    path = tmp_path / "external.onnx"
    options = {"location": "weights.bin", "size_threshold": 0}
    onnx.save(mlp(), path, save_as_external_data=True, **options)
    return path


def sources(path, external):
    return {
        "path": path,
        "text": str(path),
        "session": ort.InferenceSession(str(path)),
        "session of bytes": ort.InferenceSession(path.read_bytes()),
        "proto": onnx.load(str(path)),
        "bytes": path.read_bytes(),
        "external": external,
        "session of external": ort.InferenceSession(str(external)),
        "proto of external": onnx.load(str(external)),
    }


def test_a_model_is_read_in_whatever_form_it_comes(path, external):
    fingerprints = set()
    for name, network in sources(path, external).items():
        extractor = ActivationExtractor(network).fit(X)
        A = extractor.transform(X)
        assert A.layer_names == ("relu",), name
        assert_allclose(A["relu"], HIDDEN, rtol=1e-5, atol=1e-6, err_msg=name)
        assert_array_equal(A.logits, plain(mlp(), x=X)[0], err_msg=name)
        assert A.head.input_layer == "relu", name
        assert_array_equal(A.head.weight, C["W2"].T, err_msg=name)
        assert_array_equal(A.head.bias, C["b2"], err_msg=name)
        fingerprints.add(extractor.fingerprint_)
    assert len(fingerprints) == 1


def test_nothing_that_was_given_is_changed(path, external):
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    session, proto = ort.InferenceSession(str(path)), onnx.load(str(path))
    for network in (path, external, session, proto):
        extract(network)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before
    assert [output.name for output in session.get_outputs()] == ["z"]
    assert proto.SerializeToString() == path.read_bytes()


def test_the_options_of_a_session_are_kept():
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(mlp().SerializeToString(), options)
    adapter = adapt(session)
    own = adapter._model.session(["a"], adapter._place)
    assert own is not session
    level = own.get_session_options().graph_optimization_level
    assert level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert own.get_providers() == session.get_providers()


def test_a_session_does_not_write_again_what_it_wrote(tmp_path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    session = ort.InferenceSession(mlp().SerializeToString(), options)
    written = (tmp_path / "optimized.onnx").stat().st_mtime_ns
    extract(session)
    assert (tmp_path / "optimized.onnx").stat().st_mtime_ns == written


def test_a_session_whose_file_was_overwritten_is_refused(path):
    session = ort.InferenceSession(str(path))
    onnx.save(mlp(constants={"b2": C["b2"] + 1}), path)
    with pytest.raises(ValueError, match="'z' of the session is not that of the model"):
        extract(session)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="pass the full path"):
        extract(session)


def test_a_session_that_does_not_know_its_model_is_refused():
    session = ort.InferenceSession(mlp().SerializeToString())
    session._model_bytes = None
    with pytest.raises(ValueError, match="does not tell which model it runs"):
        extract(session)


def test_a_file_that_changes_is_read_anew(path):
    adapter, extractor = adapt(path), ActivationExtractor(path, changed_network="ignore").fit(X)
    stamp, digest = adapter.stamp(), adapter.fingerprint().digest
    assert adapt(path).stamp() == stamp
    onnx.save(mlp(constants={"W1": C["W1"] * 2}), path)
    assert adapt(path).stamp() != stamp
    assert adapt(path).fingerprint().digest != digest
    assert_allclose(extractor.transform(X)["relu"], np.maximum(2 * X @ C["W1"] + C["b1"], 0), 1e-4)


def test_a_proto_that_changes_is_read_anew():
    proto = mlp()
    extractor = ActivationExtractor(proto, changed_network="ignore").fit(X)
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(C["W1"] * 2, "W1"))
    assert_allclose(extractor.transform(X)["relu"], np.maximum(2 * X @ C["W1"] + C["b1"], 0), 1e-4)


def test_weights_in_another_file_count(external):
    digest, stamp = adapt(external).fingerprint().digest, adapt(external).stamp()
    file = external.parent / "weights.bin"
    file.write_bytes(file.read_bytes()[::-1])
    assert adapt(external).stamp() != stamp
    assert adapt(external).fingerprint().digest != digest


def test_weights_that_are_not_there_are_named(external):
    proto = onnx.load(str(external), load_external_data=False)
    with pytest.raises(ValueError, match=r"\['weights.bin'\], whose folder is not known"):
        extract(proto)
    (external.parent / "weights.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"weights .* are missing: \['weights.bin'\]"):
        extract(external)


@pytest.mark.parametrize(
    ("network", "kind", "message"),
    [
        ("nowhere.onnx", FileNotFoundError, "no ONNX model at the path 'nowhere.onnx'"),
        (b"no model", ValueError, "no ONNX model, or not a whole one"),
        (b"", ValueError, "no graph with an output"),
        (mlp().graph, TypeError, r"an onnx.ModelProto or its serialised bytes; got GraphProto"),
    ],
)
def test_what_is_no_model_is_refused(network, kind, message):
    with pytest.raises(kind, match=message):
        extract(network)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"gradients": True}, "gradients at the layers, but an ONNX model has none"),
        ({"n_passes": 3}, "dropout layers, but an ONNX model has none"),
        ({"perturbation": ODIN(0.1)}, "gradients at the inputs, but an ONNX model has none"),
        ({"device": "tpu"}, "'auto', 'cpu' or 'cuda' for ONNX models, got 'tpu'"),
        ({"logits": "y"}, r"names no output of the ONNX model; it has \['z'\]"),
        ({"logits": 1}, r"names no output of the ONNX model; it has \['z'\]"),
        ({"logits": "binary"}, r"needs one value a sample, but selects shape \(2, 3\)"),
        ({"logits": lambda outputs: outputs["z"][0]}, r"a column for each class, .* shape \(3,\)"),
        ({"head": "fc1"}, "the Gemm 'fc1' multiplies its input"),
        ({"head": "relu"}, "names a node Relu of the ONNX model"),
        ({"head": "fc9"}, "names no node"),
        ({"head": LinearHead(C["W2"].T, C["b2"] + 1)}, "The given head does not yield the logits"),
    ],
)
def test_what_a_model_cannot_do_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        extract(mlp(), **params)


def test_a_network_that_changed_is_refused(path):
    extractor = ActivationExtractor(path).fit(X)
    onnx.save(mlp(), path)
    extractor.transform(X)
    onnx.save(mlp(constants={"b1": C["b1"] + 1}), path)
    with pytest.raises(ValueError, match="changed"):
        extractor.transform(X)


def test_the_contract_of_adapters(path, external):
    for network in sources(path, external).values():
        check_adapter(adapt(network), X)
    check_adapter(adapt(mlp(n=1)), X)
    check_adapter(adapt(mlp(n=4)), X)
    check_adapter(adapt(image_model()), IMAGES)
    check_adapter(adapt(token_model()[0]), {"ids": IDS, "mask": MASK})


def test_capabilities():
    adapter = adapt(mlp())
    assert {"device", "logits", "head"} == adapter.capabilities
    assert adapter.network == mlp()


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this ONNX Runtime has CUDA"
)
def test_cuda_needs_its_provider():
    with pytest.raises(ValueError, match="needs ONNX Runtime with its CUDA provider"):
        extract(mlp(), device="cuda")
    assert extract(mlp(), device=torch.device("cpu")).logits.shape == (20, 3)


def test_the_values_are_those_of_the_very_graph():
    A = extract(mlp(), layers="all")
    assert A.layer_names == ("fc1", "relu", "penultimate", "fc2")
    assert_array_equal(A["penultimate"], A["relu"])
    assert_array_equal(A["fc2"], A.logits)
    assert_allclose(A["fc1"], X @ C["W1"] + C["b1"], rtol=1e-5, atol=1e-6)


def test_names_of_layers_are_unique():
    nodes = [
        node("Gemm", ["x", "W1", "b1"], ["h"]),
        node("Relu", ["h"], ["a"], name="turned"),
        node("Split", ["a"], ["left", "right"], name="halves", axis=1),
        node("Concat", ["right", "left"], ["turned"], name="a", axis=1),
        node("Gemm", ["turned", "W2", "b2"], ["z"]),
    ]
    A = extract(_with_nodes(nodes), layers="all")
    names = ("h", "a", "halves", "right", "turned", "penultimate", "z")
    assert A.layer_names == names
    assert_array_equal(A["turned"], np.hstack([A["right"], A["halves"]]))


def _with_nodes(nodes, outputs=(("z", FLOAT, ["n", 3]),), constants=(), opset=17):
    constants = {**C, **dict(constants)}
    return make_model(nodes, [("x", FLOAT, ["n", 5])], outputs, constants, opset=opset)


# Logits and heads.


@pytest.mark.parametrize("squashing", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_logits_are_what_goes_into_a_squashing_function(squashing):
    model = mlp(
        node("Gemm", ["a", "W2", "b2"], ["z"], name="fc2"),
        node(squashing, ["z"], ["p0"]),
        node("Identity", ["p0"], ["p"]),
        outputs=[("p", FLOAT, ["n", 3])],
    )
    A = extract(model)
    assert_allclose(A.logits, LOGITS, rtol=1e-5, atol=1e-5)
    assert A.layer_names == ("relu",)
    assert A.head is not None


def test_a_softmax_over_samples_is_no_squashing():
    model = mlp(
        node("Gemm", ["a", "W2", "b2"], ["z"]),
        node("Softmax", ["z"], ["p"], axis=0),
        outputs=[("p", FLOAT, ["n", 3])],
    )
    assert_allclose(extract(model).logits.sum(axis=0), 1, rtol=1e-5)


def test_a_classifier_that_returns_probabilities_by_label():
    model = mlp(
        node("Gemm", ["a", "W2", "b2"], ["z"]),
        node("Softmax", ["z"], ["p"]),
        node("ArgMax", ["p"], ["label"], axis=1, keepdims=0),
        node("ZipMap", ["p"], ["by_label"], domain="ai.onnx.ml", classlabels_strings=list("abc")),
        outputs=[("label", INT64, ["n"])],
    )
    helper = onnx.helper
    number = helper.make_tensor_type_proto(FLOAT, [])
    by_label = helper.make_map_type_proto(onnx.TensorProto.STRING, number)
    by_label = helper.make_sequence_type_proto(by_label)
    model.graph.output.append(helper.make_value_info("by_label", by_label))
    A = extract(model)
    assert_allclose(A.logits, LOGITS, rtol=1e-5, atol=1e-5)
    assert_array_equal(A.predictions, np.array(list("abc"))[LOGITS.argmax(axis=1)])


W, B = C["W2"][:, :1], C["b2"][:1]
LOG_ODDS = HIDDEN @ W + B
BINARY = {"w": W, "b": B, "one": np.float32([1])}


def test_a_classifier_of_two_classes_that_returns_both_probabilities():
    model = mlp(
        node("MatMul", ["a", "w"], ["z0"]),
        node("Add", ["z0", "b"], ["z"]),
        node("Sigmoid", ["z"], ["p"]),
        node("Sub", ["one", "p"], ["q"]),
        node("Concat", ["q", "p"], ["both"], axis=1),
        outputs=[("both", FLOAT, ["n", 2])],
        constants=BINARY,
    )
    A = extract(model)
    assert_allclose(A.logits, np.hstack([0 * LOG_ODDS, LOG_ODDS]), rtol=1e-5, atol=1e-5)
    assert_allclose(A.head.logits(A["relu"]), A.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("squashed", [False, True])
@pytest.mark.parametrize("squeezed", [False, True])
def test_log_odds(squashed, squeezed):
    nodes = [node("MatMul", ["a", "w"], ["z0"]), node("Add", ["z0", "b"], ["z1"])]
    nodes += [node("Sigmoid" if squashed else "Identity", ["z1"], ["z2"])]
    nodes += [node("Squeeze", ["z2", "axes"], ["z"])] if squeezed else []
    name = "z" if squeezed else "z2"
    outputs = [(name, FLOAT, ["n"] if squeezed else ["n", 1])]
    model = mlp(*nodes, outputs=outputs, constants={**BINARY, "axes": [1]})
    A = extract(model, logits="binary")
    assert_allclose(A.logits, np.hstack([0 * LOG_ODDS, LOG_ODDS]), rtol=1e-5, atol=1e-5)
    assert A.head.shape == (2, 6)
    assert_allclose(A.head.logits(A["relu"]), A.logits, rtol=1e-5, atol=1e-5)
    assert extract(model).logits is None


def two_outputs(first, second="z"):
    """A model with the hidden layer, or another matrix, before the logits."""
    outputs = [(first, FLOAT, ["n", None]), (second, FLOAT, ["n", 3])]
    return mlp(node("Gemm", ["a", "W2", "b2"], [second]), outputs=outputs)


def test_the_output_of_a_last_linear_layer_is_preferred():
    A = extract(two_outputs("a"))
    assert_allclose(A.logits, LOGITS, rtol=1e-5, atol=1e-5)
    A = extract(two_outputs("h"))
    assert_allclose(A.logits, LOGITS, rtol=1e-5, atol=1e-5)


def test_the_output_called_logits_is_preferred():
    model = mlp(
        node("Gemm", ["a", "W2", "b2"], ["z"]),
        node("Gemm", ["a", "W2", "b2"], ["z2"]),
        node("Relu", ["z2"], ["logits"]),
        outputs=[("z", FLOAT, ["n", 3]), ("logits", FLOAT, ["n", 3])],
    )
    assert_allclose(extract(model).logits, np.maximum(LOGITS, 0), rtol=1e-5, atol=1e-5)


def test_outputs_among_which_there_is_a_choice_are_named():
    model = mlp(
        node("Gemm", ["a", "W2", "b2"], ["z"]),
        node("MatMul", ["a", "W2"], ["y"]),
        outputs=[("z", FLOAT, ["n", 3]), ("y", FLOAT, ["n", 3])],
    )
    with pytest.warns(UserWarning, match=r"'z' of shape \(2, 3\), 'y' .* taken is 'z'"):
        A = extract(model)
    assert_allclose(A.logits, LOGITS, rtol=1e-5, atol=1e-5)
    for wanted in ("y", 1, -1, lambda outputs: outputs["y"], lambda outputs: outputs[1]):
        A = extract(model, logits=wanted)
        assert_allclose(A.logits, HIDDEN @ C["W2"], rtol=1e-5, atol=1e-5)
        assert A.head.input_layer == "relu"


def test_a_function_computes_logits():
    A = extract(mlp(), logits=lambda outputs: outputs["z"][:, :2])
    assert_allclose(A.logits, LOGITS[:, :2], rtol=1e-5, atol=1e-5)
    assert A.head is None


def scaled(op, constant, order=("z0", "c")):
    nodes = (node("Gemm", ["a", "W2", "b2"], ["z0"], name="fc2"), node(op, list(order), ["z"]))
    return mlp(*nodes, constants={"c": np.float32(constant)})


@pytest.mark.parametrize(
    ("model", "weight", "bias"),
    [
        (scaled("Div", 2.5), C["W2"].T / 2.5, C["b2"] / 2.5),
        (scaled("Mul", [1, 2, 3]), C["W2"].T * [[1], [2], [3]], C["b2"] * [1, 2, 3]),
        (scaled("Add", [1, 2, 3]), C["W2"].T, C["b2"] + [1, 2, 3]),
        (scaled("Sub", 1), C["W2"].T, C["b2"] - 1),
        (scaled("Sub", 1, ("c", "z0")), -C["W2"].T, 1 - C["b2"]),
        (mlp(node("MatMul", ["a", "W2"], ["z"])), C["W2"].T, np.zeros(3)),
        (
            mlp(node("Gemm", ["a", "W2", "b2"], ["z"], alpha=0.5, beta=2.0)),
            C["W2"].T / 2,
            C["b2"] * 2,
        ),
        (
            mlp(node("Transpose", ["W2"], ["V"]), node("Gemm", ["a", "V", "b2"], ["z"], transB=1)),
            C["W2"].T,
            C["b2"],
        ),
    ],
)
def test_heads(model, weight, bias):
    A = extract(model)
    assert A.head.input_layer == "relu"
    assert_allclose(A.head.weight, weight, rtol=1e-5)
    assert_allclose(A.head.bias, bias, rtol=1e-5, atol=1e-6)
    assert_allclose(A.head.logits(A["relu"]), A.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ([node("Clip", ["z0", "low", "high"], ["z"])], "no Gemm, MatMul or convolution"),
        ([node("Div", ["c", "z0"], ["z"])], "a constant is divided"),
        ([node("Mul", ["z0", "z0"], ["z"])], "no Gemm, MatMul or convolution"),
    ],
)
def test_what_is_no_head(end, reason):
    start = node("Gemm", ["a", "W2", "b2"], ["z0"], name="fc2")
    constants = {"low": np.float32(-0.1), "high": np.float32(0.1), "c": np.float32(1)}
    model = mlp(start, *end, constants=constants)
    A = extract(model)
    assert A.head is None
    assert A.logits.shape == (20, 3)
    with pytest.raises(ValueError, match=f"no layer 'penultimate'.*{reason}"):
        extract(model, layers="penultimate")


def test_a_head_that_reads_the_inputs():
    model = _with_nodes([node("Gemm", ["x", "W1", "b1"], ["z"])], [("z", FLOAT, ["n", 6])])
    A = extract(model)
    assert A.layer_names == ("penultimate",)
    assert_array_equal(A["penultimate"], X)
    assert_allclose(A.head.logits(X), A.logits, rtol=1e-5, atol=1e-6)


def test_a_head_by_name():
    for name in ("fc2", "z0"):
        assert_allclose(extract(scaled("Div", 2), head=name).head.weight, C["W2"].T / 2)


@pytest.mark.parametrize("layer", [None, "relu", "penultimate"])
def test_a_given_head(layer):
    model = scaled("Div", 2)
    A = extract(model, head=LinearHead(C["W2"].T / 2, C["b2"] / 2, layer))
    assert A.head.input_layer == "relu"
    with pytest.raises(ValueError, match="The given head does not yield the logits"):
        extract(model, head=LinearHead(C["W2"].T / 2, C["b2"] / 2, "fc1"))


def test_a_given_head_of_two_classes():
    z = [node("MatMul", ["a", "w"], ["z0"]), node("Add", ["z0", "b"], ["z"])]
    model = mlp(*z, outputs=[("z", FLOAT, ["n", 1])], constants=BINARY)
    head = LinearHead(np.hstack([0 * W, W]).T, np.append(0 * B, B))
    A = extract(model, logits="binary", head=head)
    assert_allclose(A.head.weight, head.weight)


def test_quantized_weights_are_no_head():
    nodes = (node("DequantizeLinear", ["Q", "step"], ["V"]), node("MatMul", ["a", "V"], ["z"]))
    integers = np.round(C["W2"] * 40).astype(np.int8)
    model = mlp(*nodes, constants={"Q": integers, "step": np.float32(1 / 40)})
    A = extract(model)
    assert A.head is None
    assert_array_equal(A.logits, plain(model, x=X)[0])
    with pytest.raises(ValueError, match=r"the MatMul 'z' has quantized weights"):
        extract(model, head="z")


@pytest.mark.parametrize(("kind", "tolerance"), [(np.float16, 1e-2), (np.float64, 1e-12)])
def test_other_precisions(kind, tolerance):
    constants = {name: value.astype(kind) for name, value in C.items()}
    nodes = [
        node("Gemm", ["x", "W1", "b1"], ["h"]),
        node("Relu", ["h"], ["a"], name="relu"),
        node("Gemm", ["a", "W2", "b2"], ["z"]),
    ]
    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    model = make_model(nodes, [("x", dtype, ["n", 5])], [("z", dtype, ["n", 3])], constants)
    A = extract(model)
    wide = np.float32 if kind == np.float16 else kind
    assert A["relu"].dtype == A.logits.dtype == A.head.weight.dtype == wide
    expected = np.maximum(X.astype(kind) @ constants["W1"] + constants["b1"], 0)
    assert_allclose(A["relu"], expected, rtol=tolerance, atol=tolerance)


# Inputs.


def token_model():
    """Embeddings are averaged where a mask is 1."""
    table, w, b = weights((10, 6), (6, 3), (3,), seed=2)
    nodes = [
        node("Gather", ["table", "ids"], ["e"], name="embedding"),
        node("Unsqueeze", ["mask", "two"], ["m"]),
        node("Mul", ["e", "m"], ["kept"], name="kept"),
        node("ReduceSum", ["kept", "one"], ["s"], keepdims=0),
        node("Tanh", ["s"], ["a"], name="tanh"),
        node("Gemm", ["a", "w", "b"], ["z"]),
    ]
    inputs = [("ids", INT64, ["n", "t"]), ("mask", FLOAT, ["n", "t"])]
    constants = {"table": table, "w": w, "b": b, "one": [1], "two": [2]}
    return make_model(nodes, inputs, [("z", FLOAT, ["n", 3])], constants), table


IDS = np.random.default_rng(0).integers(0, 10, (9, 4))
MASK = np.tri(9, 4, dtype=bool)


def test_several_inputs_by_name():
    model, table = token_model()
    A = extract(model, {"ids": IDS.astype(np.int32), "mask": MASK})
    assert_allclose(A["tanh"], np.tanh((table[IDS] * MASK[:, :, None]).sum(axis=1)), rtol=1e-5)
    A = extract(model, {"ids": torch.as_tensor(IDS), "mask": torch.as_tensor(MASK)}, "embedding")
    assert_array_equal(A["embedding"], table[IDS])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (IDS, r"has 2 inputs, \['ids', 'mask'\]: pass a mapping"),
        ({"ids": IDS}, r"has the inputs \['ids', 'mask'\], but got \['ids'\]"),
        ({"ids": IDS, "mask": MASK, "token_type_ids": IDS}, "but got .*'token_type_ids'"),
        ({"ids": IDS + 0.5, "mask": MASK}, "'ids' .* int64, but some values of dtype float64"),
        ({"ids": IDS[:, :, None], "mask": MASK}, r"'ids' .* \(n_samples, any\), but got \(2, 4, 1"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, message):
    with pytest.raises(ValueError, match=message):
        extract(token_model()[0], inputs)


def test_sequences_of_another_length():
    table, w = weights((10, 6), (6, 3), seed=2)
    nodes = [
        node("Gather", ["table", "ids"], ["e"], name="embedding"),
        node("Tanh", ["e"], ["t"], name="tanh"),
        node("ReduceMean", ["t"], ["m"], axes=[1], keepdims=0),
        node("MatMul", ["m", "w"], ["z"]),
    ]
    outputs = [("z", FLOAT, ["n", 3])]
    model = make_model(nodes, [("ids", INT64, ["n", "t"])], outputs, {"table": table, "w": w})
    extractor = ActivationExtractor(model).fit(IDS)
    assert_allclose(extractor.transform(IDS[:, :2])["tanh"], np.tanh(table[IDS[:, :2]]), 1e-5)
    # A vector for each token: pooled over the tokens.
    A = extract(model, IDS, "tanh", reducer=_mean_pooling())
    assert_allclose(A["tanh"], np.tanh(table[IDS]).mean(axis=1), rtol=1e-5)


def _mean_pooling():
    from skood import PoolingReducer

    return PoolingReducer(pooling="avg")


def image_model():
    """Convolutions up to the logits."""
    k, w, b = weights((6, 3, 3, 3), (3, 6, 1, 1), (3,), seed=3)
    nodes = [
        node("Conv", ["x", "k"], ["c"], name="conv"),
        node("Relu", ["c"], ["a"], name="relu"),
        node("GlobalAveragePool", ["a"], ["g"], name="pool"),
        node("Conv", ["g", "w", "b"], ["c2"], name="head"),
        node("Flatten", ["c2"], ["z"]),
    ]
    inputs = [("x", FLOAT, ["n", 3, 8, 8])]
    return make_model(nodes, inputs, [("z", FLOAT, ["n", 3])], {"k": k, "w": w, "b": b})


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8)).astype(np.uint8)


def test_images():
    A = extract(image_model(), IMAGES)
    assert A.layer_shapes == {"relu": (6, 6, 6), "penultimate": (6,)}
    assert_allclose(A["penultimate"], A["relu"].mean(axis=(2, 3)), rtol=1e-5)
    assert A.head.input_layer == "penultimate"
    assert_array_equal(A.logits, plain(image_model(), x=IMAGES.astype(np.float32))[0])


def test_images_that_do_not_fit():
    message = r"\(n_samples, 3, 8, 8\), but got \(2, 8, 8, 3\).* NHWC, not NCHW: pass X.transpose"
    with pytest.raises(ValueError, match=message):
        extract(image_model(), IMAGES.transpose(0, 2, 3, 1))
    with pytest.raises(ValueError, match=r"without the axis of the samples\? Pass x\[None\]"):
        adapt(image_model()).trace(IMAGES[0])


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [3, 256])
def test_batches_of_one_size(size, batch_size):
    extractor = ActivationExtractor(mlp(n=size), "all", batch_size=batch_size).fit(X)
    for n_samples in (1, 7, 20):
        A = extractor.transform(X[:n_samples])
        assert_allclose(A["relu"], HIDDEN[:n_samples], rtol=1e-5, atol=1e-6)
        assert_allclose(A.logits, LOGITS[:n_samples], rtol=1e-5, atol=1e-5)
        assert_array_equal(A.head.weight, C["W2"].T)


def test_inputs_of_different_batch_sizes_are_refused():
    inputs = [("x", FLOAT, [2, 5]), ("y", FLOAT, [3, 5])]
    model = make_model([node("Concat", ["x", "y"], ["z"], axis=0)], inputs, [("z", FLOAT, None)], C)
    with pytest.raises(ValueError, match=r"first axes of the sizes \{'x': 2, 'y': 3\}"):
        adapt(model)


def test_a_batch_size_that_is_not_declared_is_explained():
    nodes = [node("Reshape", ["x", "shape"], ["y"]), node("Gemm", ["y", "W1", "b1"], ["z"])]
    model = _with_nodes(nodes, [("z", FLOAT, ["n", 6])], {"shape": [1, 5]})
    with pytest.raises(ValueError, match=r"'x': \(2, 5\).* export it with a dynamic first axis"):
        extract(model)


def test_training_mode_is_refused():
    constants = {"ratio": np.float32(0.5), "on": np.array(True)}
    dropout = node("Dropout", ["a", "ratio", "on"], ["d"], name="drop")
    model = mlp(dropout, node("Gemm", ["d", "W2", "b2"], ["z"]), constants=constants)
    with pytest.raises(ValueError, match=r"node 'drop' .*, a Dropout, is in training mode"):
        extract(model)


def test_functions_of_the_model_are_written_out():
    helper = onnx.helper
    inner = [node("Sigmoid", ["u"], ["s"]), node("Mul", ["u", "s"], ["v"])]
    function = helper.make_function(
        "own", "Act", ["u"], ["v"], inner, [helper.make_opsetid("", 17)]
    )
    nodes = [
        node("Gemm", ["x", "W1", "b1"], ["h"]),
        node("Act", ["h"], ["a"], domain="own", name="act"),
        node("Gemm", ["a", "W2", "b2"], ["z"]),
    ]
    model = _with_nodes(nodes)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    A = extract(model)
    assert A.layer_names == ("a",)
    h = X @ C["W1"] + C["b1"]
    assert_allclose(A["a"], h / (1 + np.exp(-h)), rtol=1e-4, atol=1e-5)


# End to end.


def torch_mlp():
    """The same network of torch."""
    network = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    for parameter, value in zip(network.parameters(), C.values(), strict=True):
        parameter.data = torch.as_tensor(value.T.copy())
    return network


def test_a_monitor(path):
    others = 3 * X[::-1] + 2
    monitor, of_torch = (make_monitor(network).fit(X) for network in (str(path), torch_mlp()))
    assert_allclose(monitor.score_samples(others), of_torch.score_samples(others), rtol=1e-6)
    assert_array_equal(monitor.predict(others), of_torch.predict(others))


def test_a_search_in_two_processes(path):
    inputs, y = np.vstack([X, X + 5]), np.tile([1, -1], 20)
    grid = {"activationextractor__layers": ["relu", "fc1"]}
    scores = []
    for network in (str(path), torch_mlp()):
        pipe = make_pipeline(ActivationExtractor(network), MahalanobisDetector())
        names = grid if isinstance(network, str) else {next(iter(grid)): ["1", "0"]}
        search = GridSearchCV(pipe, names, cv=2, n_jobs=2, error_score="raise").fit(inputs, y)
        scores.append(search.cv_results_["mean_test_score"])
    assert_allclose(scores[0], scores[1], rtol=1e-6)


def test_a_copy_of_an_extractor(path):
    extractor = ActivationExtractor(path).fit(X)
    copy = pickle.loads(pickle.dumps(extractor))
    assert_array_equal(copy.transform(X)["relu"], extractor.transform(X)["relu"])
    with pytest.raises(TypeError, match=r"cannot pickle .*InferenceSession"):
        pickle.dumps(ActivationExtractor(ort.InferenceSession(str(path))))


def test_a_cache(path, tmp_path):
    memory = str(tmp_path / "cache")
    extractor = ActivationExtractor(path, memory=memory).fit(X)
    first = extractor.transform(X)
    again = ActivationExtractor(onnx.load(str(path)), memory=memory).fit(X).transform(X)
    assert_array_equal(again["relu"], first["relu"])
    assert len(list((tmp_path / "cache").rglob("output.pkl"))) == 1
    onnx.save(mlp(constants={"b2": C["b2"] + 1}), path)
    changed = ActivationExtractor(path, memory=memory).fit(X).transform(X)
    assert_allclose(changed.logits, first.logits + 1, rtol=1e-5)


def test_threads_share_a_model(path):
    extractor = ActivationExtractor(path).fit(X)
    results = {}

    def run(number):
        results[number] = [extractor.transform(X + number).logits for _ in range(5)]

    threads = [threading.Thread(target=partial(run, number)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, found in results.items():
        expected = plain(mlp(), x=X + np.float32(number))[0]
        for logits in found:
            assert_array_equal(logits, expected)


def test_sessions_are_kept_but_not_all(path):
    adapter = adapt(path)
    first = adapter._model.session(["a"], adapter._place)
    assert adapt(path)._model is adapter._model
    assert adapt(path)._model.session(["a"], adapt(path)._place) is first
    for value in ("h", "W1", "b1", "W2", "b2"):
        adapter._model.session([value], adapter._place)
    assert len(adapter._model._sessions) == 4
    assert adapter._model.session(["a"], adapter._place) is not first


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_without_the_libraries(library):
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from skood import ActivationExtractor\n"
        "ActivationExtractor('net.onnx').fit([[1.0]])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"An ONNX model as a network needs {library}, which is not installed" in run.stderr
    assert "its extra 'onnx'" in run.stderr
