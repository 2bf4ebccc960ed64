"""What formulas of float32 vectors of any width are written in: constants, bits, types."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from edgesparse.kernels import tir

Expr = tir.Expr
# Gives a value a name: `v = let(value)` is computed once, however often v is used.
Name = Callable[[Expr], Expr]


def like(value: float, x: Expr) -> Expr:
    """Return the constant `value`, as wide as `x`."""
    return tir.splat(value, tir.lanes_of(x))


def int_like(value: int, x: Expr) -> Expr:
    """Return the int32 constant `value`, as wide as `x`."""
    scalar = tirx.const(value, "int32")
    return scalar if tir.lanes_of(x) == 1 else tirx.Broadcast(scalar, tir.lanes_of(x))


def as_type(kind: str, x: Expr) -> str:
    """Return the type of elements `kind` that is as wide as `x`."""
    return kind if tir.lanes_of(x) == 1 else f"{kind}x{tir.lanes_of(x)}"


def bits_of(x: Expr) -> Expr:
    """Return the bits of float32 values, as int32."""
    return tirx.reinterpret(as_type("int32", x), x)


def from_bits(x: Expr) -> Expr:
    """Return the float32 values that have these bits."""
    return tirx.reinterpret(as_type("float32", x), x)


def to_float(x: Expr) -> Expr:
    """Return int32 values as float32."""
    return x.astype(as_type("float32", x))
