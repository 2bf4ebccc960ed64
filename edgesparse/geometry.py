"""What a canonical Conv or Linear node is to the kernels: a matrix, a window, an output layout.

The pattern pass (to predict) and the lowering (to emit) ask the same questions of a node; this is
where they are answered, once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse import winograd
from edgesparse.layout import Layout, plane_lanes
from edgesparse.plan import align_up
from edgesparse.tiling import (
    Block,
    Window,
    flat_blocks,
    leaves_one,
    pitched_blocks,
    row_starts,
    window_blocks,
)

# Outputs are computed with what lies between their rows, and cropped afterwards, where that takes
# less than this share of the vectors. (7x7 in vectors of 16: four of seven.)
TIGHT_BELOW = 0.85

Kind = Literal["spmm", "gemv", "depthwise", "winograd"]


@dataclasses.dataclass(frozen=True, slots=True)
class Operator:
    """A linear operator with a constant weight.

    Attributes:
        kind: The kernel family it compiles to.
        rows: Output channels.
        cols: Columns of the matrix: input channels x taps.
        images: Images in a plane.
        window: The sliding window; pointwise over the flat plane for 1x1 and Linear.
        in_layout: Layout the input is read in.
        out_layout: Layout the output is written in.
        groups: Convolution groups.
        residual: Whether an array laid out as the output is added.
    """

    kind: Kind
    rows: int
    cols: int
    images: int
    window: Window
    in_layout: Layout
    out_layout: Layout
    groups: int
    residual: bool

    @property
    def macs(self) -> int:
        """Dense multiply-adds."""
        taps = math.prod(self.window.kernel)
        inputs = self.in_layout.channels // self.groups
        return self.rows * inputs * taps * self.out_layout.pixels

    @property
    def moved_bytes(self) -> int:
        """Bytes of activations that are read and written once."""
        return 4 * (self.in_layout.elements + (1 + self.residual) * self.out_layout.elements)

    @property
    def channel_stride(self) -> int:
        """Elements between two input channels, as the kernel reads them."""
        if self.window.is_plain:
            return self.in_layout.plane_stride
        return self.window.halo_stride * self.images

    @property
    def product_stride(self) -> int:
        """Elements between two output channels, as the kernel writes them."""
        if not self.window.is_tight:
            return self.out_layout.plane_stride
        return align_up(self.window.span, self.out_layout.lanes) * self.images

    @property
    def is_flat(self) -> bool:
        """Whether output pixel i reads pixel i of what the kernel is given."""
        return self.window.is_pointwise or (self.window.is_subsampling and self.images == 1)

    def blocks(self, tile_vectors: int, *, lone: bool = False) -> tuple[Block, ...]:
        """Return how the output pixels are covered by tiles of at most `tile_vectors` vectors.

        Args:
            tile_vectors: Vectors of a tile, at most.
            lone: Whether one pixel has no vector, if `may_be_lone`.
        """
        lanes = self.out_layout.lanes
        if self.is_flat:
            return flat_blocks(self.out_layout.pixels, lanes, tile_vectors, lone=lone)
        if self.window.is_tight:
            return pitched_blocks(self.window, lanes, tile_vectors, self.images, lone=lone)
        return window_blocks(self.window, lanes, tile_vectors, self.images)

    @property
    def may_be_lone(self) -> bool:
        """Whether one output pixel more than whole vectors may be computed without one."""
        if not self.is_flat and not self.window.is_tight:
            return False
        pixels = self.out_layout.pixels if self.is_flat else self.window.span
        return leaves_one(pixels, self.out_layout.lanes)

    def pixel_blocks(self, pixels: int) -> tuple[Block, ...]:
        """Return how the output pixels are covered by tiles of at most `pixels` single pixels."""
        if self.is_flat:
            return flat_blocks(self.out_layout.pixels, 1, pixels)
        return window_blocks(self.window, 1, pixels, self.images)

    @property
    def tiles_overshoot(self) -> bool:
        """Whether a vector of one row may reach into the next, so that tiles come in order."""
        if self.is_flat or self.window.is_tight:
            return False
        return self.window.out_width < self.out_layout.lanes

    def tiles_overlap(self, tile_vectors: int) -> bool:
        """Whether tiles of at most so many vectors may write the same pixels in any order.

        The last two vectors of a row do, where it is no multiple of a vector; only tiles of one
        vector part them.
        """
        if self.is_flat or self.window.is_tight or tile_vectors > 1 or self.tiles_overshoot:
            return False
        return self.window.out_width % self.out_layout.lanes != 0

    def column_offsets(self) -> npt.NDArray[np.int32]:
        """Return (cols,) int32: the offset of each column's first element in the input."""
        rows, columns = self.window.kernel
        taps = np.array(
            [self.window.tap_offset(y, x) for y in range(rows) for x in range(columns)], np.int64
        )
        channels = np.arange(self.in_layout.channels, dtype=np.int64) * self.channel_stride
        offsets = (channels[:, None] + taps).reshape(-1)
        return offsets.astype(np.int32)


def operator_of(node: ir.Node, lanes: int) -> Operator:
    """Return what a canonical `edgesparse::Conv` or `edgesparse::Linear` node is to the kernels."""
    if node.op_type == "Conv":
        return _conv_operator(node, lanes)
    return _linear_operator(node, lanes)


def has_short_convolution(operator: Operator) -> bool:
    """Whether Winograd's transforms of tiles compute an operator: one image, 3x3, steps of one."""
    window = operator.window
    return (
        operator.kind == "spmm"
        and window.kernel == (winograd.TAPS, winograd.TAPS)
        and window.strides == window.dilations == (1, 1)
        and operator.groups == operator.images == 1
    )


def tiles_of(operator: Operator, outputs: int) -> Operator:
    """Return what slides from tile to tile of so many outputs along an axis; taps are places."""
    window = winograd.window_of_tiles(operator.window, outputs)
    cols = operator.in_layout.channels * winograd.products_of(outputs)
    return dataclasses.replace(operator, window=window, cols=cols)


def product_of_tiles(rows: int, cols: int, places: int, tiles: int, lanes: int) -> Operator:
    """Return the product of a block of transformed tiles, block diagonal by their places.

    Args:
        rows: Of all places.
        cols: Of all places.
        places: Of a tile.
        tiles: Of the block, whole vectors.
        lanes: float32 lanes of a vector.
    """
    read, written = (Layout.planes((channels, tiles), 0, lanes) for channels in (cols, rows))
    window = Window(1, tiles, (1, 1))
    return Operator("spmm", rows, cols, 1, window, read, written, places, residual=False)


def matrix_of(node: ir.Node) -> npt.NDArray[np.float32]:
    """Return a node's weight as the (rows, cols) matrix of its operator.

    A grouped convolution is block diagonal: its zeros cost nothing in this format.
    """
    weight = constant_of(node, 1)
    if node.op_type == "Linear":
        return weight
    groups = node.attributes["group"].as_int()
    rows = weight.shape[0]
    flat = weight.reshape(rows, -1)
    if groups == 1:
        return flat
    width = flat.shape[1]
    matrix = np.zeros((rows, groups * width), np.float32)
    per_group = rows // groups
    for g in range(groups):
        span = slice(g * per_group, (g + 1) * per_group)
        matrix[span, g * width : (g + 1) * width] = flat[span]
    return matrix


def constant_of(node: ir.Node, index: int) -> npt.NDArray[Any]:
    """Return a constant input of a canonical node."""
    value = node.inputs[index]
    if value is None or value.const_value is None:
        raise ValueError(f"input {index} of {node.name} is not a constant")
    return value.const_value.numpy()


def residual_of(node: ir.Node) -> ir.Value | None:
    """Return the value that a canonical node adds to its output, if any."""
    return node.inputs[3] if len(node.inputs) > 3 else None


def constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """Return the data of an initializer; None for everything else."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value.const_value.numpy()


def static_shape(value: ir.Value | None) -> tuple[int, ...]:
    """Return the static shape of a value; the front end made sure there is one."""
    if value is None or value.shape is None:
        raise ValueError(f"value {value.name if value else None} has no shape")
    return tuple(int(extent) for extent in value.shape.numpy())


def _conv_operator(node: ir.Node, lanes: int) -> Operator:
    in_shape, out_shape = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    rows, inputs, kh, kw = static_shape(node.inputs[1])
    out_layout = Layout.planes(out_shape, 1, lanes)
    in_layout = Layout.planes(in_shape, 1, lanes)
    stride_y, stride_x = node.attributes["strides"].as_ints()
    dilation_y, dilation_x = node.attributes["dilations"].as_ints()
    top, left, bottom, right = node.attributes["pads"].as_ints()
    window = Window(
        in_shape[2],
        in_shape[3],
        (kh, kw),
        (stride_y, stride_x),
        (dilation_y, dilation_x),
        (top, left, bottom, right),
        plane_lanes(in_layout.pixels, lanes),
    )
    groups, images = node.attributes["group"].as_int(), in_shape[0]
    kind: Kind = "spmm"
    if groups == in_shape[1] and inputs == 1 and groups > 1:
        kind = "depthwise"
        if window.is_pointwise and window.width < out_layout.lanes:
            window, images = Window(1, out_layout.pixels, (1, 1)), 1  # no vector a row
    elif out_layout.pixels == 1:
        kind = "gemv"
    else:
        window = _tightened(window, out_layout.lanes)
    cols = in_shape[1] * kh * kw
    residual = residual_of(node) is not None
    return Operator(kind, rows, cols, images, window, in_layout, out_layout, groups, residual)


def _tightened(window: Window, lanes: int) -> Window:
    """Return the window, tight where that takes clearly fewer vectors."""
    if window.is_pointwise or window.is_subsampling:
        return window
    tight = dataclasses.replace(window, is_tight=True)
    by_rows = window.out_height * len(row_starts(window.out_width, lanes))
    return tight if -(-tight.span // lanes) < TIGHT_BELOW * by_rows else window


def _linear_operator(node: ir.Node, lanes: int) -> Operator:
    axis = node.attributes["axis"].as_int()
    in_shape, out_shape = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    rows, cols = static_shape(node.inputs[1])
    in_layout = Layout.planes(in_shape, axis, lanes)
    out_layout = Layout.planes(out_shape, axis, lanes)
    window = Window(1, out_layout.pixels, (1, 1))
    kind: Kind = "gemv" if out_layout.pixels == 1 else "spmm"
    residual = residual_of(node) is not None
    return Operator(kind, rows, cols, 1, window, in_layout, out_layout, 1, residual)


def reduced_axes(node: ir.Node, rank: int) -> tuple[int, ...] | None:
    """Return the axes a reduction runs over, ascending; None where they are computed.

    An attribute in older operator sets, an input in newer ones; without any, all axes or, where the
    node says so, none.
    """
    given: Sequence[int] = node.attributes.get_ints("axes", ()) or ()
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = constant(node.inputs[1])
        if array is None:
            return None
        given = array.reshape(-1).tolist()
    if not given:
        return () if node.attributes.get_int("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted({axis % rank for axis in given}))


def moved_axes(node: ir.Node) -> set[int]:
    """Return the axes of its result along which a Pad, Resize, Expand or Tile moves elements.

    A Pad that crops as much as it adds keeps the extent and moves all the same, and so does a
    Resize by little; but one that keeps all extents is a copy, as in onnxruntime and torch.
    """
    after, first = static_shape(node.outputs[0]), static_shape(node.inputs[0])
    rank = len(after)
    before = (1,) * (rank - len(first)) + first  # Expand may add axes in front
    moved = {axis for axis in range(rank) if before[axis] != after[axis]}
    if node.op_type == "Pad":
        moved |= _padded_axes(node, rank)
    elif node.op_type == "Resize" and moved:
        moved |= _scaled_axes(node, rank)
    return moved


def _padded_axes(node: ir.Node, rank: int) -> set[int]:
    pads, axes = constant(node.inputs[1]), None
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = constant(node.inputs[3])
        pads = None if axes is None else pads
    if pads is None:
        return set(range(rank))
    chosen = range(rank) if axes is None else axes.reshape(-1).tolist()
    begins, ends = pads.reshape(2, -1)
    return {
        axis % rank
        for axis, begin, end in zip(chosen, begins, ends, strict=True)
        if begin != 0 or end != 0
    }


def _scaled_axes(node: ir.Node, rank: int) -> set[int]:
    chosen = node.attributes.get_ints("axes") or range(rank)
    if (node.attributes.get_string("keep_aspect_ratio_policy") or "stretch") != "stretch":
        return {axis % rank for axis in chosen}
    scales = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scales is None or not scales.size:
        return set()
    return {axis % rank for axis, scale in zip(chosen, scales, strict=True) if scale != 1}


def pads_of(
    node: ir.Node,
    extents: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[int, ...]:
    """Return a window operator's padding: the begin of every axis, then the ends.

    With auto_pad SAME the output has ceil(extent / stride) elements.
    """
    mode = node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
    none = (0,) * (2 * len(kernel))
    if mode == "VALID":
        return none
    if mode == "NOTSET":
        return tuple(node.attributes.get_ints("pads") or none)
    small, large = [], []
    for extent, taps, stride, dilation in zip(extents, kernel, strides, dilations, strict=True):
        total = max(0, (-(-extent // stride) - 1) * stride + (taps - 1) * dilation + 1 - extent)
        small.append(total // 2)
        large.append(total - total // 2)
    return tuple(small + large if mode == "SAME_UPPER" else large + small)
