"""Elementwise operators against onnxruntime, in both layouts."""

from __future__ import annotations

import compiled
import numpy as np
import pytest
import texts
from node_runner import Case, check, lower_case

from edgesparse.errors import UnsupportedModelError
from edgesparse.kernels.elementwise import ACTIVATIONS
from edgesparse.lower import LOWERINGS
from edgesparse.lower.activation import BINARY_OPS, UNARY_OPS, lower_binary, lower_unary

rng = np.random.default_rng(0)
PLANES = {0: "planes:1", "y": "planes:1"}
# Not operators of ONNX: they come from the passes, or have no kernel in onnxruntime.
OWN = {"Silu", "GeluTanh"}
POSITIVE = {"Log", "Sqrt", "Reciprocal"}
BOTH = pytest.mark.parametrize("layouts", [{}, PLANES], ids=["flat", "planes"])


def floats(*shape: int) -> np.ndarray:
    return (3 * rng.standard_normal(shape)).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return rng.uniform(0.1, 4, shape).astype(np.float32)


@BOTH
def test_unary(layouts):
    check(*(
        Case(op, [(positive if op in POSITIVE else floats)(*shape)], layouts=layouts)
        for op in sorted(set(UNARY_OPS) - OWN)
        for shape in ((1, 3, 5, 7), (2, 2, 4, 4))
    ))  # fmt: skip


def test_parameters():
    x = floats(4, 9)
    check(
        Case("Elu", [x], {"alpha": 0.7}),
        Case("Gelu", [x], {"approximate": "tanh"}),
        Case("HardSigmoid", [x], {"alpha": 0.3, "beta": 0.4}),
        Case("LeakyRelu", [x], {"alpha": 0.3}),
        Case("ThresholdedRelu", [x], {"alpha": 0.5}),
    )


def test_infinite_and_nan_propagate():
    x = np.array([np.nan, np.inf, -np.inf, 0, -1, 2], np.float32)
    low, high = np.array(0, np.float32), np.array(1, np.float32)
    check(*(Case(op, [x]) for op in ("Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Softplus")))
    check(Case("Max", [x, x[::-1].copy()]), Case("Min", [x, x[::-1].copy()]))
    check(Case("Clip", [x, low, high], constants=(1, 2)))


def test_scalars_and_empty_arrays():
    check(
        Case("Relu", [np.array(-2, np.float32)]),
        Case("Add", [np.array(2, np.float32), np.array(3, np.float32)]),
        Case("Mul", [floats(5, 3), np.array(3, np.float32)]),
        Case("Relu", [floats(0, 4)]),
        Case("Add", [floats(0, 4), floats(4)]),
    )


@BOTH
def test_binary_broadcasts(layouts):
    x = floats(2, 5, 3, 7)
    sides = [floats(2, 5, 3, 7), positive(5, 1, 1), positive(7), positive(1), positive(2, 1, 3, 7),
             positive(3, 1), positive(1, 5, 1, 1)]  # fmt: skip
    check(*(
        Case(op, pair, constants=constants, layouts=layouts)
        for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")
        for side in sides
        for pair, constants in (([x, side], ()), ([x, side], (1,)))
    ))  # fmt: skip


def test_first_operand_broadcasts():
    check(
        Case("Sub", [floats(7), floats(2, 3, 7)]),
        Case("Div", [floats(3, 1), positive(2, 3, 7)], constants=(0,)),
        Case("Sub", [floats(1, 4, 1, 1), floats(1, 4, 5, 5)], layouts={**PLANES, 1: "planes:1"}),
        Case("Mul", [floats(1, 4, 5, 1), floats(1, 1, 5, 6)], layouts={"y": "planes:1"}),
    )


def test_planes_of_tokens():
    layouts = {0: "planes:-1", "y": "planes:2"}
    check(
        Case("Add", [floats(1, 9, 6), floats(6)], constants=(1,), layouts=layouts),
        Case("Mul", [floats(1, 9, 6), floats(1, 9, 1)], layouts=layouts),
    )


def test_several_operands():
    many = [floats(3, 4), floats(4), floats(3, 1), floats(3, 4)]
    check(*(Case(op, many) for op in ("Sum", "Mean", "Max", "Min")))
    check(*(Case(op, many[:1]) for op in ("Sum", "Mean", "Max")))


@pytest.mark.parametrize("exponent", [2, 3, -1, 0.5, -0.5, 0.3, 0, -2])
def test_constant_powers(exponent):
    check(
        Case(
            "Pow", [positive(5, 9), np.array(exponent, np.float32)], constants=(1,), tolerance=5e-6
        ),
        Case("Pow", [positive(5, 9), np.array([exponent], np.float32)], tolerance=5e-6),
    )
    if exponent == int(exponent) and exponent >= 0:
        check(Case("Pow", [floats(5, 9), np.array(exponent)], constants=(1,), tolerance=5e-6))


def test_prelu():
    check(
        Case("PRelu", [floats(2, 4, 3, 3), floats(4, 1, 1)], constants=(1,), layouts=PLANES),
        Case("PRelu", [floats(2, 4), floats(1)]),
    )


@pytest.mark.parametrize("slope", [(4,), (1, 2, 4, 3, 3), (3, 1, 1, 1)])
def test_slopes_that_do_not_broadcast_to_the_input_are_refused(slope):
    text = "(float[1, 4, 3, 3] x) => (float[1, 4, 3, 3] y) { y = PRelu(x, w) }"
    with pytest.raises(UnsupportedModelError, match=r"PRelu .*a slope of shape \["):
        compiled.plan_of(texts.proto(text, w=floats(*slope)))


def test_clip():
    x, low, high = floats(3, 40), np.array(-0.5, np.float32), np.array(1, np.float32)
    check(
        Case("Clip", [x]),
        Case("Clip", [x, low], constants=(1,)),
        Case("Clip", [x, None, high], constants=(2,)),
        Case("Clip", [x, low, high], constants=(1, 2)),
        Case("Clip", [x, low, high]),
    )


def test_integers_take_the_generic_path():
    x, y = np.arange(12).reshape(3, 4), np.arange(4) + 1
    check(*(Case(op, [x, y]) for op in ("Add", "Sub", "Mul", "Div", "Max")))
    check(Case("Abs", [x - 5]), Case("Neg", [x]))


def test_unsupported_element_types_are_refused():
    with pytest.raises(UnsupportedModelError, match=r"Exp .*element type float64"):
        lower_case(Case("Exp", [np.zeros(3)]))


def test_fast_kernels_come_before_the_generic_path():
    assert all(LOWERINGS[op] is lower_unary for op in UNARY_OPS)
    assert all(LOWERINGS[op] is lower_binary for op in BINARY_OPS)
    assert set(ACTIVATIONS) - {""} <= set(UNARY_OPS) | {"Clip"}
