"""Reductions over any axes: sums, products, extrema, norms, log-sum-exp."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from tvm import tirx

from edgesparse.kernels import tir
from edgesparse.kernels.lines import Combine, Line, Lines
from edgesparse.kernels.movement import short

Expr = tir.Expr


def maximum(a: Expr, b: Expr) -> Expr:
    """Return the larger one; NaN where one is NaN."""
    return tirx.Select(tirx.Or(a >= b, tir.is_nan(a)), a, b)


def minimum(a: Expr, b: Expr) -> Expr:
    """Return the smaller one; NaN where one is NaN."""
    return tirx.Select(tirx.Or(a <= b, tir.is_nan(a)), a, b)


def add(a: Expr, b: Expr) -> Expr:
    """Return the sum."""
    return a + b


@dataclasses.dataclass(frozen=True, slots=True)
class Reduction:
    """How a line becomes a number: finish(combine of term(x) over the line, elements).

    Attributes:
        initial: Where the combination starts.
        combine: Of two values.
        term: Of one element.
        finish: Of the combination and the number of elements.
    """

    initial: float
    combine: Combine
    term: Callable[[Expr], Expr] = lambda x: x
    finish: Callable[[Expr, int], Expr] = lambda total, elements: total


REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": Reduction(0, add, tirx.abs),
    "ReduceL2": Reduction(0, add, lambda x: x * x, lambda total, _: tirx.sqrt(total)),
    "ReduceLogSum": Reduction(0, add, finish=lambda total, _: tirx.log(total)),
    "ReduceMax": Reduction(-math.inf, maximum),
    "ReduceMean": Reduction(0, add, finish=lambda total, elements: _divide(total, elements)),
    "ReduceMin": Reduction(math.inf, minimum),
    "ReduceProd": Reduction(1, lambda a, b: a * b),
    "ReduceSum": Reduction(0, add),
    "ReduceSumSquare": Reduction(0, add, lambda x: x * x),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Reduce:
    """One reduction.

    Attributes:
        op: A key of REDUCTIONS, or ReduceLogSumExp.
        lines: The lines of (x, y); y does not move along a line.
        dtype: Element type.
    """

    op: str
    lines: Lines
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"{short(self.dtype)}_{self.op.lower()}"

    @property
    def parts(self) -> int:
        """Those of the lines."""
        return self.lines.parts

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, y, range)."""

        def body(first: Expr, last: Expr, x: tir.Buffer, y: tir.Buffer) -> None:
            def each(line: Line) -> None:
                tir.store(y, line.base[1], self._reduce(line, x), line.lanes)

            self.lines.each(first, last, each)

        return tir.function(symbol, {"x": self.dtype, "y": self.dtype}, body, ranged=True)

    def _reduce(self, line: Line, x: tir.Buffer) -> Expr:
        if self.op == "ReduceLogSumExp":
            return _log_sum_exp(line, x)
        rule = REDUCTIONS[self.op]
        start = initial(rule.initial, self.dtype)
        total = line.fold(start, rule.combine, lambda v: rule.term(v.load(x)), self.dtype)
        return rule.finish(total, self.lines.elements)


def _log_sum_exp(line: Line, x: tir.Buffer) -> Expr:
    """log(sum e^x) = m + log(sum e^(x - m)) with m = max x, or 0 where that is infinite."""
    peak = line.fold(-math.inf, maximum, lambda v: v.load(x))
    size = tirx.abs(peak)
    zero = tir.splat(0.0, line.lanes)
    shift = tirx.Select(size < tir.splat(math.inf, line.lanes), peak, zero)
    total = line.fold(0.0, add, lambda v: tirx.exp(v.load(x) - v.spread(shift)))
    return shift + tirx.log(total)


def initial(value: float, dtype: str) -> float:
    """Return `value` in the element type: an infinity of integers is their limit."""
    if dtype.startswith("float") or math.isfinite(value):
        return value
    limit = tirx.max_value(dtype) if value > 0 else tirx.min_value(dtype)
    return int(limit)


def _divide(total: Expr, elements: int) -> Expr:
    dtype = total.ty.dtype
    if not str(dtype).startswith("float"):
        return tirx.truncdiv(total, tirx.const(elements, str(dtype)))
    return total * tir.splat(1.0 / elements if elements else math.nan, dtype.lanes)
