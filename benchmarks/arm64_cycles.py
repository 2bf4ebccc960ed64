"""Modelled cycles of single pointwise layers on arm64, by a plugin of qemu-aarch64.

    python benchmarks/arm64_cycles.py --plugin PATH
    python benchmarks/arm64_cycles.py --plugin PATH --formats 1x7 1x17 4x6 --densities 0.1 1

The plugin is any TCG plugin that counts what runs between `hint #42` and `hint #43` and prints
`ROI insns=... a55=... a76=...` on stderr. Each layer is compiled for arm64 and linked with a main
that warms it up and then runs its steps alone between the two hints. Figures are cycles for each
useful vector multiply-add: one non-zero weight times four pixels. An A76 needs 0.5 at least, an A55
1.0. They rank kernels; they are modelled, not measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import pathlib
import re
import shutil
import subprocess
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
from measuring import Row, write_rows

from edgesparse import compiler
from edgesparse.bundle import Bundle
from edgesparse.formats import full_pattern, pattern_masks
from edgesparse.passes import select_pattern
from edgesparse.target import Target, resolve_target

LANES = 4
MODELS = {"a76": "modelled (a76-like)", "a55": "modelled (a55-like)"}
SHAPES = ("64-128@56", "128-256@28", "256-512@14", "512-512@14", "512-1024@7")

MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "model.h"
static void *room(size_t bytes) {
  size_t pages = bytes / 4096 + 1;
  void *at = aligned_alloc(4096, pages * 4096);
  char *byte = at;
  for (size_t i = 0; i < pages * 4096; i++) byte[i] = 0;
  return at;
}
int main(int argc, char **argv) {
  if (argc != 4) return 1;
  const es_model *model = NAME_model();
  int first = atoi(argv[2]), last = atoi(argv[3]);
  void *weights = room(model->weights_bytes), *arena = room(model->arena_bytes);
  FILE *file = fopen(argv[1], "rb");
  if (!file || fread(weights, 1, model->weights_bytes, file) != model->weights_bytes) return 1;
  const void *inputs[] = {room(model->inputs[0].bytes)};
  void *outputs[] = {room(model->outputs[0].bytes)};
  int bad = es_run(model, weights, arena, inputs, outputs);
  bad |= es_run_steps(model, weights, arena, inputs, outputs, first, last);
  asm volatile("hint #42" ::: "memory");
  bad |= es_run_steps(model, weights, arena, inputs, outputs, first, last);
  asm volatile("hint #43" ::: "memory");
  return bad;
}
"""


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
    if not shutil.which("qemu-aarch64"):
        sys.exit("error: qemu-aarch64 is missing\nhint: apt-get install qemu-user")
    target = resolve_target("arm64")
    if options.cpu:
        target = dataclasses.replace(target, cpu=options.cpu)
    print(f"cycles per useful vector multiply-add, {' / '.join(MODELS.values())}")
    rows = []
    for case in cases(options):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(count(pathlib.Path(folder), case, target, options.plugin))
        print(format_row(rows[-1]), flush=True)
    write_rows(options.json, rows)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plugin", type=pathlib.Path, required=True, help="TCG plugin, a .so file")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(BY_NAME))
    parser.add_argument("--densities", type=float, nargs="+", default=[0.1, 0.3, 0.5, 1.0])
    parser.add_argument(
        "--patterns", nargs="+", default=["unstructured", "block4"], choices=list(PATTERNS)
    )
    parser.add_argument(
        "--formats", nargs="+", help="rows x vectors of a tile; the compiler's choice by default"
    )
    parser.add_argument("--cpu", help="generate code for this core instead of the target's")
    parser.add_argument("--json", type=pathlib.Path, help="file for JSON lines")
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


def count(folder: pathlib.Path, case: Case, target: Target, plugin: pathlib.Path) -> Row:
    """Return the figures of one layer."""
    weight = random_weight(case.shape, case.density, case.pattern)
    bundle = build_bundle(folder, case, weight, target)
    layer = linear_layer(bundle.manifest["layers"])
    counters = run(link(folder, bundle), bundle, layer["steps"], plugin)
    useful = np.count_nonzero(weight) * case.shape.pixels / LANES
    return {
        "what": "arm64_cycles",
        "shape": str(case.shape),
        "pattern": case.pattern,
        "density": case.density,
        "format": layer["decision"]["format"],
        "code_for": target.cpu,
        **{label: counters[model] / useful for model, label in MODELS.items()},
        "instructions": counters["insns"] / useful,
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
    patterns = sorted(masks) if len(masks) <= select_pattern.MAX_PATTERNS else full_pattern(group)
    (node,) = (node for node in model.graph if node.op_type == "Conv")
    decision: dict[str, Any] = select_pattern.decide(node, target) | {
        "format": f"{group}x{vectors * LANES}, {len(patterns)} patterns",
        "group": group,
        "patterns": list(patterns),
        "tile": vectors,
        "k_blocks": 1,
    }
    node.metadata_props[select_pattern.DECISION_KEY] = json.dumps(decision)


def link(folder: pathlib.Path, bundle: Bundle) -> pathlib.Path:
    """Link the bundle with a main and return the program."""
    source, program = folder / "main.c", folder / "program"
    source.write_text(MAIN.replace("NAME", bundle.name), encoding="utf-8")
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static", "-O1"]
    files = [f"-I{bundle.path}", str(source), str(bundle.path / "libmodel.a"), "-o", str(program)]
    subprocess.run([*zig, *files], check=True)
    return program


def run(
    program: pathlib.Path, bundle: Bundle, steps: list[int], plugin: pathlib.Path
) -> dict[str, int]:
    """Return the plugin's counters of the layer's steps."""
    arguments = [str(bundle.path / "weights.bin"), *map(str, steps)]
    command = ["qemu-aarch64", "-plugin", str(plugin.absolute()), str(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^ROI .*", done.stderr, re.MULTILINE)
    if done.returncode or not found:
        sys.exit(f"error: {plugin}: expected a line `ROI insns=...`, found\n{done.stderr}")
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", found[0])}


def format_row(row: Row) -> str:
    """Return one line of the table."""
    head = f"{row['shape']:<11} {row['pattern']:<13} {row['density']:<5}"
    figures = "  ".join(f"{row[label]:6.3f} {label}" for label in MODELS.values())
    return f"{head} {figures}  {row['instructions']:5.2f} instructions  {row['format']}"


if __name__ == "__main__":
    main()
