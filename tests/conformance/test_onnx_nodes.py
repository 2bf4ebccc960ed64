"""ONNX's own node tests, through the whole pipeline: every one is right, or refused in words.

`make test` takes the first few of each operator, `make test-all` takes all of them.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import io
import warnings
from collections.abc import Iterator, Mapping

import compiled
import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgesparse.errors import InvalidModelError, UnsupportedModelError
from edgesparse.lower import SUPPORTED

PARTS = 4
FIRST = 2
# onnxruntime and torch measure the last pixel of a plane that becomes one pixel otherwise.
OTHER_OPINIONS = {
    "test_resize_downsample_scales_cubic_align_corners",
    "test_resize_downsample_scales_linear_align_corners",
}
# What is computed in float32 of half precision, and how exact the half of a result is.
HALVES = {dtype: float(ml_dtypes.finfo(dtype).eps) for dtype in ("float16", "bfloat16")}
# What passes make of these is computed; SUPPORTED lists what they become.
BY_PASSES = {
    "Attention", "BatchNormalization", "CenterCropPad", "Conv", "ConvTranspose", "Dropout",
    "Einsum", "Gemm", "LRN", "LpNormalization", "MeanVarianceNormalization", "RMSNormalization",
    "RotaryEmbedding", "Size", "Shape", "SwiGLU", "Swish",
}  # fmt: skip
# Tested by ONNX in double, in opset 12 and older, or with the outputs that training needs, only.
NEVER_RIGHT = {
    "And", "Einsum", "LayerNormalization", "Not", "Or", "ReduceLogSumExp", "Shrink", "Xor",
}  # fmt: skip


@functools.cache
def cases() -> dict[str, list]:
    """Return operator -> its tests: those of one node, whose data are arrays."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    by_operator = collections.defaultdict(list)
    for case in found:
        arrays = [array for group in case.data_sets[0] for array in group]
        if len(case.model.graph.node) == 1 and all(isinstance(a, np.ndarray) for a in arrays):
            by_operator[case.model.graph.node[0].op_type].append(case)
    return dict(sorted(by_operator.items()))


def static(model: onnx.ModelProto, feeds: Mapping, constants: set[str]) -> onnx.ModelProto:
    """Return the model with the shapes of its data, and some inputs as initializers."""
    model = copy.deepcopy(model)
    for value in list(model.graph.input):
        if value.name in constants:
            model.graph.input.remove(value)
            model.graph.initializer.append(numpy_helper.from_array(feeds[value.name], value.name))
        else:
            shape = value.type.tensor_type.shape
            del shape.dim[:]
            for extent in feeds[value.name].shape:
                shape.dim.add().dim_value = extent
    return model


def problem_of(case) -> str | None:
    """Return what is wrong with a test's results, "" if nothing; None where it is refused."""
    given, expected = case.data_sets[0]
    feeds = {v.name: np.asarray(a) for v, a in zip(case.model.graph.input, given, strict=False)}
    for constants in (set(), set(list(feeds)[1:])):  # weights and sizes are constants here
        try:
            model = static(case.model, feeds, constants)
            plan = compiled.plan_of(model)
        except (UnsupportedModelError, InvalidModelError):
            continue
        got = compiled.run_plan(plan, {k: wide(v) for k, v in feeds.items() if k not in constants})
        outputs = zip(model.graph.output, expected, strict=False)
        problems = (difference(got[output.name], want, case.rtol) for output, want in outputs)
        return next(filter(None, problems), "")
    return None


def wide(array: np.ndarray) -> np.ndarray:
    """Return an array as it is taken: half precision as float32."""
    return array.astype(np.float32) if str(array.dtype) in HALVES else array


def difference(found: np.ndarray, want: np.ndarray, rtol: float) -> str:
    """Return what is wrong with an output, "" if nothing."""
    exact, want = HALVES.get(str(want.dtype), 0), wide(want)
    if found.shape != want.shape or found.dtype != want.dtype:
        return f"{found.dtype}{found.shape}, expected {want.dtype}{want.shape}"
    rtol, atol = max(rtol, 1e-4, 2 * exact), max(1e-5, exact)
    return "" if np.allclose(found, want, rtol=rtol, atol=atol, equal_nan=True) else "differs"


def results(part: int, number: int | None) -> Iterator[tuple[str, str, str | None]]:
    """Yield operator, test and problem for a part of the operators."""
    for index, (operator, found) in enumerate(cases().items()):
        if index % PARTS == part:
            for case in found[:number]:
                yield operator, case.name, problem_of(case)


def check(part: int, number: int | None) -> None:
    right, wrong = set(), []
    for operator, name, problem in results(part, number):
        if problem == "":
            right.add(operator)
        elif problem is not None and name not in OTHER_OPINIONS:
            wrong.append(f"{name}: {problem}")
    assert not wrong
    mine = [operator for index, operator in enumerate(cases()) if index % PARTS == part]
    expected = ({*mine} & ({*SUPPORTED} | BY_PASSES)) - NEVER_RIGHT
    assert expected <= right, f"never right: {sorted(expected - right)}"


@pytest.mark.parametrize("part", range(PARTS))
def test_the_first_of_each_operator(part):
    check(part, FIRST)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_all(part):
    check(part, None)
