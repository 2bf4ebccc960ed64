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

from edgesparse.kernels import tir
from edgesparse.kernels.limits import at_least, at_most

Expr = tir.Expr
# Gives a value a name: `v = let(value)` is computed once, however often v is used.
Name = Callable[[Expr], Expr]

# Above TVM's own rules, which emit LLVM intrinsics that become calls of libm.
_LEVEL = 99
_MAGIC = 12582912.0  # 1.5 · 2^23: adding it rounds to an integer that sits in the low mantissa bits
_MAGIC_BITS = 0x4B400000
_EXACT = 8388608.0  # 2^23: from here on every float32 is an integer
_SIGN = -(1 << 31)


def evaluate(name: str, *arguments: Expr) -> Expr:
    """Emit the function `name`, a key of FUNCTIONS, of float32 vectors and return its value."""
    return FUNCTIONS[name](tir.keep, *(tir.keep(argument) for argument in arguments))


def exp_up_to_zero(x: Expr) -> Expr:
    """Emit e^x of x <= 0 and return it: relative 3e-7 down to -87, then 0."""
    x = tir.keep(at_least(tir.keep(x), -88.0, tir.lanes_of(x)))
    shifted, power = _reduced_exp(tir.keep, x)
    return tir.keep(power * _power_of_two(_bits(shifted) - _int_like(_MAGIC_BITS, x)))


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


def _like(value: float, x: Expr) -> Expr:
    return tir.splat(value, tir.lanes_of(x))


def _double_like(value: float, x: Expr) -> Expr:
    return tir.splat(tirx.const(value, "float64"), tir.lanes_of(x))


def _int_like(value: int, x: Expr) -> Expr:
    scalar = tirx.const(value, "int32")
    return scalar if tir.lanes_of(x) == 1 else tirx.Broadcast(scalar, tir.lanes_of(x))


def _as(kind: str, x: Expr) -> str:
    return kind if tir.lanes_of(x) == 1 else f"{kind}x{tir.lanes_of(x)}"


def _bits(x: Expr) -> Expr:
    return tirx.reinterpret(_as("int32", x), x)


def _from_bits(x: Expr) -> Expr:
    return tirx.reinterpret(_as("float32", x), x)


def _to_float(x: Expr) -> Expr:
    return x.astype(_as("float32", x))


def _horner(let: Name, x: Expr, coefficients: Sequence[float]) -> Expr:
    """Return the polynomial in `x`, highest power first."""
    total = _like(coefficients[0], x)
    for coefficient in coefficients[1:]:
        total = let(total * x + _like(coefficient, x))
    return total


def _clamp(let: Name, x: Expr, limit: tuple[float, float]) -> Expr:
    """Limit x; NaN stays."""
    low, high = limit
    x = let(at_least(x, low, tir.lanes_of(x)))
    return let(at_most(x, high, tir.lanes_of(x)))


def _power_of_two(exponent: Expr) -> Expr:
    """Return 2^exponent for int32 -126 <= exponent <= 127."""
    return _from_bits((exponent + _int_like(127, exponent)) << _int_like(23, exponent))


def _reduced_exp(let: Name, x: Expr) -> tuple[Expr, Expr]:
    """Return n + _MAGIC and e^r, where x = n · log(2) + r and |r| <= log(2) / 2."""
    shifted = let(x * _like(math.log2(math.e), x) + _like(_MAGIC, x))
    n = let(shifted - _like(_MAGIC, x))
    r = let(x - n * _like(0.693359375, x) - n * _like(-2.12194440e-4, x))
    return shifted, let(_horner(let, r, _EXP) * let(r * r) + let(r + _like(1.0, r)))


# Minimax: (e^r - 1 - r) / r², such that e^r is right to 1.1e-7, relatively.
_EXP = (8.31245445e-3, 4.18906435e-2, 1.66671172e-1, 4.99992281e-1)


def _exp(let: Name, x: Expr) -> Expr:
    """Return 2^n · e^r; scaled in two steps for denormals and inf."""
    shifted, power = _reduced_exp(let, _clamp(let, x, (-104.0, 89.0)))
    exponent = let(_bits(shifted) - _int_like(_MAGIC_BITS, x))
    half = let(exponent >> _int_like(1, exponent))
    return let(power * _power_of_two(half) * _power_of_two(exponent - half))


def _log(let: Name, x: Expr) -> Expr:
    """Return k · log(2) + log(m) with m in [sqrt(1/2), sqrt(2)); denormals are scaled up first."""
    zero, infinity = _like(0.0, x), _like(math.inf, x)
    tiny = x < _like(2.0**-126, x)
    bits = let(_bits(tirx.Select(tiny, x * _like(_EXACT, x), x)))
    exponent = let((bits - _int_like(_ROOT_HALF, x)) >> _int_like(23, x))
    f = let(_from_bits(bits - (exponent << _int_like(23, x))) - _like(1.0, x))
    k = let(_to_float(exponent) + tirx.Select(tiny, _like(-23.0, x), zero))
    square = let(f * f)
    tail = _horner(let, f, _LOG) * f * square + k * _like(-2.12194440e-4, x)
    tail = tail - square * _like(0.5, x)
    finite = f + tail + k * _like(0.693359375, x)
    negative = tirx.Select(x < zero, _like(math.nan, x), x)  # NaN stays
    special = tirx.Select(tirx.EQ(x, zero), _like(-math.inf, x), negative)
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
    one, zero = _like(1.0, x), _like(0.0, x)
    u = let(x + one)
    error = tirx.Select(u > zero, (x - (u - one)) / u, zero)
    return _log(let, u) + tirx.Select(u < _like(math.inf, x), error, zero)


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


def _sigmoid(let: Name, x: Expr) -> Expr:
    """Return 1 / (1 + 2^n · e^r), limited to where 2^n is a normal number or infinity."""
    negative = _clamp(let, let(_like(0.0, x) - x), (-30.0, 89.0))
    shifted, power = _reduced_exp(let, negative)
    exponent = let(_bits(shifted) - _int_like(_MAGIC_BITS, x))
    one = _like(1.0, x)
    return one / (power * _power_of_two(exponent) + one)


def _cosh(let: Name, x: Expr) -> Expr:
    """Half of e^|x| + e^-|x|, halved in the exponent lest it overflow too early."""
    e = let(_exp(let, let(tirx.abs(x) - _like(math.log(2), x))))
    return e + _like(0.25, x) / e


def _pow(let: Name, x: Expr, y: Expr) -> Expr:
    """e^(y · log|x|), with C's signs and special cases."""
    one, zero = _like(1.0, x), _like(0.0, x)
    half = let(y * _like(0.5, x))
    whole = tirx.EQ(_floor(let, y), y)
    is_odd = tirx.And(whole, tirx.NE(_floor(let, half), half))
    is_undefined = tirx.And(tirx.And(x < zero, x > _like(-math.inf, x)), tirx.Not(whole))
    magnitude = let(tirx.abs(x))
    power = _exp(let, let(y * _log(let, magnitude)))
    is_one = tirx.And(tirx.EQ(magnitude, one), tirx.Not(tir.is_nan(y)))
    size = let(tirx.Select(is_one, one, power))
    is_negative = _bits(x) < _int_like(0, x)
    result = tirx.Select(tirx.And(is_negative, is_odd), zero - size, size)
    result = tirx.Select(is_undefined, _like(math.nan, x), result)
    result = tirx.Select(tir.is_nan(x), x, result)
    return tirx.Select(tirx.EQ(y, zero), one, result)


def _wave(let: Name, x: Expr, quadrant: int) -> Expr:
    """sin(x + quadrant · pi/2): reduced to |r| <= pi/4 in double precision, then by quadrant."""
    wide = let(x.astype(_as("float64", x)))
    magic = _double_like(_MAGIC_DOUBLE, x)
    shifted = let(wide * _double_like(2 / math.pi, x) + magic)
    n = let(shifted - magic)
    for part in _HALF_PI:
        wide = let(wide - n * _double_like(part, x))
    r = let(_clamp(let, _to_float(wide), (-1.0, 1.0)))
    square = let(r * r)
    sine = r + _horner(let, square, _SIN) * square * r
    cosine = _like(1.0, x) - square * _like(0.5, x) + _horner(let, square, _COS) * square * square
    low = tirx.reinterpret(_as("int64", x), shifted).astype(_as("int32", x))
    quarter = let(low + _int_like(quadrant, x))
    is_odd = tirx.NE(quarter & _int_like(1, x), _int_like(0, x))
    sign = (quarter & _int_like(2, x)) << _int_like(30, x)
    return _from_bits(_bits(tirx.Select(is_odd, cosine, sine)) ^ sign)


_MAGIC_DOUBLE = 6755399441055744.0  # 1.5 · 2^52
# pi/2 as 25 bits, so that its products with |n| < 2^28 are exact, and the rest (fdlibm).
_HALF_PI = (1.57079631090164184570, 1.58932547735281966916e-8)
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)


def _sign(x: Expr) -> Expr:
    return _bits(x) & _int_like(_SIGN, x)


def _with_sign(let: Name, rounded: Expr, x: Expr) -> Expr:
    """Give a rounded value the sign of x, for -0; what has no fraction, or is NaN, stays x."""
    signed = _from_bits(_bits(rounded) | _sign(x))
    return let(tirx.Select(tirx.abs(x) < _like(_EXACT, x), signed, x))


def _nearest(let: Name, x: Expr) -> Expr:
    """Half to even: adding 2^23 to |x| leaves no room for a fraction."""
    size = let(tirx.abs(x) + _like(_EXACT, x))
    return _with_sign(let, size - _like(_EXACT, x), x)


def _floor(let: Name, x: Expr) -> Expr:
    near = _nearest(let, x)
    down = tirx.Select(near > x, near - _like(1.0, x), near)
    return _with_sign(let, down, x)


def _ceil(let: Name, x: Expr) -> Expr:
    near = _nearest(let, x)
    up = tirx.Select(near < x, near + _like(1.0, x), near)
    return _with_sign(let, up, x)


def _trunc(let: Name, x: Expr) -> Expr:
    return _with_sign(let, _floor(let, let(tirx.abs(x))), x)


def _round(let: Name, x: Expr) -> Expr:
    """Half away from zero."""
    size = let(tirx.abs(x))
    whole = _floor(let, size)
    up = size - whole >= _like(0.5, x)
    return _with_sign(let, tirx.Select(up, whole + _like(1.0, x), whole), x)


def _fmod(let: Name, x: Expr, y: Expr) -> Expr:
    """Return x - trunc(x / y) · y; a quotient rounded up to a whole number is taken back."""
    infinity, size = _like(math.inf, x), let(tirx.abs(y))
    rest = let(x - _trunc(let, let(x / y)) * y)
    is_over = tirx.And(tirx.NE(_sign(rest), _sign(x)), tirx.NE(rest, _like(0.0, x)))
    rest = tirx.Select(is_over, rest + _from_bits(_bits(size) | _sign(x)), rest)
    is_all = tirx.And(tirx.EQ(size, infinity), tirx.abs(x) < infinity)
    return tirx.Select(is_all, x, rest)


def _scaled(function: Callable[..., Expr], factor: float) -> Callable[..., Expr]:
    return lambda let, x: function(let, x) * _like(factor, x)


FUNCTIONS: dict[str, Callable[..., Expr]] = {
    "ceil": _ceil,
    "cos": lambda let, x: _wave(let, x, 1),
    "cosh": _cosh,
    "erf": _erf,
    "exp": _exp,
    "exp2": lambda let, x: _exp(let, let(x * _like(math.log(2), x))),
    "floor": _floor,
    "fmod": _fmod,
    "log": _log,
    "log10": _scaled(_log, math.log10(math.e)),
    "log1p": _log1p,
    "log2": _scaled(_log, math.log2(math.e)),
    "nearbyint": _nearest,
    "pow": _pow,
    "round": _round,
    "rsqrt": lambda let, x: _like(1.0, x) / tirx.sqrt(x),
    "sigmoid": _sigmoid,
    "sin": lambda let, x: _wave(let, x, 0),
    "tan": lambda let, x: _wave(let, x, 0) / _wave(let, x, 1),
    "tanh": _tanh,
    "trunc": _trunc,
}
