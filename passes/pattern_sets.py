"""Choosing a pattern set: which masks deserve a bucket loop, and which go under a superset."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgesparse import cost
from edgesparse.cpu_model import CpuModel
from edgesparse.formats import full_pattern
from edgesparse.tiling import flat_blocks

Floats = npt.NDArray[np.float64]


def reduced_patterns(
    work: cost.Work, vectors: int, lanes: int, core: CpuModel, limit: int, k_blocks: int = 1
) -> tuple[int, ...]:
    """Return the pattern set with the smallest predicted cost that greedy removal finds.

    It starts from the masks that occur most and the full one, and drops, one at a time, the mask
    whose columns cost least under their next superset, while that pays for the loop that is saved
    or there are more than `limit`.

    Args:
        work: Of the matrix with all masks that occur as its patterns.
        vectors: Vectors of the tile that is predicted.
        lanes: float32 lanes of a vector.
        core: The core.
        limit: Most patterns.
        k_blocks: Blocks of columns: every loop is entered once in each.
    """
    (full,) = full_pattern(work.group)
    columns = np.zeros(full + 1)
    for mask, steps in work.steps.items():
        columns[mask] = steps
    price = _prices(work, vectors, lanes, core, k_blocks)
    bucket = work.groups * k_blocks * core.bucket_cycles
    commonest = sorted(work.steps, key=lambda mask: (-work.steps[mask], mask))[: 2 * limit]
    kept = sorted({*commonest, full})
    while True:
        loss, mask = _cheapest_removal(columns, price, bucket, kept, full)
        if mask == 0 or (loss >= 0 and len(kept) <= limit):
            break
        kept.remove(mask)
    # The full mask may have been dropped only in name: where all others cover, no column uses it.
    used = set(_assignment(np.nonzero(columns)[0], kept, price).tolist())
    found = tuple(mask for mask in kept if mask in used) or (full,)
    # Removal looks at steps one by one, and not at how loops overlap.
    tile = flat_blocks(vectors * lanes, lanes, vectors)
    sets = [found, tuple(work.steps)] if 0 < len(work.steps) <= limit else [found]

    def cycles(patterns: tuple[int, ...]) -> float:
        return cost.spmm_cycles(work.under(patterns), tile, lanes, core, k_blocks)

    return min(sets, key=cycles)


def _prices(work: cost.Work, vectors: int, lanes: int, core: CpuModel, k_blocks: int) -> Floats:
    """Return (2^group,) cycles of a column by its pattern."""
    sweep = cost.sweep_of(work, vectors, lanes, k_blocks)
    by_rows = [0.0] + [
        cost.step_cycles(rows, vectors, sweep, lanes, core) for rows in range(1, work.group + 1)
    ]
    return np.array([by_rows[mask.bit_count()] for mask in range(1 << work.group)])


def _assignment(
    masks: npt.NDArray[np.int64], kept: list[int], price: Floats
) -> npt.NDArray[np.int64]:
    """Return for each mask the cheapest pattern of `kept` that covers it."""
    patterns = np.array(sorted(kept, key=lambda mask: (price[mask], mask)), np.int64)
    covers = (masks[:, None] & ~patterns) == 0
    chosen: npt.NDArray[np.int64] = patterns[covers.argmax(axis=1)]
    return chosen


def _cheapest_removal(
    columns: Floats, price: Floats, bucket: float, kept: list[int], full: int
) -> tuple[float, int]:
    """Return what removing a pattern adds to the predicted cycles, for the best one; or (0, 0)."""
    patterns = np.array(kept, np.int64)
    assigned = _assignment(np.arange(len(columns)), kept, price)
    load = np.bincount(assigned, columns, full + 1)[patterns]
    covers = (patterns[:, None] & ~patterns) == 0
    np.fill_diagonal(covers, False)
    # Columns that move under the full mask where none used it pay for its loop.
    opened = bucket * (load == 0)
    moved = load[:, None] * (price[patterns] - price[patterns][:, None]) + opened
    loss = np.where(covers, moved, np.inf).min(axis=1) - bucket * (load > 0)
    best = int(loss.argmin())
    return (float(loss[best]), int(patterns[best])) if np.isfinite(loss[best]) else (0.0, 0)
