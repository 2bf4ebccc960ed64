"""Vectors of rows, one a pixel, become vectors of pixels, one a row: by interleaving registers.

Of w vectors, the first half's are interleaved with the second half's, log2(w) times: what belongs
to one row then lies side by side. (Eklundh, A Fast Computer Method for Matrix Transposing, 1972.)
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from edgesparse.kernels import tir


def runs_of(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Return (first, size) of the runs of elements whose offsets follow each other."""
    runs: list[tuple[int, int]] = []
    for i, offset in enumerate(offsets):
        if i and offset == offsets[i - 1] + 1:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((i, 1))
    return runs


def transposed(vectors: Sequence[tir.Expr], lanes: int) -> list[tir.Expr]:
    """Return `lanes` vectors, the i-th of the i-th elements of all.

    Args:
        vectors: w vectors of `lanes` elements, each kept in a register; w a power of two up to
            `lanes`.
        lanes: Elements of each.
    """
    width = len(vectors)
    if lanes == 1:
        return list(vectors)
    mixed, stages = list(vectors), width.bit_length() - 1
    for _ in range(stages):
        pairs = zip(mixed[: width // 2], mixed[width // 2 :], strict=True)
        mixed = [half for pair in pairs for half in _interleaved(pair, lanes)]
    starts = range(0, lanes * width, width)
    return [_part(mixed[start // lanes], start % lanes, width) for start in starts]


def _interleaved(pair: tuple[tir.Expr, tir.Expr], lanes: int) -> list[tir.Expr]:
    order = [i + lanes * k for i in range(lanes) for k in range(2)]
    return [tir.keep(tirx.Shuffle(list(pair), order[at : at + lanes])) for at in (0, lanes)]


def _part(vector: tir.Expr, first: int, width: int) -> tir.Expr:
    return tirx.Shuffle([vector], list(range(first, first + width)))
