"""Elementwise kernels: activations, unary and binary operators, all from three tables.

A new operator is one line in ACTIVATIONS, UNARY or BINARY. An entry emits the statements it needs
and returns an expression, so it is called where a kernel's statements are written.

NaN goes in, NaN comes out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from tvm import tirx

from edgesparse.kernels import ranges, tir
from edgesparse.kernels.limits import at_least, at_most
from edgesparse.kernels.loops import dot, merge_loops
from edgesparse.kernels.math import evaluate, gated
from edgesparse.layout import plane_lanes

Expr = tir.Expr
Activation = Callable[[Expr, int, float, float], Expr]


def clamp(x: Expr, low: float, high: float, lanes: int) -> Expr:
    """Return x limited to [low, high], NaN where x is NaN; an infinite limit costs nothing."""
    if low > -math.inf:
        x = tir.keep(at_least(tir.keep(x), low, lanes))
    return at_most(tir.keep(x), high, lanes) if high < math.inf else x


def _hard_sigmoid(x: Expr, lanes: int, alpha: float, beta: float) -> Expr:
    return clamp(x * tir.splat(alpha, lanes) + tir.splat(beta, lanes), 0.0, 1.0, lanes)


def _leaky_relu(x: Expr, lanes: int, alpha: float, beta: float) -> Expr:
    zero = tir.splat(0.0, lanes)
    return tirx.Select(x < zero, x * tir.splat(alpha, lanes), x)


def _gelu(x: Expr, lanes: int, alpha: float, beta: float) -> Expr:
    inner = evaluate("erf", x * tir.splat(math.sqrt(0.5), lanes))
    return x * tir.splat(0.5, lanes) * (inner + tir.splat(1.0, lanes))


def _gelu_tanh(x: Expr, lanes: int, alpha: float, beta: float) -> Expr:
    """Return x · sigmoid(2u) = x · (1 + tanh(u)) / 2, accurate where tanh is near -1, too."""
    cubic = x * x * x * tir.splat(0.044715, lanes)
    return gated(x, (x + cubic) * tir.splat(2 * math.sqrt(2 / math.pi), lanes))


def _elu(x: Expr, lanes: int, alpha: float, beta: float) -> Expr:
    below = (evaluate("exp", x) - tir.splat(1.0, lanes)) * tir.splat(alpha, lanes)
    return tirx.Select(x < tir.splat(0.0, lanes), below, x)


def _softplus(x: Expr, lanes: int, alpha: float, beta: float) -> Expr:
    zero = tir.splat(0.0, lanes)
    return at_least(x, 0.0, lanes) + evaluate("log1p", evaluate("exp", zero - tirx.abs(x)))


def _mish(x: Expr, lanes: int, alpha: float, beta: float) -> Expr:
    """Return x · n / (n + 2) with n = e^x · (e^x + 2): the ratio is 1 to the last bit from 20."""
    two = tir.splat(2.0, lanes)
    power = evaluate("exp", at_most(x, 20.0, lanes))
    product = tir.keep(power * (power + two))
    return x * (product / (product + two))


# Every function may name its argument as often as it likes: it is kept in a register.
ACTIVATIONS: dict[str, Activation] = {
    "": lambda x, lanes, alpha, beta: x,
    "Clip": lambda x, lanes, alpha, beta: clamp(x, alpha, beta, lanes),
    "Elu": _elu,
    "Gelu": _gelu,
    "GeluTanh": _gelu_tanh,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda x, lanes, alpha, beta: x * _hard_sigmoid(x, lanes, 1 / 6, 0.5),
    "LeakyRelu": _leaky_relu,
    "Mish": _mish,
    "Relu": lambda x, lanes, alpha, beta: at_least(x, 0.0, lanes),
    "Sigmoid": lambda x, lanes, alpha, beta: evaluate("sigmoid", x),
    "Silu": lambda x, lanes, alpha, beta: gated(x, x),
    "Softplus": _softplus,
    "Tanh": lambda x, lanes, alpha, beta: evaluate("tanh", x),
}


def activation(name: str, x: Expr, lanes: int, alpha: float = 0.0, beta: float = 0.0) -> Expr:
    """Return the activation `name` of `lanes` float32 values.

    Args:
        name: A key of ACTIVATIONS; "" is the identity.
        x: What to activate; computed once.
        lanes: Its lanes.
        alpha: First parameter: Clip's minimum, the slope of LeakyRelu, alpha of Elu, HardSigmoid.
        beta: Second parameter: Clip's maximum, beta of HardSigmoid.
    """
    return ACTIVATIONS[name](tir.keep(x), lanes, alpha, beta) if name else x


def _unary(name: str) -> Activation:
    return lambda x, lanes, alpha, beta: evaluate(name, x)


# Alpha and beta mean what the operator says; most ignore them.
UNARY: dict[str, Activation] = {
    **{name: function for name, function in ACTIVATIONS.items() if name},
    "Abs": lambda x, lanes, alpha, beta: tirx.abs(x),
    "Ceil": _unary("ceil"),
    "Cos": _unary("cos"),
    "Cosh": _unary("cosh"),
    "Erf": _unary("erf"),
    "Exp": _unary("exp"),
    "Floor": _unary("floor"),
    "Log": _unary("log"),
    "Neg": lambda x, lanes, alpha, beta: x * tir.splat(-1.0, lanes),
    "PowConstant": lambda x, lanes, alpha, beta: _power(x, alpha, lanes),
    "Reciprocal": lambda x, lanes, alpha, beta: tir.splat(1.0, lanes) / x,
    "Round": _unary("nearbyint"),
    "Rsqrt": _unary("rsqrt"),
    "Sin": _unary("sin"),
    "Sinh": lambda x, lanes, alpha, beta: _sinh(x, lanes),
    "Sqrt": lambda x, lanes, alpha, beta: tirx.sqrt(x),
    "Softsign": lambda x, lanes, alpha, beta: x / (tirx.abs(x) + tir.splat(1.0, lanes)),
    "Tan": _unary("tan"),
    "ThresholdedRelu": lambda x, lanes, alpha, beta: tirx.Select(
        x > tir.splat(alpha, lanes), x, tir.splat(0.0, lanes)
    ),
}


def _sinh(x: Expr, lanes: int) -> Expr:
    """Return (e^x - e^-x) / 2, halved in the exponents lest they overflow too early."""
    half = tir.splat(math.log(2), lanes)
    return evaluate("exp", x - half) - evaluate("exp", tir.splat(0.0, lanes) - x - half)


def _power(x: Expr, exponent: float, lanes: int) -> Expr:
    """x^exponent for a constant exponent: a few products where those are exact enough."""
    if exponent == int(exponent) and 1 <= abs(exponent) <= 4:
        product = x
        for _ in range(int(abs(exponent)) - 1):
            product = product * x
        return product if exponent > 0 else tir.splat(1.0, lanes) / product
    if abs(exponent) == 0.5:
        infinity = tir.splat(math.inf, lanes)  # what C's pow makes of -inf
        x = tirx.Select(tirx.EQ(x, tir.splat(-math.inf, lanes)), infinity, x)
        return tirx.sqrt(x) if exponent > 0 else evaluate("rsqrt", x)
    return evaluate("pow", x, tir.splat(exponent, lanes))


# Arguments are kept in registers.
BINARY: dict[str, Callable[[Expr, Expr, int], Expr]] = {
    "Add": lambda a, b, lanes: a + b,
    "Div": lambda a, b, lanes: a / b,
    "Max": lambda a, b, lanes: _propagate(a, b, tirx.Select(a > b, a, b)),
    "Min": lambda a, b, lanes: _propagate(a, b, tirx.Select(a < b, a, b)),
    "Mul": lambda a, b, lanes: a * b,
    "PRelu": lambda a, b, lanes: tirx.Select(a < tir.splat(0.0, lanes), a * b, a),
    "Pow": lambda a, b, lanes: evaluate("pow", a, b),
    "Sub": lambda a, b, lanes: a - b,
}


def _propagate(a: Expr, b: Expr, chosen: Expr) -> Expr:
    """Return `chosen`, which is b where a comparison failed, or a where a is NaN."""
    return tirx.Select(tir.is_nan(a), a, chosen)


@dataclasses.dataclass(frozen=True, slots=True)
class Unary:
    """y[i] = op(x[i]) for i < elements; float32.

    The last vector may reach into the slack that follows every buffer.

    Attributes:
        op: Key of UNARY.
        elements: How many.
        lanes: float32 lanes of a vector.
        alpha: First parameter of the operator.
        beta: Second parameter of the operator.
    """

    op: str
    elements: int
    lanes: int
    alpha: float = 0.0
    beta: float = 0.0

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"f32_{self.op.lower()}"

    @property
    def _vectors(self) -> int:
        return -(-self.elements // self.lanes)

    @property
    def parts(self) -> int:
        """Vectors, where there is enough to do."""
        return ranges.parts(self._vectors, self.elements)

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, y, range)."""
        lanes = self.lanes

        def body(first: Expr, last: Expr, x: tir.Buffer, y: tir.Buffer) -> None:
            bounds = ranges.bounds(self.parts, first, last)
            with ranges.share(*bounds, (self._vectors,)) as (i,):
                value = tir.keep(tir.load(x, i * lanes, lanes))
                result = UNARY[self.op](value, lanes, self.alpha, self.beta)
                tir.store(y, i * lanes, result, lanes)

        return tir.function(symbol, {"x": "float32", "y": "float32"}, body, ranged=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Binary:
    """y[i · y_strides] = op(a[i · a_strides], b[i · b_strides]) for i in extents; float32.

    Rows are written in the order of their addresses, in whole vectors: what overshoots a row is
    overwritten by the next one, or lies in padding or slack. Where it is overwritten, no threads
    share the work.

    Attributes:
        op: Key of BINARY.
        extents: Loop extents, outermost first.
        a_strides: Elements between neighbours; 0 broadcasts.
        b_strides: Elements between neighbours; 0 broadcasts.
        y_strides: Elements between neighbours; a row-major order of some of the axes.
        lanes: float32 lanes of a vector.
    """

    op: str
    extents: tuple[int, ...]
    a_strides: tuple[int, ...]
    b_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    lanes: int

    @classmethod
    def between(
        cls,
        op: str,
        extents: Sequence[int],
        a_strides: Sequence[int],
        b_strides: Sequence[int],
        y_strides: Sequence[int],
        lanes: int,
    ) -> Binary:
        """Return the kernel with the fewest loops, written as contiguously as can be."""
        merged, (y, a, b) = merge_loops(extents, (y_strides, a_strides, b_strides))
        return cls(op, merged, a, b, y, plane_lanes(merged[-1], lanes))

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"f32_{self.op.lower()}{len(self.extents)}d"

    @property
    def parts(self) -> int:
        """Rows, or vectors, where there is enough to do."""
        elements = math.prod(self.extents)
        if self._overshoots:
            return 1
        return ranges.row_parts(self.extents[:-1], self._vectors, elements)

    @property
    def _width(self) -> int:
        """Lanes that the innermost loop can be computed in."""
        inner = {self.a_strides[-1], self.b_strides[-1]}
        return self.lanes if self.y_strides[-1] == 1 and inner <= {0, 1} else 1

    @property
    def _vectors(self) -> int:
        return -(-self.extents[-1] // self._width)

    @property
    def _overshoots(self) -> bool:
        """Whether a row's last vector reaches into the next row."""
        reach = self._vectors * self._width
        for extent, stride in zip(self.extents[-2::-1], self.y_strides[-2::-1], strict=True):
            if stride < reach and self._width > 1:
                return True
            reach += (extent - 1) * stride
        return False

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (a, b, y, range)."""
        lanes = self._width

        def operand(buffer: tir.Buffer, at: Sequence[Expr], strides: Sequence[int]) -> Expr:
            place = dot(at, strides)
            if lanes == 1 or strides[-1]:
                return tir.load(buffer, place, lanes)
            return tir.splat(tir.load(buffer, place), lanes)

        def body(first: Expr, last: Expr, a: tir.Buffer, b: tir.Buffer, y: tir.Buffer) -> None:
            bounds = ranges.bounds(self.parts, first, last)
            rows = ranges.rows(*bounds, self.extents[:-1], self._vectors)
            with rows as (outer, low, high), ranges.share(low, high, (self._vectors,)) as (i,):
                at = (*outer, i * lanes)
                left = tir.keep(operand(a, at, self.a_strides))
                right = tir.keep(operand(b, at, self.b_strides))
                value = BINARY[self.op](left, right, lanes)
                tir.store(y, dot(at, self.y_strides), value, lanes)

        names = dict.fromkeys(("a", "b", "y"), "float32")
        return tir.function(symbol, names, body, ranged=True)
