"""Whole networks against the engines a user would pick, side by side in one run.

    python benchmarks/models.py                          table on the screen
    python benchmarks/models.py --json results.jsonl     and one JSON line a measurement
    python benchmarks/models.py --sparsity 0 0.5 0.9 --targets host wasm wasm-relaxed
    python benchmarks/models.py --peers onnxruntime deepsparse mnn-sparse
    python benchmarks/models.py --targets wasm-relaxed --device browser     in Chromium, not in node

The bundle, our own dense bundle of the same network and all peers take turns in the harness's own
loop, one thread each, pinned to one CPU, and are opened several times, since a process keeps its
luck as long as it lives; one whose samples are still of two speeds is marked. `ratio` is the median
over pairs of samples of an engine's time over the bundle's: above 1 the bundle is faster.
`efficiency` is how much of the skipped work becomes time: (best dense engine's time / this one's) /
(dense multiply-adds / remaining ones). `error` is the largest difference from onnxruntime over
onnxruntime's largest value. Peers are installed on first use into the user's cache; one that cannot
be had is listed as missing.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import pathlib
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from measuring import (
    Row,
    build_model,
    closing,
    compile_model,
    is_unsteady,
    open_bundle,
    parser_of,
    publish,
    run_script,
    say,
    take_turns,
)
from peers import PEERS, open_peer, peers_for

import edgesparse
from edgesparse.bundle import Bundle
from edgesparse.errors import EdgeSparseError
from edgesparse.harness.bench import Timing
from edgesparse.harness.browser import find_chromium
from edgesparse.harness.ort import OrtSession, random_array
from edgesparse.harness.profile import profile_layers
from edgesparse.harness.results import shipped_bytes
from edgesparse.harness.session import ProcessSession
from edgesparse.harness.statistics import paired_ratio

OURS, OURS_DENSE = "edgesparse", "edgesparse-dense"
# The time of a wrong answer is no figure: an engine that is further off is listed as missing. Above
# rounding, Winograd's too: MNN's dense ResNet-50 is 1.2e-3 off with it and 7e-6 without.
MAX_ERROR = 1e-2


@dataclasses.dataclass(slots=True)
class Field:
    """All engines of one run.

    Attributes:
        sessions: The opened ones.
        versions: Their versions.
        missing: Peers that could not be had, or are wrong -> why.
        errors: How far each is from onnxruntime.
        layers: Of ours, their times.
        device: Where WebAssembly runs, if not where it does by default.
    """

    sessions: dict[str, ProcessSession] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    errors: dict[str, float] = dataclasses.field(default_factory=dict)
    layers: dict[str, list[Row]] = dataclasses.field(default_factory=dict)
    device: str | None = None


def main() -> None:
    """Measure, print a table, and write JSON lines."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        cells = itertools.product(options.sparsity, options.targets)
        rows = (row for cell in cells for row in measure(folder, *cell, options))
        publish(rows, format_row, options.json)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = parser_of(__doc__ or "", seconds=5.0)
    parser.add_argument("--model", default="mobilenet_v1")
    parser.add_argument("--pattern", default="unstructured")
    parser.add_argument(
        "--launches",
        type=int,
        choices=range(1, 21),
        default=3,
        metavar="N",
        help="open every engine so many times, which share --seconds; 3 by default",
    )
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.9])
    parser.add_argument("--targets", nargs="+", default=["host", "wasm-relaxed"])
    parser.add_argument(
        "--device",
        metavar="browser[:PATH]",
        help="where WebAssembly runs, the peers' too; node by default",
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=sorted(PEERS),
        metavar="PEER",
        help=f"by default all that run beside the target: {', '.join(PEERS)}",
    )
    return parser.parse_args()


def measure(
    folder: pathlib.Path, sparsity: float, target: str, options: argparse.Namespace
) -> Iterator[Row]:
    """Yield a row for the bundle, for our own dense one, and for each peer."""
    say(f"{options.model}, {sparsity:.0%} zeros, {target}: building and compiling ...")
    model = build_model(folder, options.model, sparsity, options.pattern)
    device = options.device if target.startswith("wasm") else None
    common = {
        "what": "models",
        "model": options.model,
        "sparsity": sparsity,
        "pattern": options.pattern,
        "target": f"{target}-chromium" if browser_of(device) else target,
    }
    try:
        bundle = compile_model(model, target)
        dense = compile_model(build_model(folder, options.model, 0.0), target)
    except EdgeSparseError as error:
        yield {**common, "peer": OURS, "missing": error.message}
        return
    wanted = peers_for(target) if options.peers is None else options.peers
    field, launches = Field(device=device), list[Mapping[str, Timing]]()
    for left in reversed(range(options.launches)):
        peers = [n for n in wanted if n in peers_for(target) and n not in field.missing]
        with closing(field.sessions):
            open_field(field, bundle, dense, model, peers)
            launches.append(take_turns(field.sessions, options.seconds / options.launches))
            if not left:
                look_closer(field, bundle, dense, model)
        field.sessions.clear()
    right = joined(launches, field.missing)
    for row in rows_of(right, macs_left(bundle)) if OURS in right else ():
        name = row["peer"]
        facts: Row = {"version": field.versions[name], "error": field.errors.get(name)}
        if name in field.layers:
            facts["layers"] = field.layers[name]
        yield {**common, **row, **facts, **sizes_of(name, bundle, dense)}
    for name, reason in field.missing.items():
        yield {**common, "peer": name, "missing": reason}


def look_closer(field: Field, bundle: Bundle, dense: Bundle, model: pathlib.Path) -> None:
    """Compare the answers of all engines, and profile ours."""
    field.errors = errors_of(field, model, bundle)
    for name, error in field.errors.items():
        if not error < MAX_ERROR:
            field.missing[name] = f"wrong answer, error {error:.0e}"
    for name, ours in ((OURS, bundle), (OURS_DENSE, dense)):
        if name in field.sessions:
            field.layers[name] = profile_of(field.sessions[name], ours)


def joined(launches: Sequence[Mapping[str, Timing]], missing: Container[str]) -> dict[str, Timing]:
    """Return the timing over all launches of every engine that is not missing."""
    names = (name for name in launches[-1] if name not in missing)
    return {name: Timing.joined([launch[name] for launch in launches]) for name in names}


def open_field(
    field: Field, bundle: Bundle, dense: Bundle, model: pathlib.Path, peers: list[str]
) -> None:
    """Open the bundle, our dense one and every peer that can be had."""
    field.sessions[OURS] = open_bundle(bundle, field.device)
    if dense.path != bundle.path:
        field.sessions[OURS_DENSE] = open_bundle(dense, field.device)
    field.versions.update(dict.fromkeys(field.sessions, edgesparse.__version__))
    for name in peers:
        enter_peer(field, name, bundle, model)


def enter_peer(field: Field, name: str, bundle: Bundle, model: pathlib.Path) -> None:
    """Open a peer, or note why it is missing."""
    try:
        browser = browser_of(field.device)
        opened = open_peer(name, model, bundle.manifest, model.parent, browser)
        field.sessions[name], field.versions[name] = opened
    except EdgeSparseError as error:
        field.missing[name] = error.message


def browser_of(device: str | None) -> str | None:
    """Return the path of the browser that a device names, None where it names none."""
    kind, _, path = (device or "").partition(":")
    return (path or find_chromium()) if kind == "browser" else None


def errors_of(field: Field, model: pathlib.Path, bundle: Bundle) -> dict[str, float]:
    """Return each engine's largest difference from onnxruntime, relative to its largest value.

    Our dense bundle is of other weights, so it is left out.
    """
    inputs = bundle.manifest["inputs"]
    sample = {t["name"]: random_array(np.random.default_rng(1), t, 1) for t in inputs}
    expected = OrtSession(model, inputs).run(sample)
    errors = {}
    for name, session in field.sessions.items():
        if name != OURS_DENSE:
            with contextlib.suppress(EdgeSparseError):
                errors[name] = relative_error(session.run(sample), expected)
    return errors


def relative_error(found: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """Return the largest difference over the largest expected magnitude, over all outputs."""
    return max(
        float(np.abs(found[name] - value).max() / np.abs(value).max())
        for name, value in expected.items()
    )


def macs_left(bundle: Bundle) -> float:
    """Return the share of multiply-adds that the zeros leave, over the whole network."""
    layers = bundle.manifest["layers"]
    left: int = sum(layer["nonzero_macs"] for layer in layers)
    dense: int = sum(layer["macs"] for layer in layers)
    return left / dense


def is_dense(name: str) -> bool:
    """Whether an engine multiplies by every zero."""
    return name == OURS_DENSE or (name in PEERS and PEERS[name].is_dense)


def rows_of(timings: Mapping[str, Timing], left: float) -> Iterator[Row]:
    """Yield the figures of every engine.

    Args:
        timings: Engine -> what was measured; `edgesparse` is the one the others are held against.
        left: Share of multiply-adds that the zeros leave.
    """
    medians = {name: timing.summary.median_ms for name, timing in timings.items()}
    dense = [median for name, median in medians.items() if is_dense(name)] or [medians[OURS]]
    for name, timing in timings.items():
        yield {
            "peer": name,
            "is_dense": is_dense(name),
            "ms_median": medians[name],
            "ms_min": timing.summary.min_ms,
            "first_ms": timing.first_ms,
            "ratio": paired_ratio(timing.samples_ms, timings[OURS].samples_ms),
            "efficiency": None if is_dense(name) else min(dense) / medians[name] * left,
            "macs_left": left,
            "is_unsteady": is_unsteady(timing.samples_ms),
            "samples_ms": timing.samples_ms,
        }


def profile_of(session: ProcessSession, bundle: Bundle) -> list[Row]:
    """Return the time of every layer of a warm bundle."""
    return [
        dataclasses.asdict(layer) for layer in profile_layers(session, bundle.manifest["layers"])
    ]


def sizes_of(name: str, bundle: Bundle, dense: Bundle) -> Row:
    """Return what of ours is shipped and how much memory it asks for."""
    chosen = {OURS: bundle, OURS_DENSE: dense}.get(name)
    if chosen is None:
        return {}
    return {
        "arena_bytes": chosen.manifest["arena_bytes"],
        "shipped_bytes": shipped_bytes(chosen),
    }


def format_row(row: Row) -> str:
    """Return one line of the table."""
    model = f"{row['model']} {row['sparsity']:.0%} {row['pattern']}"
    head = f"{model:<32} {row['target']:<13} {row['peer']:<16}"
    if "missing" in row:
        return f"{head} missing: {row['missing']}"
    line = f"{head} {row['ms_median']:9.2f} ms  min {row['ms_min']:8.2f}  {row['ratio']:6.2f}x"
    line += " unsteady" if row["is_unsteady"] else ""
    if row["efficiency"] is not None:
        line += f"  efficiency {row['efficiency']:4.0%}"
    return line if row["error"] is None else f"{line}  error {row['error']:.0e}"


if __name__ == "__main__":
    run_script(main)
