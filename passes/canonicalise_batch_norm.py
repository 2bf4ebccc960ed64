"""A BatchNormalization that stands alone: a depthwise 1x1 convolution, or a Mul and an Add.

    x [n, c, h, w] ─ BatchNormalization ─ Relu ─ y
    -> x ─ edgesparse::Conv(scale [c, 1, 1, 1], shift) {group=c, kernel_shape=1x1} ─ Relu ─ y

The convolution takes the activation behind it into its own pass over the plane, and is computed
band by band with what stands around it. Without pixels there is no plane: matrices, and planes of
one pixel, are multiplied and added elementwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgesparse.frontend_reading import TRAINING_MODE
from edgesparse.passes import editing
from edgesparse.passes.fold_affine import Affine, is_in_training, read_batch_norm

NAME = "canonicalise_batch_norm"
_POINTWISE: dict[str, ir.Attr | int | float | str | Sequence[int]] = {
    "kernel_shape": (1, 1),
    "strides": (1, 1),
    "dilations": (1, 1),
    "pads": (0, 0, 0, 0),
    "activation": "",
    "alpha": 0.0,
    "beta": 0.0,
}


class CanonicaliseBatchNormPass(ir.passes.InPlacePass):
    """Write what no layer could take of batch normalisations as edgesparse::Conv, or elementwise.

    Declines in training mode, where the statistics are computed from the batch.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite all batch normalisations."""
        return editing.rewrite_all(model, "BatchNormalization", NAME, _why_not, _rewrite)


def _affine_of(node: ir.Node) -> Affine | None:
    return read_batch_norm(node, axis=1 - len(editing.shape_of(editing.taken(node, 0))))


def _why_not(node: ir.Node) -> str:
    if _affine_of(node) is not None:
        return ""
    return TRAINING_MODE if is_in_training(node) else "its statistics are not valid constants"


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    shape, affine = editing.shape_of(editing.taken(node, 0)), _affine_of(node)
    if affine is None:
        raise ValueError(f"{node.name} is no affine function")
    if len(shape) in (3, 4) and math.prod(shape[2:]) > 1:
        _convolve(graph, node, affine)
    else:
        _multiply_and_add(graph, node, affine, shape)


def _convolve(graph: ir.Graph, node: ir.Node, affine: Affine) -> None:
    weight, bias = affine.scale.astype(np.float32), affine.shift.astype(np.float32)
    operands = [
        affine.source,
        editing.add_constant(graph, f"{node.name}_scale", weight.reshape(-1, 1, 1, 1)),
        editing.add_constant(graph, f"{node.name}_shift", bias),
    ]
    attributes = {**_POINTWISE, "group": weight.size}
    conv = editing.make_like("Conv", operands, node, attributes=attributes, domain=editing.DOMAIN)
    conv.metadata_props[editing.SPELLED] = "BatchNormalization"


def _multiply_and_add(
    graph: ir.Graph, node: ir.Node, affine: Affine, shape: tuple[int, ...]
) -> None:
    scale, shift = (
        editing.add_constant(
            graph,
            f"{node.name}_{role}",
            array.astype(np.float32).reshape(-1, *[1] * (len(shape) - 2)),
        )
        for role, array in (("scale", affine.scale), ("shift", affine.shift))
    )
    scaled = editing.insert_before(
        node, "Mul", [affine.source, scale], name=f"{node.name}_Mul", shape=shape
    )
    editing.make_like("Add", [scaled, shift], node)
