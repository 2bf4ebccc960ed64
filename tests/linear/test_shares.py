"""Every tile's every chunk of rows is computed once, however the parts are dealt out."""

import dataclasses
import itertools

import kernel_runner
import numpy as np
import pytest

from edgesparse.kernels import tir
from edgesparse.kernels.shares import Shares

BLOCKS = {"one tile": ((1, 7),), "even": ((2, 3), (1, 2)), "wide": ((5, 12), (3, 1), (2, 4))}


@dataclasses.dataclass(frozen=True)
class Count:
    """y[tile, chunk] += 1 for all that a range of parts holds."""

    shares: Shares
    name = "count"

    @property
    def parts(self):
        return self.shares.parts

    def emit(self, symbol):
        def body(first, last, y):
            with tir.loop(self.shares.passes) as turn:
                before = 0
                for number, (tiles, _) in enumerate(self.shares.blocks):
                    of_block = self.shares.tiles_of(number, first, last, turn)
                    with of_block as (tile, chunks), tir.between(*chunks) as chunk:
                        at = (before + tile) * self.shares.chunks + chunk
                        tir.store(y, at, tir.load(y, at) + 1.0)
                    before += tiles

        return tir.function(symbol, {"y": "float32"}, body, ranged=True)


@pytest.mark.parametrize("order", ["by tile", "by chunk", "ordered"])
@pytest.mark.parametrize(("chunks", "passes"), [(1, 1), (4, 1), (4, 2), (3, 3)])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_all_chunks_of_all_tiles_once(monkeypatch, blocks, chunks, passes, order):
    shares = Shares(BLOCKS[blocks], chunks, order == "ordered", order == "by chunk", passes)
    kernel, tiles = Count(shares), sum(count for count, _ in BLOCKS[blocks])
    rng, once = np.random.default_rng(0), np.ones(tiles * chunks, np.float32)
    for threads in (1, 2, 3, 7):
        even = [kernel.parts * i // threads for i in range(threads + 1)]
        odd = [0, *sorted(rng.integers(0, kernel.parts + 1, threads - 1)), kernel.parts]
        for bounds in (even, odd):
            y = np.zeros(tiles * chunks, np.float32)
            for span in itertools.pairwise(bounds):
                monkeypatch.setattr(kernel_runner, "_range", lambda _, s=span: [int(i) for i in s])
                y = kernel_runner.run_kernel(kernel, y)[0]
            np.testing.assert_array_equal(y, once)
