"""Which build of a bundle runs in node, where its weights come from, and how loading is watched."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from bundle.fixtures import MODEL_SHA256
from bundle.parallel import parallel_inputs, parallel_outputs, parallel_plan
from web_scripts import GIVEN, evaluate, refused, write_parallel

from edgesparse import codegen
from edgesparse.bundle import Bundle, write_bundle
from edgesparse.harness.local import relaxed_simd_flags
from edgesparse.target import WASM, WASM_RELAXED

pytestmark = pytest.mark.isa("wasm")

WARNED = "const warnings = []; console.warn = (text) => warnings.push(text);"
NO_RELAXED = """
const validate = WebAssembly.validate;
WebAssembly.validate = (code) => code.length < 34 && validate(code);
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_parallel(tmp_path_factory.mktemp("builds") / "toy")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_parallel(tmp_path_factory.mktemp("embedded") / "toy", embed=True)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("simd", [None, "simd128", "relaxed-simd"])
def test_every_build_computes(bundle: Bundle, simd: str | None, threads: int) -> None:
    options = json.dumps({"threads": threads, "simd": simd} if simd else {"threads": threads})
    script = f"""
        {GIVEN}
        const s = await Session.load(folder, {options});
        print([s.backend, s.notes, [...(await s.run(given)).y]]);
    """
    backend, notes, y = evaluate(bundle.path, script, *relaxed_simd_flags())
    assert backend == (simd or "relaxed-simd") + (", threads" if threads > 1 else "")
    assert notes == []
    np.testing.assert_allclose(y, parallel_outputs(parallel_inputs())["y"], rtol=1e-6)


@pytest.mark.parametrize("source", ["folder", "undefined"])
def test_the_readable_modules_do_the_same(bundle: Bundle, source: str) -> None:
    script = f"""
        {GIVEN}
        const readable = await import(pathToFileURL(`${{folder}}/src/index.mjs`));
        const s = await readable.Session.load({source}, {{ threads: 2 }});
        print([s instanceof Session, s.backend, [...(await s.run(given)).y]]);
        s.close();
    """
    is_minified, backend, y = evaluate(bundle.path, script, *relaxed_simd_flags())
    assert (is_minified, backend) == (False, "relaxed-simd, threads")
    np.testing.assert_allclose(y, parallel_outputs(parallel_inputs())["y"], rtol=1e-6)


def test_the_fallback_is_told_once(bundle: Bundle) -> None:
    script = f"""
        {GIVEN} {WARNED} {NO_RELAXED}
        for (let i = 0; i < 2; i++) await Session.load(folder);
        const s = await Session.load(folder);
        print([s.backend, s.notes, warnings, (await s.run(given)).y.length]);
    """
    backend, notes, warnings, length = evaluate(bundle.path, script, *relaxed_simd_flags())
    assert (backend, length) == ("simd128", 520)
    assert notes == ["simd128 instead of relaxed-simd, which this engine lacks"]
    assert warnings == [f"edgesparse: {notes[0]}"]


def test_no_simd_is_an_error_not_a_slow_path(bundle: Bundle) -> None:
    action = "async () => { WebAssembly.validate = () => false; await Session.load(folder); }"
    code, message = refused(bundle.path, action)
    assert code == "simd"
    assert message.startswith("this engine has no WebAssembly SIMD: use a browser")


@pytest.mark.parametrize("simd", ["avx2", "relaxed-simd"])
def test_a_build_that_is_not_there(simd: str, tmp_path: Path) -> None:
    plan = parallel_plan()
    write_bundle(plan, WASM, codegen.build_object(plan, WASM), tmp_path / "toy", MODEL_SHA256)
    code, message = refused(tmp_path / "toy", f"() => Session.load(folder, {{ simd: '{simd}' }})")
    assert (code, message) == ("input", f"simd: expected simd128, found {simd}")


def test_a_target_with_relaxed_simd_has_one_build(tmp_path: Path) -> None:
    plan = parallel_plan()
    code = codegen.build_object(plan, WASM_RELAXED)
    made = write_bundle(plan, WASM_RELAXED, code, tmp_path / "toy", MODEL_SHA256)
    assert [build["simd"] for build in made.manifest["builds"]] == ["relaxed-simd"]
    script = "print((await Session.load(folder)).backend);"
    assert evaluate(made.path, script, *relaxed_simd_flags()) == "relaxed-simd"


def test_module_and_weights_are_enough(bundle: Bundle) -> None:
    script = f"""
        {GIVEN}
        const seen = [];
        const [wasm, weights] = [await read("model.wasm"), await read("weights.bin")];
        const onProgress = (progress) => seen.push(progress);
        const s = await Session.load({{ wasm, weights }}, {{ onProgress }});
        const compiled = await Session.load({{ wasm: await WebAssembly.compile(wasm), weights }});
        print([s.name, s.decisions, s.backend, (await s.run(given)).y[0],
               (await compiled.run(given)).y[0], seen]);
    """
    name, decisions, backend, first, second, seen = evaluate(bundle.path, script)
    assert (name, backend) == ("toy", "simd128")
    assert decisions == bundle.manifest["layers"]
    assert first == second == pytest.approx(parallel_outputs(parallel_inputs())["y"][0])
    assert seen == [{"loaded": 128, "total": 128}]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("source", ["folder", "undefined", "contents"])
def test_embedded_weights(embedded: Bundle, source: str, threads: int) -> None:
    assert not (embedded.path / "weights.bin").exists()
    assert embedded.manifest["embedded"]
    if source == "contents":
        source = '{ wasm: await read("model.wasm"), threadsWasm: await read("model.threads.wasm") }'
    script = f"""
        {GIVEN} {WARNED}
        const s = await Session.load({source}, {{ threads: {threads} }});
        print([s.threads, [...(await s.run(given)).y]]);
    """
    count, y = evaluate(embedded.path, script)
    assert count == threads
    np.testing.assert_allclose(y, parallel_outputs(parallel_inputs())["y"], rtol=1e-6)


def test_damaged_embedded_weights(embedded: Bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(embedded.path, tmp_path / "copy"))
    module = copy / "model.wasm"
    module.write_bytes(module.read_bytes()[:-1] + b"\1")
    code, message = refused(copy, "() => Session.load(folder, { simd: 'simd128' })")
    assert code == "weights"
    assert "corrupt" in message


def test_a_manifest_of_another_model(bundle: Bundle) -> None:
    action = """async () => {
        const source = await contents();
        source.manifest.weights_sha256 = "00";
        await Session.load(source);
    }"""
    code, message = refused(bundle.path, action)
    assert (code, message) == ("bundle", "the manifest belongs to another model than the module")


def test_progress_ends_at_the_total(bundle: Bundle) -> None:
    script = """
        const seen = [];
        await Session.load(folder, { simd: "simd128", onProgress: (p) => seen.push(p) });
        print(seen);
    """
    seen = evaluate(bundle.path, script)
    files = bundle.manifest["files"]
    total = files["model.wasm"]["bytes"] + files["weights.bin"]["bytes"]
    assert seen[-1] == {"loaded": total, "total": total}
    assert [p["loaded"] for p in seen] == sorted(p["loaded"] for p in seen)


# A server whose weights take their time, and what was asked of it.
SLOW_SERVER = """
const { createServer } = await import("node:http");
const weights = await read("weights.bin");
let [asked, whenAsked] = [[], () => {}];
const server = createServer(async (request, response) => {
  const name = request.url.slice(1);
  asked.push(name);
  if (!name.startsWith("weights.bin")) return response.end(await read(name));
  response.write(weights.subarray(0, 70), () => setTimeout(whenAsked, 20));
  if (TRUNCATED) response.end(); else setTimeout(() => response.end(weights.subarray(70)), 300);
}).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const at = `http://127.0.0.1:${server.address().port}/`;
"""


@pytest.mark.parametrize("when", ["before", "during", "with a reason"])
def test_an_aborted_load(bundle: Bundle, when: str) -> None:
    reason = "new Error('enough')" if when == "with a reason" else ""
    script = f"""
        const TRUNCATED = false; {SLOW_SERVER}
        const controller = new AbortController();
        const stop = () => controller.abort({reason});
        if ("{when}" === "before") stop(); else whenAsked = stop;
        const {{ signal }} = controller;
        const error = await Session.load(at, {{ signal }}).catch((reason) => reason);
        server.closeAllConnections(); server.close();
        print([error?.name, error?.message, asked.length]);
    """
    name, message, asked = evaluate(bundle.path, script, *relaxed_simd_flags())
    assert (name == "Error" and message == "enough") if "reason" in when else name == "AbortError"
    assert (asked == 0) == (when == "before")


def test_an_abort_after_loading_changes_nothing(bundle: Bundle) -> None:
    script = f"""
        {GIVEN}
        const controller = new AbortController();
        const s = await Session.load(folder, {{ signal: controller.signal }});
        controller.abort();
        print((await s.run(given)).y.length);
    """
    assert evaluate(bundle.path, script) == 520


def test_weights_that_stop_short(bundle: Bundle) -> None:
    action = "() => Session.load(at)"
    script = f"""
        const TRUNCATED = true; {SLOW_SERVER}
        const found = await failure({action});
        server.closeAllConnections(); server.close();
        print(found);
    """
    is_ours, code, message = evaluate(bundle.path, script, *relaxed_simd_flags())
    assert (is_ours, code) == (True, "weights")
    assert message == "opening the weights: expected 128 bytes, found 70"


# node has no cache of its own: this one has what Session uses of a browser's.
CACHE = """
const kept = new Map();
globalThis.caches = { open: async () => ({
  match: async (key) => kept.get(key)?.clone(),
  put: async (key, response) => void kept.set(key, response),
  delete: async (key, { ignoreSearch }) => {
    const path = (url) => (ignoreSearch ? url.split("?")[0] : url);
    [...kept.keys()].filter((url) => path(url) === path(key)).forEach((url) => kept.delete(url));
  },
}) };
const settled = () => new Promise((resolve) => setTimeout(resolve, 20));
"""


def test_weights_are_kept_and_old_ones_thrown_away(bundle: Bundle) -> None:
    script = f"""
        const TRUNCATED = false; {SLOW_SERVER} {CACHE} {GIVEN}
        kept.set(`${{at}}weights.bin?old`, new Response("old"));
        kept.set(`${{at}}other/weights.bin?old`, new Response("another model's"));
        const load = async () => {{
            const y = (await (await Session.load(at)).run(given)).y[0];
            await settled();
            return y;
        }};
        const first = await load();
        const names = [...kept.keys()].map((key) => key.slice(at.length));
        const second = await load();
        const count = () => asked.filter((name) => name === "weights.bin").length;
        const before = count();
        kept.set([...kept.keys()].find((key) => !key.includes("old")), new Response("damaged"));
        const third = await load();
        server.closeAllConnections(); server.close();
        print([names, [first, second, third], before, count()]);
    """
    names, values, before, after = evaluate(bundle.path, script, *relaxed_simd_flags())
    digest = bundle.manifest["weights_sha256"]
    assert sorted(names) == sorted(["other/weights.bin?old", f"weights.bin?{digest}"])
    assert len(set(values)) == 1
    assert (before, after) == (1, 2)


def test_a_damaged_cache_is_as_good_as_none(bundle: Bundle) -> None:
    script = f"""
        const TRUNCATED = false; {SLOW_SERVER} {CACHE} {GIVEN}
        const open = caches.open;
        const match = async () => {{ throw new TypeError("Unexpected internal error"); }};
        caches.open = async () => ({{ ...(await open()), match }});
        const y = (await (await Session.load(at)).run(given)).y[0];
        server.closeAllConnections(); server.close();
        print(y);
    """
    y = evaluate(bundle.path, script, *relaxed_simd_flags())
    assert y == pytest.approx(parallel_outputs(parallel_inputs())["y"][0])


@pytest.mark.parametrize("wrapper", ["dims", "shape"])
def test_a_tensor_around_the_array(bundle: Bundle, wrapper: str) -> None:
    script = f"""
        {GIVEN}
        const s = await Session.load(folder);
        const run = (shape) => s.run({{ x: {{ data: given.x, {wrapper}: shape }} }});
        print([(await run([520])).y.length, await failure(() => run([26, 20]))]);
    """
    length, (is_ours, code, message) = evaluate(bundle.path, script)
    assert (length, is_ours, code) == (520, True, "input")
    assert message.endswith("(shape 520), found shape 26x20")


def test_runs_are_served_in_the_order_of_their_calls(bundle: Bundle) -> None:
    script = """
        const s = await Session.load(folder);
        const order = [];
        const run = async (value) => {
            const { y } = await s.run({ x: new Float32Array(520).fill(value) });
            order.push(value);
            return y[0];
        };
        const values = await Promise.all([3, 1, 2].map(run));
        const last = run(4);
        s.close();
        print([values, order, await last, await failure(() => run(5))]);
    """
    values, order, last, refusal = evaluate(bundle.path, script)
    assert values == [3, 1, 2]
    assert order[:3] == [3, 1, 2]
    assert last == 4
    assert refusal[1] == "closed"


def test_memory_that_is_refused(bundle: Bundle) -> None:
    script = """
        const source = await contents();
        source.manifest.arena_bytes = 2 ** 33;
        const real = await failure(() => Session.load(source));
        const shared = { ...source, threadsWasm: await read("model.threads.wasm") };
        const team = await failure(() => Session.load(shared, { threads: 2 }));
        WebAssembly.Memory.prototype.grow = () => { throw new RangeError("no"); };
        const small = await failure(() => Session.load(folder));
        print([real, team, small]);
    """
    for is_ours, code, message in evaluate(bundle.path, script):
        assert (is_ours, code) == (True, "memory")
        assert message.startswith("the model needs ")


def test_a_thousand_sessions_leave_nothing(bundle: Bundle) -> None:
    script = f"""
        {GIVEN} {WARNED}
        const cycle = async (source) => {{
            const s = await Session.load(source);
            await s.run(given);
            s.close();
        }};
        const resident = () => (gc(), gc(), process.memoryUsage().rss);
        const source = await contents();
        for (let i = 0; i < 200; i++) await cycle(i % 4 ? source : folder);
        const before = resident();
        for (let i = 0; i < 1000; i++) await cycle(i % 4 ? source : folder);
        print((resident() - before) / 2 ** 20);
    """
    assert evaluate(bundle.path, script, "--expose-gc") < 30


def test_two_models_in_one_program(bundle: Bundle, wasm_bundle: Bundle) -> None:
    script = f"""
        {GIVEN} {WARNED}
        const [a, b] = [await Session.load(folder), await Session.load("{wasm_bundle.path}")];
        const [one, two] = await Promise.all([a.run(given), b.run(inputs)]);
        a.close();
        print([one.y.length, two.y[0], (await b.run(inputs)).y[0]]);
    """
    assert evaluate(bundle.path, script) == [520, 0.5, 0.5]


def test_the_types_name_what_there_is(bundle: Bundle) -> None:
    text = (bundle.path / "index.d.mts").read_text().partition("export class Session {")[2]
    declared = re.findall(r"(?m)^  (?:static |readonly )?(\w+)[(:]", text)
    script = """
        const own = (object) => Object.getOwnPropertyNames(object);
        const static_ = own(Session).filter((name) => typeof Session[name] === "function");
        const methods = own(Session.prototype).filter((name) => name !== "constructor");
        print([...static_, ...methods, ...own(await Session.load(folder))]);
    """
    assert sorted(evaluate(bundle.path, script)) == sorted(declared)


def test_a_manifest_has_all_that_its_type_promises(bundle: Bundle) -> None:
    """Of a session of contents, too, whose manifest is what the module says of itself."""
    text = (bundle.path / "index.d.mts").read_text().partition("export interface Manifest {")[2]
    promised = re.findall(r"(?m)^  readonly (\w+):", text.partition("\n}")[0])
    script = """
        const { wasm, weights } = await contents();
        print(Object.keys((await Session.load({ wasm, weights })).manifest));
    """
    assert "weights_sha256" in promised
    assert set(promised) <= set(evaluate(bundle.path, script))
