"""Which rows of a matrix should share a group: a clustering of rows by the columns they use.

A group of R rows loads every column that any of its rows uses once, so the columns of its union are
to be few. First pairs, pairs of pairs and so on are matched greedily by overlap; then one row is
taken out of every group and all of them are put back where they fit best, which is an assignment
problem that is solved exactly; this is repeated while it helps.

Source: locally dominant matching, Preis 1999; exchange by assignment as in the cyclic-exchange
neighbourhoods of Ahuja, Orlin & Sharma 2000. Permuting rows for sparsity is as in Ji et al.,
TETRIS, 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Order = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Exchanges end after so many in a row without a gain of this share, or after so many in all.
_MIN_GAIN = 2e-4
_PATIENCE = 4
_MAX_EXCHANGES = 40


class RowGrouper:
    """Finds orders of rows in which neighbours use few columns together.

    Args:
        masks: Matrices (rows, columns) that share the order; an entry counts if it is not zero.
        weights: What a column of each matrix costs.
    """

    def __init__(self, masks: Sequence[npt.NDArray[Any]], weights: Sequence[float]) -> None:
        used = np.concatenate([mask != 0 for mask in masks], axis=1)
        price = np.repeat(np.asarray(weights) / max(weights), [mask.shape[1] for mask in masks])
        kept = used.any(axis=0)
        self.used = used[:, kept].astype(np.float32)
        self.price = price[kept].astype(np.float32)

    def matched(self, group: int) -> Order:
        """Return an order for groups of `group` rows, a power of two; left-over rows come last."""
        rows = len(self.used)
        if group < 2 or rows < 2 * group:
            return np.arange(rows)
        by_use = np.argsort(-self.used.sum(axis=1), kind="stable")
        whole = rows // group * group
        groups = self._match(np.sort(by_use[:whole]), group)
        return flat(groups, by_use[whole:])

    def exchanged(self, order: Order, group: int) -> Order:
        """Return an order that is at least as good, by exchanging rows among groups."""
        rows = len(self.used)
        if group < 2 or rows < 2 * group:
            return order
        whole = rows // group * group
        groups = self._exchange(order[:whole].reshape(-1, group))
        return flat(groups, order[whole:])

    def _match(self, rows: Order, group: int) -> Order:
        """Return (groups, group) rows, by matching pairs and then pairs of groups."""
        groups = rows[:, None]
        unions = self.used[rows]
        rng = np.random.default_rng(len(rows))
        while groups.shape[1] < group:
            if len(groups) % 2:  # cannot be paired off: exchanges will have to do
                return rows.reshape(-1, group)
            left, right = _pairs((unions * self.price) @ unions.T, rng)
            groups = np.concatenate([groups[left], groups[right]], axis=1)
            unions = np.maximum(unions[left], unions[right])
        return groups

    def _exchange(self, groups: Order) -> Order:
        users = np.add.reduce([self.used[members] for members in groups.T])

        def cost() -> float:
            return float(((users > 0) @ self.price).sum())

        def place(_: Order, free: Order) -> tuple[Order, float]:
            nonlocal users
            moving = self.used[free]
            users -= moving
            overlap = np.where(users > 0, self.price, np.float32(0)) @ moving.T
            chosen = linear_sum_assignment(overlap, maximize=True)[1]
            users += moving[chosen]
            return chosen, -cost()

        return exchange(groups, place, worth=-cost())


def exchange(
    groups: Order, place: Callable[[Order, Order], tuple[Order, float]], *, worth: float
) -> Order:
    """Take one row out of every group and put all back where they are worth most; repeat.

    Args:
        groups: (groups, group) rows.
        place: Is given groups and the row (groups,) that is taken out of each; returns which of
            these each group gets instead, and what all groups are then worth.
        worth: What they are worth at first, in the unit of `place`.
    """
    count, size = groups.shape
    each = np.arange(count)
    rng = np.random.default_rng(groups.size)
    idle = 0
    for _ in range(_MAX_EXCHANGES):
        out = rng.integers(size, size=count)
        free = groups[each, out]
        chosen, now = place(groups, free)
        groups = groups.copy()
        groups[each, out] = free[chosen]
        idle = idle + 1 if now < worth + _MIN_GAIN * abs(worth) else 0
        worth = max(worth, now)
        if idle > _PATIENCE:
            break
    return groups


def flat(groups: Order, rest: Order) -> Order:
    """Return groups in the order of their first rows, then the rows that are left over."""
    ordered = np.sort(groups, axis=1)
    return np.concatenate([ordered[np.argsort(ordered[:, 0])].reshape(-1), np.sort(rest)])


def _pairs(overlap: Floats, rng: np.random.Generator) -> tuple[Order, Order]:
    """Return a perfect matching in which locally heaviest edges come first."""
    count = len(overlap)
    noise = rng.random((count, count), np.float32) * np.float32(1e-3)
    weight = overlap + noise + noise.T
    np.fill_diagonal(weight, -np.inf)
    alive = np.arange(count)
    lefts, rights = [], []
    while len(alive):
        best = weight.argmax(axis=1)
        mutual = np.nonzero(best[best] == np.arange(len(alive)))[0]
        lower = mutual[mutual < best[mutual]]
        lefts.append(alive[lower])
        rights.append(alive[best[lower]])
        rest = np.setdiff1d(np.arange(len(alive)), mutual)
        alive, weight = alive[rest], weight[np.ix_(rest, rest)]
    return np.concatenate(lefts), np.concatenate(rights)
