"""Dense 3x3 windows by Winograd's short convolutions: transforms around one product a place.

    haloed planes -> tiles in -> one product for each of a tile's t·t places -> tiles out -> crop

The products are one, of a block diagonal matrix. Tiles come in blocks, so that a block's transforms
stay in the cache.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx_ir as ir

from edgesparse import winograd
from edgesparse.formats import GroupedPatterns, block_diagonal, full_pattern, is_filled, pack
from edgesparse.geometry import Operator, constant_of, product_of_tiles, tiles_of
from edgesparse.kernels.winograd import TilesIn, TilesOut
from edgesparse.lower.builder import PlanBuilder, Tensor
from edgesparse.lower.operands import cropped, epilogue, haloed
from edgesparse.lower.spmm import lower_product
from edgesparse.plan import Arg, align_up


def lower_winograd(
    b: PlanBuilder,
    node: ir.Node,
    operator: Operator,
    decision: dict[str, Any],
    x: Tensor,
    residual: Tensor | None,
    y: Tensor,
) -> None:
    """Lower a dense 3x3 convolution of stride 1 by transforms of tiles."""
    outputs, lanes = decision["outputs"], b.lanes
    tiled, places = tiles_of(operator, outputs), winograd.products_of(outputs)
    packed = _packed(constant_of(node, 1), outputs, decision["group"])
    bias = b.constant(constant_of(node, 2))
    source = haloed(b, tiled, x)
    span = tiled.window.span
    plane = align_up(span, lanes)
    sums = b.scratch(operator.rows * outputs**2 * plane, "sums")
    blocks = winograd.blocks_of_tiles(span, lanes, decision["tile"], decision["block"])
    widest = max(size for _, size in blocks)
    before = b.scratch(packed.cols * widest, "tiles")
    after = b.scratch(packed.rows * widest, "products")
    taps = tuple(tiled.column_offsets()[:places].tolist())
    channels = operator.in_layout.channels
    zeros = np.zeros(packed.rows, np.float32)
    for first, size in blocks:
        vectors = size // lanes
        into = TilesIn(
            outputs, channels, packed.cols // places, taps, tiled.channel_stride, vectors, lanes
        )
        b.call(into, _from(source.read(), first), before.write())
        product = product_of_tiles(packed.rows, packed.cols, places, size, lanes)
        lower_product(b, product, decision, [packed], zeros, before, after)
        out = TilesOut(outputs, operator.rows, packed.rows // places, vectors, lanes, plane)
        b.call(out, after.read(), bias, _from(sums.write(), first))
    extra = [residual.read()] if residual else []
    crop = cropped(
        operator,
        epilogue(node, residual),
        pitch=tiled.window.pitch,
        image_stride=0,
        in_stride=outputs**2 * plane,
        tile=outputs,
        phase_stride=plane,
    )
    b.call(crop, sums.read(), *extra, y.write())


def _packed(weight: np.ndarray[Any, Any], outputs: int, group: int) -> GroupedPatterns:
    """Return the weights of all places on one diagonal, rows padded to whole groups.

    A column more keeps the planes of two places, which are written together, out of the same sets
    of the cache.
    """
    places = winograd.transformed(weight, outputs)
    padding = align_up(places.shape[1], group) - places.shape[1]
    places = np.pad(places, ((0, 0), (0, padding), (0, 0)))
    patterns = full_pattern(group)
    filled = all(is_filled(place, group, patterns) for place in places)
    packed = [pack(place, group, patterns, filled=filled) for place in places]
    return block_diagonal([dataclasses.replace(each, cols=each.cols + 1) for each in packed])


def _from(arg: Arg, first: int) -> Arg:
    """Return the argument from one of its elements on."""
    skipped = first * np.dtype(np.float32).itemsize
    return dataclasses.replace(
        arg, offset_bytes=arg.offset_bytes + skipped, size_bytes=arg.size_bytes - skipped
    )
