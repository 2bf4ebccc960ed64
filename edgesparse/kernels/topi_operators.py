"""The operators of the generic path: one line each, as a function of scalars or of TE tensors."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from tvm import te, tirx, topi

from edgesparse.kernels import tir

Expr = tir.Expr
Tensor = Any  # a TE tensor


class Call(Protocol):
    """What an expression may ask of the kernel it is written for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents of the output."""

    @property
    def dtype(self) -> str:
        """Element type of the output."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""


@dataclasses.dataclass(frozen=True, slots=True)
class Operator:
    """What the table says of an operator.

    Attributes:
        expression: The output tensor from the kernel and its input tensors.
        constants: Inputs that are no arrays but attributes: position -> name.
    """

    expression: Callable[..., Tensor]
    constants: Mapping[int, str] = dataclasses.field(default_factory=dict)


def each(function: Callable[..., Expr]) -> Operator:
    """An elementwise operator: a function of scalars, over inputs that broadcast as numpy's."""
    return Operator(lambda k, *xs: _map(k, lambda _, *scalars: function(*scalars), *xs))


def _map(k: Call, function: Callable[..., Expr], *xs: Tensor) -> Tensor:
    """As `each`, for functions that look at the kernel's attributes first."""
    return te.compute(k.shape, lambda *i: function(k, *(_broadcast(x, i) for x in xs)))


def mapped(function: Callable[..., Expr]) -> Operator:
    """An elementwise operator whose function takes the kernel, for its attributes, and scalars."""
    return Operator(lambda k, *xs: _map(k, function, *xs))


def _broadcast(x: Tensor, index: tuple[Expr, ...]) -> Expr:
    used = index[len(index) - len(x.shape) :]
    return x(*(0 if int(extent) == 1 else i for extent, i in zip(x.shape, used, strict=True)))


# -- expressions that need more than a line


def dtype_of(x: Expr) -> str:
    """Return the element type of an expression or a tensor."""
    return str(x.dtype) if hasattr(x, "dtype") else str(x.ty.dtype)


def _const(value: float, like: Expr) -> Expr:
    return tirx.const(value, dtype_of(like))


def cast(x: Expr, dtype: str) -> Expr:
    """Return `x` as `dtype`; anything but zero is true."""
    if dtype == "bool" and dtype_of(x) != "bool":
        return tirx.NE(x, _const(0, x))
    return x.astype(dtype)


def _from_start(index: Expr, extent: int) -> Expr:
    """Return an index in its own type, counted from the start if it counts from the end."""
    return tirx.Select(index < _const(0, index), index + _const(extent, index), index)


def _within(index: Expr, extent: int) -> tuple[Expr, Expr]:
    """Return an index counted from the start, and whether it lies in an array of `extent`."""
    i = _from_start(index, extent)
    inside = tirx.And(i >= _const(0, index), i < _const(extent, index))
    return i.astype("int32"), inside


def _if_inside(inside: Expr, x: Expr) -> Expr:
    """Return `x`, read only `inside` its array; else NaN or the least integer.

    Of unsigned integers it is the largest, of booleans False. ONNX calls such an index an error,
    which a kernel cannot raise; so at least it shows.
    """
    dtype = dtype_of(x)
    if dtype.startswith("float"):
        nothing = _const(math.nan, x)
    elif dtype.startswith("uint"):
        nothing = tirx.max_value(dtype)
    else:
        nothing = tirx.const(False, dtype) if dtype == "bool" else tirx.min_value(dtype)
    return tirx.if_then_else(inside, x, nothing)


def _axis(k: Call, rank: int, default: int = 0) -> int:
    return int(k.get("axis", default)) % max(rank, 1)


def _gather(k: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis, rank = _axis(k, len(x.shape)), len(indices.shape)
    extent = int(x.shape[axis])

    def at(*i: Expr) -> Expr:
        chosen, inside = _within(indices(*i[axis : axis + rank]), extent)
        return _if_inside(inside, x(*i[:axis], chosen, *i[axis + rank :]))

    return te.compute(k.shape, at)


def _gather_elements(k: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = _axis(k, len(x.shape))
    extent = int(x.shape[axis])

    def at(*i: Expr) -> Expr:
        chosen, inside = _within(indices(*i), extent)
        return _if_inside(inside, x(*i[:axis], chosen, *i[axis + 1 :]))

    return te.compute(k.shape, at)


def _gather_nd(k: Call, x: Tensor, indices: Tensor) -> Tensor:
    batch, outer = int(k.get("batch_dims", 0)), len(indices.shape) - 1
    depth = int(indices.shape[outer])

    def at(*i: Expr) -> Expr:
        extents = [int(extent) for extent in x.shape[batch : batch + depth]]
        found = [_within(indices(*i[:outer], d), extent) for d, extent in enumerate(extents)]
        inside = functools.reduce(tirx.And, (each for _, each in found))
        return _if_inside(inside, x(*i[:batch], *(chosen for chosen, _ in found), *i[outer:]))

    return te.compute(k.shape, at)


def _one_hot(k: Call, indices: Tensor, values: Tensor) -> Tensor:
    axis, depth = _axis(k, len(k.shape), -1), int(k.get("depth")[0])

    def at(*i: Expr) -> Expr:
        index = _from_start(indices(*i[:axis], *i[axis + 1 :]).astype("int64"), depth)
        return tirx.Select(tirx.EQ(index, i[axis].astype("int64")), values(1), values(0))

    return te.compute(k.shape, at)


def _trilu(k: Call, x: Tensor) -> Tensor:
    diagonal, upper = int(k.get("k", (0,))[0]), k.get("upper", 1)

    def at(*i: Expr) -> Expr:
        distance = i[-1] - i[-2]
        kept = distance >= diagonal if upper else distance <= diagonal
        return tirx.Select(kept, x(*i), _const(0, x))

    return te.compute(k.shape, at)


def _cumulative_sum(k: Call, x: Tensor) -> Tensor:
    axis = int(k.get("axis")[0]) % len(k.shape)
    source = te.reduce_axis((0, k.shape[axis]), "source")
    exclusive, reverse = k.get("exclusive", 0), k.get("reverse", 0)

    def at(*i: Expr) -> Expr:
        before, after = (i[axis], source.var) if reverse else (source.var, i[axis])
        counts = before < after if exclusive else before <= after
        value = x(*i[:axis], source.var, *i[axis + 1 :])
        return te.sum(tirx.Select(counts, value, _const(0, x)), axis=source)

    return te.compute(k.shape, at)


def _arg(better: Callable[[Expr, Expr], Expr], worst: float) -> Operator:
    """The position of the best element: the first of equals, or the last if so asked."""

    def expression(k: Call, x: Tensor) -> Tensor:
        axis, last = _axis(k, len(x.shape)), k.get("select_last_index", 0)
        source = te.reduce_axis((0, x.shape[axis]), "source")
        limit = worst if dtype_of(x).startswith("float") else _integer_limit(dtype_of(x), worst)

        def combine(left: list[Expr], right: list[Expr]) -> tuple[Expr, Expr]:
            earlier = left[0] > right[0] if last else left[0] < right[0]
            ties = tirx.And(tirx.EQ(left[1], right[1]), earlier)
            keep = tirx.Or(better(left[1], right[1]), ties)
            return tirx.Select(keep, left[0], right[0]), tirx.Select(keep, left[1], right[1])

        def identity(index: str, value: str) -> tuple[Expr, Expr]:
            nowhere = -1 if last else (1 << 31) - 1
            return tirx.const(nowhere, index), tirx.const(limit, value)

        reducer = te.comm_reducer(combine, identity, "best")

        def pair(*i: Expr) -> Any:
            rest = i[axis + 1 :] if k.get("keepdims", 1) else i[axis:]
            return reducer((source.var, x(*i[:axis], source.var, *rest)), axis=source)

        positions, _ = te.compute(k.shape, pair, name="best")
        return topi.cast(positions, k.dtype)

    return Operator(expression)


def _integer_limit(dtype: str, sign: float) -> int:
    bound = tirx.max_value(dtype) if sign > 0 else tirx.min_value(dtype)
    return int(bound)


def _mod(k: Call, a: Expr, b: Expr) -> Expr:
    if dtype_of(a).startswith("float"):
        rest = tirx.fmod(a, b)
        return rest if k.get("fmod", 0) else _with_sign_of(b, rest)
    return tirx.truncmod(a, b) if k.get("fmod", 0) else tirx.floormod(a, b)


def _with_sign_of(b: Expr, rest: Expr) -> Expr:
    """Return the remainder of a division rounded down from that of one rounded towards zero."""
    zero = _const(0, b)
    is_negative = tirx.Or(b < zero, tirx.And(tirx.EQ(b, zero), _const(1, b) / b < zero))
    differ = tirx.NE(_comparable(rest < zero), _comparable(b < zero))
    signed_zero = tirx.Select(is_negative, _const(-0.0, b), zero)
    return tirx.Select(tirx.EQ(rest, zero), signed_zero, tirx.Select(differ, rest + b, rest))


def _divide(a: Expr, b: Expr) -> Expr:
    return a / b if dtype_of(a).startswith("float") else tirx.truncdiv(a, b)


def _comparable(x: Expr) -> Expr:
    """TVM compares booleans as floats, which LLVM refuses."""
    return x.astype("int8") if dtype_of(x) == "bool" else x


def _differ(a: Expr, b: Expr) -> Expr:
    return tirx.NE(_comparable(a), _comparable(b))


def _equal(a: Expr, b: Expr) -> Expr:
    return tirx.EQ(_comparable(a), _comparable(b))


def _sign(x: Expr) -> Expr:
    one, zero = _const(1, x), _const(0, x)
    below = x if dtype_of(x).startswith("uint") else tirx.Select(x < zero, zero - one, x)
    return tirx.Select(x > zero, one, below)


def _is_infinite(k: Call, x: Expr) -> Expr:
    up = tirx.And(tirx.EQ(x, _const(math.inf, x)), bool(k.get("detect_positive", 1)))
    down = tirx.And(tirx.EQ(x, _const(-math.inf, x)), bool(k.get("detect_negative", 1)))
    return tirx.Or(up, down)


def _exp_linear(x: Expr, alpha: float) -> Expr:
    return (tirx.exp(x) - _const(1, x)) * _const(alpha, x)


def _selu(k: Call, x: Expr) -> Expr:
    alpha, gamma = (
        k.get("alpha", 1.67326319217681884765625),
        k.get("gamma", 1.05070102214813232421875),
    )
    return tirx.Select(x > _const(0, x), x, _exp_linear(x, alpha)) * _const(gamma, x)


def _celu(k: Call, x: Expr) -> Expr:
    alpha = k.get("alpha", 1.0)
    return tirx.Select(x > _const(0, x), x, _exp_linear(x / _const(alpha, x), alpha))


def _shrink(k: Call, x: Expr) -> Expr:
    bias, limit, zero = _const(k.get("bias", 0.0), x), k.get("lambd", 0.5), _const(0, x)
    inner = tirx.Select(x > _const(limit, x), x - bias, zero)
    return tirx.Select(x < _const(-limit, x), x + bias, inner)


def _shift(k: Call, a: Expr, b: Expr) -> Expr:
    """Shift by any number: by as many bits as there are, or fewer than none, nothing is left."""
    last, is_left = _const(_bits(a) - 1, a), k.get("direction") == "LEFT"
    within = tirx.And(b >= _const(0, a), b <= last)
    amount = tirx.Select(within, b, last)
    if is_left:
        return tirx.Select(within, a << amount, _const(0, a))
    is_unsigned = dtype_of(a).startswith("uint")
    rest = _const(0, a) if is_unsigned else a >> last  # copies of the sign
    return tirx.Select(within, a >> amount, rest)


def _bits(x: Expr) -> int:
    return 8 * int(np.dtype(dtype_of(x)).itemsize)


OPERATORS: dict[str, Operator] = {
    # elementwise, any element type
    "Abs": each(tirx.abs),
    "Add": each(lambda a, b: a + b),
    "And": each(tirx.And),
    "BitShift": mapped(_shift),
    "BitwiseAnd": each(lambda a, b: a & b),
    "BitwiseNot": each(lambda x: ~x),
    "BitwiseOr": each(lambda a, b: a | b),
    "BitwiseXor": each(lambda a, b: a ^ b),
    "Cast": mapped(lambda k, x: cast(x, k.dtype)),
    "CastLike": mapped(lambda k, x, like: cast(x, k.dtype)),
    "Ceil": each(tirx.ceil),
    "Celu": mapped(_celu),
    "Cos": each(tirx.cos),
    "Div": each(_divide),
    "Equal": each(_equal),
    "Floor": each(tirx.floor),
    "Greater": each(lambda a, b: a > b),
    "GreaterOrEqual": each(lambda a, b: a >= b),
    "IsInf": mapped(_is_infinite),
    "IsNaN": each(tir.is_nan),
    "Less": each(lambda a, b: a < b),
    "LessOrEqual": each(lambda a, b: a <= b),
    "Max": each(lambda *xs: functools.reduce(tirx.max, xs)),
    "Min": each(lambda *xs: functools.reduce(tirx.min, xs)),
    "Mod": mapped(_mod),
    "Mul": each(lambda a, b: a * b),
    "Neg": each(lambda x: _const(0, x) - x),
    "Not": each(tirx.Not),
    "Or": each(tirx.Or),
    "PRelu": each(lambda x, slope: tirx.Select(x < _const(0, x), x * slope, x)),
    "Round": each(tirx.nearbyint),
    "Selu": mapped(_selu),
    "Shrink": mapped(_shrink),
    "Sign": each(_sign),
    "Sin": each(tirx.sin),
    "Softsign": each(lambda x: x / (_const(1, x) + tirx.abs(x))),
    "Sub": each(lambda a, b: a - b),
    "Sum": each(lambda *xs: functools.reduce(lambda a, b: a + b, xs)),
    "Tan": each(tirx.tan),
    "ThresholdedRelu": mapped(
        lambda k, x: tirx.Select(x > _const(k.get("alpha", 1.0), x), x, _const(0, x))
    ),
    "Where": each(tirx.Select),
    "Xor": each(_differ),
    # data movement
    "Gather": Operator(_gather),
    "GatherElements": Operator(_gather_elements),
    "GatherND": Operator(_gather_nd),
    "OneHot": Operator(_one_hot, {1: "depth"}),
    "Trilu": Operator(_trilu, {1: "k"}),
    # reductions that are no sums
    "ArgMax": _arg(lambda a, b: a > b, -math.inf),
    "ArgMin": _arg(lambda a, b: a < b, math.inf),
    "CumSum": Operator(_cumulative_sum, {1: "axis"}),
}
