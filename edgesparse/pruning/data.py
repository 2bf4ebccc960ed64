"""Samples, split into those that are calibrated on and those that judge."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np

from edgesparse.errors import UsageError
from edgesparse.harness.samples import read_labels, read_samples
from edgesparse.harness.tensors import Array as AnyArray
from edgesparse.harness.tensors import Tensor
from edgesparse.metrics import top1
from edgesparse.pruning.activations import Activations, Sample
from edgesparse.pruning.network import Array

# The part of the data that judges at least.
JUDGING = 0.5
_LEAST = 2
# Outputs whose variance is a smaller part of their squares do not vary.
_ROUNDING = 1e-20


@dataclasses.dataclass(frozen=True, slots=True)
class Data:
    """Samples with disjoint uses.

    Attributes:
        calibration: What pruned weights are fitted to.
        judging: What the result is measured on.
        labels: (judging samples,) classes, or (judging samples, batch), or None.
    """

    calibration: list[Sample]
    judging: list[Sample]
    labels: AnyArray | None


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """How a pruned network does beside the network as given, on samples not calibrated on.

    Attributes:
        samples: How many.
        error: Squared error of the outputs relative to their variance, mean of all outputs; NaN
            where one differs that does not vary: one sample has no variance.
        before: Top-1 accuracy in percent as given; None without labels.
        after: Likewise, pruned.
    """

    samples: int
    error: float
    before: float | None
    after: float | None

    @property
    def drop(self) -> float:
        """Percentage points of accuracy lost; NaN without labels."""
        if self.before is None or self.after is None:
            return float("nan")
        return self.before - self.after


def read_data(
    path: str | os.PathLike[str], tensors: Sequence[Tensor], most: int, seed: int
) -> Data:
    """Return the samples of an npz file, dealt out at random.

    Args:
        path: npz as `check --data` reads it.
        tensors: The model's inputs.
        most: Samples to calibrate on at most; those left over judge as well.
        seed: Of the split.

    Raises:
        UsageError: The file does not fit the model, or holds NaN, Inf or fewer than two samples.
    """
    inputs = read_samples(os.fspath(path), tensors)
    labels = read_labels(os.fspath(path), inputs)
    counts = {name: len(array) for name, array in inputs.items()}
    count = min(counts.values(), default=0)
    if count < _LEAST or len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {number}" for name, number in counts.items())
        raise UsageError(
            f"{path}: expected as many samples of every input, {_LEAST} or more, found {listed}",
            hint="half of them are calibrated on, the other half judges",
        )
    if bad := [name for name, array in inputs.items() if not _is_finite(array)]:
        raise UsageError(
            f"{path}: expected finite numbers, found NaN or Inf in {', '.join(bad)}",
            hint="leave those samples out",
        )
    order = np.random.default_rng(seed).permutation(count)
    used = min(most, max(1, round(count * (1 - JUDGING))))
    samples: list[Sample] = [{name: array[i] for name, array in inputs.items()} for i in order]
    return Data(samples[:used], samples[used:], None if labels is None else labels[order[used:]])


def _is_finite(array: AnyArray) -> bool:
    return not np.issubdtype(array.dtype, np.inexact) or bool(np.isfinite(array).all())


def judge(
    session: Activations,
    data: Data,
    before: Sequence[AnyArray],
    constants: Mapping[str, Array],
) -> Judgement:
    """Return how a pruned network does beside the network as given.

    Args:
        session: Of the network.
        data: Whose judging samples to take.
        before: `outputs_of` the network as given on them.
        constants: Of the pruned network.
    """
    after = outputs_of(session, data.judging, constants)
    errors = [_relative_error(a, b) for a, b in zip(after, before, strict=True)]
    percents: list[float | None] = [None, None]
    if data.labels is not None:
        percents = [100 * top1(outputs[0], data.labels) for outputs in (before, after)]
    return Judgement(len(data.judging), float(np.mean(errors)), percents[0], percents[1])


def outputs_of(
    session: Activations, samples: Sequence[Sample], constants: Mapping[str, Array]
) -> list[AnyArray]:
    """Return every output, samples stacked on a new leading axis."""
    rows = [session.run(sample, constants, session.outputs) for sample in samples]
    return [np.stack(column) for column in zip(*rows, strict=True)]


def _relative_error(found: AnyArray, expected: AnyArray) -> float:
    got, want = found.astype(np.float64), expected.astype(np.float64)
    lost, spread = float(((got - want) ** 2).sum()), float(((want - want.mean(axis=0)) ** 2).sum())
    if spread <= _ROUNDING * float((want**2).sum()):
        return float("nan") if lost else 0.0
    return lost / spread
