"""What goes to other machines of a cluster and what stays: with a Ray that computes at once."""

from __future__ import annotations

import pathlib
import sys
import types
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import texts

from edgesparse.bundle import Bundle
from edgesparse.errors import InvalidModelError
from edgesparse.farm.executors import RayExecutor, compile_elsewhere
from edgesparse.farm.tasks import CompileTask, compile_task
from edgesparse.model_files import model_digest

WEIGHTS = np.arange(16, dtype=np.float32).reshape(4, 4)


class Remote:
    """A remote function: `calls` notes what was called, and with which options."""

    calls: list[tuple[Any, dict[str, Any]]]

    def __init__(self, call: Any, **options: Any) -> None:
        self.call, self.chosen = call, options

    def options(self, **options: Any) -> Remote:
        return Remote(self.call, **options)

    def remote(self, *args: Any) -> Any:
        self.calls.append((args[0], self.chosen))
        future: Future[Any] = Future()
        future.set_result(self.call(*args))
        return types.SimpleNamespace(future=lambda: future)


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> RayExecutor:
    ray, util, strategies = (types.ModuleType(name) for name in ("ray", "ray.util", "strategies"))
    ray.init = lambda **options: None
    ray.get_runtime_context = lambda: types.SimpleNamespace(get_node_id=lambda: "this node")
    ray.remote = Remote
    strategies.NodeAffinitySchedulingStrategy = lambda node_id, soft: (node_id, soft)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.util", util)
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    monkeypatch.setattr(Remote, "calls", [], raising=False)
    return RayExecutor()


def task_of(path: pathlib.Path, target: str) -> CompileTask:
    output = path.parent / "out" / target / "bundle"
    return CompileTask(str(path), "product", target, {}, str(output))


def test_code_for_host_is_compiled_on_this_machine(executor, tmp_path) -> None:
    path = texts.save_external(tmp_path / "m.onnx", WEIGHTS)
    task = task_of(path, "host")
    assert executor.submit(compile_task, task).result() is True
    ((call, options),) = Remote.calls
    assert call is compile_task
    assert options["scheduling_strategy"] == ("this node", False)
    assert executor.submit(compile_task, task).result() is False  # it is there


def test_a_model_travels_with_the_weights_beside_it(executor, tmp_path) -> None:
    path = texts.save_external(tmp_path / "m.onnx", WEIGHTS, "deep/w.data")
    task = task_of(path, "arm64")
    assert executor.submit(compile_task, task).result() is True
    ((call, options),) = Remote.calls
    assert call is compile_elsewhere
    assert options == {"num_cpus": 1}
    bundle = Bundle(task.output)
    assert bundle.manifest["model_sha256"] == model_digest(path)
    assert compile_task(task) is False


def test_a_model_without_its_weights_fails_alone(executor, tmp_path) -> None:
    path = texts.save_external(tmp_path / "m.onnx", WEIGHTS)
    (tmp_path / "w.data").unlink()
    future = executor.submit(compile_task, task_of(path, "arm64"))
    with pytest.raises(InvalidModelError, match="which is missing"):
        future.result()
