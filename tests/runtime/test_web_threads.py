"""Threads of index.mjs in node: what they compute, and what happens when there are none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle.fixtures import MODEL_SHA256
from bundle.parallel import parallel_inputs, parallel_outputs, parallel_plan
from web_scripts import evaluate, refused

from edgesparse import codegen
from edgesparse.bundle import Bundle, write_bundle
from edgesparse.target import WASM

pytestmark = pytest.mark.isa("wasm")

# Every worker that is started goes into `workers`; `spoil` may change what it is told.
WATCHED = """
const { Worker } = await import("node:worker_threads");
const workers = [];
let spoil = (order) => order;
const postMessage = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (order) {
  workers.push(this);
  return postMessage.call(this, spoil(order));
};
const ended = (worker) => new Promise((resolve) => worker.once("exit", resolve));
const warnings = [];
console.warn = (text) => warnings.push(text);
const given = { x: new Float32Array(520).fill(1) };
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    plan = parallel_plan()
    output = tmp_path_factory.mktemp("parallel") / "toy"
    return write_bundle(plan, WASM, codegen.build_object(plan, WASM), output, MODEL_SHA256)


def watched(bundle: Bundle, script: str) -> Any:
    return evaluate(bundle.path, WATCHED + script)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_computes_the_same(bundle: Bundle, threads: int) -> None:
    inputs = parallel_inputs()
    script = f"""
        const s = await Session.load(folder, {{ threads: {threads} }});
        const {{ y }} = await s.run({{ x: Float32Array.from({inputs["x"].tolist()}) }});
        for (let i = 0; i < 50; i++) s.runSteps();
        print([s.threads, s.backend, workers.length, [...y], [...s.getOutputs().y]]);
    """
    count, backend, workers, first, last = watched(bundle, script)
    assert (count, workers) == (threads, threads - 1)
    assert backend == ("simd128, threads" if threads > 1 else "simd128")
    np.testing.assert_allclose(first, parallel_outputs(inputs)["y"], rtol=1e-6)
    assert last == first


def test_workers_that_slept_are_woken(bundle: Bundle) -> None:
    script = """
        const s = await Session.load(folder, { threads: 3 });
        const sums = [];
        for (let i = 0; i < 3; i++) {
          await new Promise((resolve) => setTimeout(resolve, 30));
          sums.push((await s.run(given)).y.reduce((a, b) => a + b));
        }
        print(sums);
    """
    assert watched(bundle, script) == [520, 520, 520]


def test_two_sessions_on_threads_are_apart(bundle: Bundle) -> None:
    script = """
        const load = () => Session.load(folder, { threads: 2 });
        const [a, b] = [await load(), await load()];
        const twos = { x: new Float32Array(520).fill(2) };
        const [one, two] = await Promise.all([a.run(given), b.run(twos)]);
        print([one.y[7], two.y[7]]);
    """
    assert watched(bundle, script) == [1, 2]


@pytest.mark.parametrize(
    ("hide", "reason"),
    [
        ("globalThis.crossOriginIsolated = false;", "Cross-Origin-Embedder-Policy: require-corp"),
        ("delete globalThis.SharedArrayBuffer;", "no SharedArrayBuffer"),
    ],
)
def test_without_shared_memory_there_is_one_warning_and_one_thread(
    bundle: Bundle, hide: str, reason: str
) -> None:
    script = f"""
        {hide}
        for (let i = 0; i < 2; i++) await Session.load(folder, {{ threads: 2 }});
        const s = await Session.load(folder, {{ threads: 2 }});
        const {{ y }} = await s.run(given);
        print([s.threads, s.backend, y[0], workers.length, warnings]);
    """
    threads, backend, value, workers, warnings = watched(bundle, script)
    assert (threads, backend, value, workers) == (1, "simd128", 1, 0)
    assert len(warnings) == 1
    assert warnings[0].startswith("edgesparse: one thread instead of 2: ")
    assert reason in warnings[0]


def test_contents_without_the_module_for_threads(bundle: Bundle) -> None:
    script = """
        const alone = await Session.load(await contents(), { threads: 2 });
        const source = { ...(await contents()), wasm: undefined };
        source.threadsWasm = await read("model.threads.wasm");
        const both = await Session.load(source, { threads: 2 });
        print([alone.threads, both.threads, (await both.run(given)).y[0], warnings]);
    """
    alone, both, value, warnings = watched(bundle, script)
    assert (alone, both, value) == (1, 2, 1)
    assert warnings == ["edgesparse: one thread instead of 2: threadsWasm was not given"]


@pytest.mark.parametrize("threads", ["0", "-1", "65", "1.5", '"two"', "null"])
def test_a_number_of_threads_nothing_has(bundle: Bundle, threads: str) -> None:
    action = f"() => Session.load(folder, {{ threads: {threads} }})"
    code, message = refused(bundle.path, action)
    assert code == "input"
    assert "expected 1 to 64" in message


def test_a_worker_that_fails_in_a_run_is_an_error(bundle: Bundle) -> None:
    script = """
        spoil = (order) => ({ ...order, model: order.model.map(() => 0) });
        const s = await Session.load(folder, { threads: 2 });
        const first = await failure(() => s.run(given));
        print([first, await failure(() => s.run(given))]);
    """
    first, second = watched(bundle, script)
    assert first[:2] == [True, "threads"]
    assert "a worker has failed" in first[2]
    assert second[1] == "closed"


def test_a_worker_that_was_killed_is_an_error(bundle: Bundle) -> None:
    script = """
        const s = await Session.load(folder, { threads: 3 });
        await s.run(given);
        await workers[1].terminate();
        print(await failure(() => s.run(given)));
    """
    is_ours, code, message = watched(bundle, script)
    assert (is_ours, code, message) == (True, "threads", "running the model: a worker has failed")


def test_a_worker_that_cannot_start_is_an_error(bundle: Bundle) -> None:
    script = """
        spoil = (order) => ({ ...order, module: null });
        print(await failure(() => Session.load(folder, { threads: 2 })));
    """
    is_ours, code, message = watched(bundle, script)
    assert (is_ours, code) == (True, "threads")
    assert message.startswith("starting a worker: ")


def test_close_ends_the_workers(bundle: Bundle) -> None:
    script = """
        const s = await Session.load(folder, { threads: 3 });
        const all = Promise.all(workers.map(ended));
        s.close();
        s.close();
        print([(await all).length, await failure(() => s.run(given))]);
    """
    count, failure = watched(bundle, script)
    assert count == 2
    assert failure[1] == "closed"


def test_many_sessions_one_after_the_other(bundle: Bundle) -> None:
    script = """
        for (let i = 0; i < 20; i++) {
          const s = await Session.load(folder, { threads: 2 });
          await s.run(given);
          s.close();
        }
        print(workers.length);
    """
    assert watched(bundle, script) == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-50], "loading model.threads.wasm"),
        (lambda data: data[:8], "not a model that edgesparse compiled"),
    ],
)
def test_a_damaged_module_is_refused(
    bundle: Bundle, tmp_path: Path, change: Any, message: str
) -> None:
    copy = Path(shutil.copytree(bundle.path, tmp_path / "copy"))
    module = copy / "model.threads.wasm"
    module.write_bytes(change(module.read_bytes()))
    code, text = refused(copy, "() => Session.load(folder, { threads: 2 })")
    assert code == "bundle"
    assert message in text


@pytest.mark.parametrize(("key", "threads"), [("wasm", 1), ("threadsWasm", 2)])
def test_a_module_for_another_number_of_threads(bundle: Bundle, key: str, threads: int) -> None:
    wrong = {"wasm": "model.threads.wasm", "threadsWasm": "model.wasm"}[key]
    contents = f'{{ {key}: await read("{wrong}"), weights: await read("weights.bin") }}'
    action = f"async () => Session.load({contents}, {{ threads: {threads} }})"
    code, message = refused(bundle.path, action)
    assert code == "bundle"
    assert message == "loading the module: it is for another number of threads"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("steps", ["0, 99", "0, 2 ** 32", "NaN", "1, 0", "-1"])
def test_steps_outside_the_model_are_refused(bundle: Bundle, steps: str, threads: int) -> None:
    script = f"""
        const s = await Session.load(folder, {{ threads: {threads} }});
        const refused = await failure(async () => s.runSteps({steps}));
        print([refused[2], (await s.run(given)).y[0]]);
    """
    message, value = watched(bundle, script)
    assert message == "running the model: the steps are outside the model"
    assert value == 1
