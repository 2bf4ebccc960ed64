"""How much to prune where: error against time, or against weights, over all layers at once.

Every layer has curves, one a pattern: error and predicted time over density. Errors add up, so that
at a price of lambda each layer by itself takes the option with the least error + lambda * cost, and
the lambda that just meets the budget is found by bisection. Each layer's error counts relative to
its output's energy: on the digits network that did better, at every budget, than weights taken from
what pruning the layer alone does to the network's output, for later layers mend earlier ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from edgesparse.pruning.network import Double
from edgesparse.pruning.patterns import Pattern

# Densities offered between two points of a curve, by interpolation.
_POINTS = 120
_BISECTIONS = 60
_LEAST = 1e-12


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """One layer in one pattern, densities descending; the first point is the layer as given.

    Attributes:
        pattern: Which weights share a fate; None where only the layer as given is on offer.
        density: (points,) kept weights as parts of all.
        error: (points,) relative to the energy of the layer's output.
        us: (points,) predicted microseconds.
    """

    pattern: Pattern | None
    density: Double
    error: Double
    us: Double

    def refined(self) -> Curve:
        """Return the curve at more densities; N:M has no others."""
        if self.pattern is None or self.pattern.keep or len(self.density) < 3:
            return self
        # Between the layer as given and the first step there is nothing to interpolate.
        inner = np.geomspace(self.density[1], self.density[-1], _POINTS)
        position, known = -np.log(inner), -np.log(self.density[1:])
        error = np.exp(np.interp(position, known, np.log(self.error[1:] + _LEAST)))
        us = np.exp(np.interp(position, known, np.log(self.us[1:] + _LEAST)))
        density, error, us = (
            np.concatenate([first[:1], rest])
            for first, rest in ((self.density, inner), (self.error, error), (self.us, us))
        )
        return Curve(self.pattern, density, error, us)


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What one layer is pruned to.

    Attributes:
        pattern: Which weights share a fate; None where the layer stays as it is.
        density: Kept weights as a part of all.
        error: Expected, relative.
        us: Predicted microseconds.
    """

    pattern: Pattern | None
    density: float
    error: float
    us: float


class Menu:
    """All layers' curves."""

    def __init__(self, curves: Sequence[Sequence[Curve]], sizes: Sequence[int]) -> None:
        """Offer curves.

        Args:
            curves: For each layer its curves, at least one.
            sizes: Weights of each layer.
        """
        self._rows = [[curve.refined() for curve in each] for each in curves]
        self._patterns = [[c.pattern for c in each for _ in c.density] for each in self._rows]
        self._curve = [np.repeat(np.arange(len(e)), [len(c.us) for c in e]) for e in self._rows]
        self._density, self._error, self._us = (
            [np.concatenate([getattr(c, name) for c in each]) for each in self._rows]
            for name in ("density", "error", "us")
        )
        self._sizes = np.asarray(sizes, np.float64)

    def sparsity(self, choices: Sequence[Choice]) -> float:
        """Return the share of zeros over all layers."""
        kept = sum(c.density * size for c, size in zip(choices, self._sizes, strict=True))
        return float(1 - kept / self._sizes.sum())

    @property
    def least_us(self) -> float:
        """The least time that the layers can be brought to."""
        return float(sum(us.min() for us in self._us))

    @property
    def most_sparsity(self) -> float:
        """The largest share of zeros on offer."""
        least = np.array([density.min() for density in self._density])
        return float(1 - (least * self._sizes).sum() / self._sizes.sum())

    def within_us(self, budget: float) -> list[Choice]:
        """Return the choices of least error that take at most `budget` microseconds."""
        return self._choose(self._us, self._us, budget)

    def at_sparsity(self, sparsity: float) -> list[Choice]:
        """Return the choices of least error with at least this share of zeros.

        Where there are several patterns to choose from, a per cent of the predicted time counts
        as much as a per cent of the weights.
        """
        total = sum(us[0] for us in self._us)
        kept = [
            density * size / self._sizes.sum()
            for density, size in zip(self._density, self._sizes, strict=True)
        ]
        costs = kept
        if any(len({p for p in patterns if p}) > 1 for patterns in self._patterns):
            costs = [c + us / total for c, us in zip(kept, self._us, strict=True)]
        return self._choose(costs, kept, 1 - sparsity)

    def _choose(
        self, costs: Sequence[Double], used: Sequence[Double], budget: float
    ) -> list[Choice]:
        """Return the best choices that use no more than the budget, or what uses least.

        Args:
            costs: Of each layer's options, what the price is for.
            used: Likewise, what the budget is of.
            budget: Upper limit of what is used.
        """
        low, high = -30.0, 30.0
        chosen = self._at_price(costs, np.exp(high))
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            tried = self._at_price(costs, np.exp(middle))
            if _total(used, tried) <= budget:
                chosen, high = tried, middle
            else:
                low = middle
        chosen = self._filled(chosen, used, budget)
        return [self._choice(layer, option) for layer, option in enumerate(chosen)]

    def _filled(
        self, chosen: Sequence[int], used: Sequence[Double], budget: float
    ) -> Sequence[int]:
        """Spend what the price left over: the change that lowers the error most, again and again.

        Prices only find choices on the convex hull; between them there may be a gap. Patterns stay
        what the price made them.
        """
        chosen = list(chosen)
        while True:
            spare = budget - _total(used, chosen)
            gains = [
                np.where(
                    (used[i] - used[i][now] <= spare) & (self._curve[i] == self._curve[i][now]),
                    self._error[i][now] - self._error[i],
                    0.0,
                )
                for i, now in enumerate(chosen)
            ]
            layer = int(np.argmax([gain.max() for gain in gains]))
            if gains[layer].max() <= 0:
                return chosen
            chosen[layer] = int(np.argmax(gains[layer]))

    def _at_price(self, costs: Sequence[Double], price: float) -> Sequence[int]:
        """Return which option of each layer is best at a price."""
        return [
            int(np.argmin(error + price * cost))
            for error, cost in zip(self._error, costs, strict=True)
        ]

    def _choice(self, layer: int, option: int) -> Choice:
        return Choice(
            self._patterns[layer][option] if option else None,
            float(self._density[layer][option]),
            float(self._error[layer][option]),
            float(self._us[layer][option]),
        )


def _total(used: Sequence[Double], chosen: Sequence[int]) -> float:
    return float(sum(each[option] for each, option in zip(used, chosen, strict=True)))
