"""Values that are made where they are joined, so that a Concat of planes copies nothing.

A Concat along the channels puts planes behind planes. Its result's memory is there before its
inputs are made, and each is made in its place: DenseNet's blocks, the skips of a U-Net, YOLO's
branches. What is joined twice is in one place and is copied to the other, unless one Concat reads
the other's result (`passes/nest_concats.py`).

Source: Pleiss et al., Memory-Efficient Implementation of DenseNets, 2017, section 3 (shared
storage).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgesparse.geometry import static_shape
from edgesparse.layout import Layout
from edgesparse.plan import ALIGNMENT_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a value lies.

    Attributes:
        whole: The value whose memory it is, of a Concat that is joined to nothing itself.
        offset: Its first element there.
    """

    whole: ir.Value
    offset: int


def find_places(graph: ir.Graph, layout_of: Callable[[ir.Value], Layout]) -> dict[ir.Value, Place]:
    """Return the place of every value that is made as a part of another.

    Args:
        graph: In the order in which it is computed.
        layout_of: Returns the layout of a value.
    """
    places: dict[ir.Value, Place] = {}
    for node in reversed(tuple(graph)):
        if node.op_type == "Concat":
            _place_inputs(node, layout_of, places)
    return places


def _place_inputs(
    concat: ir.Node, layout_of: Callable[[ir.Value], Layout], places: dict[ir.Value, Place]
) -> None:
    result = concat.outputs[0]
    layout = layout_of(result)
    axis = concat.attributes["axis"].as_int() % len(layout.shape)
    if axis != layout.channel_axis:
        return
    around = places.get(result, Place(result, 0))
    channel = 0
    for value in concat.inputs:
        if value is None or value.shape is None:
            return
        offset = around.offset + channel * layout.plane_stride
        if value not in places and _may_lie_in(value, layout, offset, layout_of):
            places[value] = Place(around.whole, offset)
        channel += static_shape(value)[axis]


def _may_lie_in(
    value: ir.Value, layout: Layout, offset: int, layout_of: Callable[[ir.Value], Layout]
) -> bool:
    if value.const_value is not None or value.dtype is None:
        return False
    own = layout_of(value)
    is_alike = own.channel_axis == layout.channel_axis and own.plane_stride == layout.plane_stride
    item = np.dtype(value.dtype.numpy()).itemsize
    # Rows may overshoot into their plane's padding, but channels of one pixel have none.
    is_wide = own.plane_stride * item >= ALIGNMENT_BYTES
    return is_alike and is_wide and offset * item % ALIGNMENT_BYTES == 0
