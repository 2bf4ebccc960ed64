"""Limits of float32 vectors: max(x, low) and min(x, high), NaN where x is NaN.

As selects that keep x when the comparison fails they are one instruction on x86-64, but two on
aarch64 and in WebAssembly, where LLVM masks x by the comparison with zero. They have `fmax` and
`pmax`, so limits are operators of their own until the target is known. A zero has either sign.

With relaxed SIMD, LLVM makes `relaxed_max` of such selects, even of scalar ones that it vectorises.
That may drop a NaN, so WebAssembly has no limit that is a select.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from edgesparse.kernels import operators, tir

Expr = tir.Expr

WASM_LANES = 4  # LLVM does not split an intrinsic's wider vectors


def at_least(x: Expr, low: float, lanes: int) -> Expr:
    """Return max(x, low), NaN where x is NaN; `x` is named twice."""
    return _limit("edgesparse.at_least", _lower_at_least, x, tir.splat(low, lanes))


def at_most(x: Expr, high: float, lanes: int) -> Expr:
    """Return min(x, high), NaN where x is NaN; `x` is named twice."""
    return _limit("edgesparse.at_most", _lower_at_most, x, tir.splat(high, lanes))


def _limit(operator: str, lower: Callable[[Any], Expr], x: Expr, bound: Expr) -> Expr:
    operators.register(operator, lower)
    return tirx.call_intrin(x.ty.dtype, operator, x, bound)


def _lower_at_least(call: Any) -> Expr:
    x, low = call.args
    return _native(call, "maximum", "wasm.pmax", tirx.Select(x < low, low, x))


def _lower_at_most(call: Any) -> Expr:
    x, high = call.args
    return _native(call, "minimum", "wasm.pmin", tirx.Select(x > high, high, x))


def _native(call: Any, ieee: str, wasm: str, otherwise: Expr) -> Expr:
    """Return a call of the LLVM intrinsic that is one instruction of the current target."""
    triple = operators.current_triple()
    kind = call.ty.dtype
    if not triple.startswith(("aarch64", "wasm32")):
        return otherwise
    has_pmax = triple.startswith("wasm32") and kind.lanes == WASM_LANES
    return tirx.call_llvm_pure_intrin(kind, f"llvm.{wasm if has_pmax else ieee}", *call.args)
