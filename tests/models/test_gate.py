"""Every committed network, compiled for every target, scores what it does under onnxruntime."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")
pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'edgesparse[models]'")
pytest.importorskip("onnxruntime")

import edgesparse  # noqa: E402
from edgesparse.check import check  # noqa: E402
from edgesparse.harness.devices import resolve_device  # noqa: E402
from edgesparse.models import tasks, train, zoo  # noqa: E402

TARGETS = [
    "host",
    pytest.param("arm64", marks=pytest.mark.isa("neon")),
    pytest.param("wasm", marks=pytest.mark.isa("wasm")),
]
OF_TASKS = [name for name in zoo.TRAINED if not name.startswith("digits")]  # those: tests/e2e


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", OF_TASKS)
def test_score_is_onnxruntimes_to_the_last_sample(name, target, tmp_path):
    task = tasks.load(name.split("_")[0])
    data = tmp_path / "heldout.npz"
    data.write_bytes(train.heldout_bytes(task))
    model = zoo.path(name)
    bundle = edgesparse.compile(model, target=target, output=tmp_path / "bundle")
    device = resolve_device(None, bundle)
    result = check(model, bundle, device, data=data, metric=task.metric, samples=0)
    assert result.problems == []
    assert result.accuracy.samples == len(task.splits()[1])
    # Two boxes of all but equal scores may change places in the ranking.
    margin = 0.02 if task.metric == "ap50" else 0.0
    assert abs(result.accuracy.drop) <= margin
    assert f"| {name} | {result.accuracy.onnxruntime_percent:.2f}% |" in zoo.card(name)
