"""Accuracy of one-shot pruning beside magnitude pruning, at equal zeros and at equal latency.

    python benchmarks/sparsify.py
    python benchmarks/sparsify.py --tasks digits --latency 0.4 --sparsity 0.8 --json build/s.json

Nothing is retrained. Pruning is fitted to training images, and accuracy is that of images that
neither training nor pruning has seen. Magnitude pruning zeroes the smallest weights: `global` by
one threshold over all layers, `uniform` by the same share in every layer. At equal latency each
method prunes until the compiler, which reorders channels for all of them, predicts the budget;
then all bundles take turns on the host.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from measuring import Row, compile_model, parser_of, publish, run_script, say

from edgesparse.errors import LatencyError, UsageError
from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import resolve_device
from edgesparse.harness.measure import measure
from edgesparse.models import digits, zoo
from edgesparse.pruning import Options, Pruner
from edgesparse.pruning.data import Data, judge, outputs_of
from edgesparse.pruning.goals import Goal, reach
from edgesparse.pruning.writing import write_model

PATTERNS = ("unstructured", "rows4", "auto")
SPARSITIES = (0.7, 0.8, 0.9)
LATENCIES = (0.7, 0.4, 0.25)
_BISECTIONS = 9

Constants = Mapping[str, np.ndarray[Any, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """A trained network and its data.

    Attributes:
        name: Of the task.
        model: The dense ONNX file.
        data: npz of training images.
        image: Held-out images.
        label: Their classes.
    """

    name: str
    model: pathlib.Path
    data: pathlib.Path
    image: np.ndarray[Any, Any]
    label: np.ndarray[Any, Any]


def digits_task(folder: pathlib.Path) -> Task:
    """Return the digits and their committed dense network."""
    train, held = digits.load_splits()
    data = folder / "digits.npz"
    np.savez(data, image=train.image, label=train.label)
    model = zoo.path("digits_mobilenet_v1_dense")
    return Task("digits", model, data, held.image, held.label)


def gratings_task(folder: pathlib.Path) -> Task:
    """Return the gratings and a network trained on them now."""
    import gratings

    model, data = folder / "gratings.onnx", folder / "gratings.npz"
    gratings.train(model)
    image, label = gratings.images(gratings.TRAINING, seed=1)
    np.savez(data, image=image, label=label)
    return Task("gratings", model, data, *gratings.images(gratings.HELDOUT, seed=2))


TASKS = {"digits": digits_task, "gratings": gratings_task}


class Bench:
    """One task under all methods."""

    def __init__(self, task: Task, folder: pathlib.Path) -> None:
        self.task, self.folder = task, folder
        self.pruners = {
            name: Pruner(task.model, task.data, Options(pattern=name)) for name in PATTERNS
        }
        self._any = self.pruners["auto"]
        samples = [{self._any.pricing.inputs[0]["name"]: image[None]} for image in task.image]
        self._held = Data([], samples, task.label)
        self._before = outputs_of(self._any.session, samples, self._any.dense)
        self.methods: dict[str, Callable[[Goal], Constants]] = {
            "magnitude, global": lambda goal: self._magnitude(goal, _global_masks),
            "magnitude, uniform": lambda goal: self._magnitude(goal, _uniform_masks),
            **{f"sparsify, {name}": self._method(name) for name in PATTERNS},
        }

    def _method(self, pattern: str) -> Callable[[Goal], Constants]:
        return lambda goal: reach(goal, self.pruners[pattern]).constants

    def _magnitude(self, goal: Goal, masks: Callable[[list[Any], float], list[Any]]) -> Constants:
        """Return the dense network's largest weights, as many as the goal allows."""
        pruner, names = self._any, [layer.weight for layer in self._any.network.prunable]
        weights = [pruner.dense[name] for name in names]

        def at(sparsity: float) -> Constants:
            kept = zip(names, weights, masks(weights, sparsity), strict=True)
            return {**pruner.dense, **{name: np.where(m, w, 0) for name, w, m in kept}}

        if goal.kind == "sparsity":
            return at(goal.value)
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            fits = self.predicted_us(at(middle)) <= goal.value * pruner.times.total
            low, high = (low, middle) if fits else (middle, high)
        return at(high)

    def predicted_us(self, constants: Constants) -> float:
        """Return the compiler's prediction for all layers with weights."""
        return self._any.pricing.compiled(constants).total

    def row(self, method: str, goal: Goal) -> tuple[Row, pathlib.Path] | None:
        """Return what a method reaches, and its ONNX file; None where it cannot."""
        try:
            constants = self.methods[method](goal)
        except (LatencyError, UsageError) as error:
            say(f"{method}: {error.message}")
            return None
        pruner = self._any
        weights = [constants[layer.weight] for layer in pruner.network.prunable]
        judged = judge(pruner.session, self._held, self._before, constants)
        us = self.predicted_us(constants)
        path = self.folder / file_name(self.task.name, goal, method)
        write_model(pruner.network, constants, path)
        return {
            "what": "sparsify",
            "task": self.task.name,
            "goal": goal.kind,
            "value": goal.value,
            "method": method,
            "accuracy_percent": judged.after,
            "dense_accuracy_percent": judged.before,
            "output_error": judged.error,
            "sparsity": 1 - sum(map(np.count_nonzero, weights)) / sum(w.size for w in weights),
            "predicted_us": us,
            "predicted_ratio": us / pruner.times.total,
        }, path


def file_name(task: str, goal: Goal, method: str) -> str:
    """Return the name of a pruned network's file: no two rows share one."""
    return f"{task}_{goal.kind}_{goal.value:g}_{method.replace(', ', '_')}.onnx"


def _global_masks(weights: list[Any], sparsity: float) -> list[Any]:
    magnitudes = np.sort(np.concatenate([np.abs(weight).reshape(-1) for weight in weights]))
    threshold = magnitudes[min(len(magnitudes) - 1, round(sparsity * len(magnitudes)))]
    return [np.abs(weight) >= threshold for weight in weights]


def _uniform_masks(weights: list[Any], sparsity: float) -> list[Any]:
    return [_global_masks([weight], sparsity)[0] for weight in weights]


def rows_of(bench: Bench, goal: Goal, seconds: float) -> Iterator[Row]:
    """Yield a row for every method; at equal latency with times measured in turns."""
    say(f"{bench.task.name}, {goal.kind} {goal.value:g} ...")
    made = [found for method in bench.methods if (found := bench.row(method, goal))]
    if goal.kind == "sparsity":
        yield from (row for row, _ in made)
        return
    bundles = [("dense", compile_model(_copied(bench), "host"))]
    bundles += [(row["method"], compile_model(path, "host")) for row, path in made]
    device = resolve_device(None, bundles[0][1])
    document = measure(bundles, device, limits=Limits(seconds=seconds))
    times = {result["bundle"]: result for result in document["results"]}
    for row, _ in made:
        result = times[row["method"]]
        yield {**row, "us_median": 1e3 * result["median_ms"], "speedup": result["over_first"]}


def _copied(bench: Bench) -> pathlib.Path:
    path = bench.folder / f"{bench.task.name}_dense.onnx"
    path.write_bytes(bench.task.model.read_bytes())
    return path


def format_row(row: Row) -> str:
    """Return one line of the table."""
    goal = f"{row['value']:.0%} zeros" if row["goal"] == "sparsity" else f"{row['value']:g}x time"
    measured = ""
    if "us_median" in row:
        measured = f"  measured {row['us_median']:6.1f} us, {row['speedup']:.2f}x dense's speed"
    return (
        f"{row['task']:<9} {goal:<10} {row['method']:<23} {row['accuracy_percent']:6.2f} %"
        f" (dense {row['dense_accuracy_percent']:.2f} %)  {row['sparsity']:6.1%} zeros"
        f"  predicted {row['predicted_us']:6.1f} us, {row['predicted_ratio']:.2f}x{measured}"
    )


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = parser_of(__doc__ or "", seconds=0.5)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--sparsity", type=float, nargs="*", default=list(SPARSITIES))
    parser.add_argument("--latency", type=float, nargs="*", default=list(LATENCIES))
    parser.add_argument("--models", type=pathlib.Path, help="folder to keep the ONNX files in")
    return parser.parse_args()


def main() -> None:
    """Prune, measure, print the table, and write JSON lines."""
    options = parse_arguments()
    goals = [Goal("sparsity", value) for value in options.sparsity]
    goals += [Goal("ratio", value) for value in options.latency]
    with tempfile.TemporaryDirectory() as name:
        folder = options.models or pathlib.Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        benches = (Bench(TASKS[task](folder), folder) for task in options.tasks)
        cells = ((bench, goal) for bench in benches for goal in goals)
        rows = (row for cell in cells for row in rows_of(*cell, options.seconds))
        publish(rows, format_row, options.json)


if __name__ == "__main__":
    run_script(main)
