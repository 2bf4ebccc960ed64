"""What goes wrong with a session in a real browser, and what does not: index.mjs in Chromium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bundle.fixtures import write_toy
from web_scripts import GIVEN, write_parallel

from edgesparse.bundle import Bundle
from edgesparse.download import downloads_of
from edgesparse.harness.browser import find_chromium
from edgesparse.harness.chromium import Chromium
from edgesparse.harness.page_server import POLICY, serving
from edgesparse.target import WASM

pytestmark = pytest.mark.isa("browser")

PRELUDE = f"""
const {{ Session, ModelError }} = await import("/toy/index.mjs");
const read = async (name, folder = "/toy/") => (await fetch(folder + name)).arrayBuffer();
const failure = async (action) => {{
  try {{ await action(); }} catch (error) {{
    return [error instanceof ModelError, error.code ?? error.name, error.message];
  }}
  return [false, "", "nothing was thrown"];
}};
{GIVEN}
"""
Evaluate = Callable[[str], Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles, and some that were damaged."""
    folder = tmp_path_factory.mktemp("site")
    bundle = write_parallel(folder / "toy")
    write_parallel(folder / "embedded", embed=True)
    write_toy(WASM, folder / "other")
    weights = (bundle.path / "weights.bin").read_bytes()
    damages = {
        "truncated": weights[:-1],
        "longer": weights + b"\0",
        "corrupt": weights[:-1] + bytes([weights[-1] ^ 1]),
        "swapped": (folder / "other/weights.bin").read_bytes(),
        "foreign": b"GGUF" + weights[4:],
    }
    for name, data in damages.items():
        shutil.copytree(bundle.path, folder / name)
        (folder / name / "weights.bin").write_bytes(data)
    shutil.copytree(bundle.path, folder / "module")
    module = folder / "module/model.relaxed.wasm"
    module.write_bytes(module.read_bytes()[:-50])
    (folder / "worker.mjs").write_text(WORKER)
    return folder


WORKER = """
import { Session } from "/toy/index.mjs";
addEventListener("message", async ({ data: { given, threads } }) => {
  const s = await Session.load("/toy/", { threads });
  const { y } = await s.run(given);
  s.close();
  postMessage([s.backend, y.length, y[0]]);
});
"""


@pytest.fixture(scope="module")
def url(site: Path, browser: Chromium) -> Iterator[str]:
    with serving({"/": site}, policy=POLICY) as address:
        yield address


@pytest.fixture
def evaluate(browser: Chromium, url: str) -> Evaluate:
    """Run a script in a new page; what it returns is returned."""
    browser.open_page(f"{url}/")
    browser.said.clear()

    def run(script: str) -> Any:
        body = f"(async () => {{ {PRELUDE}\n{script} }})().then(JSON.stringify)"
        return json.loads(browser.evaluate(body, timeout_seconds=120))

    return run


def test_a_page_takes_the_place_of_the_one_before(evaluate: Evaluate, browser: Chromium) -> None:
    for _ in range(3):
        browser.open_page("about:blank")
    targets = browser._send("Target.getTargets", of_page=False)["targetInfos"]
    assert [target["type"] for target in targets].count("page") == 1


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("folder", ["/toy/", "/embedded/"])
def test_it_runs_under_a_strict_policy(
    evaluate: Evaluate, browser: Chromium, folder: str, threads: int
) -> None:
    script = f"""
        const seen = [];
        const onProgress = (progress) => seen.push(progress);
        const s = await Session.load("{folder}", {{ threads: {threads}, onProgress }});
        const {{ y }} = await s.run(given);
        s.close();
        return [s.backend, s.notes, y.length, seen.at(-1), crossOriginIsolated];
    """
    backend, notes, length, last, isolated = evaluate(script)
    assert backend == ("relaxed-simd" if threads == 1 else "relaxed-simd, threads")
    assert (notes, length, isolated) == ([], 520, True)
    assert last["loaded"] == last["total"] > 0
    assert browser.said == []


@pytest.mark.parametrize(
    ("folder", "code", "message"),
    [
        ("truncated", "weights", "expected 128 bytes, found 127"),
        ("longer", "weights", "expected 128 bytes, found 129 or more"),
        ("corrupt", "weights", "the weights are corrupt"),
        ("swapped", "weights", "another model"),
        ("foreign", "weights", "not an edgesparse weights file"),
        ("module", "bundle", "loading model.relaxed.wasm"),
        ("none", "bundle", "HTTP status 404"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_damaged_bundles(
    evaluate: Evaluate, folder: str, code: str, message: str, threads: int
) -> None:
    if (folder, threads) == ("module", 2):
        pytest.skip("the damaged module is the one for one thread")
    options = json.dumps({"threads": threads})
    found = evaluate(f'return failure(() => Session.load("/{folder}/", {options}));')
    assert found[:2] == [True, code]
    assert message in found[2]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("{ x: new Float32Array(519) }", "(shape 520), found 519"),
        ("{ x: new Float64Array(520) }", "expected a Float32Array of 520 elements"),
        ("{ x: { data: given.x, dims: [5, 104] } }", "found shape 5x104"),
        ("{ z: given.x }", "unknown input z"),
    ],
)
def test_wrong_inputs(evaluate: Evaluate, inputs: str, message: str) -> None:
    script = f"""
        const s = await Session.load("/toy/");
        const found = await failure(() => s.run({inputs}));
        return [found, (await s.run(given)).y.length];
    """
    (is_ours, code, text), length = evaluate(script)
    assert (is_ours, code, length) == (True, "input", 520)
    assert message in text


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_that_is_refused(evaluate: Evaluate, threads: int) -> None:
    """No browser has 8 GiB for a 32-bit module: its own refusal is what is seen."""
    script = f"""
        const manifest = JSON.parse(new TextDecoder().decode(await read("manifest.json")));
        manifest.arena_bytes = 2 ** 33;
        const [wasm, threadsWasm, weights] = await Promise.all(
          ["model.wasm", "model.threads.wasm", "weights.bin"].map((name) => read(name)));
        const source = {{ wasm, threadsWasm, weights, manifest }};
        return failure(() => Session.load(source, {{ threads: {threads} }}));
    """
    is_ours, code, message = evaluate(script)
    assert (is_ours, code) == (True, "memory")
    assert message.startswith("the model needs 8590")


def test_an_aborted_load(evaluate: Evaluate) -> None:
    script = """
        const controller = new AbortController();
        const loading = failure(() => Session.load("/toy/", { signal: controller.signal }));
        controller.abort();
        const reason = failure(() => Session.load("/toy/", { signal: AbortSignal.abort("no") }));
        const s = await Session.load("/toy/");
        return [await loading, await reason.catch(String), (await s.run(given)).y.length];
    """
    aborted, _, length = evaluate(script)
    assert aborted[1] == 20 or aborted[1] == "AbortError"  # a DOMException's code
    assert length == 520


def test_a_closed_session(evaluate: Evaluate) -> None:
    script = """
        const s = await Session.load("/toy/", { threads: 2 });
        const late = s.run(given);
        s.close(); s.close();
        return [(await late).y.length, await failure(() => s.run(given))];
    """
    assert evaluate(script) == [520, [True, "closed", "the session is closed"]]


def test_two_models_in_one_page(evaluate: Evaluate) -> None:
    script = """
        const [a, b] = [await Session.load("/toy/", { threads: 2 }), await Session.load("/other/")];
        const other = { x: new Float32Array(6), 1: new BigInt64Array(1) };
        const [one, two] = await Promise.all([a.run(given), b.run(other)]);
        a.close();
        return [one.y.length, two.y[0], (await b.run(other)).y[0], a.name, b.backend];
    """
    assert evaluate(script) == [520, 0.5, 0.5, "toy", "simd128"]


def test_a_worker_that_dies_in_a_run(evaluate: Evaluate) -> None:
    """It is started with pointers to nowhere, so its share of the first run traps."""
    script = """
        const post = Worker.prototype.postMessage;
        Worker.prototype.postMessage = function (order) {
          return post.call(this, { ...order, model: order.model.map(() => 0) });
        };
        const s = await Session.load("/toy/", { threads: 2 });
        return [await failure(() => s.run(given)), await failure(() => s.run(given))];
    """
    first, second = evaluate(script)
    assert first[:2] == [True, "threads"]
    assert "a worker has failed" in first[2]
    assert second[1] == "closed"


def test_a_worker_that_cannot_start(evaluate: Evaluate) -> None:
    script = """
        const post = Worker.prototype.postMessage;
        Worker.prototype.postMessage = function (order) {
          return post.call(this, { ...order, module: null });
        };
        return failure(() => Session.load("/toy/", { threads: 2 }));
    """
    is_ours, code, message = evaluate(script)
    assert (is_ours, code) == (True, "threads")
    assert message.startswith("starting a worker: WebAssembly.instantiate")


def test_a_worker_that_was_killed(evaluate: Evaluate) -> None:
    """Nothing tells a page so; the time it waits for an answer is made to pass quickly."""
    script = """
        const workers = [];
        const post = Worker.prototype.postMessage;
        Worker.prototype.postMessage = function (order) {
          workers.push(this);
          post.call(this, order);
        };
        const s = await Session.load("/toy/", { threads: 3 });
        const { y } = await s.run(given);
        workers[1].terminate();
        let now = 0;
        let found = [false];
        for (let tries = 0; tries < 100 && !found[0]; tries++) {  // until it is really gone
          await new Promise((resolve) => setTimeout(resolve, 100));
          performance.now = () => (now += 50);
          found = await failure(() => s.run(given));
          delete performance.now;
        }
        const again = await Session.load("/toy/", { threads: 3 });
        return [y.length, found, (await again.run(given)).y.length];
    """
    before, (is_ours, code, message), after = evaluate(script)
    assert (before, after) == (520, 520)
    assert (is_ours, code) == (True, "threads")
    assert "does not answer" in message


@pytest.mark.parametrize("threads", [1, 2])
def test_a_session_in_a_worker(evaluate: Evaluate, threads: int) -> None:
    script = f"""
        const worker = new Worker("/worker.mjs", {{ type: "module" }});
        const answer = new Promise((resolve, reject) => {{
          worker.onmessage = ({{ data }}) => resolve(data);
          worker.onerror = ({{ message }}) => reject(new Error(message));
        }});
        worker.postMessage({{ given, threads: {threads} }});
        const s = await Session.load("/toy/");
        return [await answer, (await s.run(given)).y[0]];
    """
    (backend, length, value), expected = evaluate(script)
    assert backend.startswith("relaxed-simd")
    assert backend.endswith(", threads") == (threads == 2)
    assert (length, value) == (520, pytest.approx(expected, rel=1e-6))


def test_weights_are_kept_by_the_browser(evaluate: Evaluate, site: Path) -> None:
    script = """
        await caches.delete("edgesparse");
        const load = async () => (await (await Session.load("/toy/")).run(given)).y[0];
        const cache = await caches.open("edgesparse");
        await cache.put("/toy/weights.bin?old", new Response("of an older version"));
        await cache.put("/other/weights.bin?old", new Response("of another model"));
        const first = await load();
        const urls = async () => (await cache.keys()).map(({ url }) => url);
        const isNew = (url) => !url.includes("old");
        while (!(await urls()).some(isNew)) await new Promise((done) => setTimeout(done, 10));
        const [url, other, ...more] = (await urls()).sort((a, b) => isNew(b) - isNew(a));
        const asked = [];
        const before = fetch;
        globalThis.fetch = (what, ...rest) => (asked.push(String(what)), before(what, ...rest));
        const second = await load();
        const kept = asked.filter((what) => what.includes("weights")).length;
        await cache.put(url, new Response("damaged"));
        const third = await load();
        const mended = asked.filter((what) => what.includes("weights")).length;
        return [url, other, more, first, second, third, kept, mended];
    """
    url, other, more, first, second, third, kept, mended = evaluate(script)
    digest = Bundle(site / "toy").manifest["weights_sha256"]
    assert url.endswith(f"/toy/weights.bin?{digest}")
    assert (other.partition("/other")[2], more) == ("/weights.bin?old", [])
    assert first == second == third
    assert (kept, mended) == (0, 1)


def test_a_thousand_sessions_leave_nothing(evaluate: Evaluate, browser: Chromium) -> None:
    def resident() -> float:
        status = Path(f"/proc/{process}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in status if line.startswith("VmRSS"))) / 1024

    cycles = """
        const wasm = await WebAssembly.compile(await read("model.relaxed.wasm"));
        const source = { wasm, weights: await read("weights.bin") };
        for (let i = 0; i < COUNT; i++) {
          const s = await Session.load(i % 4 ? source : "/toy/");
          await s.run(given);
          s.close();
        }
        return COUNT;
    """
    evaluate(cycles.replace("COUNT", "100"))
    process = browser.page_process()
    browser.collect_garbage()
    before = resident()
    assert evaluate(cycles.replace("COUNT", "1000")) == 1000
    browser.collect_garbage()
    assert resident() - before < 40  # MiB


def test_a_page_that_is_not_isolated(site: Path, tmp_path: Path) -> None:
    executable = find_chromium()
    assert executable
    with (
        Chromium(executable, tmp_path / "p") as browser,
        serving({"/": site}, is_isolated=False) as address,
    ):
        browser.open_page(f"{address}/")
        script = f"""(async () => {{ {PRELUDE}
            await Session.load("/toy/", {{ threads: 2 }});
            const s = await Session.load("/toy/", {{ threads: 2 }});
            return JSON.stringify([s.backend, s.notes, (await s.run(given)).y.length]);
        }})()"""
        backend, notes, length = json.loads(browser.evaluate(script))
    assert (backend, length) == ("relaxed-simd", 520)
    assert len(notes) == 1
    assert "Cross-Origin-Embedder-Policy: require-corp" in notes[0]
    assert browser.said == [f"edgesparse: {notes[0]}"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_page_downloads_what_is_told(site: Path, tmp_path: Path, threads: int) -> None:
    executable = find_chromium()
    assert executable
    count = 3 + threads  # the worker's script is one more
    with Chromium(executable, tmp_path / "p") as browser, serving({"/": site}) as address:
        browser.open_page(f"{address}/")
        script = f"""(async () => {{
            const {{ Session }} = await import("/toy/index.mjs");
            const {{ backend }} = await Session.load(undefined, {{ threads: {threads} }});
            let sizes = [];
            // An entry comes when the file is whole, maybe after what was read of it.
            for (let i = 0; i < 100 && new Map(sizes).size < {count}; i++) {{
              await new Promise((done) => setTimeout(done, 50));
              const entries = performance.getEntriesByType("resource");
              sizes = entries.map((entry) => [entry.name, entry.decodedBodySize]);
              sizes = sizes.filter(([name]) => name.includes("/toy/"));
            }}
            return JSON.stringify([backend, sizes]);
        }})()"""
        backend, sizes = json.loads(browser.evaluate(script))
    (told,) = (row for row in downloads_of(Bundle(site / "toy")) if row.title == backend)
    assert len(dict(sizes)) == count
    assert sum(dict(sizes).values()) == told.total.raw_bytes
