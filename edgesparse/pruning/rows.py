"""Which rows are pruned together: rows that want the same columns, so that more energy is kept.

Rows of one group need not be neighbours in the file: reordering channels over the whole network
brings them together again when the model is compiled. So layers whose output channels can only be
permuted together share their groups, and a layer whose channels cannot be permuted at all has
neighbours for groups.

On the digits network this lowers the error of rows4 and rows8 by a tenth at equal density.

Source: exchange by assignment as in `passes.row_groups`, which starts it, for kept energy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from edgesparse.passes.row_groups import RowGrouper, exchange, flat
from edgesparse.pruning.network import Array, Double
from edgesparse.pruning.patterns import UNSTRUCTURED, Order
from edgesparse.pruning.solver import Problem, densities_to, walk

# Groups are made for this density, and serve all.
_DENSITY = 0.25


def row_energies(problem: Problem) -> Double:
    """Return what each weight is worth, (rows, cols), zero where it is pruned at once.

    Energies add up to one, so that several layers' can be weighed against each other.
    """
    given = float(problem.allowed.mean())
    order = np.arange(len(problem.target))
    pruned = list(walk(problem, UNSTRUCTURED, densities_to(_DENSITY * given, given), order))[-1]
    energy: Double = np.where(pruned.mask, np.asarray(pruned.weight, np.float64) ** 2, 0.0)
    return energy / (float(energy.sum()) or 1.0)


def group_rows(energies: Sequence[Double], group: int) -> Order:
    """Return an order of rows in which every `group` neighbours want the same columns.

    Args:
        energies: For each layer that shares the order what its weights are worth, (rows, cols).
        group: Rows of a group. Rows that are left over come last.
    """
    rows = len(energies[0])
    order: Order = np.arange(rows)
    whole = rows // group * group
    if group < 2 or whole < 2 * group:
        return order
    if group & (group - 1) == 0:
        order = RowGrouper(energies, [1.0] * len(energies)).matched(group)
    return flat(_exchanged(energies, order[:whole].reshape(-1, group)), order[whole:])


def _exchanged(energies: Sequence[Double], groups: Order) -> Order:
    """Return groups that keep more of the energy, by exchanging rows among them."""
    joined = np.concatenate(energies, axis=1).astype(np.float32)

    def place(groups: Order, free: Order) -> tuple[Order, float]:
        rest = joined[groups].sum(axis=1) - joined[free] - _prices(energies, groups)
        gain = np.stack([np.maximum(joined[free] + one, 0).sum(axis=1) for one in rest])
        chosen = linear_sum_assignment(gain, maximize=True)[1]
        return chosen, float(gain[np.arange(len(groups)), chosen].sum())

    return exchange(groups, place, worth=0.0)


def _prices(energies: Sequence[Double], groups: Order) -> Array:
    """Return (cols,) the energy from which on a group keeps a column, at the layer's density."""
    parts = []
    for energy in energies:
        units = energy[groups].sum(axis=1)
        kept = float(np.mean(energy > 0))
        parts.append(np.full(energy.shape[1], np.quantile(units, 1 - kept), np.float32))
    return np.concatenate(parts)
