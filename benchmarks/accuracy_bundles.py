"""The networks of the accuracy table, compiled: scores beside onnxruntime's, and times."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterator, Sequence

from accuracy_cells import COMPILED_SEED, Cell, heldout_path, model_path
from measuring import Row, compile_model, say
from rich.progress import track

import edgesparse
from edgesparse.check import check
from edgesparse.differences import Tolerance
from edgesparse.errors import DeviceError
from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import resolve_device
from edgesparse.harness.measure import measure
from edgesparse.models import tasks

TARGETS = ("host", "wasm", "arm64")
TIMED = ("host", "wasm")
_TOGETHER = 10  # bundles that take turns, the dense one among them

# Sums in another order move a score only where two outputs tie to the last bits.
TOLERANCE = Tolerance(max_drop=0.1)


def run_gate(cell: Cell, folder: pathlib.Path) -> Row:
    """Return how the bundles of a network score on all held-out samples, target by target."""
    model, data = model_path(folder, cell.key), heldout_path(folder, cell.task)
    metric = tasks.load(cell.task).metric
    found: dict[str, Row] = {}
    for target in TARGETS:
        bundle = compile_model(model, target)
        try:
            device = resolve_device(None, bundle)
            result = check(
                model, bundle, device, data=data, metric=metric, samples=0, tolerance=TOLERANCE
            )
        except DeviceError as error:
            found[target] = {"missing": error.message}
            continue
        finally:
            if target not in TIMED:
                shutil.rmtree(bundle.path)
        assert result.accuracy is not None  # the data has labels
        found[target] = {
            "device": device.name,
            "samples": result.accuracy.samples,
            "bundle_percent": result.accuracy.bundle_percent,
            "onnxruntime_percent": result.accuracy.onnxruntime_percent,
            "max_abs": max(output.max_abs for output in result.outputs),
            "problems": result.problems,
        }
    return {"what": "accuracy_gate", "key": cell.key, "task": cell.task, "targets": found}


def timed(
    cells: Sequence[Cell],
    folder: pathlib.Path,
    done: set[tuple[str, str]],
    seconds: float,
) -> Iterator[list[Row]]:
    """Yield rows of bundles that take turns with the dense one of their task.

    Args:
        cells: Networks; those that the gate has not compiled are left out.
        folder: Of the results.
        done: Keys and targets that are measured already.
        seconds: Of measuring each bundle.
    """
    for name in dict.fromkeys(cell.task for cell in cells):
        reference = Cell(name, "dense", "dense", 0.0, COMPILED_SEED)
        for target in TIMED:
            if not bundle_path(reference, target, folder).exists():
                continue
            missing = [
                cell
                for cell in cells
                if cell.task == name
                and cell != reference
                and (cell.key, target) not in done
                and bundle_path(cell, target, folder).exists()
            ]
            groups = [missing[i : i + _TOGETHER] for i in range(0, len(missing), _TOGETHER)]
            for group in track(groups, description=f"timing {name}, {target}"):
                yield _take_turns([reference, *group], target, folder, seconds)


def _take_turns(
    cells: Sequence[Cell], target: str, folder: pathlib.Path, seconds: float
) -> list[Row]:
    bundles = [(cell.key, edgesparse.Bundle(bundle_path(cell, target, folder))) for cell in cells]
    try:
        device = resolve_device(None, bundles[0][1])
    except DeviceError as error:
        say(f"{target} is not timed: {error.message}")
        return []
    document = measure(bundles, device, limits=Limits(seconds=seconds))
    dense, *others = document["results"]
    rows = [
        {
            "what": "accuracy_time",
            "key": result["bundle"],
            "target": target,
            "us_median": 1e3 * result["median_ms"],
            "us_dense": 1e3 * dense["median_ms"],
        }
        for result in others
    ]
    return rows


def bundle_path(cell: Cell, target: str, folder: pathlib.Path) -> pathlib.Path:
    """Return where the gate leaves the bundle of a network."""
    return model_path(folder, cell.key).with_suffix(f".{target}")
