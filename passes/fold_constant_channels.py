"""Channels that are one number everywhere go into the bias of whoever reads them.

    x[k] = c everywhere:   y = W x + b   ->   y = W' x + (b + c W[:, k]),  W'[:, k] = 0

Nothing reads the channel afterwards, and RemoveDeadChannelsPass takes it out.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgesparse.passes import constant_channels, editing
from edgesparse.passes.constant_channels import Known
from edgesparse.passes.find_sparsity import count

NAME = "fold_constant_channels"


class FoldConstantChannelsPass(ir.passes.InPlacePass):
    """Fold constant input channels into biases, exactly up to rounding.

    Declines channels that are not zero where a convolution pads its input: there it reads zeros at
    the border, and the constant elsewhere.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Fold into every convolution and linear layer that is not depthwise."""
        known = constant_channels.find(model.graph)
        modified = False
        for node in editing.linear_nodes(model.graph):
            if editing.taken(node, 0) in known and not _is_grouped(node):
                modified |= _fold(node, known)
        return editing.Result(model, modified)


def _is_grouped(node: ir.Node) -> bool:
    return node.op_type == "Conv" and node.attributes["group"].as_int() > 1


def _fold(node: ir.Node, known: Known) -> bool:
    values = constant_channels.readable(node, known)
    if values is None:
        return False
    weight = editing.taken_constant(editing.taken(node, 1))
    used = editing.read_inputs(node)
    folded = used & ~np.isnan(values)
    left = int((used & ~np.isnan(known[editing.taken(node, 0)])).sum() - folded.sum())
    if left:
        editing.decline(
            node,
            NAME,
            f"{left} constant input channels are not zero, but the padding around them is",
        )
    if not folded.any():
        return False
    sums = weight.reshape(*weight.shape[:2], -1).sum(axis=2, dtype=np.float64)
    bias = editing.taken_constant(editing.taken(node, 2))
    with np.errstate(all="ignore"):  # what overflows here does so in the network
        added = sums[:, folded] @ values[folded].astype(np.float64)
        bias = (bias + added).astype(np.float32)
    remaining = weight.copy()
    remaining[:, folded] = 0
    editing.set_constant(node, 1, remaining)
    editing.set_constant(node, 2, bias)
    node.metadata_props.update(count(remaining != 0))
    return True
