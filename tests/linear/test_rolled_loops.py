"""Loops of buckets: short ones are left as they are, and compute what others do."""

import dataclasses

import numpy as np
import pytest
from compiled import assert_same_as_onnxruntime, plan_of, random_inputs, run_plan
from linear_models import conv_model, sparse

from edgesparse.kernels.spmm import Spmm
from edgesparse.passes import candidates
from edgesparse.target import resolve_target


def host(rolled_steps):
    target = resolve_target("host")
    return dataclasses.replace(
        target, core=dataclasses.replace(target.core, rolled_steps=rolled_steps)
    )


def pointwise(density):
    return conv_model([1, 32, 14, 14], sparse((40, 32, 1, 1), density), relu=True)


@pytest.mark.parametrize(("density", "rolled"), [(0.1, True), (1.0, False)])
def test_up_to_so_many_steps_in_the_mean(density, rolled, monkeypatch):
    monkeypatch.setattr(candidates, "GEMM_TILES", ())
    plan = assert_same_as_onnxruntime(pointwise(density), target=host(24))
    (kernel,) = (k for k in plan.kernels.values() if isinstance(k, Spmm))
    assert kernel.rolled is rolled


@pytest.mark.parametrize("density", [0.02, 0.3, 1.0])
def test_rolled_or_not_the_results_are_the_same_to_the_bit(density):
    model = pointwise(density)
    inputs = random_inputs(model)
    rolled, free = (run_plan(plan_of(model, host(n)), inputs, host(n)) for n in (10**6, 0))
    for name, values in rolled.items():
        np.testing.assert_array_equal(values, free[name])
