"""The solver against least squares by numpy and against every mask there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse.pruning import solver
from edgesparse.pruning.moments import Moments
from edgesparse.pruning.patterns import UNSTRUCTURED, choose_mask, parse_pattern


def correlated(cols, count, seed):
    """Inputs that can stand in for each other: (count, cols)."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(cols) + 0.5 * rng.standard_normal((cols, cols))
    return rng.standard_normal((count, cols)) @ mixing


def moments_of(dense, sparse=None):
    """Moments without a mean, as of a layer without a bias."""
    z = dense if sparse is None else sparse
    hessian = (z.T @ z / len(z))[None]
    cross = hessian if sparse is None else (dense.T @ z / len(z))[None]
    zeros = np.zeros((1, z.shape[1]))
    return Moments(hessian, cross, zeros, zeros, len(z))


def posed(rows=6, cols=10, seed=0, zeros=0.0):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, cols)) * (rng.random((rows, cols)) >= zeros)
    return weight, solver.pose(weight, moments_of(correlated(cols, 200, seed)), 0, np.ones(rows))


def best_refit(problem, mask):
    """The least error that any weight under the mask has, row by row."""
    total = 0.0
    for target, kept in zip(problem.target, mask, strict=True):
        hessian = problem.hessian
        free = np.linalg.solve(hessian[np.ix_(kept, kept)], hessian[kept] @ target)
        weight = np.zeros_like(target)
        weight[kept] = free
        total += (weight - target) @ hessian @ (weight - target)
    return total / problem.energy


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), density=st.floats(0.1, 0.9), zeros=st.sampled_from([0.0, 0.4]))
def test_a_refit_is_the_least_squares_solution(seed, density, zeros):
    _, problem = posed(seed=seed, zeros=zeros)
    mask = np.random.default_rng(seed).random(problem.target.shape) < density
    found = solver.refit(problem, problem.target, mask, 60)
    assert not found[~mask].any()
    masked = problem.error(np.where(mask, problem.target, 0))
    assert problem.error(found) <= masked + 1e-12
    best = best_refit(problem, mask)
    np.testing.assert_allclose(problem.error(found), best, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("kept", [2, 4, 6])
def test_rows_are_pruned_nearly_as_well_as_by_trying_every_mask(kept):
    found, best = [], []
    for seed in range(12):
        _, problem = posed(rows=1, cols=8, seed=seed)
        every = []
        for columns in itertools.combinations(range(8), kept):
            mask = np.zeros((1, 8), bool)
            mask[0, list(columns)] = True
            every.append(best_refit(problem, mask))
        pruned = solver.prune(problem, UNSTRUCTURED, kept / 8, np.zeros(1, np.int64))
        assert pruned.mask.sum() == kept
        assert min(every) * 0.999 <= pruned.error <= np.quantile(every, 0.25)
        found.append(pruned.error)
        best.append(min(every))
    assert sum(found) < 1.15 * sum(best)


@pytest.mark.parametrize("name", ["unstructured", "rows4", "quad4"])
@pytest.mark.parametrize("density", [0.5, 0.2])
def test_pruning_beats_magnitude_with_the_same_refit(name, density):
    pattern, order = parse_pattern(name), np.arange(32)
    ratios = []
    for seed in range(4):
        _, problem = posed(rows=32, cols=24, seed=seed)
        own = solver.prune(problem, pattern, density, order)
        mask = choose_mask(pattern, problem.target**2, round(density * own.mask.size), order)
        ratios.append(own.error / best_refit(problem, mask))
        assert abs(own.mask.mean() - density) < 0.03
    assert np.mean(ratios) < 0.97


def test_errors_grow_along_a_path_and_masks_are_nested():
    _, problem = posed(rows=16, cols=20)
    steps = list(solver.walk(problem, UNSTRUCTURED, solver.densities_to(0.05), np.arange(16)))
    assert steps[-1].mask.mean() == pytest.approx(0.05, abs=0.01)
    for before, after in itertools.pairwise(steps):
        assert after.error >= 0.99 * before.error
        assert not np.any(after.mask & ~before.mask)


@pytest.mark.parametrize(("name", "keep", "period"), [("nm2:4", 2, 4), ("nm1:4", 1, 4)])
def test_n_of_m(name, keep, period):
    _, problem = posed(rows=8, cols=16)
    found = solver.prune(problem, parse_pattern(name), 1.0, np.arange(8))
    counts = found.mask.reshape(8, -1, period).sum(axis=2)
    assert np.all(counts == keep)
    assert found.error < problem.error(np.where(found.mask, problem.target, 0))


def test_zeros_stay_zeros():
    weight, problem = posed(rows=12, cols=16, zeros=0.5)
    for density in (1.0, 0.3):
        found = solver.prune(problem, UNSTRUCTURED, density, np.arange(12))
        assert not np.any(problem.weight(found.weight)[weight == 0])
    assert found.mask.mean() == pytest.approx(0.3, abs=0.01)


def test_weights_come_back_in_the_coordinates_of_the_file():
    rng = np.random.default_rng(0)
    weight, inputs = rng.standard_normal((4, 6)), correlated(6, 100, 0) * 3.0 ** np.arange(6)
    problem = solver.pose(weight, moments_of(inputs), 0, np.array([1.0, 5, 1, 0.1]))
    found = solver.prune(problem, UNSTRUCTURED, 1.0, np.arange(4))
    np.testing.assert_allclose(problem.weight(found.weight), weight, rtol=1e-6)


def test_a_layer_mends_what_came_before_it():
    """Where the pruned network hands over z = A x, the best weight is W A^-1."""
    rng = np.random.default_rng(2)
    weight, dense = rng.standard_normal((5, 6)), rng.standard_normal((400, 6))
    sparse = dense @ (np.eye(6) + 0.3 * rng.standard_normal((6, 6)))
    problem = solver.pose(weight, moments_of(dense, sparse), 0, np.ones(5))
    mended = problem.weight(solver.prune(problem, UNSTRUCTURED, 1.0, np.arange(5)).weight)
    wanted = dense @ weight.T
    before, after = (np.sum((sparse @ w.T - wanted) ** 2) for w in (weight, mended))
    assert after < 0.05 * before


def test_weights_of_dead_inputs_go_first():
    inputs = correlated(6, 100, 1)
    inputs[:, 2] = 0
    problem = solver.pose(np.ones((3, 6)), moments_of(inputs), 0, np.ones(3))
    untouched = solver.prune(problem, UNSTRUCTURED, 1.0, np.arange(3))
    np.testing.assert_allclose(problem.weight(untouched.weight), 1, rtol=1e-6)
    found = solver.prune(problem, UNSTRUCTURED, 5 / 6, np.arange(3))
    np.testing.assert_array_equal(found.mask, np.arange(6) != np.full((3, 1), 2))


def test_a_layer_that_reads_nothing_stays_finite():
    problem = solver.pose(np.ones((3, 4)), moments_of(np.zeros((50, 4))), 0, np.ones(3))
    found = solver.prune(problem, UNSTRUCTURED, 0.5, np.arange(3))
    assert np.all(np.isfinite(problem.weight(found.weight)))
    assert np.isfinite(found.error)
