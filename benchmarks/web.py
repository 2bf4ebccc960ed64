"""WebAssembly in Chromium beside onnxruntime-web and LiteRT.js: latency, cold start, memory, size.

    python benchmarks/web.py                         tables on the screen
    python benchmarks/web.py --json web.jsonl        and one JSON line a measurement
    python benchmarks/web.py --only 90 block4        only the cases with such a name
    python benchmarks/web.py --sizes                 only what pages download, nothing is timed
    python benchmarks/web.py --device browser:/path/to/chromium

Latency is measured by models.py, all engines in turns, one thread each, on one CPU. A cold start is
a new browser and an empty page each time, engines in turns: from the first `import` to the end of
the first run, files served from loopback; and what the pages' processes then hold for themselves
more than before (USS of all renderers). Sizes are what a page downloads, each build of the bundle.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import pathlib
import re
import statistics
import tempfile
from collections.abc import Iterator
from typing import Any

from measuring import Row, build_model, compile_model, parser_of, publish, run_script, say
from peers import PEERS, command_of
from peers.environment import node_modules

import models  # noqa: TID251 - benchmarks/models.py
from edgesparse.bundle import Bundle
from edgesparse.download import PEER, downloads_of, peer_download
from edgesparse.errors import EdgeSparseError
from edgesparse.harness.browser import FILES
from edgesparse.harness.chromium import Chromium
from edgesparse.harness.devices import device_named
from edgesparse.harness.page_server import serving

TARGET = "wasm"
# All scripts gzipped, whatever the model; MobileNetV1's code, each module as it is.
SCRIPTS_GOAL_BYTES, CODE_GOAL_BYTES = 6144, 150_000
ENGINES = ("onnxruntime-web", "litertjs", "litertjs-sparse")
_OPEN = """(async () => {{
  const start = performance.now();
  const runner = await (await import({module})).open({arguments});
  if (runner.ready.error) throw new Error(runner.ready.error);
  const loaded = performance.now();
  const answer = await runner.answer("bench 1");
  if (answer.error) throw new Error(answer.error);
  globalThis.runner = runner;
  return [loaded - start, performance.now() - loaded];
}})()"""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A network, and by how much its bundle should be faster than peers.

    Attributes:
        model: Of the zoo.
        sparsity: Share of zero weights.
        pattern: Of the zeros.
        goals: Peer -> its time over ours.
    """

    model: str
    sparsity: float
    pattern: str
    goals: dict[str, float]

    @property
    def name(self) -> str:
        """For people and for `--only`."""
        return f"{self.model} {round(100 * self.sparsity)} % {self.pattern}"


CASES = (
    Case("mobilenet_v1", 0.9, "unstructured", {"litertjs-sparse": 1.3, "onnxruntime-web": 6.0}),
    Case("mobilenet_v1", 0.3, "unstructured", {"litertjs": 1.3}),
    Case("mobilenet_v1", 0.9, "block4", {"litertjs-sparse": 3.0}),
    Case("mobilenet_v2", 0.85, "unstructured", {"litertjs-sparse": 1.2}),
    Case("resnet_50", 0.9, "unstructured", {"litertjs-sparse": 3.5}),
)


def main() -> None:
    """Measure, print tables, and write JSON lines."""
    options = parse_arguments()
    chosen = [case for case in CASES if all(word in case.name for word in options.only)]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rows = (row for case in chosen for row in measure(folder, case, options))
        publish(rows, format_row, options.json)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = parser_of(__doc__ or "", seconds=5.0)
    parser.add_argument("--device", default="browser", metavar="browser[:PATH]")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="of a case's name")
    parser.add_argument("--sizes", action="store_true", help="sizes only, nothing is timed")
    parser.add_argument("--starts", type=int, default=5, help="cold starts of each engine")
    return parser.parse_args()


def measure(folder: pathlib.Path, case: Case, options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of one network: sizes, then latency, then cold starts."""
    model = build_model(folder, case.model, case.sparsity, case.pattern)
    bundle = compile_model(model, TARGET)
    yield from sizes_of(case, model, bundle)
    if options.sizes:
        return
    wanted = argparse.Namespace(
        model=case.model,
        pattern=case.pattern,
        device=options.device,
        peers=list(ENGINES),
        seconds=options.seconds,
    )
    for row in models.measure(folder, case.sparsity, TARGET, wanted):
        yield {**row, "what": "web", "case": case.name, "goal": case.goals.get(row["peer"])}
    yield from cold_starts(case, model, bundle, options)


def cold_starts(
    case: Case, model: pathlib.Path, bundle: Bundle, options: argparse.Namespace
) -> Iterator[Row]:
    """Yield load, first run and memory of every engine, the medians over starts in turns."""
    say(f"{case.name}: cold starts ...")
    device = device_named(options.device)
    browser = models.browser_of(options.device)
    commands = {models.OURS: device.command(bundle)}
    for name in ENGINES:
        with contextlib.suppress(EdgeSparseError):  # the rows of latency say why it is missing
            peer = PEERS[name]
            commands[name] = command_of(peer, model, bundle.manifest, model.parent, browser)
    starts: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(options.starts):
        for name, command in commands.items():
            with contextlib.redirect_stderr(io.StringIO()):  # engines talk a lot
                starts[name].append(start_once(json.loads(command[-1])))
    for name, measured in starts.items():
        load, first, memory = (list(column) for column in zip(*measured, strict=True))
        yield {
            "what": "web_start",
            "case": case.name,
            "peer": name,
            "load_ms": statistics.median(load),
            "first_ms": statistics.median(first),
            "start_ms": statistics.median(map(sum, zip(load, first, strict=True))),
            "memory_bytes": statistics.median(memory),
            "samples_ms": [sum(pair) for pair in zip(load, first, strict=True)],
        }


def start_once(order: dict[str, Any]) -> tuple[float, float, float]:
    """Return ms of loading, ms of the first run, and bytes that the page's process then holds more.

    Args:
        order: What `edgesparse.harness.browser` is told.
    """
    folders = {prefix: pathlib.Path(folder) for prefix, folder in order["folders"].items()}
    words = ", ".join(map(json.dumps, order["arguments"]))
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(
            stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        )
        browser = stack.enter_context(Chromium(order["executable"], scratch / "profile"))
        served = serving({**folders, FILES: scratch}, FILES, order["policy"], order["head"])
        browser.open_page(f"{stack.enter_context(served)}/")
        before = sum(map(own_bytes, browser.renderer_seconds()))
        script = _OPEN.format(module=json.dumps(order["module"]), arguments=words)
        load, first = browser.evaluate(script)
        return load, first, sum(map(own_bytes, browser.renderer_seconds())) - before


def own_bytes(process: int) -> int:
    """Return the memory that only this process has, USS; 0 where it has just ended."""
    try:
        text = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE)))


def sizes_of(case: Case, model: pathlib.Path, bundle: Bundle) -> Iterator[Row]:
    """Yield what a page downloads: for each of our builds, and for onnxruntime-web."""
    downloads = downloads_of(bundle)
    with contextlib.suppress(EdgeSparseError):
        downloads.append(peer_download(model, node_modules()))
    for download in downloads:
        yield {
            "what": "web_size",
            "case": case.name,
            "peer": PEER if download.title.startswith(PEER) else models.OURS,
            "goals": {} if download.title.startswith(PEER) else size_goals(case),
            **download.to_json(),
        }


def size_goals(case: Case) -> dict[str, int]:
    """Return the most bytes of parts of a download: of scripts gzipped, of code as it is."""
    return {"scripts": SCRIPTS_GOAL_BYTES} | (
        {"code": CODE_GOAL_BYTES} if case.model == "mobilenet_v1" else {}
    )


def format_row(row: Row) -> str:
    """Return one line of the tables."""
    head = f"{row['case']:<32} {row['peer']:<16}"
    if "missing" in row:
        return f"{head} missing: {row['missing']}"
    if row["what"] == "web_start":
        return (
            f"{head} load {row['load_ms']:7.1f} ms + first run {row['first_ms']:7.1f}"
            f" = {row['start_ms']:7.1f} ms, {row['memory_bytes'] / 1e6:6.1f} MB"
        )
    if row["what"] == "web_size":
        return f"{head} {row['title']:<22} {size_line(row)}"
    line = f"{head} {row['ms_median']:8.2f} ms  min {row['ms_min']:8.2f}  {row['ratio']:5.2f}x"
    return line + (f"  (goal {row['goal']:g}x)" if row["goal"] else "")


def size_line(row: Row) -> str:
    """Return the parts of a download in kB, as they are and gzipped, and their goals."""
    parts = []
    for part in ("scripts", "code", "manifest", "weights", "total"):
        size = row[part] or {"raw_bytes": 0, "gzip_bytes": 0}
        text = f"{part} {size['raw_bytes'] / 1e3:.1f} ({size['gzip_bytes'] / 1e3:.1f})"
        goal = row["goals"].get(part)
        parts.append(text + (f" of {goal / 1e3:g}" if goal else ""))
    return "kB (gzipped): " + ", ".join(parts)


if __name__ == "__main__":
    run_script(main)
