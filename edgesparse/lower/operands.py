"""What the kernels of a linear operator are given: haloed planes, weights, columns, an epilogue."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.geometry import Operator
from edgesparse.kernels.crop import Crop
from edgesparse.kernels.gemv import Gemv
from edgesparse.kernels.halo import Halo
from edgesparse.kernels.spmm import Spmm
from edgesparse.lower.builder import PlanBuilder, Tensor
from edgesparse.plan import Arg

Product = TypeVar("Product", Gemv, Spmm)


def epilogue(node: ir.Node, residual: Tensor | None) -> dict[str, Any]:
    """Return the epilogue arguments that every linear kernel takes."""
    return {
        "activation": node.attributes["activation"].as_string(),
        "alpha": node.attributes["alpha"].as_float(),
        "beta": node.attributes["beta"].as_float(),
        "residual": residual is not None,
    }


def haloed(b: PlanBuilder, operator: Operator, x: Tensor) -> Tensor:
    """Return what the window reads: the planes themselves, or haloed copies of them."""
    if operator.window.is_plain:
        return x
    layout, window = operator.in_layout, operator.window
    halo = Halo(window, layout.channels, operator.images, layout.plane_stride)
    scratch = b.scratch(layout.channels * operator.channel_stride, "halo")
    args = (x.read(), scratch.write())

    def by_rows(read: int | None, write: int | None) -> tuple[Halo, tuple[Arg, ...]]:
        stride = layout.plane_stride if read is None else read
        rows = dataclasses.replace(halo, plane_stride=stride, phase_stride=write or 0, by_rows=True)
        return rows, args

    b.call(halo, *args, rows=by_rows if operator.images == 1 else None)
    return scratch


def cropped(operator: Operator, finish: dict[str, Any], **source: Any) -> Crop:
    """Return the crop that finishes an operator's output; `source` says how what it reads lies."""
    return Crop(
        channels=operator.rows,
        images=operator.images,
        height=operator.window.out_height,
        width=operator.window.out_width,
        out_stride=operator.out_layout.plane_stride,
        lanes=operator.out_layout.lanes,
        **source,
        **finish,
    )


def stored(b: PlanBuilder, array: npt.NDArray[Any]) -> Arg:
    """Store an array; a kernel's pointer must point somewhere even when a matrix is all zeros."""
    return b.constant(array if len(array) else np.zeros(1, array.dtype))


def with_columns(
    b: PlanBuilder,
    kernel: Product,
    offsets: npt.NDArray[np.int32],
    used: npt.NDArray[np.int32] | None = None,
) -> tuple[Product, Arg]:
    """Return the kernel that finds columns as they lie, and the list of them that it reads.

    Args:
        b: The builder.
        kernel: The kernel, but for that.
        offsets: Of every column, in elements.
        used: The columns to list; by default all, once.
    """
    scale = column_scale(offsets, kernel.group)
    listed = offsets if used is None else offsets[used]
    if scale:
        listed = (listed // scale).astype(np.uint16)
    return dataclasses.replace(kernel, column_scale=scale), stored(b, listed)


def column_offsets(operator: Operator, stride: int | None = None) -> npt.NDArray[np.int32]:
    """Return every column's offset, with (phase) planes `stride` elements apart, if given."""
    offsets, window = operator.column_offsets(), operator.window
    if stride is None:
        return offsets
    planes = 1 if window.is_plain else len(window.phases)
    channel, rest = np.divmod(offsets, operator.channel_stride)
    phase, at = np.divmod(rest, plane_stride(operator))
    return ((channel * planes + phase) * stride + at).astype(np.int32)


def column_scale(offsets: npt.NDArray[np.int32], group: int) -> int:
    """Return the unit in which every column's offset fits uint16, or 0 to store int32 offsets.

    Offsets that fit as they are need no multiplication. It is worth its price where a column has
    one weight, so that columns are half of what is stored; where it has several they are little
    (the multiplication is a tenth of a dense layer's time in V8).
    """
    largest, limit = int(offsets.max(initial=0)), np.iinfo(np.uint16).max
    if largest <= limit:
        return 1
    unit = int(np.gcd.reduce(offsets))
    return unit if group == 1 and largest // unit <= limit else 0


def plane_stride(operator: Operator) -> int:
    """Return the elements between the planes, or phase planes of a channel, that are read."""
    window = operator.window
    return operator.channel_stride if window.is_plain else window.phase_rows * window.pitch


def prefetch_distance(b: PlanBuilder) -> int:
    """Return how many elements ahead weights are prefetched."""
    return b.target.core.prefetch_bytes // np.dtype(np.float32).itemsize


def between_rings(
    kernel: Product, operator: Operator, read: int | None, write: int | None, **others: Any
) -> Product:
    """Return a product's kernel for planes that are so many elements apart, as `Rows` has them.

    Args:
        kernel: The kernel that reads and writes whole planes.
        operator: What it computes.
        read: Elements between the planes it reads, if they are not as they were.
        write: Elements between those it writes, likewise.
        others: What else is different by rows.
    """
    return dataclasses.replace(
        kernel,
        in_stride=plane_stride(operator) if read is None else read,
        out_stride=kernel.out_stride if write is None else write,
        reach=_reach(operator),
        **others,
    )


def _reach(operator: Operator) -> int:
    """Return how many elements behind an output's own the farthest tap of its (phase) plane is."""
    if operator.is_flat:
        return 0
    window = operator.window
    down, across = (
        (window.kernel[axis] - 1) * window.dilations[axis] // window.strides[axis]
        for axis in (0, 1)
    )
    return down * window.pitch + across
