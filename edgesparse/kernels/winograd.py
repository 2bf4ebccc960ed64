"""Winograd's transforms of tiles: into the places of a transformed tile, and out of them.

Neighbouring tiles fill a vector: the haloed planes' phases bring the inputs of one place of all
tiles side by side. Each axis is transformed in turn, in registers.

Source: `edgesparse.winograd`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from edgesparse import winograd
from edgesparse.kernels import tir


@dataclasses.dataclass(frozen=True, slots=True)
class TilesIn:
    """Transform the inputs of a run of tiles. A part is a channel.

    Attributes:
        outputs: Of a tile along an axis: 2 or 4.
        channels: Input channels.
        planes: That each place of a tile has: the channels, and what keeps places apart.
        taps: Offset of each of a tile's t·t inputs from the first, in elements.
        in_stride: Elements between channels' haloed planes.
        vectors: Vectors of tiles.
        lanes: float32 lanes of a vector.
    """

    outputs: int
    channels: int
    planes: int
    taps: tuple[int, ...]
    in_stride: int
    vectors: int
    lanes: int

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"f32_tiles_in_{self.outputs}x{self.outputs}"

    @property
    def parts(self) -> int:
        """Channels."""
        return self.channels

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, y, range); y is (t·t, planes, tiles)."""
        lanes, width = self.lanes, self.vectors * self.lanes

        def body(first: tir.Expr, last: tir.Expr, x: tir.Buffer, y: tir.Buffer) -> None:
            with tir.between(first, last) as c, tir.loop(self.vectors) as v:
                start = c * self.in_stride + v * lanes
                taps = [tir.load(x, start + at, lanes) for at in self.taps]
                for place, value in enumerate(_along_both(_into, taps, self.outputs, lanes)):
                    target = (place * self.planes + c) * width + v * lanes
                    tir.store(y, target, value, lanes)

        return tir.function(symbol, {"x": "float32", "y": "float32"}, body, ranged=True)


@dataclasses.dataclass(frozen=True, slots=True)
class TilesOut:
    """Make the outputs of a run of tiles from its products, bias added. A part is a channel.

    Attributes:
        outputs: Of a tile along an axis: 2 or 4.
        channels: Output channels.
        rows: Rows that each product has: the channels, and what pads them.
        vectors: Vectors of tiles.
        lanes: float32 lanes of a vector.
        phase_stride: Elements between the planes of two of a tile's outputs; a channel has m·m.
    """

    outputs: int
    channels: int
    rows: int
    vectors: int
    lanes: int
    phase_stride: int

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"f32_tiles_out_{self.outputs}x{self.outputs}"

    @property
    def parts(self) -> int:
        """Channels."""
        return self.channels

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, bias, y, range); x is (t·t, rows, tiles)."""
        lanes, width = self.lanes, self.vectors * self.lanes
        places = winograd.products_of(self.outputs)

        def body(first: tir.Expr, last: tir.Expr, *buffers: tir.Buffer) -> None:
            x, bias, y = buffers
            with tir.between(first, last) as c, tir.loop(self.vectors) as v:
                added = tir.keep(tir.splat(tir.load(bias, c), lanes))
                starts = [(place * self.rows + c) * width + v * lanes for place in range(places)]
                values = [tir.load(x, start, lanes) for start in starts]
                for phase, value in enumerate(_along_both(_out_of, values, self.outputs, lanes)):
                    row, column = divmod(phase, self.outputs)
                    plane = (c * self.outputs + row) * self.outputs + column
                    tir.store(y, plane * self.phase_stride + v * lanes, value + added, lanes)

        params = dict.fromkeys(("x", "bias", "y"), "float32")
        return tir.function(symbol, params, body, ranged=True)


_Along = Callable[[Sequence[tir.Expr], int, int], list[tir.Expr]]


def _along_both(
    along: _Along, square: Sequence[tir.Expr], outputs: int, lanes: int
) -> Iterator[tir.Expr]:
    """Transform a square of t·t vectors, row by row, along one axis and then along the other."""
    size = winograd.size_of(outputs)
    columns = [
        along([tir.keep(vector) for vector in square[k::size]], outputs, lanes) for k in range(size)
    ]
    for row in zip(*columns, strict=True):
        yield from along(row, outputs, lanes)


def _into(x: Sequence[tir.Expr], outputs: int, lanes: int) -> list[tir.Expr]:
    """Return B^T x, for t vectors."""
    whole, rest = winograd.even_polynomials(outputs)
    values = [_combined(whole, x[0::2], lanes)]
    for point, polynomial in zip(winograd.PAIRS[outputs], rest, strict=True):
        even = tir.keep(_combined(polynomial, x[2::2], lanes))
        odd = tir.keep(_combined(polynomial, x[1::2], lanes))
        values += [even + odd * tir.splat(sign * point, lanes) for sign in (1, -1)]
    return [tir.keep(value) for value in (*values, _combined(whole, x[1::2], lanes))]


def _out_of(x: Sequence[tir.Expr], outputs: int, lanes: int) -> list[tir.Expr]:
    """Return A^T x, for t vectors."""
    pairs = winograd.PAIRS[outputs]
    ways = list(zip(x[1:-1:2], x[2:-1:2], strict=True))
    sums = [tir.keep(a + b) for a, b in ways]
    differences = [tir.keep(a - b) for a, b in ways]
    values = []
    for k in range(outputs):
        terms = differences if k % 2 else sums
        value = _combined([point**k for point in pairs], terms, lanes)
        value = x[0] + value if k == 0 else value
        values.append(tir.keep(x[-1] + value if k == outputs - 1 else value))
    return values


def _combined(factors: Sequence[float], x: Sequence[tir.Expr], lanes: int) -> tir.Expr:
    """Return the sum of vectors times factors; there may be more vectors."""
    total: tir.Expr | None = None
    for factor, vector in zip(factors, x, strict=False):
        term = vector if factor == 1 else vector * tir.splat(factor, lanes)
        total = term if total is None else total + term
    assert total is not None
    return total
