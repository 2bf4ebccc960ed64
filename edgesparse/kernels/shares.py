"""How a product's work is cut into parts: which tiles and chunks of rows a range holds.

Tiles and chunks do not depend on each other. A *part* is one vector of a tile in one chunk, and the
first of them stands for all of the tile, so that as many parts are as much work however wide tiles
are. A range of parts holds a run of chunks of every tile, which a call computes one after the
other; or, in several *passes*, some chunks of all its tiles before the next chunks, so that their
weights stay in the cache while the tiles pass by.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from edgesparse.kernels import tir
from edgesparse.tiling import Block

Chunks = tuple[tir.Expr, tir.Expr]  # the first one, and one behind the last


@dataclasses.dataclass(frozen=True, slots=True)
class ChunkTable:
    """Where things lie in a chunk's row of the table `starts`.

    Where columns and where values begin stand apart: side by side, LLVM would keep both cursors in
    one SIMD register, and an address would have to be moved out of it for every column.

    Attributes:
        k_blocks: Blocks of columns.
    """

    k_blocks: int

    @property
    def columns(self) -> int:
        """For each block of columns, its first entry in `columns`."""
        return 0

    @property
    def groups(self) -> int:
        """The first group, and one behind the last."""
        return self.k_blocks

    @property
    def values(self) -> int:
        """For each block of columns, its first entry in `values`."""
        return self.k_blocks + 2

    @property
    def entries(self) -> int:
        """int32 entries of a chunk."""
        return 2 * self.k_blocks + 2


@dataclasses.dataclass(frozen=True, slots=True)
class Shares:
    """The parts of one kernel.

    Attributes:
        blocks: For every block, its tiles and the vectors of one of them (`Block.parts`).
        chunks: Runs of row groups.
        ordered: Whether tiles must be computed in order; a part is then all tiles of a chunk.
        by_chunk: Whether parts are numbered chunk by chunk, rather than tile by tile: threads then
            share rows rather than pixels.
        passes: How often a call goes over its tiles; as many chunks belong to each pass.
    """

    blocks: tuple[tuple[int, int], ...]
    chunks: int
    ordered: bool = False
    by_chunk: bool = False
    passes: int = 1

    @property
    def vectors(self) -> int:
        """Vectors of all tiles."""
        return sum(tiles * size for tiles, size in self.blocks)

    @property
    def parts(self) -> int:
        """Parts of all tiles and chunks."""
        return self.chunks * (1 if self.ordered else self.vectors)

    @contextmanager
    def tiles_of(
        self, number: int, first: tir.Expr, last: tir.Expr, turn: tir.Expr = 0
    ) -> Iterator[tuple[tir.Expr, Chunks]]:
        """Loop over the tiles of a block that parts first <= part < last hold chunks of.

        Args:
            number: The block.
            first: First part of the range.
            last: One behind the range's last part.
            turn: The pass.
        """
        with self._loop(number, first, last) as tile:
            chunks = self._chunks_of(number, tile, first, last)
            if self.passes > 1:
                size = self.chunks // self.passes
                begin, end = turn * size, (turn + 1) * size
                chunks = tir.maximum(chunks[0], begin), tir.minimum(chunks[1], end)
            with tir.when(chunks[0] < chunks[1]):
                yield tile, chunks

    def _before(self, number: int) -> int:
        """Vectors of the blocks before one."""
        return sum(tiles * size for tiles, size in self.blocks[:number])

    def _loop(
        self, number: int, first: tir.Expr, last: tir.Expr
    ) -> AbstractContextManager[tir.Expr]:
        """A loop over all tiles that the range may hold chunks of."""
        tiles, size = self.blocks[number]
        if self.ordered or (self.by_chunk and self.chunks > 1):
            return tir.loop(tiles)
        done, parts = self._before(number) * self.chunks, size * self.chunks
        begin = tir.maximum(first - done + (size - 1), 0)
        end = tir.maximum(tir.minimum(last - done, tiles * parts), 0) + (parts - 1)
        return tir.between(_quotient(begin, parts), _quotient(end, parts))

    def _chunks_of(self, number: int, tile: tir.Expr, first: tir.Expr, last: tir.Expr) -> Chunks:
        """Return the chunks of a tile that a range of parts holds."""
        if self.ordered:
            return first, last
        if self.chunks == 1:
            return 0, 1
        size = self.blocks[number][1]
        vector = self._before(number) + tile * size
        if self.by_chunk:  # chunk c begins the tile at part c * vectors + vector
            behind = self.vectors - 1 - vector
            return _quotient(first + behind, self.vectors), _quotient(last + behind, self.vectors)
        done = vector * self.chunks  # and here at done + c * size
        begin = tir.maximum(first - done + (size - 1), 0)
        end = tir.minimum(last - done + (size - 1), size * self.chunks)
        return _quotient(begin, size), _quotient(end, size)


def _quotient(value: tir.Expr, by: int) -> tir.Expr:
    return tir.divide(value, by)[0]


def touched(
    blocks: Sequence[Block], lanes: int, chunks: int, reach: int
) -> list[tuple[int, int, int, int]]:
    """Return what each part reads and writes of any plane, as `Flow.of` takes it, tile by tile.

    Args:
        blocks: How the pixels are covered.
        lanes: Elements of a vector.
        chunks: Runs of row groups.
        reach: Elements from a vector to the farthest that a column reads in its plane.
    """
    parts: list[tuple[int, int, int, int]] = []
    for block in blocks:
        spans = [(*at, lanes) for at in block.vectors]
        if block.lone:
            spans.append((*block.lone, 1))
        (begin, end), (start, behind) = (
            (min(span[side] for span in spans), max(span[side] + span[2] for span in spans))
            for side in (0, 1)
        )
        for tile in range(block.tiles):
            read, write = block.offsets(tile, divmod)
            span = (read + begin, read + end + reach, write + start, write + behind)
            parts += [span] * (chunks * block.parts)
    return parts
