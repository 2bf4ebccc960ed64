"""What is asked for, and how it is reached: zeros, predicted time, or accuracy that may be lost."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Literal

from edgesparse.errors import AccuracyError, LatencyError, UsageError
from edgesparse.pruning.pruner import Pruned, Pruner

Kind = Literal["sparsity", "ratio", "us", "max_drop"]

# Tries to bring the predicted time of what is found close to the budget, and how close is enough.
_TRIES = 5
_CLOSE, _AIM = 0.97, 0.985
# Networks pruned in search of the fastest one that is accurate enough.
_SEARCHES = 7
_UNITS = {"x": 1.0, "us": 1.0, "ms": 1e3, "s": 1e6}


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """One goal.

    Attributes:
        kind: Zeros as a share; predicted time as a part of that as given, or in microseconds;
            percentage points of accuracy.
        value: How much.
    """

    kind: Kind
    value: float

    @classmethod
    def of(cls, *, sparsity: float | None, latency: str | None, max_drop: float | None) -> Goal:
        """Return the one goal that is given.

        Raises:
            UsageError: None or several are given, or one is out of range.
        """
        if sum(goal is not None for goal in (sparsity, latency, max_drop)) != 1:
            raise UsageError(
                "expected one goal: sparsity, latency or max-drop",
                hint="e.g. `--sparsity 0.7`, `--latency 0.6x` or `--max-drop 0.5`",
            )
        if sparsity is not None:
            if not 0 < sparsity < 1:
                raise UsageError(
                    f"sparsity is {sparsity:g}, expected more than 0 and less than 1",
                    hint="it is the fraction of zeros, e.g. 0.8 for 80 % zeros",
                )
            return cls("sparsity", sparsity)
        if latency is not None:
            return cls(*_parse_latency(latency))
        if max_drop is None or not 0 <= max_drop < 100:
            raise UsageError(
                f"max-drop is {max_drop}, expected 0 to 100 percentage points",
                hint="e.g. `--max-drop 0.5`",
            )
        return cls("max_drop", max_drop)


def _parse_latency(text: str) -> tuple[Kind, float]:
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(x|us|ms|s)\s*", text)
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not found or value <= 0 or (found[2] == "x" and value > 1):
        raise UsageError(
            f"latency {text!r} is neither a part of the model's predicted time nor a time",
            hint="e.g. `--latency 0.6x` or `--latency 2.5ms`",
        )
    return ("ratio" if found[2] == "x" else "us"), value


def reach(goal: Goal, pruner: Pruner) -> Pruned:
    """Return the network pruned to a goal.

    Raises:
        UsageError: The sparsity is out of reach, or labels are missing.
        LatencyError: The time is out of reach.
        AccuracyError: The accuracy is lost at once.
    """
    if goal.kind == "sparsity":
        return _to_sparsity(goal.value, pruner)
    if goal.kind == "max_drop":
        return _to_accuracy(goal.value, pruner)
    return _to_time(goal.value * (pruner.times.total if goal.kind == "ratio" else 1.0), pruner)


def _to_sparsity(sparsity: float, pruner: Pruner) -> Pruned:
    most = pruner.menu.most_sparsity
    if sparsity > most:
        raise UsageError(
            f"sparsity {sparsity:g} cannot be reached: at most {most:.3f} of the weights that may"
            " be pruned can be zero",
            hint="ask for less, or take another `--pattern`",
        )
    return pruner.prune(pruner.menu.at_sparsity(sparsity))


def _to_time(budget: float, pruner: Pruner) -> Pruned:
    """Plan shorter or longer until what is found takes about what it may.

    Plans know nothing of channels that die in one layer because another has no use for them.
    """
    fixed, given = pruner.times.fixed, pruner.times.total
    least = fixed + pruner.menu.least_us
    # What was planned and what was found, below and above the budget.
    below: tuple[float, float] | None = None
    above = (given, given)
    best: Pruned | None = None
    planned = min(budget, given)
    for _ in range(_TRIES):
        pruned = pruner.prune(pruner.menu.within_us(max(planned, least) - fixed))
        found = pruned.times.total
        if found > budget:
            above = planned, found
        else:
            below = planned, found
            if best is None or found > best.times.total:
                best = pruned
        if _CLOSE * budget <= found <= budget or above[0] <= least or planned >= given:
            break
        planned = _between(below, above, _AIM * budget)
    if best is not None:
        return best
    raise LatencyError(
        f"a predicted {budget / 1e3:.3g} ms cannot be reached: {given / 1e3:.3g} ms as given,"
        f" {least / 1e3:.3g} ms with the fewest weights"
        f" ({fixed / 1e3:.3g} ms are layers that are not pruned)",
        hint=f"ask for `--latency {min(100, math.ceil(105 * least / given)) / 100:g}x` or more",
    )


def _between(below: tuple[float, float] | None, above: tuple[float, float], wanted: float) -> float:
    """Return what to plan so that `wanted` is found, on the line through two (planned, found)."""
    if below is None:
        return above[0] * wanted / above[1]
    share = (wanted - below[1]) / (above[1] - below[1])
    return below[0] + min(max(share, 0.05), 0.95) * (above[0] - below[0])


def _to_accuracy(max_drop: float, pruner: Pruner) -> Pruned:
    """Bisect for the least predicted time, in even ratios."""
    if pruner.data.labels is None:
        raise UsageError(
            "--max-drop needs to know what is right, but the data has no array `label`",
            hint="add one class index a sample: numpy.savez(path, input_name=array, label=classes)",
        )
    fixed = pruner.times.fixed
    low, high = fixed + pruner.menu.least_us, pruner.times.total
    best: Pruned | None = None
    drop = math.nan
    for _ in range(_SEARCHES):
        middle = math.sqrt(low * high)
        pruned = pruner.prune(pruner.menu.within_us(middle - fixed))
        drop = pruner.judge(pruned.constants).drop
        if drop <= max_drop:
            best, high = pruned, min(middle, pruned.times.total)
        else:
            low = middle
    if best is None:
        raise AccuracyError(
            f"accuracy drops by {drop:.2f} points at {low / pruner.times.total:.2f}x the predicted"
            f" time, expected at most {max_drop:g}",
            hint="allow more, give more `--data`, or retrain with `--emit-masks`",
        )
    return best
