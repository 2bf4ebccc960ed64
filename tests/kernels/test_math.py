"""Elementary functions over their whole range, against numpy in double precision."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from kernel_runner import TARGETS, assembly, nan, run_kernel
from tvm import tirx

from edgesparse.kernels import tir
from edgesparse.kernels.elementwise import Binary, Unary
from edgesparse.kernels.math import FUNCTIONS
from edgesparse.kernels.math import evaluate as emitted
from edgesparse.target import resolve_target

LANES = {"host": 8, "arm64": 4, "wasm": 4}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1e-38, 3.4e38, -3.4e38, 1.0, -1.0]


def evaluate(op: str, x: np.ndarray, target: str = "host") -> np.ndarray:
    kernel = Unary(op, x.size, LANES[target])
    y = run_kernel(kernel, x, nan(x.size), target=target)[1]
    with np.errstate(invalid="ignore"):  # signalling NaN
        return y.astype(np.float64)


def everywhere(count: int = 200_000) -> np.ndarray:
    """Return float32 of every exponent and sign, and the special ones."""
    bits = np.linspace(0, 2**32 - 1, count).astype(np.uint32)
    return np.concatenate([bits.view(np.float32), np.array(SPECIAL, np.float32)])


def near(low: float, high: float, count: int = 100_001) -> np.ndarray:
    return np.linspace(low, high, count, dtype=np.float32)


def exact(name: str, x: np.ndarray) -> np.ndarray:
    functions = {
        "Exp": np.exp,
        "Log": np.log,
        "Tanh": np.tanh,
        "Erf": np.vectorize(math.erf),
        "Sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "Sin": np.sin,
        "Cos": np.cos,
    }
    with np.errstate(all="ignore"):
        return functions[name](x.astype(np.float64))


def assert_relative(got: np.ndarray, want: np.ndarray, bound: float) -> None:
    """Compare as float32 can: NaN with NaN, overflow with inf, denormals by their spacing."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(rounded))
    infinite = np.isinf(rounded) | np.isinf(got)
    big = np.abs(want[infinite]) > 3.4028e38
    assert np.all(big & (np.sign(got[infinite]) == np.sign(want[infinite])))
    finite = ~np.isnan(rounded) & ~infinite
    error = np.abs(got[finite] - want[finite])
    allowed = bound * np.abs(want[finite]) + 1.5e-45
    worst = np.argmax(error / allowed)
    assert np.all(error <= allowed), (got[finite][worst], want[finite][worst])


@pytest.mark.parametrize("target", TARGETS)
def test_exp(target):
    for x in (everywhere(), near(-110, 95), near(-1, 1)):
        assert_relative(evaluate("Exp", x, target), exact("Exp", x), 3e-7)


def test_sigmoid_is_accurate_relatively_until_it_vanishes():
    x = near(-87, 100)
    assert_relative(evaluate("Sigmoid", x), exact("Sigmoid", x), 4e-7)
    assert np.all(np.abs(evaluate("Sigmoid", near(-110, -87))) < 1.7e-38)


@pytest.mark.parametrize("target", TARGETS)
def test_log(target):
    for x in (everywhere(), near(0.5, 2), near(1e-40, 1e-38)):
        assert_relative(evaluate("Log", x, target), exact("Log", x), 2e-7)


@pytest.mark.parametrize("name", ["Tanh", "Erf", "Sigmoid"])
@pytest.mark.parametrize("target", TARGETS)
def test_saturating_functions(name, target):
    for x in (everywhere(), near(-12, 12), near(-0.1, 0.1)):
        got, want = evaluate(name, x, target), exact(name, x)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        assert np.nanmax(np.abs(got - want)) <= 5e-7
        assert np.nanmax(np.abs(got)) <= 1


@pytest.mark.parametrize("name", ["Sin", "Cos"])
@pytest.mark.parametrize("target", TARGETS)
def test_waves(name, target):
    ends = np.array([*SPECIAL[4:8], 2.0**28, -(2.0**28)], np.float32)
    for x in (near(-8192, 8192), near(-4, 4), near(-(2.0**28), 2.0**28), ends):
        got, want = evaluate(name, x, target), exact(name, x)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        assert np.nanmax(np.abs(got - want)) <= 1e-7
    x = everywhere()
    x = x[np.isfinite(x)]
    assert np.max(np.abs(evaluate(name, x, target))) < 2


@pytest.mark.parametrize("name", ["Floor", "Ceil", "Round"])
@pytest.mark.parametrize("target", TARGETS)
def test_rounding_is_exact(name, target):
    x = np.concatenate([everywhere(20_000), near(-5, 5, 1001), near(-1e7, 1e7, 1001)])
    with np.errstate(invalid="ignore"):  # signalling NaN
        want = {"Floor": np.floor, "Ceil": np.ceil, "Round": np.round}[name](x)
    got = evaluate(name, x, target)
    np.testing.assert_array_equal(got, want)
    kept = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[kept]), np.signbit(want[kept]))


def test_pow_has_the_signs_and_special_cases_of_c():
    values = np.array([*SPECIAL, 2.0, -2.0, 0.5, -3.0, 7.25, -0.1], np.float32)
    x, y = (side.ravel() for side in np.meshgrid(values, np.append(values, [3.0, 2.5])))
    x, y = x.astype(np.float32), y.astype(np.float32)
    got = run_kernel(Binary("Pow", (x.size,), (1,), (1,), (1,), 8), x, y, nan(x.size))[2]
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), y.astype(np.float64))
        scale = 1 + np.nan_to_num(np.abs(y * np.log(np.abs(x))), nan=0, posinf=0)
        ones = (np.isnan(y) & (x == 1)) | (np.isnan(y) & np.isnan(x))
    with np.errstate(over="ignore", invalid="ignore"):
        want = want.astype(np.float32)
        close = np.isclose(got, want, 3e-7 * scale, 1e-44, equal_nan=True)
    bad = np.flatnonzero(~(close | ones))
    assert not len(bad), [(x[i], y[i], got[i], want[i]) for i in bad[:9]]


@dataclasses.dataclass(frozen=True)
class Elementary:
    """y[i] = function(x[i]): as emitters call it, or as TVM's own operators do."""

    function: str
    elements: int
    as_tvm: bool

    name = "elementary"

    def emit(self, symbol: str) -> tir.PrimFunc:
        function = getattr(tirx, self.function) if self.as_tvm else None

        def body(x: tir.Buffer, y: tir.Buffer) -> None:
            with tir.loop(self.elements // 8) as i:
                value = tir.load(x, i * 8, 8)
                result = function(value) if function else emitted(self.function, value)
                tir.store(y, i * 8, result, 8)

        return tir.function(symbol, {"x": "float32", "y": "float32"}, body)


ELEMENTARY = {
    "ceil": (np.ceil, near(-9, 9, 8000), lambda x: 0),
    "cosh": (np.cosh, near(-80, 80, 8000), lambda x: 3e-7 * (1 + np.abs(x))),
    "erf": (np.vectorize(math.erf), near(0.5, 3, 8000), lambda x: 1e-6),
    "exp": (np.exp, near(-80, 80, 8000), lambda x: 3e-7),
    "exp2": (np.exp2, near(-100, 100, 8000), lambda x: 3e-7 * (1 + np.abs(x))),
    "log": (np.log, near(1e-3, 50, 8000), lambda x: 3e-7),
    "log10": (np.log10, near(1e-3, 50, 8000), lambda x: 3e-7),
    "log1p": (np.log1p, near(-0.9, 3, 8000), lambda x: 3e-7),
    "log2": (np.log2, near(1e-3, 50, 8000), lambda x: 3e-7),
    "nearbyint": (np.round, near(-9, 9, 8000), lambda x: 0),
    "round": (lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x), near(-9, 9, 8008), lambda x: 0),
    "rsqrt": (lambda x: 1 / np.sqrt(x), near(0.01, 9, 8000), lambda x: 3e-7),
    "tan": (np.tan, near(-1.4, 1.4, 8000), lambda x: 1e-6),
    "tanh": (np.tanh, near(0.5, 8, 8000), lambda x: 1e-6),
    "trunc": (np.trunc, near(-9, 9, 8000), lambda x: 0),
}


@pytest.mark.parametrize("as_tvm", [False, True], ids=["emitted", "TVM's operator"])
@pytest.mark.parametrize("name", sorted(ELEMENTARY))
def test_both_ways_to_a_function(name, as_tvm):
    function, x, bound = ELEMENTARY[name]
    want = function(x.astype(np.float64))
    y = run_kernel(Elementary(name, x.size, as_tvm), x, nan(x.size))[1]
    assert np.all(np.abs(y - want) <= bound(x) * np.abs(want) + 1e-30)


def test_fmod():
    host = resolve_target("host")
    if host.architecture == "x86_64" and "fma" not in host.required:
        pytest.skip("exact only where multiply-adds are fused")
    x, y = near(-40, 40, 808), near(0.7, 9, 808)
    # Quotients that float32 rounds up to a whole number, and one that is all remainder.
    x[:6], y[:6] = [5, -5, 5, 1, -0.9, 7], [0.1, 0.1, -0.1, 0.1, 0.3, np.inf]
    elements = Binary("Sub", (808,), (1,), (1,), (1,), 8)

    class Fmod(Binary):
        def emit(self, symbol: str) -> tir.PrimFunc:
            def body(a: tir.Buffer, b: tir.Buffer, c: tir.Buffer) -> None:
                with tir.loop(101) as i:
                    args = [tir.load(side, i * 8, 8) for side in (a, b)]
                    tir.store(c, i * 8, emitted("fmod", *args), 8)

            return tir.function(symbol, dict.fromkeys("abc", "float32"), body)

    kernel = Fmod(**{f.name: getattr(elements, f.name) for f in dataclasses.fields(elements)})
    got = run_kernel(kernel, x, y, nan(808))[2]
    np.testing.assert_allclose(got, np.fmod(x.astype(np.float64), y), atol=4e-6)
    np.testing.assert_array_equal(got[:6], np.fmod(x[:6], y[:6]))


def test_every_function_is_tested():
    elsewhere = {"cos", "floor", "fmod", "pow", "sigmoid", "sin"}
    assert set(FUNCTIONS) == set(ELEMENTARY) | elsewhere


@pytest.mark.parametrize("op", ["Softplus", "Mish", "Silu", "Gelu", "GeluTanh", "Elu"])
def test_composed_activations(op):
    x = near(-30, 30)
    v = x.astype(np.float64)
    softplus = np.logaddexp(0, v)
    want = {
        "Softplus": softplus,
        "Mish": v * np.tanh(softplus),
        "Silu": v / (1 + np.exp(-v)),
        "Gelu": 0.5 * v * (1 + np.vectorize(math.erf)(v / math.sqrt(2))),
        "GeluTanh": 0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
        "Elu": np.where(v < 0, 1.5 * np.expm1(v), v),
    }[op]
    y = run_kernel(Unary(op, x.size, 8, 1.5), x, nan(x.size))[1]
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=2e-6)


def test_sinh_is_finite_where_float32_can_hold_it():
    x = np.append(near(-89.4, 89.4, 20_001), np.float32(0))
    want = np.sinh(x.astype(np.float64))
    y = run_kernel(Unary("Sinh", x.size, 8), x, nan(x.size))[1]
    assert np.all(np.abs(y - want) <= 3e-7 * (1 + np.abs(x)) * (1 + np.abs(want)))


@pytest.mark.parametrize(
    ("target", "instruction"), [("x86-64-v3", "vmulps"), ("wasm", "f32x4.mul")]
)
def test_exp_is_vectorised(target, instruction):
    text = assembly(Unary("Exp", 64, 4 if target == "wasm" else 8), target)
    assert instruction in text
    assert "expf" not in text
