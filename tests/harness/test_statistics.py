import numpy as np
import pytest

from edgesparse.harness.statistics import (
    compare_with_baseline,
    median_interval,
    paired_ratio,
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


def test_median_interval_covers_the_median() -> None:
    random = np.random.default_rng(0)
    draws = random.lognormal(size=(300, 100))
    covered = [low <= 1.0 <= high for low, high in map(median_interval, draws)]
    assert np.mean(covered) > 0.97


def test_median_interval_of_few_samples_is_all_of_them() -> None:
    assert median_interval([2.0, 1.0, 3.0]) == (1.0, 3.0)


def test_a_clear_regression() -> None:
    baseline = [1.0 + 0.001 * (i % 5) for i in range(50)]
    found = compare_with_baseline([1.2 * ms for ms in baseline], baseline, 0.05)
    assert found.change == pytest.approx(0.2)
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
