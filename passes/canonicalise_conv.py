"""Conv with a constant weight -> edgesparse::Conv, with everything spelled out.

    Conv(x, w)  {auto_pad=SAME_UPPER}
    -> edgesparse::Conv(x, w, zeros) {kernel_shape, strides, dilations, pads, group, activation...}

A 1-D convolution gets a height of one: [out, in, k] -> [out, in, 1, k]. Its activations stay
[n, c, length] until WidenConv1dPass, so that fusions see no Reshape in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgesparse.geometry import pads_of
from edgesparse.passes import editing

NAME = "canonicalise_conv"


class CanonicaliseConvPass(ir.passes.InPlacePass):
    """Write every 1-D and 2-D convolution with constant weights as edgesparse::Conv.

    Resolves auto_pad, fills in defaults and adds a zero bias. Declines 3-D convolutions and weights
    or biases that are computed.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite all convolutions."""
        return editing.rewrite_all(model, "Conv", NAME, _why_not, _rewrite)


def _why_not(node: ir.Node) -> str:
    rank = len(editing.shape_of(editing.taken(node, 0)))
    if rank not in (3, 4):
        return f"{rank - 2}-D convolution, expected 1-D or 2-D"
    weight = editing.float_constant(node.inputs[1])
    if weight is None:
        return "its weight is not a constant"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and editing.float_constant(bias) is None:
        return "its bias is not a constant"
    if bias is not None and editing.shape_of(bias) != (weight.shape[0],):
        return f"its bias has shape {editing.shape_of(bias)}, expected ({weight.shape[0]},)"
    return ""


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    x, weight_value = editing.taken(node, 0), editing.taken(node, 1)
    weight = editing.taken_constant(weight_value)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        zeros = np.zeros(weight.shape[0], np.float32)
        bias = editing.add_constant(graph, f"{node.name}_bias", zeros)
    if weight.ndim == 3:
        weight_value = editing.add_constant(
            graph, f"{weight_value.name}_2d", weight[:, :, np.newaxis]
        )
    attributes = conv_attributes(node, editing.shape_of(x)[2:], weight.shape[2:])
    editing.make_like(
        "Conv", [x, weight_value, bias], node, attributes=attributes, domain=editing.DOMAIN
    )


def conv_attributes(
    node: ir.Node, extents: Sequence[int], kernel: Sequence[int]
) -> dict[str, ir.Attr | int | float | str | Sequence[int]]:
    """Return all attributes of the canonical node, spatial ones with two axes.

    Args:
        node: An ONNX Conv.
        extents: Spatial shape of the input.
        kernel: Spatial shape of the weight.
    """
    axes = len(kernel)
    strides = editing.int_list(node, "strides", (1,) * axes)
    dilations = editing.int_list(node, "dilations", (1,) * axes)
    pads = pads_of(node, extents, kernel, strides, dilations)
    added = 2 - axes
    return {
        "kernel_shape": (1,) * added + tuple(kernel),
        "strides": (1,) * added + strides,
        "dilations": (1,) * added + dilations,
        "pads": (0,) * added + pads[:axes] + (0,) * added + pads[axes:],
        "group": node.attributes.get_int("group", 1) or 1,
        "activation": "",
        "alpha": 0.0,
        "beta": 0.0,
    }
