"""A BatchNormalization that stands alone is a Mul and an Add with constants per channel."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgesparse.frontend_reading import TRAINING_MODE
from edgesparse.passes import editing
from edgesparse.passes.fold_affine import Double, is_in_training, read_batch_norm

NAME = "split_batch_norm"


class SplitBatchNormPass(ir.passes.InPlacePass):
    """Write batch normalisations that no convolution could take as Mul and Add.

    Declines in training mode, where the statistics are computed from the batch.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite all batch normalisations."""
        modified = False
        for node in tuple(model.graph):
            if editing.is_op(node, "BatchNormalization"):
                modified |= _rewrite(model.graph, node)
        return editing.Result(model, modified)


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    shape = editing.shape_of(editing.taken(node, 0))
    affine = read_batch_norm(node, axis=1 - len(shape))
    if affine is None:
        why = TRAINING_MODE if is_in_training(node) else "its statistics are not valid constants"
        editing.decline(node, NAME, why)
        return False

    def per_channel(role: str, array: Double) -> ir.Value:
        column = array.astype(np.float32).reshape(-1, *[1] * (len(shape) - 2))
        return editing.add_constant(graph, f"{node.name}_{role}", column)

    scaled = editing.insert_before(
        node,
        "Mul",
        [affine.source, per_channel("scale", affine.scale)],
        name=f"{node.name}_Mul",
        shape=shape,
    )
    editing.make_like("Add", [scaled, per_channel("shift", affine.shift)], node)
    return True
