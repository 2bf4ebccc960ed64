"""Each layer's curves: error and predicted time over density, in every pattern that fits it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from edgesparse.pruning import solver
from edgesparse.pruning.moments import Moments
from edgesparse.pruning.network import Array, Double, Layer
from edgesparse.pruning.patterns import Mask, Order, Pattern
from edgesparse.pruning.pricing import Pricing
from edgesparse.pruning.tradeoff import Curve

# The lowest density on offer.
LOWEST = 0.02
# The cost model is asked at every so many-th point of a path; between them time is interpolated.
_PRICED = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """What can be done with one layer.

    Attributes:
        layer: The layer.
        curves: At least one; the first point of each is the layer as given.
        orders: Of patterns that group rows, the rows in the order of their groups: (rows,).
        us: Predicted time as given; 0 where it is not pruned.
        why_not: Why it is not pruned, or "".
    """

    layer: Layer
    curves: tuple[Curve, ...]
    orders: Mapping[Pattern, Order]
    us: float
    why_not: str = ""

    def order_of(self, pattern: Pattern | None) -> Order:
        """Return rows in the order of a pattern's groups: (groups, rows)."""
        return _order(self.layer, self.orders, pattern)


def _order(layer: Layer, orders: Mapping[Pattern, Order], pattern: Pattern | None) -> Order:
    """Return (groups, rows); of a grouped convolution always as they are."""
    if pattern is not None and pattern in orders:
        return orders[pattern][None]
    return np.tile(np.arange(layer.rows // layer.groups), (layer.groups, 1))


def problems_of(layer: Layer, weight: Array, moments: Moments) -> list[solver.Problem]:
    """Return the problem of every convolution group."""
    matrices, scales = layer.matrices(weight), layer.scale.reshape(layer.groups, -1)
    return [
        solver.pose(matrix, moments, group, scales[group]) for group, matrix in enumerate(matrices)
    ]


def joint_error(problems: Sequence[solver.Problem], pruned: Sequence[solver.Pruned]) -> float:
    """Return the error of a layer from those of its convolution groups."""
    energy = np.array([problem.energy if problem.allowed.any() else 0.0 for problem in problems])
    return float(np.dot(energy, [each.error for each in pruned]) / (energy.sum() or 1.0))


def group_density(density: float, problems: Sequence[solver.Problem]) -> float:
    """Return what every convolution group that has more is pruned to, for this density of all."""
    left = density * len(problems)
    given = sorted(float(problem.allowed.mean()) for problem in problems)
    for index, each in enumerate(given):
        share = left / (len(given) - index)
        if share < (1 - 1e-9) * each:  # not by rounding alone
            return share
        left -= each
    return given[-1]


def make_offer(
    layer: Layer,
    weight: Array,
    moments: Moments,
    patterns: Sequence[Pattern],
    orders: Mapping[Pattern, Order],
    pricing: Pricing,
) -> Offer:
    """Return the curves of a layer.

    Args:
        layer: The layer.
        weight: As given.
        moments: Of what it reads in the network as given.
        patterns: To try; those that do not fit are left out.
        orders: Of patterns that group rows, the rows in the order of their groups.
        pricing: Who tells predicted times.
    """
    masks = layer.matrices(weight) != 0
    given = float(masks.mean())
    if layer.dense_because:
        return Offer(layer, (_curve(None, [(given, 0.0, 0.0)]),), {}, 0.0, layer.dense_because)
    problems = problems_of(layer, weight, moments)
    us = pricing.microseconds(layer, masks)
    curves: list[Curve] = []
    why_not = ""
    for pattern in patterns:
        if reason := pattern.why_not(layer.rows // layer.groups, layer.channels):
            why_not = reason
            continue
        order = _order(layer, orders, pattern)
        points = _points(layer, problems, pattern, order, pricing, min(LOWEST, given))
        if points:
            curves.append(_curve(pattern, [(given, 0.0, us), *points]))
    if not curves:
        curves = [_curve(None, [(given, 0.0, us)])]
        return Offer(layer, tuple(curves), dict(orders), us, why_not)
    return Offer(layer, tuple(curves), dict(orders), us)


def _curve(pattern: Pattern | None, points: Sequence[tuple[float, float, float]]) -> Curve:
    density, error, us = (np.array(column, np.float64) for column in zip(*points, strict=True))
    return Curve(pattern, density, error, us)


def _points(
    layer: Layer,
    problems: Sequence[solver.Problem],
    pattern: Pattern,
    order: Order,
    pricing: Pricing,
    lowest: float,
) -> list[tuple[float, float, float]]:
    """Return density, error and predicted time along the path down to `lowest`."""
    given = max(float(problem.allowed.mean()) for problem in problems)
    densities = solver.densities_to(lowest, given) if given > lowest else []
    walks = (
        solver.walk(problem, pattern, densities, each)
        for problem, each in zip(problems, order, strict=True)
    )
    found: list[tuple[float, float, Mask]] = []
    for steps in zip(*walks, strict=True):
        masks = np.stack([step.mask for step in steps])
        found.append((float(masks.mean()), joint_error(problems, steps), masks))
    if not found:
        return []
    if pattern.keep:
        found = found[-1:]
    asked = sorted({*range(0, len(found), _PRICED), len(found) - 1})
    asked_order = order if pattern.rows > 1 else None
    known = np.array([pricing.microseconds(layer, found[i][2], asked_order) for i in asked])
    us: Double = np.interp(range(len(found)), asked, known)
    return [(density, error, float(t)) for (density, error, _), t in zip(found, us, strict=True)]
