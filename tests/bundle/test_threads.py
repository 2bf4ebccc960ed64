"""One run shared by threads: the same bits for any number of them, again and again."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundle.fixtures import MODEL_SHA256, write_toy
from bundle.parallel import STEPS, parallel_inputs, parallel_outputs, parallel_plan
from bundle.toy import assert_same, toy_inputs, toy_outputs
from compiled import in_order_host, plan_of
from graphs import GRAPHS
from linear_models import conv_model, sparse

import edgesparse
from edgesparse import codegen
from edgesparse.bundle import Bundle, write_bundle
from edgesparse.errors import UsageError
from edgesparse.harness.devices import DEVICES, check_threads, open_session
from edgesparse.harness.measure import measure
from edgesparse.models import zoo
from edgesparse.plan import Plan
from edgesparse.target import ARM64, WASM, Target, resolve_target
from edgesparse.verify import verify_plan

NUMBERS = (1, 2, 3, 7)


def write_parallel(target: Target, output: Path, plan: Plan | None = None) -> Bundle:
    plan = plan or parallel_plan()
    verify_plan(plan)
    code = codegen.build_object(plan, target)
    return write_bundle(plan, target, code, output, model_sha256=MODEL_SHA256)


@pytest.fixture(scope="module")
def parallel_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_parallel(resolve_target("host"), tmp_path_factory.mktemp("parallel") / "toy")


def random_inputs(bundle: Bundle, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        spec.name: random.standard_normal(spec.shape).astype(spec.dtype) for spec in bundle.inputs
    }


def assert_same_bits_for_any_threads(
    bundle: Bundle, runs: int, inputs_of: Callable[[int], dict[str, np.ndarray]]
) -> None:
    for run in range(runs):
        inputs = inputs_of(run)
        expected = bundle.run(inputs)
        for threads in NUMBERS:
            for name, array in bundle.run(inputs, threads=threads).items():
                np.testing.assert_array_equal(array, expected[name], err_msg=f"{threads} threads")


def test_the_toy_computes_what_it_says(parallel_bundle: Bundle) -> None:
    for threads in NUMBERS:
        found = parallel_bundle.run(parallel_inputs(), threads)
        assert_same(found, parallel_outputs(parallel_inputs()))


def test_many_runs_one_after_the_other(parallel_bundle: Bundle) -> None:
    assert_same_bits_for_any_threads(parallel_bundle, 100, parallel_inputs)


def test_digits(tmp_path: Path) -> None:
    model = zoo.path("digits_mobilenet_v1")
    bundle = edgesparse.compile(model, target="host", output=tmp_path / "digits")
    assert_same_bits_for_any_threads(bundle, 5, lambda run: random_inputs(bundle, run))


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name: str, tmp_path: Path) -> None:
    onnx.save(GRAPHS[name](), tmp_path / "model.onnx")
    model = tmp_path / "model.onnx"
    bundle = edgesparse.compile(model, target="host", output=tmp_path / "bundle")
    assert_same_bits_for_any_threads(bundle, 2, lambda run: random_inputs(bundle, run))


def test_panels(tmp_path: Path) -> None:
    """Threads of a core that issues in order copy tiles into scratch of their own."""
    weight = sparse((24, 12, 3, 3), 0.3)
    window = {"pads": [2, 2, 2, 2], "dilations": [2, 2]}
    plan = plan_of(conv_model([1, 12, 80, 80], weight, **window), in_order_host())
    assert any(arg.pieces > 1 for step in plan.steps for arg in step.args)
    bundle = write_parallel(in_order_host(), tmp_path / "panels", plan)
    assert_same_bits_for_any_threads(bundle, 20, lambda run: random_inputs(bundle, run))


@pytest.mark.parametrize("threads", NUMBERS)
def test_a_serial_plan_runs_on_any_number_of_threads(host_bundle: Bundle, threads: int) -> None:
    assert_same(host_bundle.run(toy_inputs(), threads), toy_outputs(toy_inputs()))


@pytest.mark.parametrize("threads", [-1, 0, 65, 1.5, "2", None])
def test_a_number_of_threads_nothing_has(host_bundle: Bundle, threads: Any) -> None:
    message = f"expected 1 to 64 threads, found {threads!r}$"
    with pytest.raises(UsageError, match=message):
        host_bundle.run(toy_inputs(), threads=threads)
    with pytest.raises(UsageError, match=message):
        check_threads(threads)
    with pytest.raises(UsageError, match=message):
        measure([("b", host_bundle)], DEVICES["host"], threads=threads)


def test_a_number_of_threads_may_be_numpys(parallel_bundle: Bundle) -> None:
    inputs = parallel_inputs(0)
    found = parallel_bundle.run(inputs, threads=np.int64(2))
    assert_same(found, parallel_outputs(inputs))


def test_the_runners_pool(parallel_bundle: Bundle) -> None:
    samples = [parallel_inputs(seed) for seed in range(40)]
    stacked = {"x": np.stack([sample["x"] for sample in samples])}
    expected = np.stack([parallel_bundle.run(sample)["y"] for sample in samples])
    for threads in NUMBERS:
        with open_session(DEVICES["host"], parallel_bundle, threads) as session:
            np.testing.assert_array_equal(session.run(stacked)["y"], expected)
            profile = session.profile(3)
            assert [len(row) for row in profile] == [STEPS] * 3
            assert all(sample > 0 for sample in session.bench(5, 3))
            np.testing.assert_array_equal(session.run(stacked)["y"], expected)


@pytest.mark.isa("neon")
def test_arm64_under_emulation(tmp_path: Path, parallel_bundle: Bundle) -> None:
    toy = write_parallel(ARM64, tmp_path / "toy")
    digits = [
        edgesparse.compile(zoo.path("digits_mobilenet_v1"), target=target, output=tmp_path / target)
        for target in ("arm64", "arm64-a55")
    ]
    for bundle in (toy, *digits):
        inputs = {name: x[None] for name, x in random_inputs(bundle).items()}
        found = []
        for threads in (1, 2):
            with open_session(DEVICES["qemu"], bundle, threads) as session:
                found.append(session.run(inputs))
        for name, expected in found[0].items():
            np.testing.assert_array_equal(found[1][name], expected)


@pytest.mark.isa("wasm")
@pytest.mark.parametrize("threads", NUMBERS)
def test_wasm_in_node(tmp_path: Path, threads: int) -> None:
    bundle = write_parallel(WASM, tmp_path / "toy")
    samples = [parallel_inputs(seed) for seed in range(10)]
    with open_session(DEVICES["node"], bundle, threads) as session:
        found = session.run({"x": np.stack([sample["x"] for sample in samples])})["y"]
        assert [len(row) for row in session.profile(2)] == [STEPS] * 2
        assert all(sample > 0 for sample in session.bench(3, 2))
    for row, sample in zip(found, samples, strict=True):
        assert_same({"y": row}, parallel_outputs(sample))


def test_threads_meet_between_shared_steps_only() -> None:
    plan = parallel_plan()
    shared = [step.is_shared for step in plan.steps]
    assert shared[:5] == [True, False, False, True, False]
    meets = [codegen.needs_barrier(plan, index) for index in range(len(shared))]
    assert meets[:6] == [False, True, False, True, True, True]


def test_the_verifier_compares_parts_with_the_kernel() -> None:
    plan = parallel_plan()
    spoilt = dataclasses.replace(plan.steps[3], parts=9)
    plan.steps = (*plan.steps[:3], spoilt, *plan.steps[4:])
    with pytest.raises(ValueError, match=r"step 3 .* has 9 parts"):
        verify_plan(plan)


def test_two_bundles_on_threads_do_not_meet_each_other(host: Target, tmp_path: Path) -> None:
    serial, parallel = write_toy(host, tmp_path / "a"), write_parallel(host, tmp_path / "b")
    for seed in range(5):
        assert_same(serial.run(toy_inputs(seed), 3), toy_outputs(toy_inputs(seed)))
        found = parallel.run(parallel_inputs(seed), 2)
        assert_same(found, parallel_outputs(parallel_inputs(seed)))


INTERRUPTED = """
import random, signal, sys, time
import numpy as np
from edgesparse import Bundle

def interrupt(number, frame):
    raise KeyboardInterrupt

bundle = Bundle(sys.argv[1])
inputs = {spec.name: np.ones(spec.shape, spec.dtype) for spec in bundle.inputs}
expected = bundle.run(inputs)["y"]
signal.signal(signal.SIGALRM, interrupt)
random.seed(0)
heard = 0
for attempt in range(100):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 2e-3))
        end = time.monotonic() + 1  # Python itself loses an interrupt that it hears in a finalizer
        while time.monotonic() < end:
            bundle.run(inputs, threads=2 + attempt % 2)
    except KeyboardInterrupt:
        heard += 1
        np.testing.assert_array_equal(bundle.run(inputs, threads=1 + attempt % 3)["y"], expected)
assert heard > 95, heard
"""

FORKED = """
import os, sys
import numpy as np
from edgesparse import Bundle

bundle = Bundle(sys.argv[1])
inputs = {spec.name: np.ones(spec.shape, spec.dtype) for spec in bundle.inputs}
expected = bundle.run(inputs, threads=2)["y"]
child = os.fork()
np.testing.assert_array_equal(bundle.run(inputs, threads=2)["y"], expected)
if child == 0:
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""


COUNTED = """
import os, sys, time
import numpy as np
from edgesparse import Bundle

def becomes(count):
    end = time.monotonic() + 20
    while len(os.listdir("/proc/self/task")) != count and time.monotonic() < end:
        time.sleep(0.01)
    return len(os.listdir("/proc/self/task")) == count

bundle = Bundle(sys.argv[1])
inputs = {spec.name: np.ones(spec.shape, spec.dtype) for spec in bundle.inputs}
before = len(os.listdir("/proc/self/task"))
for count in (3, 2, 4):
    bundle.run(inputs, threads=count)
    assert becomes(before + count), count
del bundle
assert becomes(before)
"""


@pytest.mark.parametrize(
    "script", [INTERRUPTED, FORKED, COUNTED], ids=["interrupted", "forked", "counted"]
)
def test_threads_outlive_interrupts_and_forks_but_not_their_bundle(
    parallel_bundle: Bundle, script: str
) -> None:
    command = [sys.executable, "-c", script, str(parallel_bundle.path)]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            assert process.wait(timeout=60) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
