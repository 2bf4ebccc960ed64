"""Statistics of timing samples: medians, order-statistic intervals, paired ratios.

Latencies are skewed to the right by whatever else the machine does, so nothing here assumes a
normal distribution or uses a mean.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

# Two-sided 99 % of the standard normal, for the order statistics that bracket a median.
_Z99 = 2.576


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """What is shown of a list of samples.

    Attributes:
        median_ms: Half of the samples are below.
        min_ms: The fastest sample.
        p90_ms: Nine in ten samples are below.
        runs: Number of samples.
    """

    median_ms: float
    min_ms: float
    p90_ms: float
    runs: int


def summarize(samples_ms: Sequence[float]) -> Summary:
    """Return the summary of at least one sample.

    Raises:
        ValueError: There is no sample.
    """
    if not len(samples_ms):
        raise ValueError("no samples to summarize")
    samples = np.asarray(samples_ms, dtype=np.float64)
    return Summary(
        median_ms=float(np.median(samples)),
        min_ms=float(samples.min()),
        p90_ms=float(np.percentile(samples, 90)),
        runs=len(samples),
    )


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return the median of the ratios of samples taken side by side.

    Samples with the same index were taken within milliseconds of each other, so a machine that
    slows down for a while slows both sides of a ratio and leaves it alone.

    Raises:
        ValueError: The lists differ in length, or are empty.
    """
    if len(numerator) != len(denominator) or not len(numerator):
        raise ValueError(f"cannot pair {len(numerator)} samples with {len(denominator)}")
    return float(np.median(np.asarray(numerator) / np.asarray(denominator)))


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """Return the order statistics that bracket the median with 99 % confidence.

    Source: David and Nagaraja, Order Statistics, 3rd edition, section 7.1 (distribution-free
    intervals for quantiles), with the normal approximation of the binomial.
    """
    ordered = sorted(samples)
    count = len(ordered)
    half_width = _Z99 * math.sqrt(count) / 2
    low = max(0, math.floor(count / 2 - half_width))
    high = min(count - 1, math.ceil(count / 2 + half_width))
    return ordered[low], ordered[high]


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """A result against its baseline.

    Attributes:
        change: Relative change of the median; 0.07 is 7 % slower.
        exceeds_limit: The change is larger than allowed.
        exceeds_noise: The 99 % intervals of both medians do not touch.
    """

    change: float
    exceeds_limit: bool
    exceeds_noise: bool

    @property
    def is_regression(self) -> bool:
        """Slower than allowed, and by more than the samples scatter."""
        return self.exceeds_limit and self.exceeds_noise


def compare_with_baseline(
    samples_ms: Sequence[float], baseline_ms: Sequence[float], max_regression: float
) -> Comparison:
    """Return how `samples_ms` compares with `baseline_ms`; `max_regression` 0.05 allows 5 %."""
    change = float(np.median(samples_ms) / np.median(baseline_ms)) - 1
    slowest_baseline = median_interval(baseline_ms)[1]
    return Comparison(
        change=change,
        exceeds_limit=change > max_regression,
        exceeds_noise=median_interval(samples_ms)[0] > slowest_baseline,
    )
