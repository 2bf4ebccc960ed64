"""Threads are bound where the system says so afterwards: the runner's pool and onnxruntime's."""

import os
import pathlib

import numpy as np
import onnxruntime
import pytest
from bundle.fixtures import write_toy
from bundle.toy import toy_inputs
from texts import proto

from edgesparse.harness.affinity import pin_threads
from edgesparse.harness.cpus import choose_cpus
from edgesparse.harness.devices import DEVICES, open_session
from edgesparse.harness.ort import OrtSession
from edgesparse.target import resolve_target

CPUS = choose_cpus(min(2, len(os.sched_getaffinity(0))))
needs_two_cpus = pytest.mark.skipif(len(CPUS) < 2, reason="only one CPU may be used here")
X = {"name": "x", "shape": [64, 64], "dtype": "float32"}


def affinities(process: int) -> list[set[int]]:
    threads = sorted(map(int, os.listdir(f"/proc/{process}/task")))
    return [os.sched_getaffinity(thread) for thread in threads]


@needs_two_cpus
def test_every_thread_of_the_runner_has_its_cpu(tmp_path: pathlib.Path) -> None:
    bundle = write_toy(resolve_target("host"), tmp_path / "toy")
    with open_session(DEVICES["host"], bundle, 2) as session:
        session.pin(*CPUS)
        assert affinities(session._process.pid) == [{CPUS[0]}, {CPUS[1]}]
        session.run({name: np.asarray(x)[None] for name, x in toy_inputs().items()})


def test_threads_share_the_cpus_where_their_numbers_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: dict[int, set[int]] = {}
    monkeypatch.setattr(os, "sched_setaffinity", bound.__setitem__, raising=False)
    pin_threads([11, 12, 13], (4, 5))
    assert bound == {11: {4, 5}, 12: {4, 5}, 13: {4, 5}}
    pin_threads([14], (4, 5))
    assert bound[14] == {4, 5}
    pin_threads([11, 12], (4, 5))
    assert (bound[11], bound[12]) == ({4}, {5})


@pytest.fixture
def product(tmp_path: pathlib.Path) -> pathlib.Path:
    model = proto(
        "(float[64, 64] x) => (float[64, 64] y) { y = MatMul(x, w) }",
        w=np.eye(64, dtype=np.float32) * 2,
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_onnxruntime_gets_the_threads(
    product: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    original = onnxruntime.InferenceSession

    def spy(path, options, **kinds):
        asked.append((options.intra_op_num_threads, options.inter_op_num_threads))
        return original(path, options, **kinds)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    for threads in (1, 3):
        session = OrtSession(product, [X], threads)
        x = np.random.default_rng(0).standard_normal((1, 64, 64)).astype(np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)
        assert len(session.bench(2)) == 2
        assert len(session._workers) == threads - 1
    assert asked == [(1, 1), (3, 1)]


@needs_two_cpus
def test_every_thread_of_onnxruntime_has_its_cpu(product: pathlib.Path) -> None:
    allowed = os.sched_getaffinity(0)
    session = OrtSession(product, [X], 2)
    try:
        session.pin(*CPUS)
        assert os.sched_getaffinity(0) == {CPUS[0]}
        assert os.sched_getaffinity(session._workers[0]) == {CPUS[1]}
    finally:
        os.sched_setaffinity(0, allowed)
