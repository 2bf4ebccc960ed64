"""Softmax and normalisations: every element is rewritten from what its line sums up to."""

from __future__ import annotations

import dataclasses
import math

from tvm import tirx

from edgesparse.kernels import tir
from edgesparse.kernels.lines import Line, Lines, Visit
from edgesparse.kernels.math import exp_up_to_zero
from edgesparse.kernels.reduce import add

Expr = tir.Expr


@dataclasses.dataclass(frozen=True, slots=True)
class Softmax:
    """y = e^(x - max x) / sum e^(x - max x) along every line, or its logarithm.

    Attributes:
        lines: The lines of (x, y).
        log: Whether the logarithm is wanted.
    """

    lines: Lines
    log: bool = False

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return "f32_log_softmax" if self.log else "f32_softmax"

    @property
    def parts(self) -> int:
        """Those of the lines."""
        return self.lines.parts

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, y, range)."""

        def body(first: Expr, last: Expr, x: tir.Buffer, y: tir.Buffer) -> None:
            def each(line: Line) -> None:
                peak = line.fold(-math.inf, _larger, lambda v: v.load(x))
                if self.log:
                    _log_softmax(line, x, y, peak)
                else:
                    _softmax(line, x, y, peak)

            self.lines.each(first, last, each)

        return tir.function(symbol, {"x": "float32", "y": "float32"}, body, ranged=True)


def _larger(a: Expr, b: Expr) -> Expr:
    """Return the larger one, in one instruction; a NaN may be lost, which e^(x - max x) keeps."""
    return tirx.Select(a < b, b, a)


def _softmax(line: Line, x: tir.Buffer, y: tir.Buffer, peak: Expr) -> None:
    def power(visit: Visit) -> Expr:
        value = exp_up_to_zero(visit.load(x) - visit.spread(peak))
        visit.store(y, 1, value)
        return value

    total = line.fold(0.0, add, power)
    inverse = tir.keep(tir.splat(1.0, line.lanes) / total)
    line.visit(lambda v: v.store(y, 1, v.load(y, 1) * v.spread(inverse)))


def _log_softmax(line: Line, x: tir.Buffer, y: tir.Buffer, peak: Expr) -> None:
    total = line.fold(0.0, add, lambda v: exp_up_to_zero(v.load(x) - v.spread(peak)))
    logarithm = tir.keep(tirx.log(total))
    line.visit(lambda v: v.store(y, 1, v.load(x) - v.spread(peak) - v.spread(logarithm)))


@dataclasses.dataclass(frozen=True, slots=True)
class Normalise:
    """y = (x - mean) / sqrt(variance + epsilon) · scale + bias along every line.

    LayerNormalization, InstanceNormalization, GroupNormalization: they differ in their lines. The
    mean is taken before the variance, which costs a pass and saves the digits.

    Attributes:
        lines: The lines of (x, y, scale and bias).
        epsilon: Added to the variance.
        has_bias: Whether there is a bias.
    """

    lines: Lines
    epsilon: float
    has_bias: bool = True

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return "f32_normalise" if self.has_bias else "f32_normalise_no_bias"

    @property
    def parts(self) -> int:
        """Those of the lines."""
        return self.lines.parts

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, scale, [bias], y, range)."""
        names = ["x", "scale", *(["bias"] if self.has_bias else []), "y"]

        def body(first: Expr, last: Expr, *buffers: tir.Buffer) -> None:
            p = dict(zip(names, buffers, strict=True))
            self.lines.each(first, last, lambda line: self._emit_line(p, line))

        return tir.function(symbol, dict.fromkeys(names, "float32"), body, ranged=True)

    def _emit_line(self, p: dict[str, tir.Buffer], line: Line) -> None:
        one = 1.0 / max(1, self.lines.elements)
        share = tir.splat(one, line.lanes)
        mean = tir.keep(line.fold(0.0, add, lambda v: v.load(p["x"])) * share)

        def square(visit: Visit) -> Expr:
            centred = visit.load(p["x"]) - visit.spread(mean)
            return centred * centred

        variance = line.fold(0.0, add, square) * share
        deviation = tirx.sqrt(variance + tir.splat(self.epsilon, line.lanes))
        inverse = tir.keep(tir.splat(1.0, line.lanes) / deviation)

        def finish(visit: Visit) -> None:
            value = (visit.load(p["x"]) - visit.spread(mean)) * visit.spread(inverse)
            value = value * visit.load(p["scale"], 2)
            if self.has_bias:
                value = value + visit.load(p["bias"], 2)
            visit.store(p["y"], 1, value)

        line.visit(finish)
