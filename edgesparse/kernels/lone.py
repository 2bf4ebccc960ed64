"""One pixel more than whole vectors: there, a group's rows are what fills a vector.

A plane of 7x7 has 49 pixels. Three vectors of sixteen hold 48; a fourth would be loaded, multiplied
for every row and stored for the sake of one. In the lanes of a vector of rows it takes a
multiply-add for all rows of a column. Weights of a column lie side by side, so each bucket has a
vector of sums, a row in each lane that its pattern uses, which are put in their rows' places when
the bucket ends.

Where the pixel stands alone nothing else happens while a sum waits for the one before, so columns
are added to `CHAINS` of them in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tvm import tirx

from edgesparse.kernels import tir
from edgesparse.kernels.elementwise import activation

# A column's weights are loaded as one vector, which may reach beyond the last column's.
MOST_LANES = 8
# Sums of a bucket where the pixel stands alone.
CHAINS = 4


class LonePixel:
    """The sums of one pixel for the rows of a group.

    Args:
        rows: Rows of the group, up to `MOST_LANES`.
        read: The pixel's offset in the tile's input planes.
        write: Its offset in the output planes.
        chains: Sums that a bucket's columns are added to in turn.
    """

    def __init__(self, rows: int, read: int, write: int, chains: int = 1) -> None:
        self.read, self.write = read, write
        self._rows, self._lanes = rows, _lanes_of(rows)
        self._totals = self._sums = tir.local(self._lanes)
        self._used = self._lanes
        self._chains = chains

    def start(self, values: Sequence[tir.Expr]) -> None:
        """Start from a scalar for each row."""
        self._store(self._vector(values))

    @contextmanager
    def bucket(self, pattern: int) -> Iterator[None]:
        """Statements that add the columns of a bucket: to its rows, when it ends."""
        lanes = min(self._lanes, max(2, _lanes_of(pattern.bit_count())))
        self._sums, self._used = tir.local(self._chains * lanes), lanes
        for chain in range(self._chains):
            tir.store(self._sums, chain * lanes, tir.splat(0.0, lanes), lanes)
        yield
        places = [row for row in range(self._rows) if pattern >> row & 1]
        order = [places.index(row) if row in places else lanes for row in range(self._lanes)]
        sums = self._sum_of_chains()
        if order != list(range(lanes)):
            sums = tirx.Shuffle([sums, tir.splat(0.0, self._lanes)], order)
        self._store(tir.load(self._totals, 0, self._lanes) + sums)

    def add_column(self, x: tir.Expr, values: tir.Buffer, at: tir.Expr, chain: int = 0) -> None:
        """Add a column of the bucket: its weights, from `at` on, times the pixel `x`."""
        lanes = self._used
        product = tir.splat(x, lanes) * tir.load(values, at, lanes)
        total = tir.load(self._sums, chain * lanes, lanes) + product
        tir.store(self._sums, chain * lanes, total, lanes)

    def _sum_of_chains(self) -> tir.Expr:
        sums = [tir.load(self._sums, i * self._used, self._used) for i in range(self._chains)]
        while len(sums) > 1:
            sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=True)]
        return sums[0]

    def end(self, name: str, alpha: float, beta: float, residual: Sequence[tir.Expr]) -> None:
        """Add a scalar of each row, if there are such, and apply an activation."""
        total = tir.load(self._totals, 0, self._lanes)
        if residual:
            total = total + self._vector(residual)
        self._store(activation(name, total, self._lanes, alpha, beta))

    def row(self, row: int) -> tir.Expr:
        """Return the sum of a row."""
        return tir.load(self._totals, row)

    def _vector(self, values: Sequence[tir.Expr]) -> tir.Expr:
        if self._lanes == 1:
            return values[0]
        padded = [*values, *[tir.splat(0.0)] * (self._lanes - self._rows)]
        return tirx.Shuffle(padded, [*range(self._lanes)])

    def _store(self, totals: tir.Expr) -> None:
        tir.store(self._totals, 0, totals, self._lanes)


def _lanes_of(rows: int) -> int:
    return 1 << (rows - 1).bit_length()
