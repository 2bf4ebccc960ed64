"""Reductions, Softmax and normalisations against onnxruntime, in both layouts."""

from __future__ import annotations

import numpy as np
import pytest
import texts
from compiled import assert_same_as_onnxruntime
from kernel_runner import run_plan
from node_runner import Case, check, lower_case, lower_model, model_of

from edgesparse.errors import UnsupportedModelError
from edgesparse.kernels.reduce import REDUCTIONS

rng = np.random.default_rng(0)
PLANES = {0: "planes:1", "y": "planes:1"}
OPS = (*REDUCTIONS, "ReduceLogSumExp")


def positive(*shape: int) -> np.ndarray:
    return rng.uniform(0.2, 1.5, shape).astype(np.float32)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def axes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def reduction(op: str, x: np.ndarray, over: tuple[int, ...], keep: int, layouts=()) -> Case:
    return Case(op, [x, axes(*over)], {"keepdims": keep}, (1,), dict(layouts), tolerance=1e-5)


@pytest.mark.parametrize("layouts", [{}, {0: "planes:1"}], ids=["flat", "planes"])
def test_every_reduction(layouts):
    check(*(
        reduction(op, positive(2, 3, 3, 7), over, keep, layouts)
        for op in OPS
        for over, keep in (((2, 3), 1), ((1,), 0))
    ))  # fmt: skip


@pytest.mark.parametrize("layout", ["flat", "planes:1", "planes:-1"])
def test_mean_over_axes_of_any_layout(layout):
    shapes = [(1, 5, 7, 7), (1, 17, 1, 33), (2, 3, 4, 9)]
    overs = [(2, 3), (1,), (3,), (0, 2), (0, 1, 2, 3)]
    check(*(
        reduction("ReduceMean", floats(*shape), over, keep, {0: layout})
        for shape in shapes
        for over in overs
        for keep in (0, 1)
    ))  # fmt: skip


@pytest.mark.parametrize("extents", [(n - 1, n, n + 1) for n in (4, 16, 64, 128)], ids=str)
def test_sizes_that_straddle_vectors(extents):
    check(*(
        reduction("ReduceSum", positive(1, c, n, 1), over, 1, {0: layout})
        for n in extents
        for c in (1, 3)
        for over in ((2,), (1,), (1, 2))
        for layout in ("flat", "planes:1")
    ))  # fmt: skip


def test_result_in_planes():
    check(
        reduction("ReduceMax", floats(2, 6, 5, 9), (3,), 1, PLANES),
        reduction("ReduceMax", floats(2, 6, 5, 9), (3,), 0, PLANES),
        reduction("ReduceMax", floats(2, 6, 5, 9), (0,), 1, PLANES),
    )


def test_integers():
    small = rng.integers(-4, 5, (3, 40)).astype(np.int64)
    check(*(
        Case(op, [x, axes(1)], constants=(1,))
        for op in ("ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare")
        for x in (small, small.astype(np.int32))
        if (op, x.dtype) != ("ReduceSumSquare", np.int64)
    ))  # fmt: skip


@pytest.mark.parametrize("op", ["ReduceL2", "ReduceLogSum", "ReduceLogSumExp"])
def test_roots_and_logarithms_of_integers_are_refused(op):
    case = Case(op, [np.ones((3, 4), np.int32), axes(1)], constants=(1,))
    with pytest.raises(UnsupportedModelError, match=rf"{op} .*element type int32"):
        lower_case(case)


def test_no_axes_reduces_all_or_nothing():
    x = floats(3, 4)
    check(
        Case("ReduceSum", [x], tolerance=1e-5),
        Case("ReduceSum", [x], {"keepdims": 0}, tolerance=1e-5),
        Case("ReduceSum", [x, axes()], {"noop_with_empty_axes": 1}, (1,)),
        Case("ReduceMean", [floats(5), axes(0)], {"keepdims": 0}, (1,)),
        Case("ReduceMean", [floats(1, 1), axes(0)], {}, (1,)),
        Case("ReduceSum", [np.array(3, np.float32)]),
    )


def test_no_axes_leave_a_function_of_every_element():
    x, attributes = 1 - positive(3, 4), {"noop_with_empty_axes": 1}
    check(*(
        Case(op, [abs(x) if op == "ReduceLogSum" else x, *over], attributes, (1,), layouts, 1e-6)
        for op in OPS
        for over, layouts in (([axes()], {}), ([], PLANES))
    ))  # fmt: skip


def test_axes_of_old_opsets_are_attributes():
    case = Case("ReduceMean", [floats(1, 6, 5, 5)], {"axes": [2, 3]}, (), {0: "planes:1"}, 1e-5)
    check(case, Case("ReduceMax", [floats(4, 5)], {"axes": [-1], "keepdims": 0}), opset=13)


def test_infinities_and_nan():
    x = np.zeros((4, 37), np.float32)
    x[0], x[1], x[2, 5], x[3, 36] = -np.inf, np.inf, np.nan, np.nan
    plan = [Case(op, [x, axes(1)], {}, (1,)) for op in ("ReduceMax", "ReduceMin")]
    for case, reference in zip(plan, (np.max, np.min), strict=True):
        (y,) = run_plan(lower_case(case), case.inputs[0])
        np.testing.assert_array_equal(y, reference(x, axis=1, keepdims=True))
    case = Case("ReduceLogSumExp", [x[:2], axes(1)], constants=(1,))
    (y,) = run_plan(lower_case(case), x[:2])
    np.testing.assert_array_equal(y[:, 0], [-np.inf, np.inf])


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_on_any_axis(op):
    check(*(
        Case(op, [10 * floats(*shape)], {"axis": axis}, layouts=layouts, tolerance=1e-5)
        for shape in ((1, 10), (1, 19, 5, 7))
        for axis in (-1, 1)
        for layouts in ({}, PLANES, {0: "planes:1"}, {"y": "planes:-1"})
    ))  # fmt: skip


def test_softmax_of_masked_scores():
    scores = floats(3, 40)
    scores[:, 20:] = -np.inf
    check(Case("Softmax", [scores], tolerance=1e-6), Case("Softmax", [1e4 * floats(2, 9)]))


def layer_norm(shape: tuple[int, ...], axis: int, layouts=(), *, bias: bool = True) -> Case:
    parameters = [floats(*shape[axis:]) for _ in range(2 if bias else 1)]
    x = 3 * floats(*shape) + 5
    attributes = {"axis": axis, "epsilon": 1e-5}
    return Case("LayerNormalization", [x, *parameters], attributes, (1, 2), dict(layouts), 2e-5)


def test_layer_norm():
    check(*(
        layer_norm(shape, axis, layouts, bias=bias)
        for shape, axis in (((1, 17, 33), -1), ((2, 5, 64), -1), ((3, 4, 5, 6), 2), ((7, 9), 0))
        for bias in (True, False)
        for layouts in ({}, {0: "planes:-1", "y": "planes:-1"}, {"y": "planes:-1"})
    ))  # fmt: skip


def test_layer_norm_with_computed_parameters_and_broadcast_scale():
    x, scale, bias = floats(2, 6, 9), floats(9), floats(9)
    attributes = {"axis": 1}
    check(
        Case("LayerNormalization", [x, scale, bias], tolerance=1e-5),
        Case("LayerNormalization", [x, floats(6, 9), floats(6, 9)], attributes, tolerance=1e-5),
    )


def test_layer_norm_of_our_own_domain():
    case = layer_norm((2, 5, 16), -1)
    model = model_of([case])
    next(iter(model.graph)).domain = "edgesparse"
    (y,) = run_plan(lower_model(model), case.inputs[0])
    x, scale, bias = case.inputs
    centred = x - x.mean(-1, keepdims=True)
    want = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + bias
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)


def test_instance_norm():
    check(*(
        Case("InstanceNormalization", [2 * floats(*shape) - 1, floats(shape[1]), floats(shape[1])],
             {}, (1, 2), layouts, 2e-5)
        for shape in ((1, 3, 7, 7), (2, 5, 4, 9), (2, 3, 35))
        for layouts in ({}, PLANES)
    ))  # fmt: skip


def test_group_norm():
    check(*(
        Case("GroupNormalization", [2 * floats(*shape) - 1, floats(shape[1]), floats(shape[1])],
             {"num_groups": groups}, (1, 2), layouts, 5e-5)
        for shape, groups in (((1, 6, 7, 7), 3), ((2, 8, 3, 5), 2), ((1, 4, 9), 4))
        for layouts in ({}, PLANES)
    ), opset=21)  # fmt: skip


@pytest.mark.parametrize("opset", [21, 22])
def test_group_norm_in_a_file(opset):
    """ONNX infers no shape for its result, so the front end has to."""
    proto = texts.proto(
        "(float[1, 8, 6, 6] x) => (float[1, 4, 6, 6] y)"
        " { a = GroupNormalization <num_groups = 4> (x, s, b) c = Relu(a) d = Conv(c, w)"
        " e = GroupNormalization <num_groups = 2> (d, t, t) f = Mul(e, $2.0) y = Sigmoid(f) }",
        opset=opset,
        **{"s": floats(8), "b": floats(8), "w": floats(4, 8, 1, 1), "t": floats(4)},
    )
    assert_same_as_onnxruntime(proto)


def test_axes_that_are_computed_are_refused():
    case = Case("ReduceSum", [floats(3, 4), axes(1)], constants=(1,))
    model = model_of([case])
    next(iter(model.graph)).inputs[1].const_value = None
    with pytest.raises(UnsupportedModelError, match="axes that are the result") as error:
        lower_model(model)
    assert "constant axes" in error.value.hint


def test_other_element_types_are_refused():
    x = floats(3, 4).astype(np.float64)
    for case in (Case("Softmax", [x]), Case("ReduceMean", [x, axes(1)], constants=(1,))):
        with pytest.raises(UnsupportedModelError, match="element type float64"):
            lower_case(case)


def test_statistics_of_layer_norm_are_refused():
    model = model_of([layer_norm((2, 5), -1)])
    node = next(iter(model.graph))
    node.resize_outputs(2)
    model.graph.outputs.append(node.outputs[1])
    with pytest.raises(UnsupportedModelError, match="Mean or InvStdDev"):
        lower_model(model)
