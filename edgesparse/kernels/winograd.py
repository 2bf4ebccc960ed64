"""Winograd's transforms of tiles: into the places of a transformed tile, and out of them.

Neighbouring tiles fill a vector: the haloed planes' phases bring the inputs of one place of all
tiles side by side. Each axis is transformed in turn, in registers.

Source: `edgesparse.winograd`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

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
        size, lanes, width = winograd.size_of(self.outputs), self.lanes, self.vectors * self.lanes

        def body(first: tir.Expr, last: tir.Expr, x: tir.Buffer, y: tir.Buffer) -> None:
            with tir.between(first, last) as c, tir.loop(self.vectors) as v:
                start = c * self.in_stride + v * lanes
                columns = []
                for k in range(size):
                    taps = [tir.load(x, start + at, lanes) for at in self.taps[k::size]]
                    columns.append(_into([tir.keep(tap) for tap in taps], self.outputs, lanes))
                for i, row in enumerate(zip(*columns, strict=True)):
                    for j, value in enumerate(_into(row, self.outputs, lanes)):
                        place = ((i * size + j) * self.planes + c) * width + v * lanes
                        tir.store(y, place, value, lanes)

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
        size, lanes, width = winograd.size_of(self.outputs), self.lanes, self.vectors * self.lanes

        def body(first: tir.Expr, last: tir.Expr, *buffers: tir.Buffer) -> None:
            x, bias, y = buffers
            with tir.between(first, last) as c, tir.loop(self.vectors) as v:
                added = tir.keep(tir.splat(tir.load(bias, c), lanes))
                columns = []
                for j in range(size):
                    places = [(i * size + j) * self.rows + c for i in range(size)]
                    values = [tir.load(x, at * width + v * lanes, lanes) for at in places]
                    columns.append(_out_of([tir.keep(a) for a in values], self.outputs, lanes))
                for i, row in enumerate(zip(*columns, strict=True)):
                    for j, value in enumerate(_out_of(row, self.outputs, lanes)):
                        phase = (c * self.outputs + i) * self.outputs + j
                        tir.store(y, phase * self.phase_stride + v * lanes, value + added, lanes)

        params = dict.fromkeys(("x", "bias", "y"), "float32")
        return tir.function(symbol, params, body, ranged=True)


def _into(x: Sequence[tir.Expr], outputs: int, lanes: int) -> list[tir.Expr]:
    """Return B^T x, for t vectors."""
    whole, rest = winograd.even_polynomials(outputs)
    values = [_combined(whole, x[0::2], lanes)]
    for point, polynomial in zip(winograd.PAIRS[outputs], rest, strict=True):
        even = tir.keep(_combined(polynomial, x[2::2], lanes))
        odd = tir.keep(_combined(polynomial, x[1::2], lanes))
        values += _pair(even, odd, point, lanes)
    return [tir.keep(value) for value in (*values, _combined(whole, x[1::2], lanes))]


def _out_of(x: Sequence[tir.Expr], outputs: int, lanes: int) -> list[tir.Expr]:
    """Return A^T x, for t vectors."""
    pairs = winograd.PAIRS[outputs]
    ways = list(zip(x[1:-1:2], x[2:-1:2], strict=True))
    sums, differences = ([tir.keep(_signed(a, b, sign)) for a, b in ways] for sign in (1, -1))
    values = []
    for k in range(outputs):
        terms = differences if k % 2 else sums
        value = _combined([point**k for point in pairs], terms, lanes)
        value = x[0] + value if k == 0 else value
        values.append(tir.keep(x[-1] + value if k == outputs - 1 else value))
    return values


def _pair(even: tir.Expr, odd: tir.Expr, point: float, lanes: int) -> list[tir.Expr]:
    return [even + odd * tir.splat(sign * point, lanes) for sign in (1, -1)]


def _signed(a: tir.Expr, b: tir.Expr, sign: int) -> tir.Expr:
    return a + b if sign > 0 else a - b


def _combined(factors: Sequence[float], x: Sequence[tir.Expr], lanes: int) -> tir.Expr:
    """Return the sum of vectors times factors; there may be more vectors."""
    total: tir.Expr | None = None
    for factor, vector in zip(factors, x, strict=False):
        term = vector if factor == 1 else vector * tir.splat(factor, lanes)
        total = term if total is None else total + term
    assert total is not None
    return total
