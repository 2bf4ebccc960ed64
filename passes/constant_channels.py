"""Which channels hold one and the same number at every pixel, and which number.

A convolution's row without weights gives its bias; what follows keeps the channel constant as long
as it works on each channel by itself. A KxK convolution with padding sees zeros at the border, so
there only the constant zero stays constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from scipy import special

from edgesparse.geometry import moved_axes, residual_of
from edgesparse.passes import editing

Floats = npt.NDArray[np.float32]
# Value -> (channels,) float32 along its channel axis: the number, or NaN where it is not constant.
Known = dict[ir.Value, Floats]

FLOAT = np.float32
_GELU_SCALE = 2 * np.sqrt(2 / np.pi)  # 1 + tanh(x) is twice the sigmoid of 2x
ACTIVATIONS: dict[str, Callable[[Floats, float, float], npt.NDArray[np.floating]]] = {
    "": lambda x, a, b: x,
    "Clip": lambda x, a, b: np.clip(x, a, b),
    "Elu": lambda x, a, b: np.where(x > 0, x, a * np.expm1(x)),
    "Gelu": lambda x, a, b: x * special.ndtr(x),
    "GeluTanh": lambda x, a, b: x * special.expit(_GELU_SCALE * (x + 0.044715 * x**3)),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "HardSwish": lambda x, a, b: x * np.clip(x / 6 + 0.5, 0, 1),
    "LeakyRelu": lambda x, a, b: np.where(x > 0, x, a * x),
    "Mish": lambda x, a, b: x * np.tanh(np.logaddexp(0, x)),
    "Relu": lambda x, a, b: np.maximum(x, 0),
    "Sigmoid": lambda x, a, b: special.expit(x),
    "Silu": lambda x, a, b: x * special.expit(x),
    "Softplus": lambda x, a, b: np.logaddexp(0, x),
    "Tanh": lambda x, a, b: np.tanh(x),
}
_DEFAULTS = {"Elu": (1.0, 0.0), "HardSigmoid": (0.2, 0.5), "LeakyRelu": (0.01, 0.0)}
_ARITHMETIC: dict[str, Callable[[Floats, Floats], Floats]] = {
    "Add": np.add,
    "Div": np.divide,
    "Mul": np.multiply,
    "Sub": np.subtract,
}
_KEPT_BY = frozenset({"GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool", "Resize"})


def find(graph: ir.Graph) -> Known:
    """Return the constant channels of every image in a graph of canonical operators."""
    known: Known = {}
    for node in graph:
        with np.errstate(all="ignore"):  # NaN is ours, and infinity is what the network computes
            found = _of(node, known)
        if found is not None and not np.isnan(found).all():
            known[node.outputs[0]] = found
    return known


def readable(node: ir.Node, known: Known) -> Floats | None:
    """Return the input channels that a convolution or linear layer sees as constants.

    With padding these are the channels that are zero; the others are NaN.
    """
    x = known.get(editing.taken(node, 0))
    if x is None or (node.op_type == "Linear" and _axis(node) != 1):
        return None
    return np.where(x == 0, x, FLOAT(np.nan)) if is_padded(node) else x


def is_padded(node: ir.Node) -> bool:
    """Return whether a convolution reads zeros beyond its input's border."""
    return node.op_type == "Conv" and any(node.attributes["pads"].as_ints())


def _axis(node: ir.Node) -> int:
    rank = len(editing.shape_of(editing.taken(node, 0)))
    return node.attributes["axis"].as_int() % rank


def _of(node: ir.Node, known: Known) -> Floats | None:
    if editing.is_linear(node):
        return _linear(node, known)
    shape = editing.shape_of(node.outputs[0])
    if len(shape) < 2:
        return None
    first = node.inputs[0] if node.inputs else None
    x = None if first is None else known.get(first)
    if node.op_type in _ARITHMETIC:
        return _arithmetic(node, known, shape)
    if node.op_type == "Concat" and node.attributes["axis"].as_int() == 1:
        return _concat(node, known)
    if x is None or first is None:
        return None
    if node.op_type in _KEPT_BY:
        moved = node.op_type == "Resize" and 1 in moved_axes(node)
        return x if len(node.outputs) == 1 and not moved else None
    if node.op_type == "ReduceMean" and editing.shape_of(first)[:2] == shape[:2]:
        return x
    if node.op_type in ("Flatten", "Reshape", "Squeeze"):
        before = editing.shape_of(first)
        same = before[:2] == shape[:2] and int(np.prod(before[2:])) == 1
        return x if same else None
    if node.op_type in ACTIVATIONS and node.op_type != "Clip":
        alpha, beta = _DEFAULTS.get(node.op_type, (0.0, 0.0))
        return _activate(
            editing.activation_of(node),
            x,
            _float(node, "alpha", alpha),
            _float(node, "beta", beta),
        )
    return None


def _float(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def _activate(name: str, x: Floats, alpha: float, beta: float) -> Floats:
    return np.asarray(ACTIVATIONS[name](x, alpha, beta), np.float32)


def _linear(node: ir.Node, known: Known) -> Floats | None:
    """A row is constant where all its weights read constants."""
    name = node.attributes.get_string("activation") or ""
    if name not in ACTIVATIONS or (node.op_type == "Linear" and _axis(node) != 1):
        return None
    weight = editing.taken_constant(editing.taken(node, 1))
    bias = editing.taken_constant(editing.taken(node, 2))
    rows = len(weight)
    sums = weight.reshape(*weight.shape[:2], -1).sum(axis=2, dtype=np.float32)
    used = weight.reshape(*weight.shape[:2], -1).any(axis=2)
    groups = (node.attributes.get_int("group", 1) or 1) if node.op_type == "Conv" else 1
    x = readable(node, known)
    if x is None:
        x = np.full(groups * weight.shape[1], np.nan, np.float32)
    seen = np.repeat(x.reshape(groups, -1), rows // groups, axis=0)
    total = bias + np.where(used, sums * seen, FLOAT(0)).sum(axis=1, dtype=np.float32)
    if (residual := residual_of(node)) is not None:
        added = known.get(residual)
        total = total + (FLOAT(np.nan) if added is None else added)
    alpha, beta = (node.attributes[key].as_float() for key in ("alpha", "beta"))
    return _activate(name, total.astype(np.float32), alpha, beta)


def _arithmetic(node: ir.Node, known: Known, shape: Sequence[int]) -> Floats | None:
    sides = [_side(value, known, shape) for value in node.inputs]
    if any(side is None for side in sides) or len(sides) != 2:
        return None
    left, right = (side for side in sides if side is not None)
    y = _ARITHMETIC[node.op_type](left, right)
    return np.where(np.isfinite(y), y, FLOAT(np.nan)).astype(np.float32)


def _side(value: ir.Value | None, known: Known, shape: Sequence[int]) -> Floats | None:
    """Return an operand's constant channels: of an image, or of a number or vector."""
    if value is None:
        return None
    array = editing.float_constant(value)
    if array is None:
        same = editing.shape_of(value)[1:2] == tuple(shape[1:2])
        return known.get(value) if same and len(editing.shape_of(value)) == len(shape) else None
    extents = (1,) * (len(shape) - array.ndim) + array.shape
    if array.size != extents[1]:
        return None
    flat: Floats = np.broadcast_to(array.reshape(-1), (shape[1],)).astype(np.float32)
    return flat


def _concat(node: ir.Node, known: Known) -> Floats | None:
    parts = []
    for value in node.inputs:
        if value is None:
            return None
        channels = editing.shape_of(value)[1]
        parts.append(known.get(value, np.full(channels, np.nan, np.float32)))
    return np.concatenate(parts)
