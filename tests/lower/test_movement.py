"""Operators that move data against onnxruntime, from and to both layouts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from node_runner import Case, check, lower_case, lower_model, model_of

from edgesparse.errors import UnsupportedModelError
from edgesparse.lower.views import common_factors
from edgesparse.plan import Plan

rng = np.random.default_rng(0)
LAYOUTS = ({}, {0: "planes:1"}, {"y": "planes:1"}, {0: "planes:1", "y": "planes:1"})


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def everywhere(op, inputs, attributes=None, constants=(1, 2, 3, 4)) -> list[Case]:
    """Return the case for every pair of layouts; constants must be equal, not close."""
    present = [i for i in constants if i < len(inputs)]
    return [
        Case(op, inputs, attributes or {}, present, layouts, tolerance=0) for layouts in LAYOUTS
    ]


def copies(plan: Plan) -> int:
    """Return the steps between the copies of inputs and outputs."""
    return len(plan.steps) - len(plan.inputs) - len(plan.outputs)


def test_transpose():
    x = floats(2, 5, 4, 7)
    perms = [list(p) for p in itertools.permutations(range(4))][::3]
    check(*(case for perm in perms for case in everywhere("Transpose", [x], {"perm": perm})))
    check(Case("Transpose", [floats(5, 9)]), Case("Transpose", [np.arange(6).reshape(2, 3)]))


@pytest.mark.parametrize(
    ("shape", "to"),
    [
        ((2, 6, 4, 7), (2, 6, 28)),
        ((2, 6, 4, 7), (2, 168)),
        ((1, 6, 5, 5), (1, 2, 3, 25)),
        ((2, 6, 4, 7), (12, 4, 1, 7)),
        ((2, 6, 4, 7), (-1, 7)),
        ((2, 6, 5, 7), (2, 10, 21)),
        ((2, 6), (2, 3, 2)),
        ((1, 8, 1, 1), (1, 8)),
    ],
)
def test_reshape(shape, to):
    check(*everywhere("Reshape", [floats(*shape), ints(*to)]))


def test_reshape_in_the_same_order_moves_nothing():
    assert copies(lower_case(Case("Reshape", [floats(3, 8), ints(24)], constants=(1,)))) == 0
    planes = {0: "planes:1", "y": "planes:1"}
    case = Case("Reshape", [floats(1, 6, 5, 5), ints(1, 6, 25)], constants=(1,), layouts=planes)
    assert copies(lower_case(case)) <= 1
    case = Case("Transpose", [floats(1, 4, 4, 16)], {"perm": [0, 3, 1, 2]},
                layouts={0: "planes:3", "y": "planes:1"})  # fmt: skip
    assert copies(lower_case(case)) == 0


def test_flatten_squeeze_unsqueeze():
    x = floats(1, 6, 1, 7)
    check(
        *everywhere("Flatten", [floats(2, 6, 3, 5)]),
        *everywhere("Flatten", [floats(2, 6, 3, 5)], {"axis": 2}),
        *everywhere("Squeeze", [floats(2, 6, 1, 7), ints(2)]),
        *everywhere("Unsqueeze", [floats(2, 6, 7), ints(0, 3)]),
        Case("Squeeze", [x], tolerance=0),
        Case("Unsqueeze", [np.array(3, np.float32), ints(0)], constants=(1,)),
    )


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([1, 2], [2, 6], [0, 3], [1, 1]),
        ([-1], [-100], [2], [-1]),
        ([100], [-(2**63)], [1], [-2]),
        ([0, 1], [2**63 - 1, -1], [1, -1], [2, 3]),
        ([-3], [2**31], [-2], [1]),
        ([3], [3], [1], [1]),
    ],
)
def test_slice(starts, ends, axes, steps):
    bounds = [ints(*v) for v in (starts, ends, axes, steps)]
    check(*everywhere("Slice", [floats(2, 6, 4, 7), *bounds]))


def test_slice_defaults_and_types():
    check(
        Case("Slice", [np.arange(20), ints(2), ints(9)], constants=(1, 2)),
        Case(
            "Slice", [np.arange(20) > 7, ints(9), ints(2), ints(0), ints(-2)], constants=range(1, 5)
        ),
    )


@pytest.mark.parametrize(
    ("shape", "first", "behind", "steps"),
    [
        ((1, 8, 5, 6), 4, 8, 0),  # half of the planes
        ((1, 8, 5, 6), 0, 5, 0),
        ((1, 6, 1, 2), 3, 6, 1),  # not aligned
        ((1, 8, 5, 6), 2, 3, 1),  # too little to keep all of them for
        ((2, 8, 5, 6), 4, 8, 0),  # images lie in the planes
    ],
)
def test_part_of_the_planes_is_read_where_it_lies(shape, first, behind, steps):
    bounds = [ints(first), ints(behind), ints(1)]
    planes = {0: "planes:1", "y": "planes:1"}
    case = Case("Slice", [floats(*shape), *bounds], {}, (1, 2, 3), planes, tolerance=0)
    check(case)
    assert copies(lower_case(case)) == steps


def test_concat():
    parts = [floats(2, 3, 4, 5), floats(2, 1, 4, 5), floats(2, 4, 4, 5)]
    check(
        *everywhere("Concat", parts, {"axis": 1}, constants=(1,)),
        *everywhere("Concat", [parts[0], parts[0] + 1], {"axis": -1}, constants=()),
        *everywhere("Concat", [parts[0], floats(2, 0, 4, 5)], {"axis": 1}, constants=()),
        Case("Concat", [np.arange(3), np.arange(2)], {"axis": 0}),
    )


@pytest.mark.parametrize("layout", ["flat", "planes:1"])
@pytest.mark.parametrize("axis", [1, 3])
def test_split(layout, axis):
    import onnx
    import onnxruntime
    from kernel_runner import run_plan
    from onnx import helper

    x = floats(2, 6, 4, 6)
    names = ["a", "b", "c"]
    node = helper.make_node("Split", ["x", "s"], names, axis=axis)
    graph = helper.make_graph(
        [node],
        "split",
        [helper.make_tensor_value_info("x", 1, x.shape)],
        [onnx.ValueInfoProto(name=name) for name in names],
        [onnx.numpy_helper.from_array(ints(1, 3, 2), "s")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    want = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    import onnx_ir as ir

    model = ir.from_proto(proto)
    for value in (*model.graph.inputs, *model.graph.outputs[1:]):
        value.metadata_props["edgesparse.layout"] = layout
    for have, expected in zip(run_plan(lower_model(model), x), want, strict=True):
        np.testing.assert_array_equal(have, expected)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pad(mode):
    x = floats(2, 3, 4, 7)
    check(
        *everywhere("Pad", [x, ints(0, 0, 1, 2, 0, 0, 3, 1)], {"mode": mode}),
        *everywhere("Pad", [x, ints(0, 2, 1, 0), None, ints(2, 3)], {"mode": mode}),
        opset=19,
    )


def test_pad_value_and_crop():
    x = floats(2, 3, 4, 7)
    check(
        *everywhere("Pad", [x, ints(0, 0, -1, 2, 1, 0, 3, -2), np.array(2.5, np.float32)]),
        Case("Pad", [np.arange(4), ints(1, 2), np.array(9)], constants=(1, 2)),
        Case("Pad", [np.arange(4), ints(1, 2), np.array(2**53 + 1)], constants=(1, 2)),
    )


def test_expand_and_tile():
    check(
        *everywhere("Expand", [floats(2, 3, 1, 1), ints(2, 3, 4, 5)]),
        Case("Expand", [floats(3, 1), ints(2, 1, 4)], constants=(1,), tolerance=0),
        *everywhere("Tile", [floats(2, 3, 2, 5), ints(1, 2, 1, 3)]),
        Case("Tile", [np.arange(3), ints(3)], constants=(1,)),
        Case("Tile", [np.arange(4) > 1, ints(3)], constants=(1,)),
        Case("Expand", [np.arange(1), ints(4, 5)], constants=(1,)),
    )


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode):
    check(*everywhere("DepthToSpace", [floats(2, 12, 3, 5)], {"blocksize": 2, "mode": mode}))


def test_space_to_depth():
    check(*everywhere("SpaceToDepth", [floats(2, 3, 4, 6)], {"blocksize": 2}))


COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
)  # fmt: skip


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_resize_nearest(coordinates, rounding):
    attributes = {
        "mode": "nearest",
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": rounding,
    }
    x = floats(1, 2, 4, 7)
    scales = ([1, 1, 2, 2], [1, 1, 3, 1.5], [1, 1, 0.5, 0.65], [1, 1, 1, 2.3])
    sizes = ((1, 2, 5, 9), (1, 2, 1, 14))
    cases = [([x, None, np.array(s, np.float32)], (2,)) for s in scales]
    cases += [([x, None, None, ints(*s)], (3,)) for s in sizes]
    check(*(
        Case("Resize", inputs, attributes, constants, layouts, tolerance=0)
        for inputs, constants in cases
        for layouts in (LAYOUTS[0], LAYOUTS[-1])
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("coordinates", "rounding", "shape", "sizes"),
    [
        ("align_corners", "floor", (17, 8), (56, 24)),
        ("align_corners", "ceil", (5, 4), (61, 8)),
        ("half_pixel_symmetric", "floor", (18, 4), (6, 8)),
        ("half_pixel_symmetric", "ceil", (11, 4), (29, 8)),
    ],
)
def test_resize_nearest_meets_pixels_exactly(coordinates, rounding, shape, sizes):
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(1, 1, *shape)
    check(Case("Resize", [x, None, None, ints(1, 1, *sizes)], attributes, (3,), tolerance=0))


def test_doubling_is_a_copy():
    scales = np.array([1, 1, 2, 2], np.float32)
    attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    case = Case("Resize", [floats(1, 2, 4, 7), None, scales], attributes, (2,))
    plan = lower_case(case)
    assert not any("gather" in symbol for symbol in plan.kernels)


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"coordinate_transformation_mode": "tf_crop_and_resize"}, "tf_crop_and_resize"),
        ({"mode": "linear"}, "mode 'linear'"),  # a pass makes products of it
    ],
)
def test_resize_refused(attributes, problem):
    scales = np.array([1, 1, 2, 2], np.float32)
    roi = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
    case = Case("Resize", [floats(1, 2, 4, 7), roi, scales], attributes, (1, 2))
    with pytest.raises(UnsupportedModelError, match=problem):
        lower_case(case)


def test_identity():
    check(Case("Identity", [floats(2, 3)]))


def test_computed_bounds_are_refused():
    case = Case("Slice", [floats(4), ints(1), ints(3)])
    model = model_of([case])
    model.graph[0].outputs[0].shape = model.graph[0].inputs[0].shape
    with pytest.raises(UnsupportedModelError, match=r"Slice .*starts that is the result"):
        lower_model(model)


@pytest.mark.parametrize(
    ("left", "right", "factors"),
    [
        ((2, 6), (12,), [2, 6]),
        ((12,), (3, 4), [3, 4]),
        ((4, 6), (2, 12), [2, 2, 6]),
        ((4, 6), (6, 4), None),
        ((1, 5, 1), (5,), [5]),
    ],
)
def test_common_factors(left, right, factors):
    found = common_factors(left, right)
    assert (found and found[0]) == factors
