"""Modelled cycles of single pointwise layers on arm64 cores, executed under qemu-aarch64.

    python benchmarks/arm64_cycles.py
    python benchmarks/arm64_cycles.py --target arm64-a55
    python benchmarks/arm64_cycles.py --formats 1x7 1x17 4x6 --densities 0.1 1

Each layer is compiled, and a simulator (`edgesparse bench --model`) watches its second run. Figures
are cycles for each useful vector multiply-add: one non-zero weight times four pixels. An A76 needs
0.5 at least, an A55 1.0. They rank kernels; they are modelled, not measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from layers import (
    BY_NAME,
    PATTERNS,
    Matrix,
    Shape,
    linear_layer,
    random_weight,
    save_layer,
)
from measuring import Row, add_json_option, run_script, write_rows

from edgesparse import compiler
from edgesparse.bundle import Bundle
from edgesparse.formats import full_pattern, pattern_masks
from edgesparse.harness.modelled import CORES, model_bundle
from edgesparse.passes import candidates, select_pattern
from edgesparse.target import Target, resolve_target

SHAPES = ("64-128@56", "128-256@28", "256-512@14", "512-512@14", "512-1024@7")


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One layer: its shape, its non-zero weights, and its format where that is prescribed.

    Attributes:
        shape: A pointwise convolution.
        density: Fraction of blocks that are not zero.
        pattern: Name in `layers.PATTERNS`.
        form: (rows of a group, vectors of a tile), or None to let the compiler choose.
    """

    shape: Shape
    density: float
    pattern: str
    form: tuple[int, int] | None


def main() -> None:
    """Compile, count, print a table, and write JSON lines."""
    options = parse_arguments()
    target = resolve_target(options.target)
    if options.cpu:
        target = dataclasses.replace(target, cpu=options.cpu)
    labels = " / ".join(core.label for core in CORES.values())
    print(f"cycles per useful vector multiply-add, {labels}")
    rows = []
    for case in cases(options):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(count(pathlib.Path(folder), case, target))
        print(format_row(rows[-1]), flush=True)
    write_rows(options.json, rows)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="arm64", choices=("arm64", "arm64-a55"))
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(BY_NAME))
    parser.add_argument("--densities", type=float, nargs="+", default=[0.1, 0.3, 0.5, 1.0])
    parser.add_argument(
        "--patterns", nargs="+", default=["unstructured", "block4"], choices=list(PATTERNS)
    )
    parser.add_argument(
        "--formats", nargs="+", help="rows x vectors of a tile; the compiler's choice by default"
    )
    parser.add_argument("--cpu", help="generate code for this core instead of the target's")
    add_json_option(parser)
    return parser.parse_args()


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield every combination once; dense ones have no pattern."""
    forms = [parse_form(text) for text in options.formats] if options.formats else [None]
    combined = itertools.product(options.shapes, options.patterns, options.densities, forms)
    for name, pattern, density, form in combined:
        if density < 1 or pattern == options.patterns[0]:
            yield Case(BY_NAME[name], density, pattern, form)


def parse_form(text: str) -> tuple[int, int]:
    """Return (group, vectors) of e.g. `4x6`."""
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found:
        sys.exit(f"error: --formats: expected ROWSxVECTORS, found {text!r}\nhint: e.g. `4x6`")
    return int(found[1]), int(found[2])


def count(folder: pathlib.Path, case: Case, target: Target) -> Row:
    """Return the figures of one layer."""
    weight = random_weight(case.shape, case.density, case.pattern)
    bundle = build_bundle(folder, case, weight, target)
    name = linear_layer(bundle.manifest["layers"])["name"]
    layer = next(layer for layer in model_bundle(bundle).layers if layer.name == name)
    return {
        "what": "arm64_cycles",
        "shape": str(case.shape),
        "pattern": case.pattern,
        "density": case.density,
        "format": layer.format,
        "target": target.name,
        "code_for": target.cpu,
        **{core.label: layer.counters.cycles[core.name] / layer.useful for core in CORES.values()},
        "instructions": layer.counters.instructions / layer.useful,
    }


def build_bundle(folder: pathlib.Path, case: Case, weight: Matrix, target: Target) -> Bundle:
    """Compile the layer, in the case's format if it has one."""
    model = save_layer(folder / "layer.onnx", case.shape, weight)
    prepared = compiler.prepare(model, target)
    if case.form:
        prescribe(prepared, weight, case.form, target)
    finished = compiler.finish(prepared, target)
    return compiler.build(finished, target, folder / "bundle", "layer", "0" * 64)


def prescribe(model: ir.Model, weight: Matrix, form: tuple[int, int], target: Target) -> None:
    """Write a decision on the model's only convolution: the masks that occur, if they are few."""
    group, vectors = form
    masks = set(np.unique(pattern_masks(weight, group)).tolist()) - {0}
    patterns = sorted(masks) if len(masks) <= candidates.MAX_PATTERNS else full_pattern(group)
    (node,) = (node for node in model.graph if node.op_type == "Conv")
    decision: dict[str, Any] = select_pattern.decide(node, target) | {
        "format": f"{group}x{vectors * target.lanes}, {len(patterns)} patterns",
        "group": group,
        "patterns": list(patterns),
        "tile": vectors,
        "k_blocks": 1,
        "panel": target.core.in_order,
        "lone": False,
    }
    node.metadata_props[select_pattern.DECISION_KEY] = json.dumps(decision)


def format_row(row: Row) -> str:
    """Return one line of the table."""
    head = f"{row['shape']:<11} {row['pattern']:<13} {row['density']:<5}"
    figures = "  ".join(f"{row[core.label]:6.3f} {core.label}" for core in CORES.values())
    return f"{head} {figures}  {row['instructions']:5.2f} instructions  {row['format']}"


if __name__ == "__main__":
    run_script(main)
