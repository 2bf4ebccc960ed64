"""Choose the memory order of every activation: planes where linear operators want them.

    image [N, C, H, W]      planes along axis 1
    tokens [..., T, D]      planes along the axis a Linear contracts or produces
    everything else         flat

Linear operators and windows fix the layout of what they touch; elementwise operators pass it on to
operands and results of the same shape, so that no copy stands between a convolution and its
activation, residual or scale. What is a part of a tensor or joins some, and is only joined to
others, lies as they will.
"""

from __future__ import annotations

import onnx_ir as ir

LAYOUT_KEY = "edgesparse.layout"

# These read and write images, whatever surrounds them.
IMAGE_OPS = frozenset({
    "AveragePool", "BatchNormalization", "Conv", "DepthToSpace", "GlobalAveragePool",
    "GlobalMaxPool", "InstanceNormalization", "MaxPool", "Resize", "SpaceToDepth",
})  # fmt: skip
# These compute every element from the elements at the same place.
ELEMENTWISE_OPS = frozenset({
    "Abs", "Add", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "LayerNormalization", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg",
    "PRelu", "Pow", "Reciprocal", "Relu", "Sigmoid", "Silu", "Softplus", "Sqrt", "Sub", "Tanh",
})  # fmt: skip

# What these make may lie where it is taken from, or where it is joined to others.
_PARTS = frozenset({"Concat", "Slice", "Split"})


class ChooseLayoutPass(ir.passes.InPlacePass):
    """Write `edgesparse.layout` (`planes:<axis>`) on every activation that is not flat."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Seed from linear and image operators, then spread until nothing changes."""
        chosen: dict[ir.Value, int] = {}
        for node in model.graph:
            _seed(node, chosen)
        while any([_spread(node, chosen) for node in model.graph]):
            pass
        modified = False
        for value, axis in chosen.items():
            layout = f"planes:{axis}"
            modified |= value.metadata_props.get(LAYOUT_KEY) != layout
            value.metadata_props[LAYOUT_KEY] = layout
        return ir.passes.PassResult(model, modified=modified)


def _rank(value: ir.Value) -> int:
    return len(value.shape) if value.shape is not None else 0


def _seed(node: ir.Node, chosen: dict[ir.Value, int]) -> None:
    if node.op_type == "Linear":
        axis = node.attributes["axis"].as_int()
    elif node.op_type in IMAGE_OPS:
        axis = 1
    else:
        return
    for value in (node.inputs[0], node.outputs[0]):
        if value is not None and value.const_value is None and _rank(value) >= 2:
            chosen.setdefault(value, axis % _rank(value))


def _spread(node: ir.Node, chosen: dict[ir.Value, int]) -> bool:
    """Pass the layout of any operand or result on to the others of the same shape."""
    if node.op_type == "Concat":
        return _spread_to_parts(node, chosen)
    if node.op_type not in ELEMENTWISE_OPS:
        return False
    values = [v for v in (*node.inputs, *node.outputs) if v is not None and v.const_value is None]
    shape = node.outputs[0].shape
    alike = [v for v in values if v.shape == shape]
    axis = next((chosen[v] for v in alike if v in chosen), None)
    if axis is None:
        return False
    fresh = [v for v in alike if v not in chosen]
    chosen.update(dict.fromkeys(fresh, axis))
    return bool(fresh)


def _spread_to_parts(concat: ir.Node, chosen: dict[ir.Value, int]) -> bool:
    """Pass the layout of what is joined on to parts and smaller joins, which then need no copy."""
    axis = chosen.get(concat.outputs[0])
    if axis is None:
        return False
    makers = [(value, value.producer()) for value in concat.inputs if value is not None]
    parts = [v for v, maker in makers if maker is not None and maker.op_type in _PARTS]
    fresh = [value for value in parts if value not in chosen]
    chosen.update(dict.fromkeys(fresh, axis))
    return bool(fresh)
