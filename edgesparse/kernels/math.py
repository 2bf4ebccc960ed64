"""Elementary functions as branch-free polynomials: no libm on the device.

Emitters call `evaluate("exp", x)`. Where `tirx.exp` and its like come from TVM's own operators,
`ExpandMathFunctions` expands them by the same table; TVM would have called expf. Both for float32
scalars and vectors of any width.

| function | error over the whole range |
|---|---|
| exp | relative 3e-7, also where results are denormal; 0 and inf where they belong |
| sigmoid | relative 4e-7 for x >= -87, then 0 |
| log, log1p, log2, log10 | relative 3e-7 |
| exp2, cosh | relative 3e-7 · (1 + |x|) |
| tanh, erf | absolute 5e-7 |
| sin, cos | absolute 1e-7 for |x| <= 2^28, below 2 in size beyond |
| pow | relative 3e-7 · (1 + |y · log x|) |
| floor, ceil, trunc, round, nearbyint | exact |
| fmod | exact while |x / y| < 2^22 and fused multiply-add is there, else an ulp of x |

NaN goes in, NaN comes out. Source: Cephes (exp, log, sin, cos), fdlibm (log's reduction), Eigen's
`generic_fast_tanh_float` and `generic_fast_erf_float` (rational minimax approximations).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import tvm
from tvm import tirx
from tvm.tirx.op import register_intrin_lowering

from edgesparse.kernels import rounding, tir
from edgesparse.kernels.lanes import (
    Expr,
    Name,
    as_type,
    bits_of,
    from_bits,
    int_like,
    like,
    to_float,
)
from edgesparse.kernels.limits import at_least, at_most

# Above TVM's own rules, which emit LLVM intrinsics that become calls of libm.
_LEVEL = 99
# 1.5 · 2^23 + 127: adding it rounds to an integer n, and n + 127 sits in the low mantissa bits.
_MAGIC, _MAGIC_BITS = 12583039.0, 0x4B40007F


def evaluate(name: str, *arguments: Expr) -> Expr:
    """Emit the function `name`, a key of FUNCTIONS, of float32 vectors and return its value."""
    return FUNCTIONS[name](tir.keep, *(tir.keep(argument) for argument in arguments))


def exp_up_to_zero(x: Expr) -> Expr:
    """Emit e^x of x <= 0 and return it: relative 3e-7 down to -87, then 0."""
    x = tir.keep(at_least(tir.keep(x), -88.0, tir.lanes_of(x)))
    exponent, power = _reduced_exp(tir.keep, x)
    return tir.keep(power * _raised(exponent))


def gated(x: Expr, u: Expr) -> Expr:
    """Emit x · sigmoid(u) and return it."""
    return tir.keep(x) / _one_and_exp(tir.keep, tir.keep(u))


def ExpandMathFunctions() -> Expr:  # noqa: N802 - named as TVM names its passes
    """Return the pass that replaces elementary functions by polynomials.

    The rules are TVM's `FLowerIntrinsic` attributes, which belong to the process: other users of
    TVM in it get the polynomials too.
    """
    _register()
    return tirx.transform.LowerIntrin()


@functools.cache
def _register() -> None:
    known = {str(name) for name in tvm.ir.Op.list_op_names()}
    for name, rule in FUNCTIONS.items():
        operator = f"tirx.{name}" if f"tirx.{name}" in known else f"prim.{name}"
        register_intrin_lowering(operator, "llvm", f=_for_float32(rule), level=_LEVEL)


def _for_float32(rule: Callable[..., Expr]) -> Callable[[Expr], Expr]:
    """Leave other types as they are: code generation then says what it cannot do."""

    def lower(call: Expr) -> Expr:
        if not str(call.ty.dtype).startswith("float32"):
            return call
        let = _Lets()
        arguments = [let(argument) for argument in call.args]
        return let.around(rule(let, *arguments))

    return lower


class _Lets:
    """Names for values inside an expression: a flat chain of `Let`."""

    def __init__(self) -> None:
        self._bound: list[tuple[Expr, Expr]] = []

    def __call__(self, value: Expr) -> Expr:
        variable = tirx.Var("t", value.ty)
        self._bound.append((variable, value))
        return variable

    def around(self, body: Expr) -> Expr:
        """Return `body` under all names."""
        for variable, value in reversed(self._bound):
            body = tirx.Let(variable, value, body)
        return body


def _double_like(value: float, x: Expr) -> Expr:
    return tir.splat(tirx.const(value, "float64"), tir.lanes_of(x))


def _horner(let: Name, x: Expr, coefficients: Sequence[float]) -> Expr:
    """Return the polynomial in `x`, highest power first."""
    total = like(coefficients[0], x)
    for coefficient in coefficients[1:]:
        total = let(total * x + like(coefficient, x))
    return total


def _clamp(let: Name, x: Expr, limit: tuple[float, float]) -> Expr:
    """Limit x; NaN stays."""
    low, high = limit
    x = let(at_least(x, low, tir.lanes_of(x)))
    return let(at_most(x, high, tir.lanes_of(x)))


def _power_of_two(exponent: Expr) -> Expr:
    """Return 2^exponent for int32 -126 <= exponent <= 127."""
    return _raised(exponent + int_like(127, exponent))


def _raised(biased: Expr) -> Expr:
    """Return 2^(biased - 127) for the lowest bits of an int32: 0 is 0, and 255 infinity."""
    return from_bits(biased << int_like(23, biased))


def _reduced_exp(let: Name, x: Expr, sign: int = 1) -> tuple[Expr, Expr]:
    """Return n + _MAGIC_BITS and e^r, where sign · x = n · log(2) + r and |r| <= log(2) / 2."""
    shifted = let(x * like(sign * math.log2(math.e), x) + like(_MAGIC, x))
    n = let(shifted - like(_MAGIC, x))
    r = let(n * like(sign * -0.693359375, x) + x)
    r = let(n * like(sign * 2.12194440e-4, x) + r)
    coefficients = [c * sign**power for power, c in zip(range(5, -1, -1), _EXP, strict=True)]
    return bits_of(shifted), _horner(let, r, coefficients)


# Minimax: e^r, right to 1.1e-7, relatively.
_EXP = (8.31245445e-3, 4.18906435e-2, 1.66671172e-1, 4.99992281e-1, 1.0, 1.0)


def _exp(let: Name, x: Expr) -> Expr:
    """Return 2^n · e^r; scaled in two steps for denormals and inf."""
    biased, power = _reduced_exp(let, _clamp(let, x, (-104.0, 89.0)))
    exponent = let(biased - int_like(_MAGIC_BITS, x))
    half = let(exponent >> int_like(1, exponent))
    return let(power * _power_of_two(half) * _power_of_two(exponent - half))


def _one_and_exp(let: Name, x: Expr) -> Expr:
    """Return 1 + 2^n · e^r of -x, limited to where 2^n is a normal number or infinity."""
    exponent, power = _reduced_exp(let, _clamp(let, x, (-89.0, 30.0)), -1)
    return power * _raised(exponent) + like(1.0, x)


def _log(let: Name, x: Expr) -> Expr:
    """Return k · log(2) + log(m) with m in [sqrt(1/2), sqrt(2)); denormals are scaled up first."""
    zero, infinity = like(0.0, x), like(math.inf, x)
    tiny = x < like(2.0**-126, x)
    bits = let(bits_of(tirx.Select(tiny, x * like(rounding.EXACT, x), x)))
    exponent = let((bits - int_like(_ROOT_HALF, x)) >> int_like(23, x))
    f = let(from_bits(bits - (exponent << int_like(23, x))) - like(1.0, x))
    k = let(to_float(exponent) + tirx.Select(tiny, like(-23.0, x), zero))
    square = let(f * f)
    tail = _horner(let, f, _LOG) * f * square + k * like(-2.12194440e-4, x)
    tail = tail - square * like(0.5, x)
    finite = f + tail + k * like(0.693359375, x)
    negative = tirx.Select(x < zero, like(math.nan, x), x)  # NaN stays
    special = tirx.Select(tirx.EQ(x, zero), like(-math.inf, x), negative)
    positive = tirx.Select(x < infinity, finite, infinity)
    return let(tirx.Select(x > zero, positive, special))


_ROOT_HALF = 0x3F3504F3
_LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)


def _log1p(let: Name, x: Expr) -> Expr:
    """log(u) + the rounding error of u = 1 + x, divided by u."""
    one, zero = like(1.0, x), like(0.0, x)
    u = let(x + one)
    error = tirx.Select(u > zero, (x - (u - one)) / u, zero)
    return _log(let, u) + tirx.Select(u < like(math.inf, x), error, zero)


def _tanh(let: Name, x: Expr) -> Expr:
    """Return x · P(x²) / Q(x²) on [-7.9, 7.9]; tanh is ±1 to the last bit beyond."""
    x = _clamp(let, x, (-7.90531110763549805, 7.90531110763549805))
    square = let(x * x)
    return x * _horner(let, square, _TANH_P) / _horner(let, square, _TANH_Q)


_TANH_P = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


def _erf(let: Name, x: Expr) -> Expr:
    """Return x · P(x²) / Q(x²) on [-4, 4]; erf is ±1 to the last bit beyond."""
    x = _clamp(let, x, (-4.0, 4.0))
    square = let(x * x)
    ratio = let(x * _horner(let, square, _ERF_P) / _horner(let, square, _ERF_Q))
    return _clamp(let, ratio, (-1.0, 1.0))


_ERF_P = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_Q = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def _cosh(let: Name, x: Expr) -> Expr:
    """Half of e^|x| + e^-|x|, halved in the exponent lest it overflow too early."""
    e = let(_exp(let, let(tirx.abs(x) - like(math.log(2), x))))
    return e + like(0.25, x) / e


def _pow(let: Name, x: Expr, y: Expr) -> Expr:
    """e^(y · log|x|), with C's signs and special cases."""
    one, zero = like(1.0, x), like(0.0, x)
    half = let(y * like(0.5, x))
    whole = tirx.EQ(rounding.floor(let, y), y)
    is_odd = tirx.And(whole, tirx.NE(rounding.floor(let, half), half))
    is_undefined = tirx.And(tirx.And(x < zero, x > like(-math.inf, x)), tirx.Not(whole))
    magnitude = let(tirx.abs(x))
    power = _exp(let, let(y * _log(let, magnitude)))
    is_one = tirx.And(tirx.EQ(magnitude, one), tirx.Not(tir.is_nan(y)))
    size = let(tirx.Select(is_one, one, power))
    is_negative = bits_of(x) < int_like(0, x)
    result = tirx.Select(tirx.And(is_negative, is_odd), zero - size, size)
    result = tirx.Select(is_undefined, like(math.nan, x), result)
    result = tirx.Select(tir.is_nan(x), x, result)
    return tirx.Select(tirx.EQ(y, zero), one, result)


def _wave(let: Name, x: Expr, quadrant: int) -> Expr:
    """sin(x + quadrant · pi/2): reduced to |r| <= pi/4 in double precision, then by quadrant."""
    wide = let(x.astype(as_type("float64", x)))
    magic = _double_like(_MAGIC_DOUBLE, x)
    shifted = let(wide * _double_like(2 / math.pi, x) + magic)
    n = let(shifted - magic)
    for part in _HALF_PI:
        wide = let(wide - n * _double_like(part, x))
    r = let(_clamp(let, to_float(wide), (-1.0, 1.0)))
    square = let(r * r)
    sine = r + _horner(let, square, _SIN) * square * r
    cosine = like(1.0, x) - square * like(0.5, x) + _horner(let, square, _COS) * square * square
    low = tirx.reinterpret(as_type("int64", x), shifted).astype(as_type("int32", x))
    quarter = let(low + int_like(quadrant, x))
    is_odd = tirx.NE(quarter & int_like(1, x), int_like(0, x))
    sign = (quarter & int_like(2, x)) << int_like(30, x)
    return from_bits(bits_of(tirx.Select(is_odd, cosine, sine)) ^ sign)


_MAGIC_DOUBLE = 6755399441055744.0  # 1.5 · 2^52
# pi/2 as 25 bits, so that its products with |n| < 2^28 are exact, and the rest (fdlibm).
_HALF_PI = (1.57079631090164184570, 1.58932547735281966916e-8)
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)


def _scaled(function: Callable[..., Expr], factor: float) -> Callable[..., Expr]:
    return lambda let, x: function(let, x) * like(factor, x)


FUNCTIONS: dict[str, Callable[..., Expr]] = {
    "ceil": rounding.ceil,
    "cos": lambda let, x: _wave(let, x, 1),
    "cosh": _cosh,
    "erf": _erf,
    "exp": _exp,
    "exp2": lambda let, x: _exp(let, let(x * like(math.log(2), x))),
    "floor": rounding.floor,
    "fmod": rounding.fmod,
    "log": _log,
    "log10": _scaled(_log, math.log10(math.e)),
    "log1p": _log1p,
    "log2": _scaled(_log, math.log2(math.e)),
    "nearbyint": rounding.nearest,
    "pow": _pow,
    "round": rounding.round_half_away,
    "rsqrt": lambda let, x: like(1.0, x) / tirx.sqrt(x),
    "sigmoid": lambda let, x: like(1.0, x) / _one_and_exp(let, x),
    "sin": lambda let, x: _wave(let, x, 0),
    "tan": lambda let, x: _wave(let, x, 0) / _wave(let, x, 1),
    "tanh": _tanh,
    "trunc": rounding.trunc,
}
