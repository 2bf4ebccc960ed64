"""Crop: bring rows that lie a pitch apart side by side, and finish them.

A product over a tight window computes what lies between the rows of its output too, which takes
fewer vectors where rows are short. This drops it, adds the residual, and applies the activation.

Where a product's columns are tiles of several pixels along each axis, every place of a tile has a
plane of its own, a *phase*; their rows are interleaved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tvm import tirx

from edgesparse.kernels import tir
from edgesparse.kernels.elementwise import activation
from edgesparse.tiling import fitting_lanes, row_starts


@dataclasses.dataclass(frozen=True, slots=True)
class Crop:
    """Copy the rows of every channel's images next to each other. A part is a channel.

    Attributes:
        channels: Channels.
        images: Images of a channel.
        height: Rows of an image.
        width: Elements of a row.
        pitch: Elements between rows (of tiles) that are read.
        image_stride: Elements between images that are read.
        in_stride: Elements between channels that are read.
        out_stride: Elements between channels that are written.
        lanes: Vector width; rows that are shorter are copied by narrower vectors.
        activation: Name in `elementwise.ACTIVATIONS`, or "".
        alpha: First parameter of the activation.
        beta: Second parameter of the activation.
        residual: Whether an array laid out as the output is added before the activation.
        tile: Pixels of a tile along an axis; 1 where every pixel is read in its place.
        phase_stride: Elements between the phases of a tile.
    """

    channels: int
    images: int
    height: int
    width: int
    pitch: int
    image_stride: int
    in_stride: int
    out_stride: int
    lanes: int
    activation: str = ""
    alpha: float = 0.0
    beta: float = 0.0
    residual: bool = False
    tile: int = 1
    phase_stride: int = 0

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return "f32_crop" + (f"_{self.activation.lower()}" if self.activation else "")

    @property
    def parts(self) -> int:
        """Channels."""
        return self.channels

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x[, residual], y, range)."""
        names = ("x", "residual", "y") if self.residual else ("x", "y")

        def body(first: tir.Expr, last: tir.Expr, *buffers: tir.Buffer) -> None:
            p = dict(zip(names, buffers, strict=True))
            with (
                tir.between(first, last) as channel,
                tir.loop(self.images) as image,
                tir.loop(-(-self.height // self.tile)) as tiles,
            ):
                read = channel * self.in_stride + image * self.image_stride + tiles * self.pitch
                write = channel * self.out_stride + image * self.height * self.width
                for k in range(self.tile):
                    row = tiles * self.tile + k
                    left = self.height % self.tile
                    with tir.when(left == 0 or k < left or row < self.height):
                        phases = read + k * self.tile * self.phase_stride
                        self._emit_row(p, phases, write + row * self.width)

        return tir.function(symbol, dict.fromkeys(names, "float32"), body, ranged=True)

    def _emit_row(self, p: dict[str, tir.Buffer], read: tir.Expr, write: tir.Expr) -> None:
        tiles = -(-self.width // self.tile)
        lanes = fitting_lanes(tiles, self.lanes)
        for start in row_starts(tiles, lanes):
            vectors = [
                tir.load(p["x"], read + j * self.phase_stride + start, lanes)
                for j in range(self.tile)
            ]
            first = start * self.tile
            pixels = min(lanes * self.tile, self.width - first)
            for at, size, value in _pieces(vectors, lanes, pixels, self.lanes):
                place = write + first + at
                if self.residual:
                    value = value + tir.load(p["residual"], place, size)
                value = activation(self.activation, value, size, self.alpha, self.beta)
                tir.store(p["y"], place, value, size)


def _pieces(
    vectors: list[tir.Expr], lanes: int, pixels: int, most: int
) -> Iterator[tuple[int, int, tir.Expr]]:
    """Interleave vectors, and return their first pixels in pieces (first, size, value).

    Args:
        vectors: As many as a tile has pixels, of one element a tile.
        lanes: Of each.
        pixels: How many are wanted.
        most: Pixels of a piece.
    """
    if len(vectors) == 1:
        yield 0, lanes, vectors[0]
        return
    kept, first = [tir.keep(vector) for vector in vectors], 0
    while first < pixels:
        size = fitting_lanes(pixels - first, most if lanes > 1 else 1)
        wanted = [divmod(pixel, len(kept)) for pixel in range(first, first + size)]
        order = [phase * lanes + tile for tile, phase in wanted]
        yield first, size, tirx.Shuffle(kept, order) if lanes > 1 else kept[order[0]]
        first += size
