"""GroupedPatterns: the one storage format, from 0 % to 99 % zeros.

Rows are cut into groups of R. In a group, a column's *pattern* is the R-bit mask of the rows that
use it (bit r = row r of the group). Columns of a group are bucketed by pattern, so that a bucket's
loop loads an activation once and feeds popcount(pattern) rows without a mask test.

        row 0  a . b .          group 0 (R = 2)     pattern 01: column 2   values b
        row 1  c d . .    ->                        pattern 10: column 1   values d
        row 2  . . e .                              pattern 11: column 0   values a c
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

MAX_GROUP = 16
# Share of the columns from which on skipping the others gains less than their list costs.
FILLED = 0.98


def all_patterns(group: int) -> tuple[int, ...]:
    """Return every non-empty mask of `group` rows: the lossless, padding-free pattern set."""
    return tuple(range(1, 1 << group))


def full_pattern(group: int) -> tuple[int, ...]:
    """Return the set that holds only the mask of all rows: a dense or block format."""
    return ((1 << group) - 1,)


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class GroupedPatterns:
    """A sparse matrix in groups of rows, its columns bucketed by pattern.

    Attributes:
        rows: Rows of the matrix.
        cols: Columns of the matrix.
        group: Rows of a group (R); the last group may be smaller.
        patterns: Bit masks, ascending; the buckets of every whole group, in this order.
        counts: (rows // group, len(patterns)) int32: columns of each bucket.
        tail_counts: (len(tail_patterns),) int32: the same for the smaller last group, or empty.
        columns: (sum of all counts,) int32: column numbers, by group, then bucket, ascending.
        values: (stored,) float32: for each column its popcount(pattern) weights, rows ascending.
    """

    rows: int
    cols: int
    group: int
    patterns: tuple[int, ...]
    counts: Ints
    tail_counts: Ints
    columns: Ints
    values: Floats

    @property
    def tail_rows(self) -> int:
        """Rows of the smaller last group; 0 when the groups come out even."""
        return self.rows % self.group

    @property
    def tail_patterns(self) -> tuple[int, ...]:
        """Pattern set of the smaller last group."""
        return restrict_patterns(self.patterns, self.tail_rows)

    @property
    def stored(self) -> int:
        """Stored values: non-zeros plus the zeros that padding into supersets added."""
        return len(self.values)


def restrict_patterns(patterns: tuple[int, ...], rows: int) -> tuple[int, ...]:
    """Return the pattern set of a group of which only the first `rows` rows exist."""
    return tuple(sorted({mask & ((1 << rows) - 1) for mask in patterns} - {0}))


def pattern_masks(weight: npt.NDArray[Any], group: int) -> Ints:
    """Return the mask of every (group, column): (ceil(rows / group), cols) int32."""
    rows, cols = weight.shape
    groups = -(-rows // group)
    masks = np.zeros((groups, cols), np.int32)
    for bit in range(group):
        used = weight[bit::group] != 0
        masks[: len(used)] |= used.astype(np.int32) << bit
    return masks


def fills(group: int, patterns: Iterable[int], used: int, columns: int) -> bool:
    """Whether groups are best packed with all columns, zeros too, because hardly one is unused.

    They share one list of columns then, as in a dense build.

    Args:
        group: Rows of a group.
        patterns: Pattern set.
        used: Columns that groups use, over all groups.
        columns: Columns of the matrix, over all groups.
    """
    return group > 1 and tuple(patterns) == full_pattern(group) and used >= FILLED * columns


def is_filled(weight: npt.NDArray[Any], group: int, patterns: tuple[int, ...]) -> bool:
    """Whether `fills` says so of a (rows, cols) matrix in groups of `group` rows."""
    groups = -(-weight.shape[0] // group)
    return fills(group, patterns, union_columns(weight, group), groups * weight.shape[1])


def union_columns(weight: npt.NDArray[Any], group: int) -> int:
    """Return how many columns all groups of `group` neighbouring rows load together."""
    rows, cols = weight.shape
    padded = np.zeros((-(-rows // group) * group, cols), bool)
    padded[:rows] = weight != 0
    return int(padded.reshape(-1, group, cols).any(axis=1).sum())


def pack(
    weight: npt.NDArray[Any],
    group: int,
    patterns: tuple[int, ...] | None = None,
    *,
    filled: bool = False,
) -> GroupedPatterns:
    """Return `weight` in the grouped-pattern format; `unpack` gives it back exactly.

    Args:
        weight: (rows, cols), float32.
        group: Rows of a group, 1 to 16.
        patterns: Pattern set; all masks by default. A column whose mask is not in it is stored
            under the superset with the fewest rows, with explicit zeros.
        filled: Whether all groups get all columns, those of zeros too.

    Raises:
        ValueError: The group is out of range, or a mask has no superset among the patterns.
    """
    if not 1 <= group <= MAX_GROUP:
        raise ValueError(f"group must lie in 1..{MAX_GROUP}, found {group}")
    patterns = all_patterns(group) if patterns is None else tuple(sorted(set(patterns)))
    rows, cols = weight.shape
    whole = rows // group
    head = _pack_groups(np.asarray(weight[: whole * group], np.float32), group, patterns, filled)
    tail_rows = rows - whole * group
    tail_patterns = restrict_patterns(patterns, tail_rows)
    if tail_rows:
        tail = _pack_groups(
            np.asarray(weight[whole * group :], np.float32), tail_rows, tail_patterns, filled
        )
        columns, values = (np.concatenate(pair) for pair in zip(head[1:], tail[1:], strict=True))
        tail_counts = tail[0].reshape(-1)
    else:
        (_, columns, values), tail_counts = head, np.zeros(0, np.int32)
    return GroupedPatterns(rows, cols, group, patterns, head[0], tail_counts, columns, values)


def pack_rows(weight: Floats, group: int) -> tuple[Floats, Ints, Ints]:
    """Return a matrix packed for rows in the lanes: values, columns, bounds.

    Args:
        weight: (rows, cols), rows a multiple of `group`.
        group: Rows of a group.

    Returns:
        values (stored, group) float32: a column of a group each; columns (stored,) int32: those
        that some row of the group uses, by group, ascending; bounds (groups + 1,) int32: where
        each group's columns begin.
    """
    blocks = weight.reshape(-1, group, weight.shape[1])
    used = (blocks != 0).any(axis=1)
    values = blocks.transpose(0, 2, 1)[used]
    bounds = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    return values, np.nonzero(used)[1].astype(np.int32), bounds.astype(np.int32)


def column_bounds(cols: int, blocks: int) -> list[int]:
    """Return where blocks of columns begin and end: `blocks` + 1 bounds, as even as can be."""
    return [cols * i // blocks for i in range(blocks + 1)]


def pack_blocks(
    weight: npt.NDArray[Any],
    group: int,
    patterns: tuple[int, ...] | None,
    blocks: int,
    *,
    filled: bool = False,
) -> list[GroupedPatterns]:
    """Return `weight` cut into `blocks` blocks of columns, each packed by itself as by `pack`.

    Their column numbers are the whole matrix's.
    """
    bounds = column_bounds(weight.shape[1], blocks)
    packed = []
    for first, last in itertools.pairwise(bounds):
        block = pack(weight[:, first:last], group, patterns, filled=filled)
        packed.append(dataclasses.replace(block, columns=block.columns + np.int32(first)))
    return packed


def block_diagonal(blocks: Sequence[GroupedPatterns]) -> GroupedPatterns:
    """Return the matrix that has packed matrices, whose groups come out even, on its diagonal."""
    first = blocks[0]
    starts = np.cumsum([0, *(block.cols for block in blocks)])
    columns = [block.columns + np.int32(at) for block, at in zip(blocks, starts, strict=False)]
    return dataclasses.replace(
        first,
        rows=sum(block.rows for block in blocks),
        cols=int(starts[-1]),
        counts=np.concatenate([block.counts for block in blocks]),
        columns=np.concatenate(columns),
        values=np.concatenate([block.values for block in blocks]),
    )


def is_dense(packed: Sequence[GroupedPatterns]) -> bool:
    """Whether all groups of a matrix, packed in blocks of columns, use all columns in full."""
    return all(
        block.patterns == full_pattern(block.group) and block.stored == block.rows * block.cols
        for block in packed
    )


def unpack(packed: GroupedPatterns) -> Floats:
    """Return the dense (rows, cols) float32 matrix."""
    weight = np.zeros((packed.rows, packed.cols), np.float32)
    whole = packed.rows // packed.group
    masks = np.repeat(np.tile(packed.patterns, whole), packed.counts.reshape(-1))
    firsts = np.repeat(
        np.arange(whole).repeat(len(packed.patterns)) * packed.group, packed.counts.reshape(-1)
    )
    tail_masks = np.repeat(packed.tail_patterns, packed.tail_counts)
    masks = np.concatenate([masks, tail_masks]).astype(np.int32)
    firsts = np.concatenate([firsts, np.full(len(tail_masks), whole * packed.group)])
    bits = (masks[:, None] >> np.arange(packed.group)) & 1
    entry, row = np.nonzero(bits)
    weight[firsts[entry].astype(np.int64) + row, packed.columns[entry]] = packed.values
    return weight


def superset_table(group: int, patterns: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the bucket of every mask: (2^group,), its cheapest superset's index, or -1."""
    masks = np.arange(1 << group)
    table = np.full(1 << group, -1, np.int64)
    for bucket in sorted(range(len(patterns)), key=lambda i: -patterns[i].bit_count()):
        table[(masks & ~patterns[bucket]) == 0] = bucket
    return table


def _pack_groups(
    weight: Floats, group: int, patterns: tuple[int, ...], filled: bool
) -> tuple[Ints, Ints, Floats]:
    """Pack whole groups: counts (groups, len(patterns)), columns, values."""
    rows, cols = weight.shape
    masks = pattern_masks(np.ones_like(weight) if filled else weight, group)
    which, column = np.nonzero(masks)
    bucket = superset_table(group, patterns)[masks[which, column]]
    if np.any(bucket < 0):
        raise ValueError(f"no pattern of {patterns} covers every mask; include the full one")
    order = np.lexsort((column, bucket, which))
    which, column, bucket = which[order], column[order], bucket[order]
    counts = np.zeros((rows // group, len(patterns)), np.int32)
    np.add.at(counts, (which, bucket), 1)
    bits = (np.asarray(patterns, np.int64)[bucket][:, None] >> np.arange(group)) & 1
    values = weight.reshape(rows // group, group, cols)[which, :, column][bits.astype(bool)]
    return counts, column.astype(np.int32), values
