"""Which weights share a fate: the patterns that weights are pruned in.

A layer's weight is a matrix (rows, cols) whose columns are tap-major: column t * channels + c is
input channel c under tap t, so that consecutive input channels are consecutive columns. A *unit* is
the least that is kept or pruned as a whole:

    unstructured    one weight
    rows4           one column of 4 rows of a row group
    quad4           4 consecutive input channels of one row
    nm2:4           one weight, but 2 stay in every run of 4 consecutive input channels
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse.errors import UsageError

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]
Order = npt.NDArray[np.int64]

AUTO = "auto"
MAX_ROWS = 16
MAX_RUN = 32
# What `auto` may choose from: the formats whose kernels differ.
AUTO_PATTERNS = ("unstructured", "rows4", "rows8")


@dataclasses.dataclass(frozen=True, slots=True)
class Pattern:
    """A way to prune a matrix.

    Attributes:
        name: As the command line spells it.
        rows: Rows of a unit.
        run: Consecutive input channels of a unit.
        keep: Weights kept in every run of `period` input channels; 0 for any number.
        period: See `keep`.
    """

    name: str
    rows: int = 1
    run: int = 1
    keep: int = 0
    period: int = 0

    @property
    def fixed_density(self) -> float | None:
        """The density that the pattern prescribes, or None where any will do."""
        return self.keep / self.period if self.keep else None

    def why_not(self, rows: int, channels: int) -> str | None:
        """Return why a matrix cannot be pruned in this pattern, or None when it can."""
        if rows < 2 * self.rows and self.rows > 1:
            return f"{rows} rows are fewer than two groups of {self.rows}"
        period = max(self.run, self.period)
        if channels % period:
            return f"{channels} input channels are no multiple of {period}"
        return None


UNSTRUCTURED = Pattern("unstructured")


def parse_pattern(text: str) -> Pattern:
    """Return the pattern of a name such as `rows4`, `quad4` or `nm2:4`.

    Where networks are built, `block4` and `2:4` are what these are called: they do here, too.

    Raises:
        UsageError: There is no such pattern.
    """
    name = re.sub(r"^block(?=\d)", "rows", re.sub(r"^(?=\d+:\d+$)", "nm", text))
    if name == UNSTRUCTURED.name:
        return UNSTRUCTURED
    if (found := re.fullmatch(r"rows(\d+)", name)) and 2 <= int(found[1]) <= MAX_ROWS:
        return Pattern(name, rows=int(found[1]))
    if (found := re.fullmatch(r"quad(\d+)", name)) and 2 <= int(found[1]) <= MAX_RUN:
        return Pattern(name, run=int(found[1]))
    if found := re.fullmatch(r"nm(\d+):(\d+)", name):
        keep, period = int(found[1]), int(found[2])
        if 1 <= keep < period <= MAX_RUN:
            return Pattern(name, keep=keep, period=period)
    raise UsageError(
        f"unknown pattern {text!r}",
        hint="expected auto, unstructured, rows2 to rows16, quad4, or nm2:4 (2 of 4 stay)",
    )


def unit_scores(pattern: Pattern, scores: Floats, order: Order) -> Floats:
    """Return the score of every unit: (row groups, column runs), +inf for rows that do not exist.

    Args:
        pattern: What a unit is.
        scores: (rows, cols), what each weight is worth.
        order: (rows,), rows in the order of their groups: consecutive ones share a group.
    """
    rows, cols = scores.shape
    groups = -(-rows // pattern.rows)
    padded = np.zeros((groups * pattern.rows, cols))
    padded[:rows] = scores[order]
    units: Floats = padded.reshape(groups, pattern.rows, cols // pattern.run, pattern.run).sum(
        axis=(1, 3)
    )
    return units


def choose_mask(pattern: Pattern, scores: Floats, keep: int, order: Order) -> Mask:
    """Return mask: (rows, cols), True for the `keep` weights, in units, that are worth most.

    Args:
        pattern: What a unit is, and how many stay of each run.
        scores: (rows, cols), not negative.
        keep: Weights to keep, rounded to whole units, at least one of them: a layer of which
            nothing is left computes nothing. What the pattern prescribes overrides it.
        order: (rows,), rows in the order of their groups.
    """
    rows, cols = scores.shape
    if pattern.keep:
        runs = scores.reshape(rows, cols // pattern.period, pattern.period)
        ranks = np.argsort(np.argsort(-runs, axis=2, kind="stable"), axis=2, kind="stable")
        picked: Mask = (ranks < pattern.keep).reshape(rows, cols)
        return picked
    units = unit_scores(pattern, scores, order)
    sizes = np.full(units.shape, pattern.rows * pattern.run)
    if rest := rows % pattern.rows:
        sizes[-1] = rest * pattern.run
    # Short last groups compete by what a weight of theirs is worth.
    ranking = np.argsort(-(units / sizes).reshape(-1), kind="stable")
    kept = np.zeros(units.size, bool)
    total = np.cumsum(sizes.reshape(-1)[ranking])
    count = int(np.searchsorted(total, keep + 0.5 * pattern.rows * pattern.run))
    kept[ranking[: max(1, count)]] = True
    expanded = np.repeat(
        np.repeat(kept.reshape(units.shape), pattern.rows, axis=0), pattern.run, axis=1
    )
    mask = np.empty((rows, cols), bool)
    mask[order] = expanded[:rows]
    return mask
