"""A bundle in what Vite and webpack build, on threads, in Chromium. Needs npm and its registry."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from bundle.fixtures import MODEL_SHA256, require_tool
from bundle.parallel import parallel_plan

from edgesparse import codegen
from edgesparse.bundle import write_bundle
from edgesparse.harness.browser import find_chromium
from edgesparse.harness.chromium import Chromium
from edgesparse.harness.page_server import POLICY, serving
from edgesparse.target import WASM

pytestmark = [pytest.mark.slow, pytest.mark.isa("browser")]

MAIN = """
import { Session } from "toy";
const session = await Session.load(undefined, { threads: 2 });
const { y } = await session.run({ x: new Float32Array(520).fill(1) });
globalThis.result = [session.backend, y[0]];
"""
TYPES = """
import { Session, type Layer } from "toy";
const session: Session = await Session.load("x", { threads: 2 });
const layers: readonly Layer[] = session.decisions;
// @ts-expect-error
await Session.load("x", { threads: "two" });
"""
BUILDS = {
    "vite": ["vite", "build", "--target", "esnext", "--outDir", "out"],
    "webpack": ["webpack", "--mode", "production", "--entry", "./main.js", "-o", "out"],
}
PAGES = {
    "vite": '<!doctype html><script type="module" src="/main.js"></script>',
    "webpack": '<!doctype html><script src="main.js"></script>',
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the bundle is an installed package, and so are the tools."""
    npm = require_tool("npm")
    folder = tmp_path_factory.mktemp("project")
    plan = parallel_plan()
    write_bundle(plan, WASM, codegen.build_object(plan, WASM), folder / "toy", MODEL_SHA256)
    (folder / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    install = [npm, "install", "--no-audit", "--no-fund", "--silent", "--install-links", "./toy"]
    try:
        done = subprocess.run(
            [*install, "vite@8", "webpack@5", "webpack-cli@6", "typescript@5"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm has no registry in reach")
    if done.returncode:
        pytest.skip(f"npm cannot install: {done.stderr[-300:]}")
    shutil.rmtree(folder / "toy")
    (folder / "main.js").write_text(MAIN)
    (folder / "types.ts").write_text(TYPES)
    return folder


def build(project: Path, *words: str) -> None:
    tool = project / "node_modules/.bin" / words[0]
    done = subprocess.run([tool, *words[1:]], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def result_of(folder: Path, profile: Path) -> object:
    executable = find_chromium()
    assert executable
    policy = f"{POLICY}; connect-src 'self' data:"  # Vite writes small files into its script
    with Chromium(executable, profile) as browser, serving({"/": folder}, policy=policy) as url:
        browser.open_page(f"{url}/index.html")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            text = browser.evaluate("JSON.stringify(globalThis.result ?? null)")
            if text != "null":
                return json.loads(text)
            time.sleep(0.05)
    return None


@pytest.mark.parametrize("tool", BUILDS)
def test_a_build_runs_on_threads(project: Path, tmp_path: Path, tool: str) -> None:
    shutil.rmtree(project / "out", ignore_errors=True)
    (project / "index.html").write_text(PAGES[tool])
    build(project, *BUILDS[tool])
    if tool == "webpack":
        shutil.copy(project / "index.html", project / "out")
    assert result_of(project / "out", tmp_path / "profile") == ["simd128, threads", 1]


def test_the_types_are_strict(project: Path) -> None:
    modules = ["--module", "nodenext", "--target", "esnext", "--lib", "esnext,dom"]
    build(project, "tsc", "--strict", "--noEmit", *modules, "types.ts")
