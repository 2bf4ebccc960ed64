"""What a tap of a sliding window sees of an input row: a vector, zero outside the image.

The columns outside are known when the code is made. They are shuffled to zero, or, where an engine
has masked loads, not loaded: a shuffle of sixteen lanes takes the ports of multiply-adds.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager

from tvm import tirx

from edgesparse.kernels import tir

# Loads lanes whose bit is set, and nothing of the others, which are 0.
_MASKED_LOAD = """
declare {vector} @llvm.masked.load.v{lanes}f32.p0(ptr, i32, <{lanes} x i1>, {vector})
define {vector} @load_some_{lanes}(ptr %from, i32 %mask) alwaysinline nounwind {{
  %bits = trunc i32 %mask to i{lanes}
  %lanes = bitcast i{lanes} %bits to <{lanes} x i1>
  %some = call {vector} @llvm.masked.load.v{lanes}f32.p0(
      ptr %from, i32 4, <{lanes} x i1> %lanes, {vector} zeroinitializer)
  ret {vector} %some
}}
"""


def masked_loads(lanes: int) -> AbstractContextManager[None]:
    """Statements that may hold masked loads of so many lanes; of one there are none."""
    text = _MASKED_LOAD.format(lanes=lanes, vector=f"<{lanes} x float>")
    return tir.importing(text if lanes > 1 else "")


def load_tap(
    x: tir.Buffer,
    row: tir.Expr,
    columns: Sequence[int],
    width: int,
    lanes: int,
    stride: int,
    *,
    behind: int = 0,
    is_masked: bool = False,
) -> tir.Expr | None:
    """Return what a tap sees of a row, or None where all of it lies outside.

    Args:
        x: Float32 planes.
        row: Offset of the row in `x`.
        columns: The column that each lane sees, `stride` apart; lanes that follow see anything.
        width: Columns of the row; others are zero.
        lanes: float32 lanes of a vector.
        stride: Between the columns of neighbouring lanes.
        behind: How far before its first column the tap's loads may begin. Taps a whole stride
            apart, or less, can then share loads.
        is_masked: Whether to load by masks; statements around say `masked_loads`.
    """
    inside = [column for column in columns if 0 <= column < width]
    if not inside:
        return None
    if lanes == 1:
        return tir.load(x, row + inside[0])
    if is_masked:
        return _masked(x, row, columns, width, lanes, stride, columns[0] - behind)
    return _shuffled(x, row, columns, lanes, inside, max(0, inside[0] - behind))


def _shuffled(
    x: tir.Buffer,
    row: tir.Expr,
    columns: Sequence[int],
    lanes: int,
    inside: Sequence[int],
    first: int,
) -> tir.Expr:
    loads = [tir.load(x, row + at, lanes) for at in range(first, inside[-1] + 1, lanes)]
    zero = len(loads) * lanes
    indices = [column - first if column in inside else zero for column in columns]
    indices += [zero] * (lanes - len(columns))
    if indices == list(range(lanes)):
        return loads[0]
    if zero in indices:
        loads.append(tir.splat(0.0, lanes))
    return tirx.Shuffle(loads, indices)


def _masked(
    x: tir.Buffer,
    row: tir.Expr,
    columns: Sequence[int],
    width: int,
    lanes: int,
    stride: int,
    first: int,
) -> tir.Expr:
    loads = [
        _load_inside(x, row, at, width, lanes, columns)
        for at in range(first, columns[-1] + 1, lanes)
    ]
    last = len(loads) * lanes - 1
    indices = [min(columns[0] + lane * stride - first, last) for lane in range(lanes)]
    return loads[0] if indices == list(range(lanes)) else tirx.Shuffle(loads, indices)


def _load_inside(
    x: tir.Buffer, row: tir.Expr, first: int, width: int, lanes: int, columns: Sequence[int]
) -> tir.Expr:
    """Return a vector from column `first` on, by a mask where a zero is seen or may be read."""
    kept = [lane for lane in range(lanes) if 0 <= first + lane < width]
    if not kept:
        return tir.splat(0.0, lanes)
    if first >= 0 and not any(width <= column < first + lanes for column in columns):
        return tir.load(x, row + first, lanes)
    mask = functools.reduce(int.__or__, (1 << lane for lane in kept))
    place = tirx.address_of(x[row + first])
    name = f"load_some_{lanes}"
    return tirx.call_extern(f"float32x{lanes}", name, place, tir.const_i32(mask))
