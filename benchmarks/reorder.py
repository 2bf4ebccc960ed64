"""What reordering channels and choosing formats are worth, case by case.

    python benchmarks/reorder.py
    python benchmarks/reorder.py --cases digits resnet_18_90 --targets wasm-relaxed

Every model is compiled three times: as it is, with `--no-reorder`, and with `--no-reorder
--no-select`. The three take turns in one run. `gain` is the time without reordering over the time
with it, and should never be below 1 by more than the noise; `choice` is the time without choosing
formats either over the time without reordering. `seconds` is what the pass takes to compile.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
import onnx
from measuring import Row, build_model, parser_of, publish, run_script, say
from onnx import numpy_helper

import edgesparse
from edgesparse import compiler
from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import resolve_device
from edgesparse.harness.measure import measure
from edgesparse.harness.statistics import paired_ratio
from edgesparse.models import zoo
from edgesparse.report import reordering
from edgesparse.target import resolve_target

Maker = Callable[[pathlib.Path], pathlib.Path]

# The first two bundles are compared for `gain`, the last two for `choice`.
CONTROLS: dict[str, dict[str, bool]] = {
    "reordered": {},
    "no-reorder": {"reorder": False},
    "no-select": {"reorder": False, "select": False},
}


def unstructured(name: str, sparsity: float) -> Maker:
    """Return a maker of a zoo network whose weights are random, and pruned by magnitude."""
    return lambda folder: build_model(folder, name, sparsity)


def blocks(name: str, sparsity: float, *, scattered: bool) -> Maker:
    """Return a maker of a network pruned in blocks of four rows, neighbours or scattered."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        path = build_model(folder, name, sparsity, "block4")
        return scatter_rows(path) if scattered else path

    return make


def n_of_m(name: str, n: int, m: int) -> Maker:
    """Return a maker of a network with n weights left in every m neighbouring input channels."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        model = onnx.load(build_model(folder, name, 0.0))
        for weight in model.graph.initializer:
            array = numpy_helper.to_array(weight).copy()
            if array.ndim == 4 and array.shape[1] % m == 0:
                runs = array.reshape(array.shape[0], -1, m, *array.shape[2:])
                rank = np.abs(runs).argsort(axis=2).argsort(axis=2)
                runs[rank < m - n] = 0
                weight.CopyFrom(numpy_helper.from_array(array, weight.name))
        path = folder / f"{name}_{n}_{m}.onnx"
        onnx.save(model, path)
        return path

    return make


def scatter_rows(path: pathlib.Path) -> pathlib.Path:
    """Write a network whose rows stand in a random order, away from the rest of their block."""
    rng = np.random.default_rng(0)
    model = onnx.load(path)
    for weight in model.graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.ndim == 4 and array.shape[1] > 3:
            rows = array[rng.permutation(len(array))]
            weight.CopyFrom(numpy_helper.from_array(rows, weight.name))
    scattered = path.with_stem(f"{path.stem}_scattered")
    onnx.save(model, scattered)
    return scattered


CASES: dict[str, Maker] = {
    "digits": lambda folder: zoo.path("digits_mobilenet_v1"),
    "mobilenet_v1_75": unstructured("mobilenet_v1", 0.75),
    "mobilenet_v1_90": unstructured("mobilenet_v1", 0.9),
    "mobilenet_v2_85": unstructured("mobilenet_v2", 0.85),
    "resnet_18_75": unstructured("resnet_18", 0.75),
    "resnet_50_90": unstructured("resnet_50", 0.9),
    "mobilenet_v1_block4_75": blocks("mobilenet_v1", 0.75, scattered=False),
    "mobilenet_v1_block4_75_scattered": blocks("mobilenet_v1", 0.75, scattered=True),
    "mobilenet_v2_block4_75_scattered": blocks("mobilenet_v2", 0.75, scattered=True),
    "resnet_18_block4_90_scattered": blocks("resnet_18", 0.9, scattered=True),
    "mobilenet_v1_2_4": n_of_m("mobilenet_v1", 2, 4),
    "mobilenet_v1_1_4": n_of_m("mobilenet_v1", 1, 4),
}


def main() -> None:
    """Measure, print a line a case, and write JSON lines."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        models = ((case, CASES[case](folder)) for case in options.cases)
        rows = (
            measure_case(folder, *model, target, options.seconds)
            for model in models
            for target in options.targets
        )
        publish(rows, format_row, options.json)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = parser_of(__doc__ or "", seconds=2.0)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--targets", nargs="+", default=["host", "wasm-relaxed"])
    return parser.parse_args()


def measure_case(
    folder: pathlib.Path, case: str, path: pathlib.Path, target: str, seconds: float
) -> Row:
    """Return the row of one model on one target."""
    say(f"{case}, {target}: compiling ...")
    bundles = []
    for control, arguments in CONTROLS.items():
        output = folder / f"{case}.{target}.{control}"
        bundle = edgesparse.compile(path, target=target, output=output, tuned=False, **arguments)
        bundles.append((control, bundle))
    device = resolve_device(None, bundles[0][1])
    document = measure(bundles, device, limits=Limits(seconds=seconds))
    results = {result["bundle"]: result for result in document["results"]}
    samples = {control: results[control]["samples_ms"] for control in CONTROLS}
    medians = {
        control: paired_ratio(samples[control], samples["reordered"]) for control in CONTROLS
    }
    moved = reordering(dict(bundles)["reordered"].manifest["layers"]) or {}
    return {
        "what": "reorder",
        "model": case,
        "target": target,
        "ms_median": {control: results[control]["median_ms"] for control in CONTROLS},
        "gain": medians["no-reorder"],
        "choice": medians["no-select"] / medians["no-reorder"],
        "layers_reordered": moved.get("layers", 0),
        **{key: value for key, value in moved.items() if key != "layers"},
        "seconds": pass_seconds(path, target),
    }


def pass_seconds(path: pathlib.Path, target: str) -> float:
    """Return what reordering adds to the time of optimising the graph."""
    taken = []
    for reorder in (False, True):
        start = time.perf_counter()
        compiler.prepare(path, resolve_target(target), reorder=reorder)
        taken.append(time.perf_counter() - start)
    return taken[1] - taken[0]


def format_row(row: Row) -> str:
    """Return one line of the table."""
    times = row["ms_median"]
    loads = ""
    if row["layers_reordered"]:
        loads = (
            f"  columns {row['union_columns_after'] / row['union_columns_before']:.2f}x"
            f"  predicted {row['predicted_us_before'] / row['predicted_us_after']:.2f}x"
        )
    return (
        f"{row['model']:<33} {row['target']:<13} {times['no-select']:8.3f} ->"
        f" {times['no-reorder']:8.3f} -> {times['reordered']:8.3f} ms"
        f"  choice {row['choice']:.2f}x  reorder {row['gain']:.3f}x"
        f"  {row['layers_reordered']} layers{loads}  {row['seconds']:.1f} s"
    )


if __name__ == "__main__":
    run_script(main)
