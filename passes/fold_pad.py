"""Pad(0) in front of a convolution -> the convolution's own pads."""

from __future__ import annotations

import onnx_ir as ir

from edgesparse.passes import editing

NAME = "fold_pad"


class FoldPadPass(ir.passes.InPlacePass):
    """Fold zero padding of the spatial axes into edgesparse::Conv.

    Declines other modes and values, negative pads (a crop), pads of the batch or channels, and
    padded values that something else needs too.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Fold, also several Pads in a row."""
        modified = False
        for node in editing.linear_nodes(model.graph):
            while node.op_type == "Conv" and _fold(model.graph, node):
                modified = True
        return editing.Result(model, modified)


def _fold(graph: ir.Graph, node: ir.Node) -> bool:
    value = editing.taken(node, 0)
    pad = value.producer()
    if pad is None or not editing.is_op(pad, "Pad"):
        return False
    pads = _spatial_pads(pad)
    if isinstance(pads, str):
        editing.decline(node, NAME, f"Pad before it: {pads}")
        return False
    if editing.sole_consumer(value) is None:
        editing.decline(node, NAME, f"Pad before it: {editing.why_not_sole(value)}")
        return False
    own = editing.int_list(node, "pads", (0, 0, 0, 0))
    total = [inner + outer for inner, outer in zip(own, pads, strict=True)]
    node.attributes.add(ir.AttrInt64s("pads", total))
    node.replace_input_with(0, editing.taken(pad, 0))
    graph.remove(pad, safe=True)
    editing.record_before(node, "Pad")
    return True


def _spatial_pads(pad: ir.Node) -> tuple[int, int, int, int] | str:
    """Return top, left, bottom, right; or why the Pad is no zero padding of a plane."""
    rank = len(editing.shape_of(pad.outputs[0]))
    amounts = editing.ints(pad.inputs[1])
    fill = pad.inputs[2] if len(pad.inputs) > 2 else None
    axes = editing.ints(pad.inputs[3]) if len(pad.inputs) > 3 else None
    if (pad.attributes.get_string("mode", "constant") or "constant") != "constant":
        return f"its mode is {pad.attributes.get_string('mode')}"
    if fill is not None and editing.scalar(fill) != 0:
        return "it does not pad with zeros"
    if amounts is None or (len(pad.inputs) > 3 and pad.inputs[3] is not None and axes is None):
        return "its amounts are not constants"
    chosen = tuple(range(rank)) if axes is None else tuple(axis % rank for axis in axes)
    begins = dict(zip(chosen, amounts[: len(chosen)], strict=True))
    ends = dict(zip(chosen, amounts[len(chosen) :], strict=True))
    if min(amounts, default=0) < 0:
        return "it crops"
    if any(begins.get(axis) or ends.get(axis) for axis in (0, 1)):
        return "it pads the batch or the channels"
    top, bottom = (begins.get(2, 0), ends.get(2, 0)) if rank == 4 else (0, 0)
    return top, begins.get(rank - 1, 0), bottom, ends.get(rank - 1, 0)
