"""What the taps of a window's row see of an input row: vectors, zero outside the image.

The columns outside are known when the code is made. They are shuffled to zero, or, where an engine
has masked loads, not loaded: a shuffle of sixteen lanes takes the ports of multiply-adds.

A tap one output after another, as the third of a row is where outputs are two columns apart, sees
what the other does and one column more. It takes the other's vector, moved by a lane, where it
would pick every other column of two more loads.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
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


@dataclasses.dataclass(frozen=True, slots=True)
class RowTaps:
    """The taps of a window's row, over a vector of outputs.

    Attributes:
        first: Column that the first tap of the first output sees.
        count: Taps.
        stride: Columns between neighbouring outputs.
        dilation: Columns between neighbouring taps.
        outputs: Lanes that are outputs; those that follow see anything.
        width: Columns of an input row; others are zero.
        lanes: float32 lanes of a vector.
        is_masked: Whether to load by masks; statements around say `masked_loads`.
    """

    first: int
    count: int
    stride: int
    dilation: int
    outputs: int
    width: int
    lanes: int
    is_masked: bool = False

    def emit(self, x: tir.Buffer, row: tir.Expr) -> Iterator[tuple[int, tir.Expr]]:
        """Yield a tap and what it sees of a row, emitted by then; not taps that see nothing.

        Args:
            x: Float32 planes.
            row: Offset of the row in `x`.
        """
        order = {tap: other for tap, other in self._order() if self._inside(tap)}
        firsts = [self._first_loaded(tap) for tap, other in order.items() if other is None]
        seen: dict[int, tir.Expr] = {}
        for tap, other in order.items():
            if other is None:
                # Taps less than an output apart share their loads.
                own = self._first_loaded(tap)
                start = min(first for first in firsts if first > own - self.stride)
                value = self._load(x, row, tap, start)
            elif other < tap:
                value = self._move_on(x, row, tap, seen[other])
            else:
                value = self._move_back(seen[other])
            seen[tap] = tir.keep(value)
            yield tap, seen[tap]

    def _order(self) -> list[tuple[int, int | None]]:
        """Taps, and those before or after them whose vectors they move; None where they load.

        Of the taps whole outputs apart the first one that begins inside the row loads.
        """
        if self.stride == 1 or self.lanes == 1 or self.stride % self.dilation:
            return [(tap, None) for tap in range(self.count)]
        step = self.stride // self.dilation
        loads, after, before = [], [], []
        for phase in range(min(step, self.count)):
            taps = range(phase, self.count, step)
            chosen = next((tap for tap in taps if self._columns(tap)[0] >= 0), taps[-1])
            loads.append((chosen, None))
            after += [(tap, tap - step) for tap in taps if tap > chosen]
            before += [(tap, tap + step) for tap in reversed(taps) if tap < chosen]
        return [*sorted(loads), *sorted(after), *before]

    def _columns(self, tap: int) -> range:
        """The column that a tap of each output sees."""
        first = self.first + tap * self.dilation
        return range(first, first + self.outputs * self.stride, self.stride)

    def _inside(self, tap: int) -> list[int]:
        """The columns of the row among them."""
        return [column for column in self._columns(tap) if 0 <= column < self.width]

    def _first_loaded(self, tap: int) -> int:
        """The column that a tap's loads begin with, were they its own."""
        return self._columns(tap)[0] if self.is_masked else self._inside(tap)[0]

    def _load(self, x: tir.Buffer, row: tir.Expr, tap: int, first: int) -> tir.Expr:
        """Return what a tap sees, picked from vectors that begin with a column."""
        if self.lanes == 1:
            return tir.load(x, row + self._inside(tap)[0])
        if self.is_masked:
            return self._pick_masked(x, row, self._columns(tap), first)
        loads = [
            tir.load(x, row + at, self.lanes)
            for at in range(first, self._inside(tap)[-1] + 1, self.lanes)
        ]
        zero = len(loads) * self.lanes
        indices = [
            column - first if 0 <= column < self.width else zero for column in self._columns(tap)
        ]
        indices += [zero] * (self.lanes - self.outputs)
        if indices == list(range(self.lanes)):
            return loads[0]
        if zero in indices:
            loads.append(tir.splat(0.0, self.lanes))
        return tirx.Shuffle(loads, indices)

    def _pick_masked(self, x: tir.Buffer, row: tir.Expr, columns: range, first: int) -> tir.Expr:
        lanes = self.lanes
        loads = [
            self._load_inside(x, row, at, columns) for at in range(first, columns[-1] + 1, lanes)
        ]
        last = len(loads) * lanes - 1
        indices = [min(columns[0] + lane * self.stride - first, last) for lane in range(lanes)]
        return loads[0] if indices == list(range(lanes)) else tirx.Shuffle(loads, indices)

    def _load_inside(self, x: tir.Buffer, row: tir.Expr, first: int, columns: range) -> tir.Expr:
        """Return a vector from a column on, by a mask where a zero is seen or may be read."""
        lanes, width = self.lanes, self.width
        kept = [lane for lane in range(lanes) if 0 <= first + lane < width]
        if not kept:
            return tir.splat(0.0, lanes)
        if first >= 0 and not any(width <= column < first + lanes for column in columns):
            return tir.load(x, row + first, lanes)
        mask = functools.reduce(int.__or__, (1 << lane for lane in kept))
        place = tirx.address_of(x[row + first])
        name = f"load_some_{lanes}"
        return tirx.call_extern(f"float32x{lanes}", name, place, tir.const_i32(mask))

    def _move_on(self, x: tir.Buffer, row: tir.Expr, tap: int, previous: tir.Expr) -> tir.Expr:
        """Return the vector of the tap an output before, moved on by an output."""
        lanes, columns = self.lanes, self._columns(tap)
        if self.is_masked:
            entering = self._load_inside(x, row, columns[-1], columns)
        elif columns[-1] < self.width:
            entering = tir.load(x, row + columns[-1], lanes)
        else:
            entering = tir.splat(0.0, lanes)
        kept = self.outputs - 1
        indices = [*range(1, kept + 1), *range(lanes, 2 * lanes - kept)]
        return tirx.Shuffle([previous, entering], indices)

    def _move_back(self, following: tir.Expr) -> tir.Expr:
        """Return the vector of the tap an output after, moved back: what enters is outside."""
        zeros, lanes = tir.splat(0.0, self.lanes), self.lanes
        return tirx.Shuffle([zeros, following], list(range(lanes - 1, 2 * lanes - 1)))
