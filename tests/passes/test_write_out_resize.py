"""Interpolation becomes products with sparse matrices."""

from __future__ import annotations

import compiled
import numpy as np
import onnx
import onnx_ir as ir
import pass_spec
import pytest
import texts

from edgesparse.compiler import inspect
from edgesparse.passes.write_out_resize import WriteOutResizePass

COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
)  # fmt: skip
SIZES = [(10, 14), (3, 4), (8, 7), (1, 20), (5, 8)]


def resize(shape, *, sizes=None, scales=None, opset=19, **attributes) -> onnx.ModelProto:
    """Return the model of one Resize; its output's shape is inferred."""
    given = {"sizes": np.array(sizes, np.int64)} if sizes else {"scales": np.float32(scales)}
    spelled = ", ".join(
        f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}"
        for name, value in attributes.items()
    )
    operands = "x, , , sizes" if sizes else "x, , scales"
    return texts.proto(
        f"(float{list(shape)} x) => (float y) {{ y = Resize <{spelled}> ({operands}) }}",
        opset=opset,
        **given,
    )


def as_ir(model: onnx.ModelProto) -> ir.Model:
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return texts.as_ir(model)


def check(model: onnx.ModelProto, tolerance: float = 1e-5) -> None:
    compiled.assert_same_as_onnxruntime(model, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    ("extent", "scale", "found"),
    [
        (5, 1.4, 7),
        (10, 0.7, 7),
        (20, 0.7, 14),
        (5, 2.8, 14),
        (10, 1.9, 19),
        (10, 1.3, 13),
        (7, 1.09, 7),
    ],
)
def test_extents_are_rounded_as_others_do(mode, extent, scale, found):
    """Whole parts of products in float32: ONNX's own inference finds one element less."""
    model = resize((1, 2, extent, 3), scales=(1, 1, scale, 1), mode=mode)
    assert compiled.plan_of(model).outputs[0].shape == (1, 2, found, 3)
    check(model)


def test_one_after_the_other_both_rounded():
    text = """(float[1, 1, 5, 5] x) => (float y) {
        a = Resize <mode = "linear"> (x, , s)
        y = Resize <mode = "nearest"> (a, , t)
    }"""
    scales = {"s": np.float32([1, 1, 1.4, 1.4]), "t": np.float32([1, 1, 1.3, 1.9])}
    model = texts.proto(text, opset=19, **scales)
    assert compiled.plan_of(model).outputs[0].shape == (1, 1, 9, 13)
    check(model)


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("where", COORDINATES)
@pytest.mark.parametrize("sizes", [(7, 5, 8, 7), (10, 6, 232, 9), (7, 7, 23, 22), (13, 22, 39, 17)])
def test_nearest_in_the_middle_of_two(where, rounding, sizes):
    attributes = {"coordinate_transformation_mode": where, "nearest_mode": rounding}
    check(resize((1, 1, *sizes[:2]), sizes=(1, 1, *sizes[2:]), mode="nearest", **attributes))


@pytest.mark.parametrize("where", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_what_keeps_all_extents_is_a_copy(mode, where):
    scales = (1, 1, 1.09, 1.09)
    check(resize((1, 1, 7, 10), scales=scales, mode=mode, coordinate_transformation_mode=where))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("where", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_sizes(mode, where, size):
    check(
        resize((1, 2, 5, 7), sizes=(1, 2, *size), mode=mode, coordinate_transformation_mode=where)
    )


@pytest.mark.parametrize("scales", [(1.3, 1.3), (0.6, 2.5), (1, 1.05), (3, 0.3)])
@pytest.mark.parametrize("where", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_scales_that_are_not_the_ratios(mode, where, scales):
    check(
        resize(
            (1, 2, 6, 9), scales=(1, 1, *scales), mode=mode, coordinate_transformation_mode=where
        )
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialias(mode, size):
    check(resize((1, 2, 13, 17), sizes=(1, 2, *size), mode=mode, antialias=1))


@pytest.mark.parametrize("coefficient", [-0.5, -0.75])
@pytest.mark.parametrize("exclude", [0, 1])
def test_cubic(exclude, coefficient):
    check(
        resize(
            (1, 2, 5, 7),
            sizes=(1, 2, 9, 5),
            mode="cubic",
            exclude_outside=exclude,
            cubic_coeff_a=coefficient,
        )
    )


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 8), {"sizes": (2, 16)}),
        ((1, 3, 8), {"scales": (1, 1, 1.5)}),
        ((2, 3, 4, 5, 6), {"sizes": (2, 3, 8, 3, 12)}),
        ((1, 5, 7, 3), {"sizes": (1, 10, 14, 3)}),
        ((1, 2, 5, 7), {"scales": (2, 3), "axes": [3, 2]}),
        ((1, 1, 5, 8), {"sizes": (7, 9), "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}),
        ((1, 2, 5, 7), {"sizes": (1, 2, 5, 7)}),
    ],
)
def test_other_axes(shape, arguments):
    check(resize(shape, mode="linear", **arguments))


def test_between_convolutions_channels_are_still_followed():
    model = texts.proto(
        "(float[1, 3, 8, 8] x) => (float[1, 6, 16, 16] y) {"
        " a = Conv <pads = [1, 1, 1, 1]> (x, v) b = Relu(a)"
        ' c = Resize <mode = "linear"> (b, , scales) y = Conv(c, w) }',
        v=texts.random(8, 3, 3, 3),
        w=texts.random(6, 8, 1, 1),
        scales=np.float32([1, 1, 2, 2]),
    )
    check(model)


def test_as_products():
    model = as_ir(resize((1, 4, 6, 8), sizes=(1, 4, 12, 16), mode="linear"))
    WriteOutResizePass()(model)
    pass_spec.check(model)
    assert texts.ops(model) == ["edgesparse::Linear"] * 2
    width, height = model.graph
    assert [node.attributes["axis"].as_int() for node in (width, height)] == [-1, -2]
    assert height.metadata_props["edgesparse.spelled"] == "Resize"
    matrix = height.inputs[1].const_value.numpy()
    assert matrix.shape == (12, 6) and np.count_nonzero(matrix) == 22
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    assert not WriteOutResizePass()(model).modified


def test_its_zeros_are_no_pruning(tmp_path):
    onnx.save(resize((1, 4, 6, 8), sizes=(1, 4, 12, 16), mode="linear"), tmp_path / "up.onnx")
    inspection = inspect(tmp_path / "up.onnx", target="arm64")
    for layer in inspection.layers:
        assert layer.macs == layer.nonzero_macs > 0
        assert layer.decision["speedup"] == 1
        assert layer.decision["reason"].startswith("interpolation: 2 inputs an output at most; ")


def test_the_nearest_stays():
    model = as_ir(resize((1, 4, 6, 8), sizes=(1, 4, 12, 16), mode="nearest"))
    assert not WriteOutResizePass()(model).modified
