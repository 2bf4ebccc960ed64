"""The cells of the accuracy table, and how one is trained.

A cell is one network: a task, a recipe, a pattern, a sparsity, a seed, a width. The dense networks
that pruning starts from are kept beside the results, one a task, seed and width.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence

import torch
from measuring import Row
from torch import nn

from edgesparse.models import export, tasks, train
from edgesparse.models.recipes import runs
from edgesparse.models.tasks.task import Task

SPARSITIES = (0.5, 0.75, 0.9, 0.95)
SEEDS = 3
COMPILED_SEED = 0  # networks of other seeds have the same shapes, so only this one is compiled
WIDTHS = (0.75, 0.5, 0.35, 0.25)
N_OF_M = {0.5: "2:4", 0.75: "1:4", 0.9: "1:8", 0.95: "1:16"}  # the nearest N:M
# Recipe and pattern of every line of the table; "n:m" stands for `N_OF_M`.
METHODS = (
    ("gradual", "unstructured"),
    ("gradual", "block4"),
    ("gradual", "block2"),
    ("gradual", "block8"),
    ("latency", "mix"),
    ("sr-ste", "n:m"),
    ("decay", "n:m"),
    ("gradual", "quad4"),
    ("gradual", "block2xquad4"),
    ("erk", "unstructured"),
    ("envelope", "block4"),
    ("distilled", "block4"),
    ("int8", "block4"),
    ("low-rank", "factored"),
)
REDUCED_METHODS = METHODS[:2]
REDUCED_SPARSITIES = (0.75, 0.9)
REDUCED_TASKS = ("digits", "sorting")
REDUCED_WIDTHS = (0.5,)


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One network of the table.

    Attributes:
        task: A key of `tasks.TASKS`.
        recipe: A key of the catalogue.
        pattern: As the recipe takes it.
        sparsity: That is asked for; 0 of dense networks.
        seed: Of weights and batches.
        width: Multiplier of the channels.
    """

    task: str
    recipe: str
    pattern: str
    sparsity: float
    seed: int
    width: float = 1.0

    @property
    def key(self) -> str:
        """A name that is a file name, too."""
        pattern = self.pattern.replace(":", "of")
        percent = round(100 * self.sparsity)
        return f"{self.task}_{self.recipe}_{pattern}_{percent}_w{self.width:g}_s{self.seed}"


def cells_of(
    names: Iterable[str],
    methods: Sequence[tuple[str, str]] = METHODS,
    sparsities: Sequence[float] = SPARSITIES,
    *,
    seeds: int = SEEDS,
    widths: Sequence[float] = WIDTHS,
) -> Iterator[Cell]:
    """Yield cells task by task and seed by seed, the dense networks first."""
    for name in names:
        for seed in range(seeds):
            for width in (1.0, *widths):
                yield Cell(name, "dense", "dense", 0.0, seed, width)
            for recipe, pattern in methods:
                for sparsity in sparsities:
                    chosen = N_OF_M[sparsity] if pattern == "n:m" else pattern
                    yield Cell(name, recipe, chosen, sparsity, seed)


def run_cell(cell: Cell, folder: pathlib.Path) -> Row:
    """Train one network and return its row; the compiled seed's is written as ONNX, too."""
    torch.set_num_threads(1)
    task = tasks.load(cell.task)
    task.splits()
    dense, dense_seconds = dense_network(task, cell, folder)
    start = time.perf_counter()
    model = runs.train_on(
        task,
        dense,
        recipe=cell.recipe,
        pattern=cell.pattern,
        sparsity=cell.sparsity,
        seed=cell.seed,
    )
    seconds = time.perf_counter() - start
    if cell.seed == COMPILED_SEED:
        settings = export.Settings(input_name=task.input_name, output_name=task.output_name)
        export.export_onnx(model, task.shape, model_path(folder, cell.key), settings)
    return {
        "what": "accuracy",
        "key": cell.key,
        **dataclasses.asdict(cell),
        "metric": task.metric,
        "score": task.evaluate(model, task.splits()[1]),
        "left": runs.weights_left(model, dense),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(seconds, 2),
        "dense_seconds": round(dense_seconds, 2),
    }


def model_path(folder: pathlib.Path, key: str) -> pathlib.Path:
    """Return where a trained network is written."""
    return folder / "models" / f"{key}.onnx"


def heldout_path(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Return the npz of a task's held-out samples, as `edgesparse check` takes it."""
    path = folder / f"{name}_heldout.npz"
    if not path.exists():
        export.write_atomically(path, train.heldout_bytes(tasks.load(name)))
    return path


def dense_network(task: Task, cell: Cell, folder: pathlib.Path) -> tuple[nn.Module, float]:
    """Return the trained dense network of a cell's seed and width, and the seconds it took now."""
    path = folder / "dense" / f"{task.name}_w{cell.width:g}_s{cell.seed}.pt"
    if path.exists():
        model = task.network(cell.width)
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval(), 0.0
    start = time.perf_counter()
    model = runs.train_dense(task, seed=cell.seed, width=cell.width)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    export.write_atomically(path, buffer.getvalue())
    return model, time.perf_counter() - start
