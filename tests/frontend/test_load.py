"""What `load` returns for valid models."""

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import oracle
import pass_spec
import pytest
import texts
from onnx import TensorProto, helper, numpy_helper

from edgesparse import frontend


def save(proto: onnx.ModelProto, folder) -> str:
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return str(path)


def load(proto: onnx.ModelProto, folder, shapes=frontend.NO_SHAPES) -> ir.Model:
    """Load, and check the outputs against the file's."""
    model = frontend.load(save(proto, folder), shapes)
    inputs = oracle.random_inputs(model)
    expected = oracle.run(proto, inputs)
    found = oracle.run_ir(model, inputs)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)
    pass_spec.check(model)
    return model


@pytest.mark.parametrize("name", graphs.GRAPHS)
def test_exporters_graphs(name, tmp_path):
    model = load(graphs.GRAPHS[name](), tmp_path)
    assert not model.functions
    assert {"Constant", "Identity", "Dropout"}.isdisjoint(pass_spec.ops(model))


def test_shape_arithmetic_is_folded(tmp_path):
    proto = texts.proto(
        "(float[N, 3, 4, 4] x) => (float[N, M] y)"
        " { s = Shape(x) i = Constant <value_ints = [0]> () n = Gather(s, i)"
        " m = Constant <value_ints = [-1]> () t = Concat <axis = 0> (n, m) y = Reshape(x, t) }"
    )
    model = load(proto, tmp_path, {"x": (2, 3, 4, 4)})
    assert pass_spec.ops(model) == ["Reshape"]
    assert model.graph.outputs[0].shape == (2, 48)


def test_pruning_mask_is_folded_whatever_its_size(tmp_path):
    mask = (texts.random(256, 256, seed=1) > 0.8).astype(np.float32)
    proto = texts.proto(
        "(float[1, 256] x) => (float[1, 256] y) { v = Mul(w, mask) y = MatMul(x, v) }",
        w=texts.random(256, 256),
        mask=mask,
    )
    model = load(proto, tmp_path)
    assert pass_spec.ops(model) == ["MatMul"]
    weight = model.graph[0].inputs[1].const_value.numpy()
    np.testing.assert_array_equal(weight != 0, mask != 0)


def test_quantised_weight_is_dequantised(tmp_path):
    proto = texts.proto(
        "(float[1, 8] x) => (float[1, 4] y) { v = DequantizeLinear(w, s) y = MatMul(x, v) }",
        w=np.arange(32, dtype=np.int8).reshape(8, 4),
        s=np.float32(0.1),
        opset=19,
    )
    assert pass_spec.ops(load(proto, tmp_path)) == ["MatMul"]


def test_constants_that_would_grow_the_model_are_not_folded(tmp_path):
    proto = texts.proto(
        "(float[1024, 1024] x) => (float[1024, 1024] y)"
        " { v = Expand(w, s) n = Neg(v) y = Add(x, n) }",
        w=np.ones(1, np.float32),
        s=np.array([1024, 1024]),
    )
    model = load(proto, tmp_path)
    assert sum(v.const_value.size for v in model.graph.initializers.values()) < 100


def test_dropout_and_identity_disappear(tmp_path):
    proto = texts.proto(
        "(float[2, 3] x) => (float[2, 3] y)"
        " { a = Identity(x) b, mask = Dropout(a) c = Relu(b) y = Identity(c) }"
    )
    model = load(proto, tmp_path)
    assert pass_spec.ops(model) == ["Relu"]
    assert model.graph.outputs[0].name == "y"


def test_functions_are_inlined(tmp_path):
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 17, "local": 1]>'
        " g (float[2] x) => (float[2] y) { y = local.twice(x) }"
        ' <domain: "local", opset_import: ["": 17]> twice (a) => (b) { b = Add(a, a) }'
    )
    assert pass_spec.ops(load(proto, tmp_path)) == ["Add"]


def test_both_spellings_of_the_domain(tmp_path):
    proto = texts.proto("(float[2] x) => (float[2] y) { y = Relu(x) }")
    proto.opset_import[0].domain = "ai.onnx"
    proto.graph.node[0].domain = "ai.onnx"
    model = frontend.load(save(proto, tmp_path))
    assert (model.graph[0].domain, model.opset_imports[""]) == ("", 17)


def test_initializers_are_no_inputs(tmp_path):
    proto = texts.proto("(float[2] x, float[2] w) => (float[2] y) { y = Add(x, w) }", w=np.ones(2))
    model = frontend.load(save(proto, tmp_path))
    assert [value.name for value in model.graph.inputs] == ["x"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "(float[2] x) => (float[2] y, float[2] z)"
            " { a = Neg(x) y = Identity(a) z = Identity(a) }",
            2,
        ),
        ("(float[2] x) => (float[2] a, float[2] z) { a = Neg(x) z = Identity(a) }", 2),
        ("(float[2] x) => (float[2] y) { y = Identity(x) }", 1),
        ("(float[2] x) => (float[2] y, int64[1] z) { y = Neg(x) z = Shape(x) }", 2),
        ("(float[2] x) => (float[2] y, float[2] w) { y = Neg(x) }", 2),
        ("(float[2] x) => (int64[1] y, int64[1] z) { y = Shape(x) z = Shape(x) }", 2),
    ],
)
def test_outputs_keep_their_names(text, expected, tmp_path):
    proto = texts.proto(text, **({"w": np.ones(2)} if "float[2] w" in text else {}))
    model = load(proto, tmp_path)
    assert len(model.graph.outputs) == expected
    assert all(value.producer() is not None for value in model.graph.outputs)


def test_output_that_is_an_input(tmp_path):
    model = frontend.load(save(texts.proto("(float[2] x) => (float[2] x) { }"), tmp_path))
    (node,) = model.graph
    assert node.op_type == "Identity"
    assert node.inputs[0] is model.graph.inputs[0]
    assert node.outputs[0] is model.graph.outputs[0]
    assert (model.graph.inputs[0].name, model.graph.outputs[0].name) == ("x", "x")


def test_nodes_get_names_of_their_own(tmp_path):
    proto = texts.proto("(float[2] x) => (float[2] y) { a = Neg(x) b = Abs(a) y = Neg(b) }")
    for node, name in zip(proto.graph.node, ("n", "n", ""), strict=True):
        node.name = name
    model = frontend.load(save(proto, tmp_path))
    assert [node.name for node in model.graph] == ["n", "n_1", "Neg_2"]


def test_foreign_metadata_is_dropped(tmp_path):
    proto = texts.proto("(float[2] x) => (float[2] y) { y = Relu(x) }")
    entry = proto.graph.node[0].metadata_props.add()
    entry.key, entry.value = "edgesparse.decision", "forged"
    assert not frontend.load(save(proto, tmp_path)).graph[0].metadata_props


@pytest.mark.parametrize("opset", [13, frontend.NEWEST_OPSET])
def test_oldest_and_newest_opset(opset, tmp_path):
    proto = texts.proto("(float[2] x) => (float[2] y) { y = Relu(x) }", opset=opset)
    assert frontend.load(save(proto, tmp_path)).opset_imports[""] == opset


def test_external_data(tmp_path):
    proto = texts.proto(
        "(float[1, 64] x) => (float[1, 64] y) { y = MatMul(x, w) }", w=texts.random(64, 64)
    )
    expected = proto.SerializeToString()
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, size_threshold=0, location="weights.data")
    model = frontend.load(path)
    (tmp_path / "weights.data").unlink()
    inputs = oracle.random_inputs(model)
    np.testing.assert_array_equal(
        oracle.run_ir(model, inputs)["y"],
        oracle.run(onnx.ModelProto.FromString(expected), inputs)["y"],
    )


@pytest.mark.parametrize("shape", [(8, 4), (5, 3)])
@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_external_data_of_four_bits(kind, shape, tmp_path):
    """Two elements share a byte; of an odd number the last has one to itself."""
    inputs, outputs = shape
    proto = texts.proto(
        f"(float[1, {inputs}] x) => (float[1, {outputs}] y)"
        " { v = DequantizeLinear(w, s) y = MatMul(x, v) }",
        s=np.float32(0.1),
        opset=21,
    )
    values = np.arange(inputs * outputs) % 8
    array = values.astype(helper.tensor_dtype_to_np_dtype(kind)).reshape(shape)
    proto.graph.initializer.append(numpy_helper.from_array(array, "w"))
    path = tmp_path / "model.onnx"
    settings = {"size_threshold": 0, "location": "weights.data"}
    onnx.save(proto, path, save_as_external_data=True, **settings)
    assert (tmp_path / "weights.data").is_file()
    (node,) = frontend.load(path).graph
    np.testing.assert_allclose(
        node.inputs[1].const_value.numpy(), 0.1 * values.reshape(shape), rtol=1e-6
    )


@pytest.mark.parametrize("indices", [[[0, 1], [2, 0]], [1, 4]])
def test_sparse_initializer(indices, tmp_path):
    proto = texts.proto(
        "(float[1, 3] x) => (float[1, 2] y) { y = MatMul(x, w) }", w=np.ones((3, 2))
    )
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(np.array([2, 3], np.float32), "w")
    positions = numpy_helper.from_array(np.array(indices, np.int64), "indices")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, positions, [3, 2]))
    model = frontend.load(save(proto, tmp_path))
    np.testing.assert_array_equal(
        model.graph.initializers["w"].const_value.numpy(), [[0, 2], [0, 0], [3, 0]]
    )


def test_sparse_constant(tmp_path):
    proto = texts.proto("(float[4] x) => (float[4] y) { y = Add(x, w) }", w=np.ones(4))
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(np.array([5], np.float32), "values")
    positions = numpy_helper.from_array(np.array([2], np.int64), "indices")
    sparse = helper.make_sparse_tensor(values, positions, [4])
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=sparse))
    model = frontend.load(save(proto, tmp_path))
    (weight,) = model.graph.initializers.values()
    np.testing.assert_array_equal(weight.const_value.numpy(), [0, 0, 5, 0])


@pytest.mark.parametrize(
    "text",
    [
        "(float[2, 2] x) => (float[2, 2] y) { y = Add(x, mask) }",
        "(float[2, 2] x) => (float[2, 2] y) { y = Clip(x, low) }",
    ],
)
def test_infinite_masks_and_bounds_are_fine(text, tmp_path):
    mask = np.array([[0, -np.inf], [0, 0]], np.float32)
    weights = {"mask": mask} if "mask" in text else {"low": np.float32(-np.inf)}
    frontend.load(save(texts.proto(text, **weights), tmp_path))


def test_integer_inputs_are_kept(tmp_path):
    proto = texts.proto(
        "(int64[1, 4] ids) => (float[1, 4, 8] y) { y = Gather(w, ids) }", w=texts.random(16, 8)
    )
    model = load(proto, tmp_path)
    assert model.graph.inputs[0].dtype == ir.DataType.INT64


def test_loading_twice_gives_the_same(tmp_path):
    path = save(graphs.transformer_block(), tmp_path)
    first, second = (ir.serde.serialize_model(frontend.load(path)) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_loaded_types_are_float(tmp_path):
    model = load(graphs.unet(), tmp_path)
    assert {value.dtype for node in model.graph for value in node.outputs} == {
        ir.DataType(TensorProto.FLOAT)
    }


def test_masks_with_more_than_zeros_are_weights(tmp_path):
    """Minus infinity that is added hides what it is added to, whatever stands beside it."""
    mask = np.where(np.tri(5, dtype=bool), np.linspace(-1, 0, 25).reshape(5, 5), -np.inf)
    text = "(float[2, 5, 5] x) => (float[2, 5, 5] y) { a = Add (x, m) y = Softmax (a) }"
    load(texts.proto(text, m=mask), tmp_path)
