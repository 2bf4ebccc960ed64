"""What does not depend on the weights: opening, the first run, memory, and the size of a bundle.

    python benchmarks/fixed_cost.py
    python benchmarks/fixed_cost.py --targets host

A 1x1 convolution of one pixel is opened, run for the first time, and run again, beside a dense
engine; the runs after the first take turns in one loop. Peak memory is the resident set of a
process that opens a model and runs it twenty times. The bundle's size (code and weights) is held
against the dense ONNX file of the same network.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from layers import Shape, random_weight, save_layer
from measuring import (
    Row,
    build_model,
    closing,
    compile_model,
    open_bundle,
    parser_of,
    publish,
    run_script,
    take_turns,
)
from peers import PEERS, command_of, open_peer

import edgesparse
from edgesparse.bundle import Bundle
from edgesparse.errors import DeviceError, EdgeSparseError
from edgesparse.harness.devices import resolve_device
from edgesparse.harness.results import shipped_bytes
from edgesparse.harness.session import Session

DENSE_PEER = {"host": "onnxruntime", "wasm": "onnxruntime-web", "wasm-relaxed": "onnxruntime-web"}
RSS_RUNS = 20
_KIB = 1024


def main() -> None:
    """Measure, print a table, and write JSON lines."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        rows = (
            {"what": "fixed_cost", "target": target, **row}
            for target in options.targets
            for row in measure(pathlib.Path(folder), target, options)
        )
        publish(rows, format_row, options.json)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = parser_of(__doc__ or "", seconds=0.5)
    parser.add_argument("--model", default="mobilenet_v1")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument(
        "--targets", nargs="+", default=["host", "wasm-relaxed"], choices=list(DENSE_PEER)
    )
    return parser.parse_args()


def measure(folder: pathlib.Path, target: str, options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of the one-pixel layer, then those of a whole network."""
    shape = Shape(1, 1, 1)
    model = save_layer(folder / "one_pixel.onnx", shape, random_weight(shape, 1.0, "unstructured"))
    bundle = compile_model(model, target)
    yield from latencies(model, bundle, folder, options.seconds)
    network = build_model(folder, options.model, options.sparsity)
    dense = build_model(folder, options.model, 0.0)
    sparse_bundle = compile_model(network, target)
    yield from memory(network, sparse_bundle, folder)
    yield {"model": network.stem, "peer": "edgesparse", **size(sparse_bundle, dense)}


def latencies(
    model: pathlib.Path, bundle: Bundle, folder: pathlib.Path, seconds: float
) -> Iterator[Row]:
    """Yield open, first run and run of the bundle and its dense peer, and their peak memory."""
    target = bundle.manifest["target"]["name"]
    peer = DENSE_PEER[target]
    sessions: dict[str, Session] = {}
    versions = {"edgesparse": edgesparse.__version__}
    with closing(sessions):
        sessions["edgesparse"] = open_bundle(bundle)
        try:
            sessions[peer], versions[peer] = open_peer(peer, model, bundle.manifest, folder)
        except EdgeSparseError as error:
            yield {"model": model.stem, "peer": peer, "missing": error.message}
        timings = take_turns(sessions, seconds)
        for name, timing in timings.items():
            yield {
                "model": model.stem,
                "peer": name,
                "version": versions[name],
                "open_ms": sessions[name].ready["open_ms"],
                "first_ms": timing.first_ms,
                "ms_median": timing.summary.median_ms,
                "ms_min": timing.summary.min_ms,
                "samples_ms": timing.samples_ms,
            }
    yield from memory(model, bundle, folder)


def memory(model: pathlib.Path, bundle: Bundle, folder: pathlib.Path) -> Iterator[Row]:
    """Yield the peak resident set of the bundle's runner and of its dense peer."""
    peer = DENSE_PEER[bundle.manifest["target"]["name"]]
    runner = resolve_device(None, bundle).command(bundle)
    yield {
        "model": model.stem,
        "peer": "edgesparse",
        "peak_rss_bytes": peak_rss_bytes(runner),
        "arena_bytes": bundle.manifest["arena_bytes"],
    }
    try:
        command = command_of(PEERS[peer], model, bundle.manifest, folder)
        yield {"model": model.stem, "peer": peer, "peak_rss_bytes": peak_rss_bytes(command)}
    except EdgeSparseError as error:
        yield {"model": model.stem, "peer": peer, "missing": error.message}


def peak_rss_bytes(command: Sequence[str]) -> int:
    """Return the peak resident set of a runner that opens its model and runs it a few times.

    Raises:
        DeviceError: The runner failed.
    """
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=quiet, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"bench {RSS_RUNS}\n")
        process.stdin.flush()
        answers = [process.stdout.readline() for _ in ("ready", "bench")]
        if "samples_ns" not in answers[-1]:
            raise DeviceError(f"{command[0]} answered {answers[-1].strip()[:200]!r}")
        return high_water_bytes(pathlib.Path(f"/proc/{process.pid}/status").read_text())


def high_water_bytes(status: str) -> int:
    """Return the peak resident set from the text of /proc/PID/status.

    What `wait4` tells is no use: it counts the parent's pages between fork and exec.
    """
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * _KIB


def size(bundle: Bundle, dense_model: pathlib.Path) -> Row:
    """Return the bytes that an application ships, and what they are of the dense ONNX file."""
    shipped, dense = shipped_bytes(bundle), dense_model.stat().st_size
    return {"shipped_bytes": shipped, "onnx_bytes": dense, "of_onnx": shipped / dense}


def format_row(row: Row) -> str:
    """Return one line of the table."""
    head = f"{row['target']:<13} {row['model']:<30} {row['peer']:<16}"
    if "missing" in row:
        return f"{head} missing: {row['missing']}"
    if "open_ms" in row:
        return (
            f"{head} open {row['open_ms']:.2f} ms, first run {row['first_ms'] * 1e3:.1f} us,"
            f" run {row['ms_median'] * 1e3:.2f} us"
        )
    if "peak_rss_bytes" in row:
        return f"{head} peak memory {row['peak_rss_bytes'] / 1e6:.1f} MB"
    return f"{head} ships {row['shipped_bytes'] / 1e6:.2f} MB, {row['of_onnx']:.3f} of dense ONNX"


if __name__ == "__main__":
    run_script(main)
