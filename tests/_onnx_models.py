"""Small ONNX models for the tests, by hand and exported from torch."""

import io
import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node


def weights(*shapes, seed=0, dtype=np.float32):
    """Random arrays."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def make_model(nodes, inputs, outputs, constants, *, opset=17):
    """A model of nodes; inputs and outputs are (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*declared) for declared in inputs],
        [helper.make_tensor_value_info(*declared) for declared in outputs],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def mlp_constants(seed=0):
    w1, b1, w2, b2 = weights((5, 6), (6,), (6, 3), (3,), seed=seed)
    return {"W1": w1, "b1": b1, "W2": w2, "b2": b2}


def mlp(*end, n="n", constants=(), outputs=(("z", FLOAT, ["n", 3]),)):
    """A perceptron with the hidden layer "relu", and the logits "z" where no other end is given."""
    start = [node("Gemm", ["x", "W1", "b1"], ["h"], name="fc1"), node("Relu", ["h"], ["a"], "relu")]
    end = end or (node("Gemm", ["a", "W2", "b2"], ["z"], name="fc2"),)
    constants = {**mlp_constants(), **dict(constants)}
    return make_model([*start, *end], [("x", FLOAT, [n, 5])], outputs, constants)


def export(network, x, *, dynamo=False, batch="any", **options):
    """A torch network as a model with the input "x"."""
    written = io.BytesIO()
    if dynamo:
        options["dynamic_shapes"] = ({0: torch.export.Dim("n")},) if batch == "any" else None
    elif batch == "any":
        options["dynamic_axes"] = {"x": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (x,),
            written,
            input_names=["x"],
            dynamo=dynamo,
            verbose=False,
            **options,
        )
    return onnx.load_from_string(written.getvalue())
