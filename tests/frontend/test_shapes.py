import compiled
import numpy as np
import onnx
import pytest
import texts

from edgesparse import frontend
from edgesparse.errors import UnsupportedModelError, UsageError

TWO = (
    "(float[N, T, 8] x, float[N, T] mask) => (float[N, T, 8] y)"
    " { m = Unsqueeze(mask, a) y = Mul(x, m) }"
)


@pytest.fixture
def two_inputs(tmp_path):
    path = tmp_path / "two.onnx"
    onnx.save(texts.proto(TWO, a=np.array([2])), path)
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.onnx"
    onnx.save(
        texts.proto("(float[N, 3, 224, 224] x) => (float[N, 3, 224, 224] y) { y = Relu(x) }"), path
    )
    return path


def test_message_and_hint(image):
    with pytest.raises(UnsupportedModelError) as caught:
        frontend.load(image)
    assert caught.value.message == "1 graph input has symbolic dimensions: x [N,3,224,224]"
    assert caught.value.hint == "fix them at compile time, e.g. `--shape x:1,3,224,224`"


def test_all_inputs_are_named_at_once(two_inputs):
    with pytest.raises(UnsupportedModelError) as caught:
        frontend.load(two_inputs)
    assert caught.value.message == (
        "2 graph inputs have symbolic dimensions: x [N,T,8], mask [N,T]"
    )
    assert caught.value.hint == (
        "fix them at compile time, e.g. `--shape x:1,128,8` `--shape mask:1,128`"
    )


def test_a_symbol_fixed_once_is_fixed_everywhere(two_inputs):
    graph = frontend.load(two_inputs, {"x": (1, 5, 8)}).graph
    assert [value.shape.numpy() for value in graph.inputs] == [(1, 5, 8), (1, 5)]
    assert graph.outputs[0].shape == (1, 5, 8)


@pytest.mark.parametrize(
    ("shapes", "message", "hint"),
    [
        (
            {"images": (1,)},
            "--shape images: the model has no such input; it has x, mask",
            "name one of these inputs",
        ),
        (
            {"masks": (1,)},
            "--shape masks: the model has no such input; it has x, mask",
            "did you mean `--shape mask:...`?",
        ),
        (
            {"x": (1, 8)},
            "--shape x:1,8: expected 3 dimensions as in x [N,T,8], found 2",
            "e.g. `--shape x:1,128,8`",
        ),
        (
            {"x": (1, 5, 9)},
            "--shape x:1,5,9: contradicts the model, whose input is x [N,T,8]",
            "e.g. `--shape x:1,128,8`",
        ),
        (
            {"x": (1, 0, 8)},
            "--shape x:1,0,8: expected positive dimensions",
            "e.g. `--shape x:1,128,8`",
        ),
        (
            {"x": (1, 5, 8), "mask": (2, 5)},
            "--shape mask:2,5: dimension N is 2 here and 1 in x",
            "give N one value",
        ),
    ],
)
def test_wrong_options(shapes, message, hint, two_inputs):
    with pytest.raises(UsageError) as caught:
        frontend.load(two_inputs, shapes)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_one_symbol_twice_in_one_input(tmp_path):
    path = tmp_path / "square.onnx"
    onnx.save(texts.proto("(float[N, N] x) => (float[N, N] y) { y = Relu(x) }"), path)
    with pytest.raises(UsageError, match="dimension N is 3 here and 2 in x"):
        frontend.load(path, {"x": (2, 3)})


def test_input_without_any_shape(tmp_path):
    path = tmp_path / "free.onnx"
    proto = texts.proto("(float[2] x) => (float[2] y) { y = Relu(x) }")
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.ClearField("shape")
    onnx.save(proto, path)
    with pytest.raises(UnsupportedModelError) as caught:
        frontend.load(path)
    assert caught.value.message == "1 graph input has symbolic dimensions: x [unknown rank]"
    assert frontend.load(path, {"x": (2, 7)}).graph.outputs[0].shape == (2, 7)


def test_unnamed_dimension(tmp_path):
    path = tmp_path / "unnamed.onnx"
    proto = texts.proto("(float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    onnx.save(proto, path)
    with pytest.raises(UnsupportedModelError, match=r"x \[\?,3\]"):
        frontend.load(path)


def test_input_of_size_zero(tmp_path):
    path = tmp_path / "empty.onnx"
    onnx.save(texts.proto("(float[0, 3] x) => (float[0, 3] y) { y = Relu(x) }"), path)
    with pytest.raises(UnsupportedModelError, match=r"1 graph input of size zero: x \[0,3\]"):
        frontend.load(path)


def test_stale_intermediate_shapes_are_forgotten(tmp_path):
    path = tmp_path / "stale.onnx"
    proto = texts.proto("(float[N, 4] x) => (float[N, 4] y) { a = Neg(x) y = Relu(a) }")
    proto.graph.value_info.append(
        onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, ["batch", 4])
    )
    onnx.save(proto, path)
    graph = frontend.load(path, {"x": (3, 4)}).graph
    assert graph[0].outputs[0].shape == (3, 4)


@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool", "AveragePool <count_include_pad = 1>"])
@pytest.mark.parametrize(
    ("window", "extents"),
    [
        ("kernel_shape = [1, 1], strides = [2, 2]", (5, 4)),
        ('auto_pad = "VALID", kernel_shape = [1, 2], strides = [2, 2]', (5, 4)),
        ('auto_pad = "SAME_UPPER", kernel_shape = [2, 2], strides = [2, 2]', (5, 4)),
        ("kernel_shape = [2, 2], strides = [2, 2], pads = [1, 0, 1, 1]", (5, 4)),
        ("kernel_shape = [3, 3], strides = [2, 3], pads = [1, 1, 1, 2]", (6, 3)),
    ],
)
def test_windows_that_begin_behind_the_input_are_not_counted(pool, window, extents):
    name, _, more = pool.partition(" <")
    attributes = ", ".join(["ceil_mode = 1", window, *filter(None, [more.rstrip(">")])])
    rows, columns = extents
    model = texts.proto(
        f"(float[1, 2, 10, 7] x) => (float[1, 2, {rows}, {columns}] y)"
        f" {{ p = {name} <{attributes}> (x) y = Neg(p) }}"
    )
    compiled.assert_same_as_onnxruntime(model)
