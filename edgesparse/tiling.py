"""Tiling: how the pixels of an output plane are covered by vectors, tiles and loops.

A `Block` is a nest of loops around one tile; a tile is a tuple of vectors, each with its own offset
into the input and the output. That is enough for flat pixels (1x1 convolutions) and for rows of an
image (KxK windows), where input and output advance differently.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from edgesparse.plan import align_up

# Tiles of a row that are written out one after the other; of wider rows, and of single pixels, they
# are a loop.
WRITTEN_TILES = 16
# From so many lanes on a lone pixel may go with the tile of all others: there are registers left.
LONE_LANES = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Tiles of one shape at regular distances.

    Attributes:
        vectors: (input offset, output offset) in elements of each vector of the tile; none where
            it is a lone pixel.
        loops: (count, input step, output step) of the loops around the tile, outermost first.
        base: (input offset, output offset) of the first tile.
        lone: (input offset, output offset) of a pixel that no vector of the tile holds.
    """

    vectors: tuple[tuple[int, int], ...]
    loops: tuple[tuple[int, int, int], ...]
    base: tuple[int, int] = (0, 0)
    lone: tuple[int, int] | None = None

    @property
    def tiles(self) -> int:
        """How often the tile runs."""
        return math.prod(count for count, _, _ in self.loops)

    @property
    def parts(self) -> int:
        """Vectors of a tile; a lone pixel without any counts as one."""
        return max(1, len(self.vectors))

    def offsets(self, tile: Any, divide: Callable[[Any, int], tuple[Any, Any]]) -> tuple[Any, Any]:
        """Return the (input, output) offset of a tile, counted along the loops, innermost first.

        Args:
            tile: Its number, as an int or an expression.
            divide: Returns quotient and remainder of such a number.
        """
        read, write = self.base
        for count, step_in, step_out in reversed(self.loops):
            tile, i = divide(tile, count) if count < self.tiles else (0, tile)
            read, write = read + i * step_in, write + i * step_out
        return read, write


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """A sliding window over planes of one image size.

    The window reads a *haloed* plane: zero padding around the image, and for strides above one the
    rows and columns dealt out to phase planes, so that a tap reads consecutive elements whatever
    the stride.

    Attributes:
        height: Input rows.
        width: Input columns.
        kernel: Window extents (rows, columns).
        strides: Steps of the window.
        dilations: Distance between taps.
        pads: Zeros around the image: top, left, bottom, right.
        lanes: Vector width; rows are padded to whole vectors, or so that such can be copied.
        is_tight: Whether rows of the haloed planes are not padded, and vectors of outputs run on
            from one row into the next over all that lies between.
    """

    height: int
    width: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    lanes: int = 1
    is_tight: bool = False

    @property
    def out_height(self) -> int:
        """Output rows."""
        return self._extent(self.height + self.pads[0] + self.pads[2], 0)

    @property
    def out_width(self) -> int:
        """Output columns."""
        return self._extent(self.width + self.pads[1] + self.pads[3], 1)

    def _extent(self, padded: int, axis: int) -> int:
        reach = self.dilations[axis] * (self.kernel[axis] - 1) + 1
        return max(0, (padded - reach) // self.strides[axis] + 1)

    @property
    def is_plain(self) -> bool:
        """Whether the window can read the planes as they are, without a halo."""
        return self.strides == (1, 1) and not any(self.pads)

    @property
    def is_pointwise(self) -> bool:
        """Whether output pixel i reads input pixel i and nothing else."""
        return self.is_plain and self.kernel == (1, 1)

    @property
    def is_subsampling(self) -> bool:
        """Whether the window only skips pixels: its one phase plane is the output's, compact."""
        return self.kernel == (1, 1) and not self.is_plain and not any(self.pads)

    @property
    def pitch(self) -> int:
        """Elements between rows of one (phase) plane."""
        if self.is_plain:
            return self.width
        if self.is_subsampling:
            return self.out_width
        if self.is_tight:
            return self.row_elements
        widest = -(-self.width // self.strides[1])
        copied = self.pads[1] // self.strides[1] + 1 + align_up(widest, self.lanes)
        # Rows that start with a cache line have fewer vectors that lie in two.
        return min(max(copied, self.row_elements), align_up(self.row_elements, self.lanes))

    @property
    def span(self) -> int:
        """Elements from the first output to behind the last one, where outputs have the pitch."""
        return max(0, (self.out_height - 1) * self.pitch + self.out_width)

    @property
    def row_elements(self) -> int:
        """Elements of a row of one (phase) plane that some output may read."""
        return -(-(self.width + self.pads[1] + self.pads[3]) // self.strides[1])

    @property
    def phase_rows(self) -> int:
        """Rows of one (phase) plane."""
        if self.is_plain:
            return self.height
        return -(-(self.height + self.pads[0] + self.pads[2]) // self.strides[0])

    @property
    def phases(self) -> tuple[tuple[int, int], ...]:
        """The (row, column) phases that some tap reads, in the order they are stored."""
        rows = {k * self.dilations[0] % self.strides[0] for k in range(self.kernel[0])}
        columns = {k * self.dilations[1] % self.strides[1] for k in range(self.kernel[1])}
        return tuple((r, c) for r in sorted(rows) for c in sorted(columns))

    @property
    def halo_stride(self) -> int:
        """Elements of one channel's haloed planes, all phases."""
        return align_up(len(self.phases) * self.phase_rows * self.pitch + self.lanes, self.lanes)

    @property
    def image_stride(self) -> int:
        """Elements between two images of one channel, as the kernel reads them."""
        return self.phase_rows * self.pitch if self.is_plain else self.halo_stride

    def phase_offset(self, phase: tuple[int, int]) -> int:
        """Return the offset of a phase plane in its channel's haloed planes."""
        return self.phases.index(phase) * self.phase_rows * self.pitch

    def tap_offset(self, row: int, column: int) -> int:
        """Return what output pixel (0, 0) adds to its offset to read tap (row, column)."""
        y, x = row * self.dilations[0], column * self.dilations[1]
        phase = self.phase_offset((y % self.strides[0], x % self.strides[1]))
        return phase + y // self.strides[0] * self.pitch + x // self.strides[1]


def vectors_of(blocks: Sequence[Block]) -> int:
    """Return the vectors of all tiles."""
    return sum(block.tiles * len(block.vectors) for block in blocks)


def flat_blocks(
    pixels: int, lanes: int, tile_vectors: int, *, lone: bool = False
) -> tuple[Block, ...]:
    """Cover contiguous pixels with tiles of at most `tile_vectors` vectors, as even as can be.

    Args:
        pixels: How many.
        lanes: Pixels of a vector.
        tile_vectors: Vectors of a tile, at most.
        lone: Whether the one pixel that is more than whole vectors has none: it joins the only
            tile, where that leaves registers, or stands alone.
    """
    if lone:
        one, at = ((1, 0, 0),), (pixels - 1, pixels - 1)
        tiles = flat_blocks(pixels - 1, lanes, tile_vectors)
        if lanes >= LONE_LANES and vectors_of(tiles) <= tile_vectors:
            return (dataclasses.replace(tiles[0], loops=one, lone=at),)
        return (*tiles, Block((), one, lone=at))
    total = -(-pixels // lanes)
    number = -(-total // tile_vectors)
    small, larger = divmod(total, number)
    blocks, start = [], 0
    for count, size in ((larger, small + 1), (number - larger, small)):
        if count:
            vectors = tuple((v * lanes, v * lanes) for v in range(size))
            step = size * lanes
            blocks.append(Block(vectors, ((count, step, step),), (start, start)))
            start += count * step
    return tuple(blocks)


def leaves_one(pixels: int, lanes: int) -> bool:
    """Whether contiguous pixels are one more than whole vectors, so that it may be a lone one."""
    return lanes > 1 and pixels > 1 and pixels % lanes == 1


def fitting_lanes(width: int, lanes: int) -> int:
    """Return the widest vector, a power of two up to `lanes`, that does not overshoot a row."""
    return 1 << (max(1, min(width, lanes)).bit_length() - 1)


def row_starts(width: int, lanes: int) -> tuple[int, ...]:
    """Return where the vectors of one row start: the last one overlaps rather than overshoots.

    A row narrower than a vector overshoots; the next row overwrites what it left.
    """
    regular = [start for start in range(0, width, lanes) if start + lanes <= width]
    if not regular:
        return (0,)
    return tuple(regular if width % lanes == 0 else [*regular, width - lanes])


def pitched_blocks(
    window: Window, lanes: int, tile_vectors: int, images: int = 1, *, lone: bool = False
) -> tuple[Block, ...]:
    """Cover the output rows of a tight window, and what lies between them, with whole vectors.

    Offsets are into (haloed input, output rows that are as far apart as the input's).
    """
    image_loop = (images, window.image_stride, align_up(window.span, lanes))
    return tuple(
        dataclasses.replace(block, loops=(image_loop, *block.loops))
        for block in flat_blocks(window.span, lanes, tile_vectors, lone=lone)
    )


def window_blocks(
    window: Window, lanes: int, tile_vectors: int, images: int = 1
) -> tuple[Block, ...]:
    """Cover the output rows of a window; offsets are into (haloed input, compact output)."""
    starts = row_starts(window.out_width, lanes)
    image_loop = (images, window.image_stride, window.out_height * window.out_width)
    if len(starts) > tile_vectors:
        pieces = _pieces(starts, -(-len(starts) // tile_vectors), lanes)
        rows = 1
    else:
        pieces = [(starts, 1)]
        rows = max(1, min(tile_vectors // len(starts), window.out_height))
    if images > 1 and window.out_width < lanes:
        # Rows overshoot here, so the rows of one image must all come before the next image's.
        rows = max(r for r in range(1, rows + 1) if window.out_height % r == 0)
    blocks = []
    for piece, repeats in pieces:
        across = len(piece) * lanes
        for count, first, height in _row_tiles(window.out_height, rows):
            vectors = tuple(
                (r * window.pitch + x, r * window.out_width + x)
                for r in range(height)
                for x in piece
            )
            row_loop = (count, height * window.pitch, height * window.out_width)
            loops = (image_loop, row_loop, *([(repeats, across, across)] if repeats > 1 else []))
            base = (first * window.pitch, first * window.out_width)
            blocks.append(Block(vectors, loops, base))
    return tuple(blocks)


def _pieces(starts: tuple[int, ...], pieces: int, lanes: int) -> list[tuple[tuple[int, ...], int]]:
    """Cut the vectors of a row into tiles: (vectors of the first, how many are like it).

    Their sizes differ by at most one. The last vector, which may overlap the one before it, always
    lies in the last tile, and that repeats none. Single pixels never overlap.
    """
    if lanes > 1 and pieces <= WRITTEN_TILES:
        return [(piece, 1) for piece in _even_pieces(starts, pieces)]
    small, larger = divmod(len(starts), pieces)
    alone = 1 if lanes > 1 else 0
    cut, done = [], 0
    for count, size in ((larger, small + 1), (pieces - larger - alone, small), (alone, small)):
        if count:
            cut.append((starts[done : done + size], count))
            done += count * size
    return cut


def _even_pieces(items: tuple[int, ...], pieces: int) -> list[tuple[int, ...]]:
    """Cut `items` into runs whose lengths differ by at most one."""
    bounds = [len(items) * i // pieces for i in range(pieces + 1)]
    return [items[start:end] for start, end in itertools.pairwise(bounds)]


def _row_tiles(height: int, rows: int) -> list[tuple[int, int, int]]:
    """(count, first row, rows) of the tiles that cover `height` rows, ascending."""
    whole, rest = divmod(height, rows)
    tiles = [(whole, 0, rows)] if whole else []
    return [*tiles, (1, whole * rows, rest)] if rest else tiles


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """Equal pieces of an axis, side by side.

    Attributes:
        first: Where the first piece starts.
        size: Elements of a piece.
        count: Pieces.
        step: Elements between their starts.
    """

    first: int
    size: int
    count: int = 1
    step: int = 0


def runs(pieces: list[tuple[int, int]], inside: list[bool]) -> list[Run]:
    """Join neighbouring pieces (start, size) that are alike into runs; only `inside` ones join."""
    joined: list[Run] = []
    open_run = False
    for (start, size), joins in zip(pieces, inside, strict=True):
        last = joined[-1] if joined else None
        if open_run and joins and last and last.size == size:
            step = start - (last.first + (last.count - 1) * last.step)
            if last.count == 1 or step == last.step:
                joined[-1] = Run(last.first, size, last.count + 1, step)
                continue
        joined.append(Run(start, size))
        open_run = joins
    return joined
