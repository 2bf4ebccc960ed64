"""Our bundle over our own dense bundle, from 0 to 95 % zeros.

    python benchmarks/curve.py
    python benchmarks/curve.py --targets wasm-relaxed --sparsity 0 0.1 0.5 --model mobilenet_v2

All bundles of a target take turns in one run. `speedup` is the median over pairs of samples of the
dense bundle's time over this one's, `interval` where it lies with 99 % confidence: it should never
be below 1.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from measuring import Row, build_model, compile_model, parser_of, publish, run_script, say

from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import resolve_device
from edgesparse.harness.measure import measure

SPARSITIES = (0.0, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95)


def main() -> None:
    """Measure, print the curve, and write JSON lines."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rows = (row for target in options.targets for row in curve(folder, target, options))
        publish(rows, format_row, options.json)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = parser_of(__doc__ or "", seconds=2.0)
    parser.add_argument("--model", default="mobilenet_v1")
    parser.add_argument("--pattern", default="unstructured")
    parser.add_argument("--sparsity", type=float, nargs="+", default=list(SPARSITIES))
    parser.add_argument("--targets", nargs="+", default=["host", "wasm-relaxed"])
    return parser.parse_args()


def curve(folder: pathlib.Path, target: str, options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for every sparsity; the dense bundle is always among them."""
    bundles = []
    for sparsity in sorted({0.0, *options.sparsity}):
        say(f"{options.model}, {sparsity:.0%} zeros, {target}: building and compiling ...")
        model = build_model(folder, options.model, sparsity, options.pattern)
        bundles.append((f"{sparsity}", compile_model(model, target)))
    device = resolve_device(None, bundles[0][1])
    document = measure(bundles, device, limits=Limits(seconds=options.seconds))
    for result in document["results"]:
        yield {
            "what": "curve",
            "peer": "edgesparse",
            "model": options.model,
            "pattern": options.pattern,
            "target": target,
            **point(result),
        }


def point(result: dict[str, Any]) -> Row:
    """Return one point of the curve from a result of the harness's document."""
    return {
        "sparsity": float(result["bundle"]),
        "ms_median": result["median_ms"],
        "ms_min": result["min_ms"],
        "speedup": result["over_first"],
        "interval": result["over_first_interval"],
        "shipped_bytes": result["shipped_bytes"],
        "samples_ms": result["samples_ms"],
    }


def is_slower(row: Row) -> bool:
    """Return whether a bundle is slower than the dense one beyond the noise."""
    return bool(row["interval"][1] < 1)


def format_row(row: Row) -> str:
    """Return one line of the table, with a bar: one mark is a tenth of the dense time."""
    bar = "#" * round(10 / row["speedup"])
    slower = "  slower than dense" if is_slower(row) else ""
    return (
        f"{row['model']:<14} {row['target']:<13} {row['sparsity']:4.0%} zeros"
        f" {row['ms_median']:9.2f} ms  {row['speedup']:5.2f}x  {bar}{slower}"
    )


if __name__ == "__main__":
    run_script(main)
