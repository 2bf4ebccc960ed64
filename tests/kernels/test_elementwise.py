"""Unary and binary kernels: tails, broadcasts, vectors; what they compute is in test_math."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kernel_runner import (
    ALLOWED_SYMBOLS,
    SSE,
    TARGETS,
    assembly,
    nan,
    object_of,
    run_kernel,
    undefined_symbols,
)

from edgesparse.kernels.elementwise import ACTIVATIONS, BINARY, UNARY, Binary, Unary

rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("elements", [1, 7, 8, 9, 64])
@pytest.mark.parametrize("target", TARGETS)
def test_every_element_is_written(elements, target):
    x = floats(elements)
    y = run_kernel(Unary("Relu", elements, 8), x, nan(elements), target=target)[1]
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def hard(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return np.clip(alpha * x + beta, 0, 1)


@pytest.mark.parametrize(
    ("name", "alpha", "beta", "expected"),
    [
        ("Clip", -0.5, 1.0, lambda x: np.clip(x, -0.5, 1)),
        ("Clip", 0.0, np.inf, lambda x: np.maximum(x, 0)),
        ("Clip", -np.inf, 0.5, lambda x: np.minimum(x, 0.5)),
        ("HardSigmoid", 0.3, 0.4, lambda x: hard(x, 0.3, 0.4)),
        ("HardSwish", 0.0, 0.0, lambda x: x * hard(x, 1 / 6, 0.5)),
        ("LeakyRelu", 0.1, 0.0, lambda x: np.where(x < 0, 0.1 * x, x)),
        ("ThresholdedRelu", 0.4, 0.0, lambda x: np.where(x > 0.4, x, 0)),
        ("Neg", 0.0, 0.0, lambda x: -x),
        ("Reciprocal", 0.0, 0.0, lambda x: 1 / x),
        ("PowConstant", 3.0, 0.0, lambda x: x**3),
        ("PowConstant", -2.0, 0.0, lambda x: x**-2.0),
    ],
)
def test_simple_functions(name, alpha, beta, expected):
    x = 5 * floats(100)
    y = run_kernel(Unary(name, 100, 8, alpha, beta), x, nan(100))[1]
    np.testing.assert_allclose(y, expected(x.astype(np.float64)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("exponent", [0.5, -0.5])
@pytest.mark.parametrize("target", TARGETS)
def test_roots_as_powers_treat_infinities_as_pow_does(exponent, target):
    x = np.array([*np.abs(floats(12)), np.inf, -np.inf, -1, np.nan], np.float32)
    y = run_kernel(Unary("PowConstant", 16, 4, exponent), x, nan(16), target=target)[1]
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(y, np.power(x, np.full(16, exponent)), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {""}))
@pytest.mark.parametrize("target", TARGETS)
def test_activations_keep_nan_and_touch_no_libm(name, target):
    x = np.append(floats(15), np.float32(np.nan))
    y = run_kernel(Unary(name, 16, 4, 0.1, 0.9), x, nan(16), target=target)[1]
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


@pytest.mark.parametrize(
    ("name", "lanes"),
    [("Exp", 1), ("Exp", 2), ("Exp", 4), ("Relu", 2), ("Sigmoid", 4), ("Tanh", 4)],
)
@pytest.mark.isa("wasm")
def test_relaxed_simd_keeps_nan_in_vectors_of_any_width(name, lanes):
    """LLVM vectorises scalars, and then knows `relaxed_max`, which may drop a NaN."""
    x = np.append(floats(15), np.float32(np.nan))
    y = run_kernel(Unary(name, 16, lanes), x, nan(16), target="wasm-relaxed")[1]
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 5, 17), (3, 5, 17)),
        ((3, 5, 17), (5, 1)),
        ((3, 5, 17), (17,)),
        ((3, 1, 1), (3, 5, 17)),
        ((1, 5, 1), (3, 1, 17)),
        ((3, 5, 1), (1,)),
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_broadcasting(a, b, target):
    left, right = floats(*a), floats(*b)
    shape = np.broadcast_shapes(a, b)

    def strides(array: np.ndarray) -> list[int]:
        return [s // 4 for s in np.broadcast_to(array, shape).strides]

    out = nan(*shape)
    kernel = Binary.between("Sub", shape, strides(left), strides(right), strides(out), 8)
    y = run_kernel(kernel, left, right, out, target=target)[2]
    np.testing.assert_array_equal(y, left - right)


def test_rows_of_padded_planes():
    x, scale, y = floats(4, 16), floats(4), nan(4, 16)
    kernel = Binary.between("Mul", (4, 13), (16, 1), (1, 0), (16, 1), 8)
    got = run_kernel(kernel, x, scale, y)[2]
    np.testing.assert_array_equal(got[:, :13], (x * scale[:, None])[:, :13])


@pytest.mark.parametrize(
    ("target", "add"), [("x86-64-v3", "vaddps"), ("arm64", "fadd\tv"), ("wasm", "f32x4.add")]
)
def test_rows_are_vectorised(target, add):
    assert add in assembly(Binary("Add", (8, 64), (64, 1), (1, 0), (64, 1), 4), target)


@pytest.mark.parametrize(
    ("target", "low", "high"),
    [("x86-64-v3", "vmaxps", "vminps"), ("arm64", "fmax", "fmin"), ("wasm", "pmax", "pmin")],
)
def test_a_limit_is_one_instruction(target, low, high):
    code = assembly(Unary("Clip", 4096, 8 if target.startswith("x86") else 4, 0.0, 6.0), target)
    assert len(re.findall(rf"{low}\b", code)) == len(re.findall(rf"{high}\b", code)) > 0
    assert not re.search(r"vcmp|fcm[gl]|bic\tv|f32x4\.[gl]t|v128\.(and|bitselect)", code)


@pytest.mark.parametrize("target", [SSE, "arm64"], ids=["x86-64 baseline", "arm64"])
def test_no_function_calls_another_library(target):
    kernels = [Unary(op, 160, lanes, 0.3, 0.7) for op in UNARY for lanes in (4, 16)]
    kernels += [Binary(op, (160,), (1,), (1,), (1,), 16) for op in BINARY]
    for kernel in kernels:
        assert undefined_symbols(object_of(kernel, target)) <= ALLOWED_SYMBOLS, kernel
