"""A bundle as an npm package: packed, installed, imported, typed, built by Vite and webpack.

Needs npm and its registry.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from bundle.fixtures import require_tool
from web_scripts import write_parallel

from edgesparse import download
from edgesparse.harness.browser import find_chromium
from edgesparse.harness.chromium import Chromium
from edgesparse.harness.page_server import POLICY, serving

pytestmark = pytest.mark.slow
in_chromium = pytest.mark.isa("browser")

MAIN = """
import { Session } from "toy";
const session = await Session.load(undefined, { threads: 2 });
const { y } = await session.run({ x: new Float32Array(520).fill(1) });
globalThis.result = [session.backend, y[0]];
"""
IMPORTED = """
const warnings = [];
console.warn = (text) => warnings.push(text);
const { Session, ModelError } = await import("toy");
const s = await Session.load(undefined, { threads: 2 });
const { y } = await s.run({ x: new Float32Array(520).fill(1) });
s.close();
console.log(JSON.stringify([s.backend, y[0], ModelError.name, warnings.length]));
"""
TYPES = """
import { ModelError, Session, type Layer, type TensorData } from "toy";
const { signal } = new AbortController();
const session: Session = await Session.load("x", { threads: 2, simd: "simd128", signal,
  onProgress: ({ loaded, total }) => console.log(loaded / total) });
const layers: readonly Layer[] = session.decisions;
const { y }: Record<string, TensorData> = await session.run({ x: new Float32Array(520) });
await session.run({ x: { data: new Float32Array(520), dims: [520] } });
session.run({ x: session.planes(new ImageData(2, 2), { mean: 0.5, std: [1, 1, 1] }) });
const why: readonly string[] = [session.backend, ...session.notes];
await Session.load({ wasm: new ArrayBuffer(1), weights: new Uint8Array(1) });
await Session.load(new URL("https://example.org/model/"));
if (y instanceof ModelError) throw y;
// @ts-expect-error
await Session.load("x", { threads: "two" });
// @ts-expect-error
await Session.load("x", { simd: "avx2" });
// @ts-expect-error
await session.run({ x: [1, 2] });
// @ts-expect-error
new Session();
"""
BUILDS = {
    "vite": ["vite", "build", "--target", "esnext", "--outDir", "out"],
    "webpack": ["webpack", "--mode", "production", "--entry", "./main.js", "-o", "out"],
}
PAGES = {
    "vite": '<!doctype html><script type="module" src="/main.js"></script>',
    "webpack": '<!doctype html><script src="main.js"></script>',
}


INSTALL = ("install", "--no-audit", "--no-fund", "--silent")


def npm(folder: Path, *words: str) -> None:
    """Run npm, or skip the test where it has no registry."""
    try:
        command = [require_tool("npm"), *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("npm has no registry in reach")
    if done.returncode:
        pytest.skip(f"npm cannot {words[0]}: {done.stderr[-300:]}")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the bundle is an installed package, and so are the tools."""
    folder = tmp_path_factory.mktemp("project")
    write_parallel(folder / "toy")
    npm(folder / "toy", "pack", "--pack-destination", str(folder))
    shutil.rmtree(folder / "toy")
    (folder / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    npm(folder, *INSTALL, "./toy-1.0.0.tgz")
    npm(folder, *INSTALL, "vite@8", "webpack@5", "webpack-cli@6", "typescript@5")
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
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            text = browser.evaluate("JSON.stringify(globalThis.result ?? null)")
            if text != "null":
                return json.loads(text)
            time.sleep(0.05)
    return None


@in_chromium
@pytest.mark.parametrize("tool", BUILDS)
def test_a_build_runs_on_threads(project: Path, tmp_path: Path, tool: str) -> None:
    shutil.rmtree(project / "out", ignore_errors=True)
    (project / "index.html").write_text(PAGES[tool])
    build(project, *BUILDS[tool])
    if tool == "webpack":
        shutil.copy(project / "index.html", project / "out")
    assert result_of(project / "out", tmp_path / "profile") == ["relaxed-simd, threads", 1]


@pytest.mark.parametrize("source", ["toy", "./node_modules/toy/index.mjs", "toy/src"])
def test_the_types_are_strict(project: Path, source: str) -> None:
    (project / "types.ts").write_text(TYPES.replace('"toy"', f'"{source}"'))
    modules = ["--module", "nodenext", "--target", "esnext", "--lib", "esnext,dom"]
    build(project, "tsc", "--strict", "--noEmit", *modules, "types.ts")


def test_what_a_page_loads_is_made_again(tmp_path: Path) -> None:
    """Byte for byte: nobody edited it."""
    root = Path(__file__).parents[2]
    npm(tmp_path, "view", "terser", "version")  # or skip
    command = ["sh", root / "runtime/minify.sh", tmp_path / "min"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for path in (root / "runtime/web/min").iterdir():
        assert (tmp_path / "min" / path.name).read_bytes() == path.read_bytes(), "run `make web`"


def test_the_published_sizes_of_the_peer(tmp_path: Path) -> None:
    """Gzipped ones to a percent: versions of zlib differ."""
    package = f"{download.PEER}@{download.PUBLISHED_VERSION}"
    (tmp_path / "package.json").write_text('{"private": true}')
    npm(tmp_path, *INSTALL, "--ignore-scripts", package)
    found, told = download.peer_download(None, tmp_path / "node_modules"), download.PUBLISHED
    assert found.title == told.title
    for one, other in ((found.scripts, told.scripts), (found.code, told.code)):
        assert one.raw_bytes == other.raw_bytes
        assert one.gzip_bytes == pytest.approx(other.gzip_bytes, rel=0.01)


def run_script(project: Path, package: str, *command: str) -> list[object]:
    (project / "imported.mjs").write_text(IMPORTED.replace("toy", package))
    done = subprocess.run(
        [*command, "imported.mjs"], cwd=project, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answer: list[object] = json.loads(done.stdout)
    return answer


def test_an_installed_package_is_imported_by_node(project: Path) -> None:
    backend, value, error, _ = run_script(project, "toy", require_tool("node"))
    assert (str(backend).endswith("threads"), value, error) == (True, 1, "ModelError")


def test_an_installed_package_is_imported_by_deno(project: Path) -> None:
    npm(project, *INSTALL, "--no-save", "deno@2")
    deno = str(project / "node_modules/.bin/deno")
    command = [deno, "run", "--allow-all", "--no-config"]
    path = "./node_modules/toy/index.mjs"
    backend, value, error, _ = run_script(project, path, *command)
    assert (backend, value, error) == ("relaxed-simd, threads", 1, "ModelError")
