"""Whole networks against the dense engines a user would pick, side by side in one run.

    python benchmarks/models.py                          table on the screen
    python benchmarks/models.py --json results.jsonl     and one JSON line a measurement
    python benchmarks/models.py --sparsity 0 0.5 0.9 --targets host wasm wasm-relaxed

Every pair is interleaved by the harness's own loop, one thread, pinned to one CPU. `ratio` is the
median over pairs of samples of the peer's time over ours: above 1 the bundle is faster. A peer that
cannot be had is listed as missing.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import edgesparse
from edgesparse.errors import EdgeSparseError
from edgesparse.harness.bench import Limits, bench_sessions, choose_cpu, pinned
from edgesparse.harness.devices import DEVICES, resolve_device
from edgesparse.harness.ort import OrtSession
from edgesparse.harness.session import ProcessSession, Session
from edgesparse.harness.statistics import paired_ratio
from edgesparse.models import zoo

WEB = pathlib.Path(__file__).parent / "web"
INPUTS = [{"name": "input", "shape": [1, 3, 224, 224], "dtype": "float32"}]


def main() -> None:
    """Measure, print a table, and write JSON lines."""
    options = parse_arguments()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for sparsity in options.sparsity:
            model = pathlib.Path(folder) / f"{options.model}_{round(sparsity * 100)}.onnx"
            zoo.build(
                options.model, sparsity=sparsity, pattern=options.pattern, seed=0, output=model
            )
            for target in options.targets:
                for row in measure(model, target, options):
                    rows.append({"model": model.stem, "pattern": options.pattern, **row})
                    print(format_row(rows[-1]), flush=True)
    if options.json:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        options.json.write_text(lines, encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mobilenet_v1")
    parser.add_argument("--pattern", default="unstructured")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.9])
    parser.add_argument("--targets", nargs="+", default=["host", "wasm-relaxed"])
    parser.add_argument("--seconds", type=float, default=5.0, help="of measuring, per engine")
    parser.add_argument("--json", type=pathlib.Path, help="file for JSON lines")
    return parser.parse_args()


def measure(
    model: pathlib.Path, target: str, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yield one row for the bundle and one for its peer."""
    output = model.with_suffix(f".{target}")
    try:
        bundle = edgesparse.compile(model, target=target, output=output)
        device = resolve_device(None, bundle)
        ours = ProcessSession(
            device.command(bundle),
            inputs=bundle.manifest["inputs"],
            outputs=bundle.manifest["outputs"],
            device=device.name,
        )
    except EdgeSparseError as error:
        yield {"peer": "edgesparse", "target": target, "missing": error.message}
        return
    peer_name = "onnxruntime" if target == "host" else "onnxruntime-web"
    try:
        peer, version = open_peer(peer_name, model, bundle.manifest["inputs"])
    except (EdgeSparseError, OSError, subprocess.CalledProcessError) as error:
        yield {"peer": peer_name, "target": target, "missing": str(error)}
        return
    sessions: list[Session] = [ours, peer]
    try:
        with pinned(sessions, choose_cpu()):
            ours_timing, peer_timing = bench_sessions(sessions, Limits(seconds=options.seconds))
    finally:
        for session in sessions:
            session.close()
    common = {"target": target, "device": device.name, "threads": 1}
    ratio = paired_ratio(peer_timing.samples_ms, ours_timing.samples_ms)
    for name, release, timing, factor in (
        ("edgesparse", edgesparse.__version__, ours_timing, ratio),
        (peer_name, version, peer_timing, 1.0),
    ):
        yield {
            "peer": name,
            "version": release,
            **common,
            "ms_median": timing.summary.median_ms,
            "ms_min": timing.summary.min_ms,
            "ratio": factor,
            "samples_ms": timing.samples_ms,
        }


def open_peer(name: str, model: pathlib.Path, inputs: list[Any]) -> tuple[Session, str]:
    """Return a session of the dense engine, and its version."""
    if name == "onnxruntime":
        import onnxruntime

        return OrtSession(model, inputs), onnxruntime.__version__
    install_web_peers()
    package = json.loads((WEB / "node_modules/onnxruntime-web/package.json").read_text())
    session = ProcessSession(
        [shutil.which("node") or "node", str(WEB / "ortweb.mjs"), str(model)],
        inputs=inputs,
        outputs=[],
        device=DEVICES["node"].name,
    )
    return session, package["version"]


def install_web_peers() -> None:
    """Install the npm peers beside this script, once."""
    if not (WEB / "node_modules").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
        subprocess.run(command, cwd=WEB, check=True, stdout=sys.stderr)


def format_row(row: dict[str, Any]) -> str:
    """Return one line of the table."""
    head = f"{row['model']:<20} {row['target']:<13} {row['peer']:<16}"
    if "missing" in row:
        return f"{head} missing: {row['missing']}"
    return f"{head} {row['ms_median']:9.2f} ms  min {row['ms_min']:8.2f}  {row['ratio']:6.2f}x"


if __name__ == "__main__":
    main()
