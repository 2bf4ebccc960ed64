"""Which channel stands at which position of an activation.

A value is *labelled* along the axes whose order may change. Its labels are two arrays of the
value's rank, with extent 1 along every other axis:

* `atoms`: a number for the channel that stands there. Channels that only move together get
  different atoms at first, and an edge between them (`Trace.tie`).
* `kinds`: a fingerprint of how the data there was computed from its channel. Two channels may
  change places only where all that is computed from them has the same fingerprints.

A value without labels has a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Atoms = npt.NDArray[np.int64]
Kinds = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


class Labels(NamedTuple):
    """Labels of one value; see the module.

    Attributes:
        atoms: int64, extent 1 along axes that are not labelled.
        kinds: uint64, of the same shape.
    """

    atoms: Atoms
    kinds: Kinds

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes that are labelled."""
        return tuple(axis for axis, extent in enumerate(self.atoms.shape) if extent > 1)

    def mixed(self, *parts: int | npt.NDArray[Any]) -> Labels:
        """Return the labels with more mixed into every kind."""
        return Labels(self.atoms, mix(self.kinds, *parts))

    def reshaped(self, shape: Sequence[int]) -> Labels:
        """Return the labels in another shape of the same size."""
        return Labels(self.atoms.reshape(shape), self.kinds.reshape(shape))

    def transposed(self, axes: Sequence[int]) -> Labels:
        """Return the labels with their axes permuted."""
        return Labels(self.atoms.transpose(axes), self.kinds.transpose(axes))

    def taken(self, index: npt.NDArray[np.int64], axis: int) -> Labels:
        """Return the labels at some positions of an axis."""
        return Labels(self.atoms.take(index, axis), self.kinds.take(index, axis))

    def expanded(self, shape: Sequence[int], axes: Sequence[int]) -> Labels:
        """Return the labels with some axes at the extent of `shape`, told apart along them."""
        wanted = list(self.atoms.shape)
        kinds = self.kinds
        for axis in axes:
            if wanted[axis] == 1 and shape[axis] > 1:
                wanted[axis] = shape[axis]
                kinds = mix(kinds, coordinate(shape[axis], axis, len(shape)))
        return Labels(np.broadcast_to(self.atoms, wanted), np.broadcast_to(kinds, wanted))


def mix(kinds: Kinds, *parts: int | npt.NDArray[Any]) -> Kinds:
    """Return fingerprints that also tell `parts` apart, broadcast against each other.

    Source: the finaliser of SplitMix64 (Steele, Lea & Flood, 2014).
    """
    state = np.asarray(kinds, np.uint64)
    for part in parts:
        state = state * _GOLDEN + np.asarray(part).astype(np.uint64) + _FIRST
        state = (state ^ (state >> np.uint64(30))) * _FIRST
        state = (state ^ (state >> np.uint64(27))) * _SECOND
        state = state ^ (state >> np.uint64(31))
    return state


def coordinate(extent: int, axis: int, rank: int) -> npt.NDArray[np.int64]:
    """Return 0, 1, ... along one axis of a rank-`rank` array that is 1 along the others."""
    shape = [1] * rank
    shape[axis] = extent
    return np.arange(extent).reshape(shape)


def reshape(labels: Labels, before: Sequence[int], after: Sequence[int]) -> Labels:
    """Return the labels of a reshaped value.

    Args:
        labels: Of the value before.
        before: Its shape.
        after: The shape after; equally many elements.
    """
    shape: list[int] = [1] * len(after)
    for sources, targets in _matching_axes(before, after):
        if not any(labels.atoms.shape[axis] > 1 for axis in sources):
            continue
        if len([axis for axis in sources if before[axis] > 1]) > 1:
            labels = labels.expanded(before, sources)
        for axis in targets:
            shape[axis] = after[axis]
    return labels.reshaped(shape)


def _matching_axes(
    before: Sequence[int], after: Sequence[int]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Cut both shapes into the shortest runs of axes with equal products."""
    runs, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        start = (i, j)
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while (left := math.prod(before[start[0] : i])) != (
            right := math.prod(after[start[1] : j])
        ):
            if left < right and i < len(before):
                i += 1
            elif j < len(after):
                j += 1
            else:
                i += 1
        runs.append((tuple(range(start[0], i)), tuple(range(start[1], j))))
    return runs
