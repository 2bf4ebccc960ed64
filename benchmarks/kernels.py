"""Single pointwise layers: useful GFLOP/s and percent of the measured peak.

    python benchmarks/kernels.py
    python benchmarks/kernels.py --target wasm-relaxed --densities 0.1 1 --shapes 512-512@14

The nine pointwise shapes of MobileNetV1, at densities from 0.05 to 1, with zeros unstructured and
in blocks of 2 and 4 output channels. Useful work is two operations for each non-zero weight and
pixel. All cases of a shape take turns with the peak kernel, a loop of multiply-adds in registers
that is compiled for the same runtime (`peak/peak.c`); percentages are of the minima. The bandwidth
of the second-level cache is measured likewise. `intensity` is useful operations over the bytes that
must move at least once: weights that are not zero, inputs, outputs.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from layers import (
    BY_NAME,
    PATTERNS,
    LayerSession,
    Shape,
    linear_layer,
    random_weight,
    save_layer,
)
from measuring import (
    Row,
    closing,
    compile_model,
    open_bundle,
    parser_of,
    publish,
    run_script,
    take_turns,
)
from peak import open_loads, open_peak

from edgesparse.harness.bench import Timing
from edgesparse.harness.session import Session

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
PEAK, LOADS = "peak", "loads"


def main() -> None:
    """Measure, print a table, and write JSON lines."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        rows = (
            row
            for target in options.target
            for name in options.shapes
            for row in measure(pathlib.Path(folder), BY_NAME[name], target, options)
        )
        publish(rows, format_row, options.json)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = parser_of(__doc__ or "", seconds=0.3)
    parser.add_argument("--target", nargs="+", default=["host"])
    parser.add_argument("--shapes", nargs="+", default=list(BY_NAME), choices=list(BY_NAME))
    parser.add_argument("--densities", type=float, nargs="+", default=list(DENSITIES))
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS), choices=list(PATTERNS))
    return parser.parse_args()


def measure(
    folder: pathlib.Path, shape: Shape, target: str, options: argparse.Namespace
) -> Iterator[Row]:
    """Yield a row for every density and pattern of a shape; all density-1 patterns are one case."""
    sessions: dict[str, Session] = {}
    cases: dict[str, Row] = {}
    with closing(sessions):
        sessions[PEAK], peak_flops = open_peak(target, folder)
        sessions[LOADS], load_bytes = open_loads(target, folder)
        for density in options.densities:
            for pattern in options.patterns if density < 1 else ["unstructured"]:
                key = f"{shape}_{density}_{pattern}"
                sessions[key], layer = open_layer(folder / key, shape, density, pattern, target)
                cases[key] = {
                    "what": "kernels",
                    "peer": "edgesparse",
                    "target": target,
                    "shape": str(shape),
                    "density": density,
                    "pattern": pattern,
                    "format": layer["decision"]["format"],
                    "macs": layer["nonzero_macs"],
                    "intensity": intensity(shape, layer["nonzero_macs"]),
                }
        timings = take_turns(sessions, options.seconds)
    peak = peak_flops / timings[PEAK].summary.min_ms / 1e6
    bandwidth = load_bytes / timings[LOADS].summary.min_ms / 1e6
    for key, case in cases.items():
        yield {**case, **figures(timings[key], case["macs"], peak), "l2_gb_per_s": bandwidth}


def intensity(shape: Shape, macs: int) -> float:
    """Return operations per byte: non-zero weights, inputs and outputs, each moved once."""
    weights = macs / shape.pixels
    return 2 * macs / (4 * (weights + shape.pixels * (shape.cols + shape.rows)))


def open_layer(
    stem: pathlib.Path, shape: Shape, density: float, pattern: str, target: str
) -> tuple[LayerSession, Mapping[str, Any]]:
    """Return a session of one compiled layer, and the manifest's words about it."""
    model = save_layer(
        stem.with_name(f"{stem.name}.onnx"), shape, random_weight(shape, density, pattern)
    )
    bundle = compile_model(model, target)
    layers = bundle.manifest["layers"]
    return LayerSession(open_bundle(bundle), layers), linear_layer(layers)


def figures(timing: Timing, macs: int, peak_gflops: float) -> Row:
    """Return the figures of one case.

    Args:
        timing: Of the layer alone.
        macs: Multiply-adds with weights that are not zero.
        peak_gflops: Of the runtime, measured in the same run.
    """
    summary = timing.summary
    gflops = 2 * macs / summary.min_ms / 1e6
    return {
        "ms_median": summary.median_ms,
        "ms_min": summary.min_ms,
        "gflops": gflops,
        "peak_gflops": peak_gflops,
        "of_peak": gflops / peak_gflops,
        "samples_ms": timing.samples_ms,
    }


def format_row(row: Row) -> str:
    """Return one line of the table."""
    return (
        f"{row['target']:<13} {row['shape']:<14} {row['density']:<5} {row['pattern']:<13}"
        f" {1e3 * row['ms_min']:9.1f} us  {row['gflops']:7.1f} GFLOP/s"
        f"  {row['of_peak']:5.0%} of {row['peak_gflops']:.0f}  {row['format']}"
    )


if __name__ == "__main__":
    run_script(main)
