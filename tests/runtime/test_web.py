"""index.mjs in node: what it computes and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle.fixtures import require_tool, write_toy
from bundle.toy import toy_inputs, toy_outputs
from web_scripts import evaluate, refused

from edgesparse.bundle import Bundle
from edgesparse.target import WASM_RELAXED

pytestmark = pytest.mark.isa("wasm")


@pytest.fixture
def copied(wasm_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(wasm_bundle.path, tmp_path / "a b#c"))


@pytest.mark.parametrize(
    "source",
    ["", "folder", "pathToFileURL(folder)", "pathToFileURL(folder).href", "await contents()"],
)
def test_load_and_run(copied: Path, source: str) -> None:
    given = toy_inputs()
    script = f"""
        const s = await Session.load({source});
        const x = Float32Array.from({given["x"].ravel().tolist()});
        const out = await s.run({{ x, 1: BigInt64Array.of({int(given["1"])}n) }});
        print([s.name, s.stepCount, Object.keys(out).sort(), [...out.y], Number(out[0][0])]);
    """
    name, steps, names, y, count = evaluate(copied, script)
    expected = toy_outputs(given)
    assert (name, steps, names) == ("toy", 2, ["0", "y"])
    np.testing.assert_allclose(y, expected["y"].ravel(), rtol=1e-6)
    assert count == expected["0"][0]


def test_relative_paths_are_relative_to_the_working_directory(copied: Path) -> None:
    script = 'const s = await Session.load("a b#c"); print(s.name);'
    assert evaluate(copied, script, cwd=copied.parent) == "toy"


def test_a_folder_is_opened_without_nodes_fetch(copied: Path) -> None:
    """The first touch of `Response` loads all of it, eight times as long as opening takes."""
    script = """
        Object.defineProperty(globalThis, "Response", { get() { throw new Error("touched"); } });
        const s = await Session.load(folder);
        print(s.name);
    """
    assert evaluate(copied, script) == "toy"


def test_http(copied: Path) -> None:
    script = """
        const { createServer } = await import("node:http");
        const server = createServer(async (request, response) => {
          try { response.end(await read(request.url.slice("/m/".length))); }
          catch { response.writeHead(404).end(); }
        }).listen(0, "127.0.0.1");
        await new Promise((resolve) => server.once("listening", resolve));
        const at = `http://127.0.0.1:${server.address().port}`;
        const s = await Session.load(`${at}/m`);
        const missing = await failure(() => Session.load(`${at}/m/none/`));
        server.close();
        server.closeAllConnections();
        print([s.name, missing]);
    """
    name, (is_ours, code, message) = evaluate(copied, script)
    assert (name, is_ours, code) == ("toy", True, "bundle")
    assert "HTTP status 404" in message


def test_what_a_session_tells(wasm_bundle: Bundle) -> None:
    script = """
        const s = await Session.load(folder);
        const made = s.createInputs();
        print([s.inputs, s.outputs, s.decisions, s.manifest.schema, made.x.length,
               made[1].constructor.name]);
    """
    inputs, outputs, decisions, schema, length, kind = evaluate(wasm_bundle.path, script)
    assert inputs == wasm_bundle.manifest["inputs"]
    assert outputs == wasm_bundle.manifest["outputs"]
    assert decisions == wasm_bundle.manifest["layers"]
    assert (schema, length, kind) == (1, 6, "BigInt64Array")


def test_steps_and_sessions_are_apart(wasm_bundle: Bundle) -> None:
    script = """
        const [a, b] = [await Session.load(folder), await Session.load(folder)];
        a.setInputs({ ...inputs, x: new Float32Array(6).fill(1) });
        b.setInputs(inputs);
        a.runSteps(0, 1); b.runSteps(0, 1); a.runSteps(1, 2); b.runSteps(1, 2);
        const kept = a.getOutputs().y;
        a.setInputs(inputs); a.runSteps();
        print([kept[0], b.getOutputs().y[0], a.getOutputs().y[0]]);
    """
    assert evaluate(wasm_bundle.path, script) == [2.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{ ...inputs, z: 1 }", "unknown input z"),
        ("{ x: inputs.x }", "input 1: expected a BigInt64Array of 1 elements, found undefined"),
        (
            "{ ...inputs, x: [1, 2, 3, 4, 5, 6] }",
            "expected a Float32Array of 6 elements, found Array",
        ),
        ("{ ...inputs, x: new Float64Array(6) }", "found Float64Array"),
        ("{ ...inputs, x: new Float32Array(5) }", "(shape 2x3), found 5"),
        ("null", "expected an object"),
        ("undefined", "expected an object"),
    ],
)
def test_wrong_inputs_are_refused(wasm_bundle: Bundle, given: str, message: str) -> None:
    action = f"async () => (await Session.load(folder)).run({given})"
    code, found = refused(wasm_bundle.path, action)
    assert code == "input"
    assert message in found


def test_arrays_of_another_realm_are_as_good(wasm_bundle: Bundle) -> None:
    """As those of an iframe, or of the context in which jest runs a test."""
    script = """
        const { runInNewContext } = await import("node:vm");
        const x = runInNewContext("Float32Array.of(1, 2, 3, 4, 5, 6)");
        const given = await contents();
        const weights = runInNewContext(`new ArrayBuffer(${given.weights.length})`);
        new Uint8Array(weights).set(given.weights);
        const s = await Session.load({ ...given, weights });
        const { y } = await s.run({ ...inputs, x });
        const { y: own } = await s.run({ ...inputs, x: new Float32Array(x) });
        print([x instanceof Float32Array, weights instanceof ArrayBuffer, [...y], [...own]]);
    """
    *realms, found, expected = evaluate(wasm_bundle.path, script)
    assert realms == [False, False]
    assert found == expected


def test_steps_outside_the_model_are_refused(wasm_bundle: Bundle) -> None:
    action = "async () => (await Session.load(folder)).runSteps(0, 3)"
    code, found = refused(wasm_bundle.path, action)
    assert (code, found) == ("model", "running the model: the steps are outside the model")


def test_a_closed_session_refuses(wasm_bundle: Bundle) -> None:
    action = "async () => { const s = await Session.load(folder); s.close(); await s.run(inputs); }"
    assert refused(wasm_bundle.path, action) == ("closed", "the session is closed")


@pytest.mark.parametrize(
    ("file", "change", "code", "message"),
    [
        ("weights.bin", lambda d: d[:-1], "weights", "expected 128 bytes, found 127"),
        ("weights.bin", lambda d: b"GGUF" + d[4:], "weights", "not an edgesparse weights file"),
        ("weights.bin", lambda d: d[:30] + b"\0" + d[31:], "weights", "another model"),
        ("weights.bin", lambda d: d[:-1] + b"\1", "weights", "corrupt"),
        ("model.wasm", lambda d: d[:-50], "bundle", "loading model.wasm"),
        ("model.wasm", lambda d: d[:8], "bundle", "not a model that edgesparse compiled"),
        ("manifest.json", lambda d: d[:-9], "bundle", "not JSON"),
        ("manifest.json", lambda d: b"{}", "bundle", "not edgesparse's"),
        ("manifest.json", lambda d: b'{"edgesparse": "9", "schema": 2}', "bundle", "has schema 2"),
    ],
)
def test_damaged_bundles_are_refused(
    copied: Path, file: str, change: Any, code: str, message: str
) -> None:
    (copied / file).write_bytes(change((copied / file).read_bytes()))
    found, text = refused(copied, "() => Session.load(folder)")
    assert found == code
    assert message in text


@pytest.mark.parametrize("source", ["http://", "data:text/plain,1", "blob:http://x/1"])
def test_what_is_no_folder_is_refused(wasm_bundle: Bundle, source: str) -> None:
    code, message = refused(wasm_bundle.path, f"() => Session.load('{source}')")
    assert (code, message) == ("bundle", f"reading {source}: Invalid URL")


def test_missing_pieces_are_refused(wasm_bundle: Bundle, host_bundle: Bundle) -> None:
    action = "async () => Session.load({ ...(await contents()), wasm: undefined })"
    assert "wasm: expected an ArrayBuffer" in refused(wasm_bundle.path, action)[1]
    action = "async () => Session.load({ ...(await contents()), weights: undefined })"
    assert "weights missing" in refused(wasm_bundle.path, action)[1]
    native = json.dumps(host_bundle.manifest)
    action = f"async () => Session.load({{ ...(await contents()), manifest: {native} }})"
    assert "not for WebAssembly" in refused(wasm_bundle.path, action)[1]


def test_corruption_is_found_without_crypto(wasm_bundle: Bundle) -> None:
    script = """
        Object.defineProperty(globalThis, "crypto", { value: undefined });
        const good = await contents();
        const bad = { ...good, weights: Uint8Array.from(good.weights) };
        bad.weights[127] ^= 1;
        const load = (source) => failure(() => Session.load(source));
        print([await load(good), await load(bad)]);
    """
    good, bad = evaluate(wasm_bundle.path, script)
    assert good[2] == "nothing was thrown"
    assert bad[1] == "weights"
    assert "corrupt" in bad[2]


@pytest.mark.parametrize(
    ("feature", "help_text"),
    [
        ("+simd128", "has no WebAssembly SIMD"),
        ("+relaxed-simd", "compile the model with `--target wasm`"),
    ],
)
def test_a_missing_feature_is_named(wasm_bundle: Bundle, feature: str, help_text: str) -> None:
    script = f"""
        WebAssembly.validate = () => false;
        const source = await contents();
        source.manifest.target.features = ["{feature}"];
        print(await failure(() => Session.load(source)));
    """
    is_ours, code, message = evaluate(wasm_bundle.path, script)
    assert (is_ours, code) == (True, "simd")
    assert help_text in message


def test_the_probes_are_valid_where_the_feature_is(tmp_path: Path) -> None:
    node = require_tool("node")
    major = int(subprocess.check_output([node, "--version"], text=True)[1:].split(".")[0])
    flags = ["--experimental-wasm-relaxed-simd"] if major < 22 else []
    bundle = write_toy(WASM_RELAXED, tmp_path / "toy")
    script = "print((await Session.load(folder)).name);"
    assert evaluate(bundle.path, script, *flags) == "toy"
