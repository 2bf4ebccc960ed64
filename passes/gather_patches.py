"""A convolution whose windows tile the plane becomes a 1x1 convolution over gathered patches.

    x ─ Conv{s, stride s} ─ y   ->   x ─ SpaceToDepth{s} ─ Conv{1} ─ y

Its windows share no pixel, so both read every pixel once; but the 1x1 convolution has whole planes
as its pixels, while a sliding window has short rows, and s · s phase planes to read them from.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgesparse.passes import editing

NAME = "gather_patches"

# Strides 1 and 2 have vector code of their own in the halo.
_LEAST_STRIDE = 3


class GatherPatchesPass(ir.passes.InPlacePass):
    """Rewrite edgesparse::Conv with kernel and stride alike, as in the patches of a ViT.

    Declines windows that leave a part of the plane out.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite all such convolutions."""
        modified = False
        for node in editing.linear_nodes(model.graph):
            if node.op_type != "Conv" or not _takes_patches(node):
                continue
            modified |= _rewrite(model.graph, node)
        return editing.Result(model, modified)


def _takes_patches(node: ir.Node) -> bool:
    if len(editing.shape_of(editing.taken(node, 0))) != 4:
        return False
    (size, width), strides = (editing.int_list(node, n, ()) for n in ("kernel_shape", "strides"))
    return (
        strides == (size, width)
        and size == width >= _LEAST_STRIDE
        and node.attributes.get_int("group", 1) == 1
        and not any(editing.int_list(node, "pads", ()))
        and set(editing.int_list(node, "dilations", ())) == {1}
    )


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    x = editing.taken(node, 0)
    size = editing.int_list(node, "strides", ())[0]
    images, channels, height, width = editing.shape_of(x)
    if height % size or width % size:
        reason = f"its {size}x{size} windows leave a part of the {height}x{width} plane out"
        editing.decline(node, NAME, reason)
        return False
    weight = editing.taken_constant(editing.taken(node, 1))
    patches = editing.insert_before(
        node,
        "SpaceToDepth",
        [x],
        name=f"{node.name}_patches",
        shape=(images, channels * size * size, height // size, width // size),
        attributes={"blocksize": size},
    )
    node.replace_input_with(0, patches)
    columns = np.moveaxis(weight, 1, -1).reshape(weight.shape[0], -1, 1, 1)
    editing.set_constant(node, 1, columns)
    for name in ("kernel_shape", "strides"):
        node.attributes.add(ir.AttrInt64s(name, (1, 1)))
    return True
