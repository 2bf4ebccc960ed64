"""Operators of our own, which become code only when the target is known."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tvm
from tvm.tirx.op import register_intrin_lowering

_PURE = 1  # tirx::CallEffectKind::kPure


@functools.cache
def register(operator: str, lower: Callable[[Any], Any]) -> None:
    """Make `operator` known to TVM, without side effects; again, it does nothing.

    Args:
        operator: Name of the operator.
        lower: Call of the operator -> expression of TIR for the current target.
    """
    tvm.ir._ffi_api.RegisterOp(operator, "")
    tvm.ir.register_op_attr(operator, "TCallEffectKind", _PURE)
    register_intrin_lowering(operator, "llvm", f=lower)


def current_triple() -> str:
    """Return the LLVM triple of what code is being generated for; "" where that is unknown."""
    target = tvm.target.Target.current(allow_none=True)
    return "" if target is None else str(target.attrs["mtriple"])
