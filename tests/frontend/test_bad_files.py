"""Whatever the bytes are, the answer is an EdgeSparseError."""

import os
import random

import graphs
import numpy as np
import onnx
import pytest
import texts
from onnx import helper, numpy_helper

from edgesparse import frontend, frontend_reading
from edgesparse.errors import (
    EdgeSparseError,
    InvalidModelError,
    UnsupportedModelError,
    UsageError,
)

RELU = "(float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }"


def refuse(content, folder, kind) -> EdgeSparseError:
    """Load `content`; return the error, of exactly this kind."""
    path = folder / "model.onnx"
    data = content.SerializeToString() if isinstance(content, onnx.ModelProto) else content
    path.write_bytes(data)
    with pytest.raises(EdgeSparseError) as caught:
        frontend.load(path)
    assert type(caught.value) is kind, caught.value
    assert caught.value.message.replace(str(path), "")
    return caught.value


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "is empty", "export it again"),
        (b"PK\x03\x04" + bytes(50), "it is a zip archive", "torch.onnx.export"),
        (b"\x00\x00\x00\x00TFL3" + bytes(50), "a TensorFlow Lite model", "tf2onnx"),
        (b"\x89HDF\r\n", "an HDF5 file", "tf2onnx"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        (b"\x00" * 64, "is not an ONNX model", "export it again"),
        (b"hello, world", "is not an ONNX model", "export it again"),
        (onnx.ModelProto(ir_version=9), "it has no graph or no operator set", "export it again"),
    ],
)
def test_not_onnx(content, message, hint, tmp_path):
    error = refuse(content, tmp_path, InvalidModelError)
    assert message in error.message
    assert hint in error.hint


def test_an_output_that_is_listed_twice(tmp_path):
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> g {RELU}')
    model.graph.output.append(model.graph.output[0])
    error = refuse(model, tmp_path, InvalidModelError)
    assert "lists the output y more than once" in error.message
    assert "each output once" in error.hint


def test_missing_file(tmp_path):
    with pytest.raises(UsageError, match="No such file or directory") as caught:
        frontend.load(tmp_path / "missing.onnx")
    assert caught.value.hint == "give the path of an .onnx file"


def test_directory(tmp_path):
    with pytest.raises(UsageError, match="it is a directory"):
        frontend.load(tmp_path)


def test_path_with_a_null_byte():
    with pytest.raises(UsageError, match="cannot read the model"):
        frontend.load("model\0.onnx")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads anything")
def test_unreadable_file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(UsageError, match="Permission denied"):
        frontend.load(path)


@pytest.mark.parametrize(
    ("opset", "message", "hint"),
    [
        (12, "is too old: expected opset 13 to", "version_converter"),
        (99, "is too new", "pip install"),
    ],
)
def test_opset(opset, message, hint, tmp_path):
    error = refuse(texts.proto(RELU, opset=opset), tmp_path, UnsupportedModelError)
    assert message in error.message
    assert f"found {opset}" in error.message
    assert hint in error.hint


def test_foreign_operator_set_only(tmp_path):
    proto = texts.proto(RELU)
    proto.opset_import[0].domain = "com.acme"
    error = refuse(proto, tmp_path, InvalidModelError)
    assert "does not import ONNX's own operator set" in error.message


def test_all_unknown_operators_are_listed(tmp_path):
    proto = texts.proto(
        "(float[2] x) => (float[2] y)"
        " { [first] a = Foo(x) b = Foo(a) c = edgesparse.Conv(b) y = com.acme.Bar(c) }"
    )
    error = refuse(proto, tmp_path, UnsupportedModelError)
    assert error.message == (
        "4 nodes of 3 operators (opset 17) cannot be compiled:\n"
        "  2 x Foo (first: first)\n"
        "  1 x com.acme::Bar (first: Bar_3)\n"
        "  1 x edgesparse::Conv (first: Conv_2)"
    )
    assert "replace these operators" in error.hint


def test_control_flow_is_listed(tmp_path):
    proto = texts.proto(
        "(float[2] x, bool c) => (float[2] y) { y = If <"
        "then_branch = g1 () => (float[2] a) { a = Relu(x) },"
        " else_branch = g2 () => (float[2] b) { b = Neg(x) }> (c) }"
    )
    assert "1 x If" in refuse(proto, tmp_path, UnsupportedModelError).message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(float[2] x) => (float[2] y) { y = Add(x, missing) }", "is not a valid model"),
        ("(float[2, 3] x) => (float[2, 4] y) { y = MatMul(x, w) }", "is inconsistent"),
        ("(float[1, 3, 8, 8] x) => (float[1, 4, a, b] y) { y = Conv(x, k) }", "input (1, 3, 8, 8)"),
        (
            "(float[1, 2, 8, 8] x) => (float[1, 4, a, b] y) { y = Conv(x, k, w) }",
            "bias (4, 5) and weight (4, 2, 3, 3)",
        ),
        (
            "(float[1, 2, 8, 8] x) => (float[1, 4, a, b] y)"
            " { y = Conv <kernel_shape = [5, 5]> (x, k) }",
            "kernel_shape",
        ),
        (
            "(float[1, 3, 8, 8] x) => (float[1, 2, a, b] y) { y = ConvTranspose(x, k) }",
            "ConvTranspose ConvTranspose_0: input (1, 3, 8, 8) and weight (4, 2, 3, 3)",
        ),
        (
            "(float[1, 4, 8, 8] x) => (float[1, 2, a, b] y) { y = ConvTranspose(x, k, v) }",
            "bias (4,) and weight (4, 2, 3, 3)",
        ),
        ("(float[2, 3] x) => (float[2, 5] y) { y = Gemm(x, w) }", "is inconsistent"),
        (
            "(float[2, 3] x) => (float[2, 3] y) { y = BatchNormalization(x, v, v, v, v) }",
            "is inconsistent",
        ),
        (
            "(float[2, 6, 5] x) => (float[2, 6, 5] y) { y = InstanceNormalization(x, v, v) }",
            "input (2, 6, 5), scale (4,) and bias (4,)",
        ),
    ],
)
def test_inconsistent_models(text, message, tmp_path):
    weights = {"w": np.ones((4, 5)), "k": np.ones((4, 2, 3, 3)), "v": np.ones(4)}
    proto = texts.proto(text, **{name: array for name, array in weights.items() if name in text})
    error = refuse(proto, tmp_path, InvalidModelError)
    assert message in error.message
    if message == "is inconsistent":
        assert error.hint == "the model does not run anywhere: check its export with onnxruntime"


@pytest.mark.parametrize(
    ("channels", "groups", "message"),
    [(8, 4, "input (1, 8, 5), scale (4,) and bias (4,)"), (4, 3, "with num_groups 3")],
)
def test_inconsistent_group_norms(channels, groups, message, tmp_path):
    text = (
        f"(float[1, {channels}, 5] x) => (float[1, {channels}, 5] y)"
        f" {{ y = GroupNormalization <num_groups = {groups}> (x, v, v) }}"
    )
    proto = texts.proto(text, opset=21, v=np.ones(4))
    assert message in refuse(proto, tmp_path, InvalidModelError).message


def test_dtypes(tmp_path):
    proto = texts.proto("(double[2] x) => (double[2] y) { y = Relu(x) }")
    error = refuse(proto, tmp_path, UnsupportedModelError)
    assert error.message.startswith("2 tensors of a dtype other than float32, integer or bool: x (")
    assert "model.float()" in error.hint


def test_sequence_input(tmp_path):
    proto = texts.proto("(seq(float[2]) x) => (float[2] y) { y = SequenceAt(x, i) }", i=np.array(0))
    error = refuse(proto, tmp_path, UnsupportedModelError)
    assert "graph input x is a" in error.message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(bad, tmp_path):
    weight = texts.random(3, 4)
    weight[1, 2] = bad
    proto = texts.proto("(float[2, 3] x) => (float[2, 4] y) { y = MatMul(x, w) }", w=weight)
    error = refuse(proto, tmp_path, InvalidModelError)
    assert error.message == "1 weight tensor with NaN or Inf: w (1 of 12)"
    assert "restore an earlier checkpoint" in error.hint


def test_many_bad_tensors_are_shortened(tmp_path):
    nodes, names = [], [f"w{index}" for index in range(12)]
    for index, name in enumerate(names):
        nodes.append(f"a{index + 1} = Add(a{index}, {name})")
    text = f"(float[2] a0) => (float[2] a12) {{ {' '.join(nodes)} }}"
    weights = {name: np.full(2, np.nan) + index for index, name in enumerate(names)}
    for index, array in enumerate(weights.values()):
        array[0] = index
    error = refuse(texts.proto(text, **weights), tmp_path, InvalidModelError)
    assert error.message.startswith("12 weight tensors with NaN or Inf: w0 (1 of 2), ")
    assert error.message.endswith(", and 4 more")


def test_shapes_that_depend_on_the_data(tmp_path):
    error = refuse(
        texts.proto("(float[2, 3] x) => (int64[2, n] y) { y = NonZero(x) }"),
        tmp_path,
        UnsupportedModelError,
    )
    assert error.message.startswith("1 value without a static, non-empty shape: y [2,")
    assert "NonZero" in error.message


def test_boxes_that_depend_on_the_data_are_to_be_cut_off(tmp_path):
    text = (
        "(float[1, 5, 4] x, float[1, 2, 5] s) => (int64[n, 3] y) { y = NonMaxSuppression(x, s, k) }"
    )
    error = refuse(texts.proto(text, k=np.array(3)), tmp_path, UnsupportedModelError)
    assert "of NonMaxSuppression " in error.message
    assert error.hint.endswith("or cut it off before NonMaxSuppression")


def test_absurdly_large_activation(tmp_path):
    proto = texts.proto(
        "(float[1, 1, 4, 4] x) => (float[1, 1, a, b] y)"
        " { y = Conv <pads = [100000, 100000, 100000, 100000]> (x, w) }",
        w=np.ones((1, 1, 1, 1)),
    )
    error = refuse(proto, tmp_path, UnsupportedModelError)
    assert "1 value of more than 2 GB: y [1,1,200004,200004]" in error.message


def external(tmp_path, **entries) -> onnx.ModelProto:
    proto = texts.proto("(float[2] x) => (float[2] y) { y = Add(x, w) }", w=np.ones(2))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    (tmp_path / "short.bin").write_bytes(bytes(4))
    return proto


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "gone.bin"}, "tensor w is stored in 'gone.bin', which is missing"),
        ({"location": "../up.bin"}, "expected a file beside the model"),
        ({"location": "/etc/passwd"}, "expected a file beside the model"),
        ({"offset": 0}, "expected a file beside the model"),
        ({"location": "short.bin"}, "expected 8 bytes from offset 0, found 4"),
        ({"location": "short.bin", "offset": 99}, "expected 8 bytes from offset 99, found 0"),
        ({"location": "short.bin", "length": 4}, "expected 8 bytes from offset 0, found 4"),
        ({"location": "short.bin", "offset": "x"}, "is corrupt"),
    ],
)
def test_external_data(entries, message, tmp_path):
    error = refuse(external(tmp_path, **entries), tmp_path, InvalidModelError)
    assert message in error.message


def test_too_many_weights_are_refused_unread(tmp_path):
    proto = external(tmp_path, location="gone.bin")
    proto.graph.initializer[0].dims[:] = [1024, 1024, 512]
    error = refuse(proto, tmp_path, UnsupportedModelError)
    assert "weights take 2.1 GB, expected at most 2 GB" in error.message
    assert "smaller model" in error.hint


def test_too_large_a_file_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(frontend_reading, "MAX_WEIGHT_BYTES", 10)
    assert "weights take" in refuse(texts.proto(RELU), tmp_path, UnsupportedModelError).message


@pytest.mark.parametrize(
    ("dims", "indices"), [([3, 2], [[0, 7]]), ([3, 2], [[-1, 0]]), ([3, 2], [99]), ([3], [[0, 0]])]
)
def test_sparse_tensor_with_wrong_indices(dims, indices, tmp_path):
    proto = texts.proto(
        "(float[1, 3] x) => (float[1, 2] y) { y = MatMul(x, w) }", w=np.ones((3, 2))
    )
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    positions = numpy_helper.from_array(np.array(indices, np.int64), "indices")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, positions, dims))
    refuse(proto, tmp_path, InvalidModelError)


def test_negative_extent(tmp_path):
    proto = texts.proto("(float[2] x) => (float[2] y) { y = Add(x, w) }", w=np.ones(2))
    proto.graph.initializer[0].dims[:] = [-2]
    assert "negative shape (-2,)" in refuse(proto, tmp_path, InvalidModelError).message


def test_initializer_of_the_wrong_size(tmp_path):
    proto = texts.proto("(float[2] x) => (float[2] y) { y = Add(x, w) }", w=np.ones(2))
    proto.graph.initializer[0].dims[:] = [3]
    refuse(proto, tmp_path, InvalidModelError)


def damage(data: bytes, rng: random.Random) -> bytes:
    """Cut, flip, delete or insert somewhere; mostly at the front, where the structure is."""
    damaged = bytearray(data)
    kind = rng.choice(["cut", "flip", "flip", "flip", "delete", "insert"])
    if kind == "cut":
        return data[: rng.randrange(len(data))]
    for _ in range(rng.choice([1, 1, 2, 8])):
        position = rng.randrange(min(len(damaged), rng.choice([3000, len(data)])))
        if kind == "flip":
            damaged[position] ^= 1 << rng.randrange(8)
        elif kind == "delete":
            del damaged[position : position + rng.randrange(1, 40)]
        else:
            damaged[position:position] = rng.randbytes(4)
    return bytes(damaged)


@pytest.mark.parametrize("name", graphs.GRAPHS)
def test_damaged_bytes_never_give_a_traceback(name, tmp_path):
    data, rng = graphs.GRAPHS[name]().SerializeToString(), random.Random(name)
    path = tmp_path / "model.onnx"
    refused = 0
    for _ in range(40):
        path.write_bytes(damage(data, rng))
        try:
            frontend.load(path)
        except EdgeSparseError:
            refused += 1
    assert refused > 10
