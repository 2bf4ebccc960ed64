"""The benchmark of one-shot pruning: its files, without pruning anything."""

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")

import sparsify

from edgesparse.pruning.goals import Goal


def test_every_row_keeps_its_network():
    """0.7 is a share of zeros and a share of the time."""
    assert set(sparsify.SPARSITIES) & set(sparsify.LATENCIES)
    goals = [Goal("sparsity", value) for value in sparsify.SPARSITIES]
    goals += [Goal("ratio", value) for value in sparsify.LATENCIES]
    names = [
        sparsify.file_name(task, goal, method)
        for task in sparsify.TASKS
        for goal in goals
        for method in ("magnitude, global", "sparsify, auto")
    ]
    assert len(set(names)) == len(names)
