"""How far outputs are from those of onnxruntime, elementwise.

Like `numpy.testing.assert_allclose`: a value fails where |found - expected| > atol + rtol *
|expected|.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np

from edgesparse.harness.bench import check_number
from edgesparse.harness.tensors import Array

# Relative differences are shown for values above this part of the output's largest one: below,
# they say more about cancellation than about the kernel.
_TINY = 1e-3


@dataclasses.dataclass(frozen=True, slots=True)
class Tolerance:
    """How far the bundle may be from onnxruntime.

    Attributes:
        rtol: Relative part.
        atol: Absolute part.
        max_drop: Accuracy that may be lost, in percentage points.

    Raises:
        UsageError: One is negative, or no finite number: then nothing would ever differ.
    """

    rtol: float = 1e-3
    atol: float = 1e-4
    max_drop: float = 0.5

    def __post_init__(self) -> None:
        for what, value in dataclasses.asdict(self).items():
            check_number(what, value, 0, sys.float_info.max, whole=False)


@dataclasses.dataclass(frozen=True, slots=True)
class OutputDifference:
    """One output of the bundle against onnxruntime's.

    Attributes:
        name: Output name.
        source: `random` or `data`.
        samples: How many samples were compared.
        max_abs: Largest absolute difference.
        max_rel: Largest relative difference on values that are not tiny.
        cosine: Smallest cosine similarity of a sample.
        top1_agreement: Fraction of equal argmax along the last axis; None where it has length 1, or
            all hold what is not finite.
        failing: Values outside the tolerance, and NaN or infinite where onnxruntime's is not.
        values: How many values were compared.
        not_finite: How many of onnxruntime's are NaN or infinite; the largest differences, the
            cosine and the agreement tell of the others.
    """

    name: str
    source: str
    samples: int
    max_abs: float
    max_rel: float
    cosine: float
    top1_agreement: float | None
    failing: int
    values: int
    not_finite: int = 0


def compare(
    name: str, source: str, found: Array, expected: Array, tolerance: Tolerance
) -> OutputDifference:
    """Return how far an output is from the expected one; both have samples in front."""
    got, want = found.astype(np.float64), expected.astype(np.float64)
    # Where onnxruntime itself is not finite, only the very same value is right.
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    finite = np.isfinite(got) & np.isfinite(want)
    difference = np.where(same, 0.0, np.abs(np.subtract(got, want, where=finite, out=_inf(got))))
    magnitude = np.where(np.isfinite(want), np.abs(want), 0.0)
    large = magnitude > _TINY * magnitude.max(initial=0.0)
    fails = ~same & (~finite | (difference > tolerance.atol + tolerance.rtol * magnitude))
    return OutputDifference(
        name=name,
        source=source,
        samples=len(found),
        max_abs=float(difference.max(initial=0.0)),
        max_rel=float((difference[large] / magnitude[large]).max(initial=0.0)),
        cosine=_smallest_cosine(got, want),
        top1_agreement=_top1_agreement(found, expected),
        failing=int(fails.sum()),
        values=int(fails.size),
        not_finite=int(np.count_nonzero(~np.isfinite(want))),
    )


def _inf(array: Array) -> Array:
    return np.full(array.shape, np.inf)


def _smallest_cosine(got: Array, want: Array) -> float:
    got, want = (np.where(np.isfinite(a), a, 0.0).reshape(len(a), -1) for a in (got, want))
    norms = np.linalg.norm(got, axis=1) * np.linalg.norm(want, axis=1)
    dots = np.einsum("ij,ij->i", got, want)
    equal = np.array_equal(got, want)
    cosines = np.divide(dots, norms, where=norms > 0, out=np.full(len(got), float(equal)))
    return float(cosines.min(initial=1.0))


def _top1_agreement(found: Array, expected: Array) -> float | None:
    if found.ndim < 2 or found.shape[-1] < 2:
        return None
    told = np.isfinite(expected).all(axis=-1)
    if not told.any():
        return None
    return float(np.mean(found[told].argmax(axis=-1) == expected[told].argmax(axis=-1)))
