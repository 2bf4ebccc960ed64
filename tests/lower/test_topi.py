"""The generic path against onnxruntime: every operator of the table."""

from __future__ import annotations

import numpy as np
import pytest
from node_runner import Case, check, lower_case, lower_model, model_of

import edgesparse.lower
from edgesparse.errors import UnsupportedModelError
from edgesparse.kernels.topi_operators import OPERATORS
from edgesparse.lower.topi import LOWERINGS

rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return np.asarray(rng.uniform(-3, 3, shape), np.float32)


def ints(*shape: int, low: int = -5, high: int = 6, dtype: type = np.int64) -> np.ndarray:
    return np.asarray(rng.integers(low, high, shape), dtype)


def bools(*shape: int) -> np.ndarray:
    return np.asarray(rng.random(shape) < 0.5)


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, 2.5, -0.5, -1.5, 0.49], np.float32)
ONNX_TYPES = dict(
    float32=1, uint8=2, int8=3, uint16=4, int16=5, int32=6, int64=7, bool=9, float64=11,
    uint32=12, uint64=13,
)  # fmt: skip

UNARY = [
    Case(op, [x])
    for op in (
        "Abs", "Ceil", "Celu", "Cos", "Floor", "Neg", "Round", "Selu", "Shrink", "Sign", "Sin",
        "Softsign", "Tan", "ThresholdedRelu",
    )
    for x in (floats(3, 17),)
]  # fmt: skip
INTEGER = [
    *(Case(op, [ints(4, 5), ints(5, low=1)]) for op in ("Add", "Div", "Max", "Min", "Mul", "Sub")),
    *(Case(op, [ints(4, 5, dtype=np.int32)]) for op in ("Abs", "Neg", "Sign")),
    Case("Sign", [ints(4, 5, low=0, dtype=np.uint8)]),
    Case("BitShift", [ints(7, low=0, dtype=np.uint8), ints(7, low=0, high=3, dtype=np.uint8)],
         {"direction": "LEFT"}),
    Case("BitShift", [ints(7, low=0, dtype=np.uint32), ints(7, low=0, high=3, dtype=np.uint32)],
         {"direction": "RIGHT"}),
    *(Case(f"Bitwise{op}", [ints(3, 5), ints(5)]) for op in ("And", "Or", "Xor")),
    Case("BitwiseNot", [ints(9, dtype=np.int32)]),
    Case("Mod", [ints(40), ints(40, low=1)]),
    Case("Mod", [ints(40), -ints(40, low=1)]),
    Case("Mod", [ints(40), ints(40, low=1)], {"fmod": 1}),
    Case("Mod", [floats(40), floats(40)], {"fmod": 1}, tolerance=1e-5),
]  # fmt: skip
LOGIC = [
    *(Case(op, [bools(2, 9), bools(9)]) for op in ("And", "Or", "Xor")),
    Case("Not", [bools(3, 5)]),
    *(
        Case(op, [x, y])
        for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
        for x, y in (
            (ints(6, 7), ints(7)),
            (ints(1, 4, dtype=np.int32).astype(np.float32), floats(3, 1)),
        )
    ),
    Case("Equal", [bools(11), bools(11)]),
    Case("IsNaN", [SPECIAL]),
    Case("IsInf", [SPECIAL]),
    Case("IsInf", [SPECIAL], {"detect_negative": 0}),
    Case("Where", [bools(3, 1), floats(1, 5), floats(4, 1, 1)]),
    Case("Where", [bools(9), ints(9), ints(1)], constants=(2,)),
    *(Case(op, [SPECIAL]) for op in ("Round", "Ceil", "Floor")),
]
CASTS = [
    *(Case("Cast", [np.array([0, 1, 5, 100], dtype)], {"to": ONNX_TYPES["float32"]})
      for dtype in ONNX_TYPES),
    *(Case("Cast", [np.array([0.0, 0.5, 1.7, 100.2], np.float32)], {"to": ONNX_TYPES[dtype]})
      for dtype in ONNX_TYPES),
    Case("Cast", [floats(33)], {"to": ONNX_TYPES["int64"]}),
    Case("CastLike", [floats(5), ints(1)]),
]  # fmt: skip
MOVEMENT = [
    Case("Trilu", [floats(2, 4, 5)]),
    Case("Trilu", [ints(4, 4), numbers(-1).reshape(())], {"upper": 0}, constants=(1,)),
    Case("Trilu", [floats(4, 6), numbers(2).reshape(())], {"upper": 1}, constants=(1,)),
    Case("OneHot", [ints(3, 2, low=-4, high=6), numbers(4), floats(2)], constants=(1,)),
    Case("OneHot", [ints(5), numbers(4), ints(2)], {"axis": 0}, constants=(1, 2)),
    Case("PRelu", [floats(2, 3, 4), floats(3, 1)]),
    Case("Sum", [floats(3, 4), floats(4), floats(1, 1)]),
    Case("Max", [floats(3, 4), floats(4), floats(1, 1)]),
]
GATHERS = [
    Case("Gather", [floats(4, 5), ints(3, 2, low=-4, high=4)]),
    Case("Gather", [floats(4, 5, 3), ints(2, low=-5, high=5, dtype=np.int32)], {"axis": 1}),
    Case("Gather", [floats(9, 40), ints(7, low=0)], constants=(0,)),
    Case("Gather", [ints(6), numbers(-1).reshape(())], constants=(1,)),
    Case("GatherElements", [floats(4, 5), ints(4, 2, low=-5, high=5)], {"axis": 1}),
    Case("GatherElements", [ints(4, 5), ints(6, 5, low=-4, high=4)]),
    Case("GatherND", [floats(4, 5, 3), ints(2, 6, 2, low=-4, high=4)]),
    Case("GatherND", [floats(2, 5, 3), ints(2, 4, 1, low=-5, high=5)], {"batch_dims": 1}),
]
ARGS = [
    *(
        Case(op, [x], {"axis": axis, "keepdims": keep, "select_last_index": last})
        for op in ("ArgMax", "ArgMin")
        for x, axis, keep, last in (
            (ints(3, 40, 5, low=0, high=3).astype(np.float32), 1, 1, 0),
            (ints(3, 40, 5, low=0, high=3).astype(np.float32), -1, 0, 1),
            (ints(300, 7, low=0, high=3, dtype=np.int32), 0, 0, 0),
            (np.full((3, 4), np.inf, np.float32), 1, 1, 0),
            (np.full((3, 4), -np.inf, np.float32), 1, 1, 0),
        )
    ),
    *(
        Case("CumSum", [floats(3, 9, 2), numbers(axis)], {"exclusive": e, "reverse": r},
             constants=(1,), tolerance=1e-5)
        for axis, e, r in ((0, 0, 0), (1, 1, 0), (1, 0, 1), (-2, 1, 1))
    ),
    Case("CumSum", [ints(300), numbers(0).reshape(())], constants=(1,)),
]  # fmt: skip


CASES = {
    "unary": UNARY, "integer": INTEGER, "logic": LOGIC, "casts": CASTS, "movement": MOVEMENT,
    "gathers": GATHERS, "args": ARGS,
}  # fmt: skip


@pytest.fixture(autouse=True)
def generic_path(monkeypatch):
    """Other families lower some of these operators better; here they must not."""
    monkeypatch.setattr(edgesparse.lower, "LOWERINGS", LOWERINGS)


@pytest.mark.parametrize("group", CASES)
def test_against_onnxruntime(group):
    check(*CASES[group])


def test_every_operator_of_the_table_is_tested():
    tested = {case.op for cases in CASES.values() for case in cases}
    assert set(OPERATORS) == tested


def test_scalars():
    check(
        Case("Sum", [floats(), floats()]),
        Case("Where", [bools(), floats(3), floats()]),
        Case("Cast", [ints()], {"to": 1}),
    )


def test_constants_are_read_where_they_lie():
    table = floats(50, 8)
    plan = lower_case(Case("Gather", [table, ints(3, low=0)], constants=(0,)))
    gather = next(step for step in plan.steps if "gather" in step.symbol)
    assert gather.args[0].space == "weights"


def test_shapes_that_are_computed_are_refused():
    model = model_of([Case("OneHot", [ints(5), numbers(4), floats(2)], constants=(1,))])
    next(iter(model.graph)).inputs[1].const_value = None
    with pytest.raises(UnsupportedModelError, match="expected a constant depth") as error:
        lower_model(model)
    assert "static shapes" in error.value.hint


def test_other_element_types_are_refused():
    with pytest.raises(UnsupportedModelError, match="element type float16"):
        lower_case(Case("Sign", [floats(3).astype(np.float16)]))
