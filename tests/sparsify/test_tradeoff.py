"""Budgets are met, and choices are about the best there are."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse.pruning.patterns import UNSTRUCTURED, parse_pattern
from edgesparse.pruning.tradeoff import Curve, Menu

NM = parse_pattern("nm2:4")


def random_curves(rng, layers):
    """Two or three options a layer, N:M so that nothing is interpolated between them."""
    curves = []
    for _ in range(layers):
        us = np.sort(rng.uniform(1, 20, 2))[::-1]
        first = Curve(NM, np.array([1.0, 0.5]), np.array([0.0, rng.random()]), us)
        other = parse_pattern("nm1:4")
        second = Curve(
            other,
            np.array([1.0, 0.25]),
            np.array([0.0, rng.random()]),
            np.array([us[0], rng.random()]),
        )
        curves.append([first, second])
    return curves


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 9999), layers=st.integers(1, 5), part=st.floats(0, 1))
def test_choices_are_within_one_layer_of_the_best(seed, layers, part):
    """The duality gap of one constraint is at most what one layer can make of it."""
    curves = random_curves(np.random.default_rng(seed), layers)
    menu = Menu(curves, [100] * layers)
    most = sum(each[0].us[0] for each in curves)
    budget = menu.least_us + part * (most - menu.least_us) + 1e-9
    chosen = menu.within_us(budget)
    cost, error = (sum(getattr(c, name) for c in chosen) for name in ("us", "error"))
    assert cost <= budget + 1e-9
    options = [
        [(e, t) for curve in each for e, t in zip(curve.error, curve.us, strict=True)]
        for each in curves
    ]
    best = min(
        sum(e for e, _ in combination)
        for combination in itertools.product(*options)
        if sum(t for _, t in combination) <= budget
    )
    widest = max(max(e for e, _ in each) for each in options)
    assert best - 1e-9 <= error <= best + widest
    for each, choice in zip(curves, chosen, strict=True):
        for curve in (c for c in each if c.pattern == choice.pattern):
            fits = cost - choice.us + curve.us <= budget
            assert np.all(curve.error[fits] >= choice.error), "one change would be better"


def smooth(size, us, power):
    density = np.geomspace(1, 0.02, 30)
    error = (1 - density) ** power
    return Curve(UNSTRUCTURED, density, error, us * density), size


@pytest.mark.parametrize("sparsity", [0.3, 0.7, 0.9])
def test_a_sparsity_is_reached_and_hardly_passed(sparsity):
    pairs = [smooth(1000, 10, 2), smooth(5000, 20, 3), smooth(200, 5, 4)]
    menu = Menu([[curve] for curve, _ in pairs], [size for _, size in pairs])
    chosen = menu.at_sparsity(sparsity)
    assert sparsity <= menu.sparsity(chosen) < sparsity + 0.02
    # The large layer that suffers least is pruned most.
    assert chosen[1].density < chosen[0].density


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_time_is_kept_and_nearly_used(part):
    pairs = [smooth(1000, 10, 2), smooth(5000, 20, 3), smooth(200, 5, 4)]
    menu = Menu([[curve] for curve, _ in pairs], [size for _, size in pairs])
    found = sum(choice.us for choice in menu.within_us(part * 35))
    assert 0.95 * part * 35 <= found <= part * 35


def test_nothing_is_pruned_when_there_is_time_enough():
    curve, size = smooth(100, 10, 2)
    (chosen,) = Menu([[curve]], [size]).within_us(10)
    assert (chosen.pattern, chosen.density, chosen.error) == (None, 1.0, 0.0)


def test_with_several_patterns_time_counts_besides_zeros():
    """Two patterns of equal error: the one that is twice as fast is taken."""
    density = np.geomspace(1, 0.05, 10)
    slow = Curve(UNSTRUCTURED, density, 1 - density, 10 * density)
    us = np.where(density < 1, 5, 10) * density
    fast = Curve(parse_pattern("rows4"), density, 1 - density, us)
    (chosen,) = Menu([[slow, fast]], [1000]).at_sparsity(0.5)
    assert chosen.pattern == fast.pattern


def test_what_can_be_reached_at_most():
    curve, _ = smooth(100, 10, 2)
    menu = Menu([[curve], [curve]], [100, 300])
    assert menu.most_sparsity == pytest.approx(0.98)
    assert menu.least_us == pytest.approx(0.4)
