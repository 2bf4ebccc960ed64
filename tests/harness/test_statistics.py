import numpy as np
import pytest

from edgesparse.harness.statistics import (
    compare_intervals,
    compare_with_baseline,
    median_interval,
    median_ratio_interval,
    outlier_share,
    paired_ratio,
    paired_ratio_interval,
    summarize,
)


def test_summary_holds_order_statistics() -> None:
    summary = summarize([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (summary.median_ms, summary.min_ms, summary.runs) == (3.0, 1.0, 5)
    assert summary.p90_ms == pytest.approx(4.6)


def test_nothing_to_summarize_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarize([])


def test_paired_ratio_survives_a_machine_that_slows_down() -> None:
    """Both sides slow down threefold for half of the time; medians of each would mislead."""
    slowdown = np.repeat([1.0, 3.0], 50)
    bundle, peer = 1.0 * slowdown, 2.0 * slowdown
    assert paired_ratio(list(peer), list(bundle)) == 2.0


@pytest.mark.parametrize(("left", "right"), [([1.0], [1.0, 2.0]), ([], [])])
def test_unpaired_samples_are_an_error(left: list[float], right: list[float]) -> None:
    with pytest.raises(ValueError, match="cannot pair"):
        paired_ratio(left, right)


def neighbours(count: int, likeness: float, seed: int) -> np.ndarray:
    """Return lognormal noise with median 1 whose neighbours resemble each other."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=count)
    for index in range(1, count):
        fresh = np.sqrt(1 - likeness**2) * noise[index]
        noise[index] = likeness * noise[index - 1] + fresh
    return np.exp(0.1 * noise)


@pytest.mark.parametrize(("count", "likeness"), [(20, 0.0), (200, 0.0), (400, 0.8)])
def test_median_interval_covers_the_median(count: int, likeness: float) -> None:
    draws = [neighbours(count, likeness, seed) for seed in range(100)]
    covered = [low <= 1.0 <= high for low, high in map(median_interval, draws)]
    assert np.mean(covered) > 0.93


def test_an_interval_of_like_neighbours_is_wider() -> None:
    alone, alike = (median_interval(neighbours(400, likeness, 3)) for likeness in (0.0, 0.9))
    assert alike[1] - alike[0] > 1.5 * (alone[1] - alone[0])


def test_an_interval_knows_that_a_process_keeps_its_luck() -> None:
    """Five processes, each 2 % faster or slower as a whole, with noise of 0.1 % in itself."""
    random = np.random.default_rng(7)
    covered, careless = [], []
    for _ in range(60):
        luck = 1 + 0.02 * random.normal(size=5).repeat(40)
        samples = luck * (1 + 0.001 * random.normal(size=200))
        for launches, found in (([40] * 5, covered), ((), careless)):
            low, high = median_interval(samples, launches)
            found.append(low <= 1.0 <= high)
    assert np.mean(covered) > 0.85
    assert np.mean(careless) < 0.75


def test_launches_of_different_lengths_count_alike() -> None:
    low, high = median_interval([1.0] * 10 + [2.0] * 90 + [3.0] * 20, [10, 90, 20])
    assert (low, high) == (1.0, 3.0)
    assert median_interval([1.0] * 10 + [2.0] * 90 + [3.0] * 20) == (2.0, 2.0)


def test_an_interval_is_the_same_every_time_and_shrinks_with_samples() -> None:
    few, many = (neighbours(count, 0.0, 1) for count in (20, 2000))
    assert median_interval(few) == median_interval(few)
    widths = [high - low for low, high in map(median_interval, (few, many))]
    assert widths[1] < widths[0] / 3


def test_an_interval_of_very_many_samples_takes_part_of_them() -> None:
    low, high = median_interval(neighbours(50_000, 0.0, 2))
    assert low < 1 < high
    assert high - low < 0.03


def test_median_interval_of_few_samples_stays_among_them() -> None:
    assert median_interval([2.0, 1.0, 3.0]) == (1.0, 3.0)
    assert median_interval([5.0]) == (5.0, 5.0)


def test_a_paired_interval_is_narrow_where_both_slow_down_together() -> None:
    slowdown = neighbours(400, 0.9, 5)
    jitter = np.exp(0.001 * np.random.default_rng(6).normal(size=400))
    low, high = paired_ratio_interval(list(3 * slowdown * jitter), list(2 * slowdown))
    assert low < 1.5 < high
    assert high - low < 0.002
    unpaired = median_ratio_interval(list(3 * slowdown * jitter), list(2 * slowdown))
    assert unpaired[1] - unpaired[0] > 10 * (high - low)


def test_outliers_lie_beyond_the_outer_fence() -> None:
    """Quartiles 10 and 14: the fence is at 14 + 3 * 4 = 26."""
    box = [10.0, 10.0, 12.0, 14.0, 14.0] * 8
    assert outlier_share([*box, 25.9]) == 0
    assert outlier_share([*box, 26.1]) == pytest.approx(1 / 41)


def test_a_coarse_timer_makes_no_outliers() -> None:
    assert outlier_share([1.0] * 99 + [1.005]) == 0
    assert outlier_share([1.0] * 99 + [1.1]) == pytest.approx(0.01)


def test_p99_needs_a_hundred_samples() -> None:
    assert summarize([1.0] * 99).p99_ms is None
    assert summarize([1.0] * 98 + [2.0, 2.0]).p99_ms == pytest.approx(2.0)


def test_a_clear_regression() -> None:
    baseline = [1.0 + 0.001 * (i % 5) for i in range(50)]
    found = compare_with_baseline([1.2 * ms for ms in baseline], baseline, 0.05)
    assert found.change == pytest.approx(0.2)
    assert found.interval[0] <= found.change <= found.interval[1]
    assert found.interval == (pytest.approx(0.2, abs=0.01), pytest.approx(0.2, abs=0.01))
    assert found.is_regression


def test_intervals_alone_tell_nearly_what_samples_tell() -> None:
    random = np.random.default_rng(3)
    before, after = random.gamma(9, 1 / 9, 400), 1.1 * random.gamma(9, 1 / 9, 400)
    expected = compare_with_baseline(after, before, 0.05)
    estimates = [(float(np.median(s)), median_interval(s)) for s in (after, before)]
    found = compare_intervals(*estimates, 0.05)
    assert found.change == pytest.approx(expected.change)
    assert found.interval == pytest.approx(expected.interval, abs=0.03)
    assert (found.exceeds_limit, found.exceeds_noise) == (True, expected.exceeds_noise)


def test_an_interval_that_misses_its_median_is_no_wider_than_nothing() -> None:
    found = compare_intervals((2.0, (2.5, 2.5)), (1.0, (1.0, 1.0)), 0.05)
    assert found.interval == pytest.approx((1.0, 1.5))
    assert found.is_regression


def test_a_slowdown_within_the_noise_is_no_regression() -> None:
    random = np.random.default_rng(1)
    baseline = list(random.uniform(1, 10, 20))
    found = compare_with_baseline([1.1 * ms for ms in baseline], baseline, 0.05)
    assert found.exceeds_limit
    assert not found.exceeds_noise
    assert not found.is_regression


def test_a_slowdown_within_the_limit_is_no_regression() -> None:
    found = compare_with_baseline([1.03] * 50, [1.0] * 50, 0.05)
    assert found.exceeds_noise
    assert not found.is_regression
