"""Statistics of timing samples: order statistics, outliers, and bootstrap intervals of ratios.

Latencies are skewed to the right by whatever else the machine does, so nothing here assumes a
normal distribution or uses a mean. Neighbouring samples resemble each other (a machine is slow for
a while), and samples of one process more so (where its memory happens to lie makes a network
faster or slower by percents for as long as it lives). So intervals come from resampling processes,
and in each of them blocks of neighbours, not single samples. `launches` says how many of the
samples, in order, each process gave; none for all of one process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Interval = tuple[float, float]
Estimate = tuple[float, Interval]

CONFIDENCE = 0.99

# p99 of fewer samples would be the largest of them.
_MIN_SAMPLES_FOR_P99 = 100
# Tukey's outer fence; a box no wider than the timer's step would make everything an outlier.
_FENCE = 3.0
_MIN_BOX = 0.01

_RESAMPLES = 2000
_MOST_POINTS = 2048
_MIN_BLOCKS = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """What is shown of a list of samples.

    Attributes:
        median_ms: Half of the samples are below.
        min_ms: The fastest sample.
        p90_ms: Nine in ten samples are below.
        p99_ms: 99 in a hundred are below; None for fewer than a hundred samples.
        outlier_share: Samples above the upper quartile by more than three times the distance
            between the quartiles, of all samples; they are counted, never dropped.
        runs: Number of samples.
    """

    median_ms: float
    min_ms: float
    p90_ms: float
    p99_ms: float | None
    outlier_share: float
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
        p99_ms=(
            float(np.percentile(samples, 99)) if len(samples) >= _MIN_SAMPLES_FOR_P99 else None
        ),
        outlier_share=outlier_share(samples),
        runs=len(samples),
    )


def outlier_share(samples: Sequence[float] | Array) -> float:
    """Return the share of samples beyond Tukey's upper outer fence, Q3 + 3 (Q3 - Q1).

    Source: Tukey, Exploratory Data Analysis, 1977, section 2D ("far out" values). The box is taken
    to be at least one percent of the median wide, since a coarse timer makes it empty.
    """
    low, median, high = np.percentile(samples, [25, 50, 75])
    fence = high + _FENCE * max(high - low, _MIN_BOX * median)
    return float(np.mean(np.asarray(samples) > fence))


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return the median of the ratios of samples taken side by side.

    Samples with the same index were taken within milliseconds of each other, so a machine that
    slows down for a while slows both sides of a ratio and leaves it alone.

    Raises:
        ValueError: The lists differ in length, or are empty.
    """
    return float(np.median(_paired(numerator, denominator)))


def paired_ratio_interval(
    numerator: Sequence[float],
    denominator: Sequence[float],
    launches: Sequence[int] = (),
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return the interval that holds the median paired ratio with the given confidence.

    Raises:
        ValueError: The lists differ in length, or are empty.
    """
    return _percentile_interval(
        _resampled_medians(_paired(numerator, denominator), launches), confidence
    )


def _paired(numerator: Sequence[float], denominator: Sequence[float]) -> Array:
    if len(numerator) != len(denominator) or not len(numerator):
        raise ValueError(f"cannot pair {len(numerator)} samples with {len(denominator)}")
    ratios: Array = np.asarray(numerator, np.float64) / np.asarray(denominator, np.float64)
    return ratios


def median_interval(
    samples: Sequence[float], launches: Sequence[int] = (), confidence: float = CONFIDENCE
) -> Interval:
    """Return the interval that holds the median with the given confidence."""
    return _percentile_interval(_resampled_medians(samples, launches), confidence)


def median_ratio_interval(
    numerator: Sequence[float],
    denominator: Sequence[float],
    launches: tuple[Sequence[int], Sequence[int]] = ((), ()),
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return the interval of the ratio of medians of samples that were taken at other times."""
    above = _resampled_medians(numerator, launches[0], seed=0)
    below = _resampled_medians(denominator, launches[1], seed=1)
    return _percentile_interval(above / below, confidence)


def _resampled_medians(
    samples: Sequence[float] | Array, launches: Sequence[int], seed: int = 0
) -> Array:
    """Return medians of resamples: of the processes, then of blocks in each, (resamples,) float64.

    Every process counts as much as any other.

    Source: two-stage bootstrap, Davison and Hinkley, Bootstrap Methods and their Application, 1997,
    section 3.8; repeating whole processes, Kalibera and Jones, Rigorous Benchmarking in Reasonable
    Time, ISMM 2013.
    """
    random = np.random.default_rng(seed)
    everything = np.asarray(samples, np.float64)
    groups = np.split(everything, np.cumsum(launches)[:-1]) if len(launches) > 1 else [everything]
    # Neighbours that are left out resemble those that stay: the interval hardly widens.
    each = max(1, _MOST_POINTS // len(groups))
    groups = [group[:: -(-len(group) // each)] for group in groups]
    points = round(sum(map(len, groups)) / len(groups))
    chosen = random.integers(len(groups), size=(_RESAMPLES, len(groups)))
    drawn = np.empty((*chosen.shape, points))
    for index, group in enumerate(groups):
        where = chosen == index
        drawn[where] = _resampled_blocks(group, int(where.sum()), points, random)
    medians: Array = np.median(drawn.reshape(_RESAMPLES, -1), axis=1)
    return medians


def _resampled_blocks(group: Array, rows: int, points: int, random: np.random.Generator) -> Array:
    """Return rows of points drawn in blocks of neighbours, (rows, points) float64.

    A block is about as long as the square root of the number of samples. Blocks wrap around, so
    that every sample is drawn as often as any other.

    Source: circular block bootstrap, Politis and Romano, 1992; percentile intervals, Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    length = max(1, min(round(len(group) ** 0.5), len(group) // _MIN_BLOCKS))
    starts = random.integers(len(group), size=(rows, -(-points // length), 1))
    indices = (starts + np.arange(length)) % len(group)
    return group[indices.reshape(rows, -1)[:, :points]]


def _percentile_interval(values: Array, confidence: float) -> Interval:
    tail = 50 * (1 - confidence)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """A result against its baseline.

    Attributes:
        change: Relative change of the median; 0.07 is 7 % slower.
        interval: What the change may be as well, with 99 % confidence, for all the samples tell.
        exceeds_limit: The change is larger than allowed.
        exceeds_noise: The interval lies above 0.
    """

    change: float
    interval: Interval
    exceeds_limit: bool
    exceeds_noise: bool

    @property
    def is_regression(self) -> bool:
        """Slower than allowed, and by more than the samples scatter."""
        return self.exceeds_limit and self.exceeds_noise


def compare_with_baseline(
    samples_ms: Sequence[float],
    baseline_ms: Sequence[float],
    max_regression: float,
    launches: tuple[Sequence[int], Sequence[int]] = ((), ()),
) -> Comparison:
    """Return how `samples_ms` compares with `baseline_ms`; `max_regression` 0.05 allows 5 %."""
    ratio = float(np.median(samples_ms) / np.median(baseline_ms))
    interval = median_ratio_interval(samples_ms, baseline_ms, launches)
    return _comparison(ratio, interval, max_regression)


def compare_intervals(after: Estimate, before: Estimate, max_regression: float) -> Comparison:
    """Return how a median compares with an earlier one, without the samples of either.

    Source: limits of a ratio recovered from those of its parts, on the logarithmic scale; Zou and
    Donner, Construction of confidence limits about effect measures: a general approach, Statistics
    in Medicine 27, 2008.

    Args:
        after: Median and its interval, in ms.
        before: The same of the earlier one.
        max_regression: 0.05 allows 5 %.
    """
    (median, (low, high)), (median_before, (low_before, high_before)) = after, before
    down = np.hypot(_log_distance(low, median), _log_distance(median_before, high_before))
    up = np.hypot(_log_distance(median, high), _log_distance(low_before, median_before))
    ratio = median / median_before
    interval = float(ratio * np.exp(-down)), float(ratio * np.exp(up))
    return _comparison(ratio, interval, max_regression)


def _log_distance(low: float, high: float) -> float:
    """Return how far apart two times are; the percentiles of few samples may miss the median."""
    return max(0.0, float(np.log(high / low)))


def compare_side_by_side(
    samples_ms: Sequence[float],
    baseline_ms: Sequence[float],
    max_regression: float,
    launches: Sequence[int] = (),
) -> Comparison:
    """Return how samples compare with others that were taken in turns with them.

    Raises:
        ValueError: The lists differ in length, or are empty.
    """
    ratio = paired_ratio(samples_ms, baseline_ms)
    interval = paired_ratio_interval(samples_ms, baseline_ms, launches)
    return _comparison(ratio, interval, max_regression)


def _comparison(ratio: float, interval: Interval, max_regression: float) -> Comparison:
    low, high = interval
    return Comparison(
        change=ratio - 1,
        # The percentiles of few samples may miss the median itself.
        interval=(min(low, ratio) - 1, max(high, ratio) - 1),
        exceeds_limit=ratio - 1 > max_regression,
        exceeds_noise=low > 1,
    )
