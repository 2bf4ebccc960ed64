from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes.canonicalise_conv import CanonicaliseConvPass
from edgesparse.passes.fold_affine import FoldAffinePass
from edgesparse.passes.fuse_activation import FuseActivationPass
from edgesparse.passes.split_conv_transpose import SplitConvTransposePass

INTERLEAVED = ["Conv", "DepthToSpace"]
TURNED = ["Conv", "Reshape", "Transpose", "Reshape"]


def split(text: str, **weights) -> ir.Model:
    model = texts.model(text, **weights)
    with oracle.same_results(model):
        model.meta["modified"] = SplitConvTransposePass()(model).modified
    pass_spec.check(model)
    assert not SplitConvTransposePass()(model).modified
    return model


def transposed(
    attributes: str, *, shape=(2, 3, 5, 7), weight=(3, 4, 3, 3), groups=1, bias=True
) -> ir.Model:
    """Return the rewritten model of one ConvTranspose, after checking it."""
    operands = "x, w, b" if bias else "x, w"
    extents = ", ".join(map(str, shape))
    names = ", ".join(f"n{i}" for i in range(len(shape)))
    return split(
        f"(float[{extents}] x) => (float[{names}] y)"
        f" {{ y = ConvTranspose <{attributes}> ({operands}) }}",
        w=texts.random(*weight),
        **({"b": texts.random(groups * weight[1])} if bias else {}),
    )


@pytest.mark.parametrize("bias", [False, True])
def test_doubling_without_overlap_is_a_1x1_convolution(bias):
    model = transposed("strides = [2, 2]", weight=(3, 4, 2, 2), bias=bias)
    assert texts.ops(model) == INTERLEAVED
    (conv, _) = model.graph
    assert conv.inputs[1].shape == (16, 3, 1, 1)
    assert model.graph.outputs[0].name == "y"
    assert model.graph.outputs[0].shape == (2, 4, 10, 14)


def test_stride_one_is_a_flipped_convolution():
    model = transposed("pads = [1, 0, 2, 1]")
    assert texts.ops(model) == ["Conv"]


def test_a_phase_is_zero_at_other_phases_taps():
    model = transposed("strides = [2, 2], pads = [1, 1, 1, 1]", weight=(3, 4, 4, 4))
    weight = model.graph[0].inputs[1].const_value.numpy()
    assert weight.shape == (16, 3, 3, 3)
    assert np.count_nonzero(weight) == 3 * 4 * 4 * 4
    phase = weight[:4].any(axis=(0, 1))  # all channels of a phase use the same taps
    assert phase.sum() == 4
    assert (weight[:4].astype(bool) == phase).all()


WINDOWS = [
    (kernel, stride, dilation, pads)
    for kernel, stride, dilation, pads in itertools.product(
        (1, 2, 3, 4), (1, 2, 3), (1, 2), ((0, 0), (1, 1), (1, 0), (0, 2))
    )
    if 4 * stride + dilation * (kernel - 1) + 1 > sum(pads)
]


@pytest.mark.parametrize(("kernel", "stride", "dilation", "pads"), WINDOWS)
def test_windows(kernel, stride, dilation, pads):
    begin, end = pads
    transposed(
        f"strides = [{stride}, 2], dilations = [{dilation}, 1], pads = [{begin}, 1, {end}, 0]",
        weight=(3, 2, kernel, 3),
        shape=(1, 3, 5, 4),
    )


@pytest.mark.parametrize("added", [(0, 1), (1, 0), (1, 1), (1, 2)])
def test_output_padding(added):
    transposed(f"strides = [2, 3], pads = [1, 1, 1, 1], output_padding = [{added[0]}, {added[1]}]")


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_auto_pad(mode, kernel):
    transposed(f'strides = [2, 2], auto_pad = "{mode}"', weight=(3, 4, kernel, kernel))


@pytest.mark.parametrize("shape", [(10, 14), (11, 15), (9, 13), (12, 16)])
def test_output_shape(shape):
    transposed(f"strides = [2, 2], output_shape = [{shape[0]}, {shape[1]}]", weight=(3, 4, 4, 4))


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (4, 2), (3, 1), (3, 2)])
def test_groups(kernel, stride):
    for groups, outputs in ((2, 3), (4, 1), (4, 2)):
        model = transposed(
            f"strides = [{stride}, {stride}], group = {groups}",
            shape=(1, 4, 5, 6),
            weight=(4, outputs, kernel, kernel),
            groups=groups,
        )
        assert model.graph[0].attributes["group"].as_int() == groups


def test_one_dimension():
    model = transposed("strides = [4], pads = [2, 1]", shape=(2, 3, 9), weight=(3, 4, 8))
    assert texts.ops(model) == [*TURNED, "Slice"]
    transposed("strides = [3], group = 3", shape=(2, 3, 9), weight=(3, 2, 5), groups=3)


def test_unequal_strides_are_interleaved_by_a_transposition():
    model = transposed("strides = [1, 2]", weight=(3, 4, 3, 2))
    assert texts.ops(model) == TURNED


def test_norm_and_activation_are_fused_before_the_interleaving():
    model = split(
        "(float[1, 3, 5, 6] x) => (float[1, 4, 10, 12] y) {"
        " a = ConvTranspose <strides = [2, 2]> (x, w, b)"
        " c = BatchNormalization (a, s, t, m, v) y = LeakyRelu <alpha = 0.1> (c) }",
        w=texts.random(3, 4, 2, 2),
        b=texts.random(4),
        s=texts.random(4, seed=1),
        t=texts.random(4, seed=2),
        m=texts.random(4, seed=3),
        v=texts.random(4, seed=4, low=0.5),
    )
    assert texts.ops(model) == ["Conv", "BatchNormalization", "LeakyRelu", "DepthToSpace"]
    with oracle.same_results(model):
        for make in (CanonicaliseConvPass, FoldAffinePass, FuseActivationPass):
            make()(model)
    assert texts.ops(model) == ["edgesparse::Conv", "DepthToSpace"]


def test_only_a_sole_consumer_moves():
    model = split(
        "(float[1, 3, 5, 6] x) => (float[1, 4, 10, 12] y, float[1, 4, 10, 12] z) {"
        " a = ConvTranspose <strides = [2, 2]> (x, w) y = Relu (a) z = Sigmoid (a) }",
        w=texts.random(3, 4, 2, 2),
    )
    assert texts.ops(model) == ["Conv", "DepthToSpace", "Relu", "Sigmoid"]


def test_an_output_that_is_used_keeps_its_users():
    model = split(
        "(float[1, 3, 5, 6] x) => (float[1, 4, 10, 12] y, float[1, 4, 10, 12] z) {"
        " y = ConvTranspose <strides = [2, 2]> (x, w) z = Add (y, y) }",
        w=texts.random(3, 4, 2, 2),
    )
    assert texts.ops(model) == ["Conv", "DepthToSpace", "Add"]
    assert [value.name for value in model.graph.outputs] == ["y", "z"]


@pytest.mark.parametrize(
    ("inputs", "operands", "reason"),
    [
        ("float[1, 3, 5, 6] x, float[3, 4, 2, 2] u", "x, u", "its weight is not a constant"),
        ("float[1, 3, 5, 6] x, float[4] u", "x, w, u", "its bias is not a constant"),
    ],
)
def test_declines(inputs, operands, reason):
    model = split(
        f"({inputs}) => (float[1, 4, 6, 7] y) {{ y = ConvTranspose({operands}) }}",
        w=texts.random(3, 4, 2, 2),
    )
    assert not model.meta["modified"]
    (node,) = model.graph
    assert node.metadata_props["edgesparse.declined.split_conv_transpose"] == reason


def test_declines_three_dimensions():
    model = split(
        "(float[1, 2, 3, 3, 3] x) => (float[1, 2, 4, 4, 4] y) { y = ConvTranspose(x, w) }",
        w=texts.random(2, 2, 2, 2, 2),
    )
    (node,) = model.graph
    reason = node.metadata_props["edgesparse.declined.split_conv_transpose"]
    assert reason == "3-D transposed convolution, expected 1-D or 2-D"


@pytest.mark.parametrize(
    ("attributes", "result", "reason"),
    [
        ("output_shape = [4, 6]", "n, c", "its output_shape is smaller than its input"),
        (
            'auto_pad = "SAME_UPPER", output_padding = [1, 0], strides = [2, 2]',
            "1, 4, 11, 12",
            "output_padding together with auto_pad SAME_UPPER",
        ),
    ],
)
def test_declines_extents_that_onnx_infers_wrongly(attributes, result, reason):
    model = texts.model(
        f"(float[1, 3, 5, 6] x) => (float[{result}] y)"
        f" {{ y = ConvTranspose <{attributes}> (x, w) }}",
        w=texts.random(3, 4, 2, 2),
    )
    assert not SplitConvTransposePass()(model).modified
    (node,) = model.graph
    assert node.metadata_props["edgesparse.declined.split_conv_transpose"] == reason
