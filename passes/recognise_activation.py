"""Activations that an exporter spelled out, recognised by their values.

    Sigmoid ┐                       Div(√2) ─ Erf ─ Add(1) ┐
    x ──────┴ Mul  ->  Silu(x)      x ─────────────── Mul ─┴ Mul(0.5)  ->  Gelu(x)

There are dozens of spellings (x/√2 or x·0.7071, x³ as Pow or x·x·x, the 0.5 anywhere), so no list
of patterns is matched: the expression between two values is evaluated in float64 on a grid of
sample points and compared with the activations we know.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgesparse.passes import editing

Samples = npt.NDArray[np.float64]
Function = Callable[..., Samples]

_MAX_NODES = 12
# Dense around zero, where activations bend, and as far as float32 goes, to see every clamp.
_FAR: Samples = np.array([18.0, 25, 40, 60, 100, 600, 1e3, 1e5, 1e8, 1e15, 1e30, 3e38])
_SAMPLES: Samples = np.concatenate([np.linspace(-12, 12, 241), -_FAR, _FAR])
# Exporters write constants such as √2 or 1/6 in float32, some with six digits.
_RTOL, _ATOL = 2e-6, 2e-6
# Such a constant is off by more where a function goes to zero, and 1 + erf(x) cancels there. What
# is added to keep a logarithm or a division from zero is more than that.
_TAIL_RTOL, _CANCELLED = 1e-3, 1e-14
# From here on exp(x) overflows, and then a spelling that takes its logarithm has no value.
_OVERFLOW = 700.0


def _erf(x: Samples) -> Samples:
    return np.array([math.erf(each) for each in np.ravel(x)]).reshape(np.shape(x))


def _sigmoid(x: Samples) -> Samples:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Samples) -> Samples:
    return np.logaddexp(x, 0)


def _hard_sigmoid(x: Samples, alpha: float = 0.2, beta: float = 0.5) -> Samples:
    clipped: Samples = np.clip(alpha * x + beta, 0, 1)
    return clipped


def _gelu(x: Samples) -> Samples:
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _gelu_tanh(x: Samples) -> Samples:
    inner: Samples = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    gate: Samples = 1 + np.tanh(inner)
    return 0.5 * x * gate


class Activation(NamedTuple):
    """What to write for a recognised function."""

    function: Function
    op_type: str
    attributes: Mapping[str, float | str] = {}
    cancelled: float = _CANCELLED


ACTIVATIONS = (
    Activation(lambda x: x * _sigmoid(x), "Silu"),
    Activation(lambda x: x * _hard_sigmoid(x, 1 / 6), "HardSwish"),
    Activation(lambda x: _hard_sigmoid(x, 1 / 6), "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    Activation(_gelu, "Gelu", {"approximate": "none"}),
    Activation(_gelu_tanh, "Gelu", {"approximate": "tanh"}),
    Activation(lambda x: x * np.tanh(_softplus(x)), "Mish"),
    Activation(_softplus, "Softplus"),
    Activation(_sigmoid, "Sigmoid", cancelled=0.0),
)

_EVALUATE: dict[str, Function] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Min": lambda *xs: functools.reduce(np.minimum, xs),
    "Max": lambda *xs: functools.reduce(np.maximum, xs),
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
    "Exp": np.exp,
    "Log": np.log,
    "Tanh": np.tanh,
    "Erf": _erf,
    "Sigmoid": _sigmoid,
    "Softplus": _softplus,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda x: x * _hard_sigmoid(x, 1 / 6),
    "Relu": lambda x: np.maximum(x, 0),
    "Clip": np.clip,
    "Swish": lambda x, alpha=1.0: x * _sigmoid(alpha * x),
}
_ROOTS = frozenset({"Mul", "Div", "Add", "Sub", "Clip", "Log", "Reciprocal", "Swish"})


class RecogniseActivationPass(ir.passes.InPlacePass):
    """Replace spelled-out activations by one node each.

    It is ONNX's own operator where the model's opset has it, else `edgesparse::<name>` with the
    same attributes. Largest expressions first: x * sigmoid(x) is a Silu, not a Sigmoid and a Mul.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite from the last node to the first."""
        modified = False
        for node in reversed(tuple(model.graph)):
            if editing.is_dead(node):
                model.graph.remove(node, safe=True)
            elif editing.is_op(node, *_ROOTS) and (match := _recognise(node)):
                _write(node, *match)
                modified = True
        return editing.Result(model, modified)


def _write(node: ir.Node, source: ir.Value, activation: Activation) -> None:
    is_standard = onnx.defs.has(activation.op_type, editing.opset(node), "")
    editing.make_like(
        activation.op_type,
        [source],
        node,
        attributes=dict(activation.attributes),
        domain="" if is_standard else editing.DOMAIN,
    )


def _recognise(node: ir.Node) -> tuple[ir.Value, Activation] | None:
    """Return the activation that `node` computes, and of which value."""
    result = node.outputs[0]
    for source in _sources(node):
        if source.dtype != ir.DataType.FLOAT or source.shape != result.shape:
            continue
        found = _evaluate(result, source)
        if found is None:
            continue
        for activation in ACTIVATIONS:
            if _is(found[result], activation):
                # A bound on it, or a tiny sum, is another function far out, or to a logarithm.
                inner = [found[value] for value in node.inputs if value in found]
                return (
                    None if any(_is(each, activation) for each in inner) else (source, activation)
                )
    return None


def _is(found: Samples, activation: Activation) -> bool:
    """Whether samples are those of an activation, but for roundings."""
    if found.shape != _SAMPLES.shape:
        return False
    with np.errstate(all="ignore"):
        expected = activation.function(_SAMPLES)
        size = np.abs(expected)
        near = np.minimum(_ATOL + _RTOL * size, activation.cancelled + _TAIL_RTOL * size)
        agrees = np.abs(found - expected) <= near
    return bool(np.all(agrees | (~np.isfinite(found) & (np.abs(_SAMPLES) > _OVERFLOW))))


def _expression(node: ir.Node) -> list[ir.Node]:
    """Return the elementwise nodes that lead to `node`, nearest first, `node` included."""
    found, position = [node], 0
    while position < len(found) and len(found) < _MAX_NODES:
        for value in found[position].inputs:
            producer = value.producer() if value else None
            if producer and producer not in found and editing.is_op(producer, *_EVALUATE):
                found.append(producer)
        position += 1
    return found


def _sources(node: ir.Node) -> Iterator[ir.Value]:
    """Return the values that `node` might be a function of, farthest first."""
    values = [value for each in _expression(node) for value in each.inputs]
    unique = dict.fromkeys(value for value in values if value and not value.is_initializer())
    return reversed(unique)


def _evaluate(value: ir.Value, source: ir.Value) -> dict[ir.Value, Samples] | None:
    """Return `value`, and what it comes from, as functions of `source` at the sample points.

    None if it is no function of it.
    """
    known = {source: _SAMPLES}
    try:
        with np.errstate(all="ignore"):
            _evaluate_at(value, source, known, depth=0)
    except _NotAFunctionError:
        return None
    return known


class _NotAFunctionError(Exception):
    """The value depends on something besides the source and scalars."""


def _evaluate_at(
    value: ir.Value, source: ir.Value, known: dict[ir.Value, Samples], depth: int
) -> Samples:
    if value in known:
        return known[value]
    node = value.producer()
    if node is None:
        number = editing.scalar(value)
        if number is None or len(editing.shape_of(value)) > len(editing.shape_of(source)):
            raise _NotAFunctionError
        return np.array(number, np.float64)
    if not editing.is_op(node, *_EVALUATE) or depth > _MAX_NODES:
        raise _NotAFunctionError
    operands = [
        _evaluate_at(operand, source, known, depth + 1) if operand is not None else None
        for operand in node.inputs
    ]
    known[value] = _apply(node, operands)
    return known[value]


def _apply(node: ir.Node, operands: list[Samples | None]) -> Samples:
    numbers = {
        name: attribute.as_float()
        for name, attribute in node.attributes.items()
        if attribute.type == ir.AttributeType.FLOAT
    }
    if node.op_type == "Clip":
        low, high = (*operands[1:], None, None)[:2]
        low = np.array(-np.inf) if low is None else low
        clipped: Samples = np.clip(_some(operands[0]), low, high)
        return clipped
    return np.asarray(_EVALUATE[node.op_type](*map(_some, operands), **numbers), np.float64)


def _some(operand: Samples | None) -> Samples:
    if operand is None:
        raise _NotAFunctionError
    return operand
