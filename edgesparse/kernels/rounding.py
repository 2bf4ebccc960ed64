"""Rounding float32 to integers, exactly, and the remainder of a division: branch-free, no libm."""

from __future__ import annotations

import math

from tvm import tirx

from edgesparse.kernels.lanes import Expr, Name, bits_of, from_bits, int_like, like

EXACT = 8388608.0  # 2^23: from here on every float32 is an integer
_SIGN = -(1 << 31)


def _sign(x: Expr) -> Expr:
    return bits_of(x) & int_like(_SIGN, x)


def _with_sign(let: Name, rounded: Expr, x: Expr) -> Expr:
    """Give a rounded value the sign of x, for -0; what has no fraction, or is NaN, stays x."""
    signed = from_bits(bits_of(rounded) | _sign(x))
    return let(tirx.Select(tirx.abs(x) < like(EXACT, x), signed, x))


def nearest(let: Name, x: Expr) -> Expr:
    """Round half to even: adding 2^23 to |x| leaves no room for a fraction."""
    size = let(tirx.abs(x) + like(EXACT, x))
    return _with_sign(let, size - like(EXACT, x), x)


def floor(let: Name, x: Expr) -> Expr:
    """Round down."""
    near = nearest(let, x)
    down = tirx.Select(near > x, near - like(1.0, x), near)
    return _with_sign(let, down, x)


def ceil(let: Name, x: Expr) -> Expr:
    """Round up."""
    near = nearest(let, x)
    up = tirx.Select(near < x, near + like(1.0, x), near)
    return _with_sign(let, up, x)


def trunc(let: Name, x: Expr) -> Expr:
    """Round towards zero."""
    return _with_sign(let, floor(let, let(tirx.abs(x))), x)


def round_half_away(let: Name, x: Expr) -> Expr:
    """Round half away from zero."""
    size = let(tirx.abs(x))
    whole = floor(let, size)
    up = size - whole >= like(0.5, x)
    return _with_sign(let, tirx.Select(up, whole + like(1.0, x), whole), x)


def fmod(let: Name, x: Expr, y: Expr) -> Expr:
    """Return x - trunc(x / y) · y; a quotient rounded up to a whole number is taken back."""
    infinity, size = like(math.inf, x), let(tirx.abs(y))
    rest = let(x - trunc(let, let(x / y)) * y)
    is_over = tirx.And(tirx.NE(_sign(rest), _sign(x)), tirx.NE(rest, like(0.0, x)))
    rest = tirx.Select(is_over, rest + from_bits(bits_of(size) | _sign(x)), rest)
    is_all = tirx.And(tirx.EQ(size, infinity), tirx.abs(x) < infinity)
    return tirx.Select(is_all, x, rest)
