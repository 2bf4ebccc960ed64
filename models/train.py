"""Train a task's network, make it sparse by a recipe, export it, and write its card.

    python -m edgesparse.models.train shapes --pattern block4 --sparsity 0.75 --output trained

The card tells the scores of the exported files under onnxruntime, on samples that training has not
seen: of the sparse network, and of the dense one trained for as many steps.
"""

from __future__ import annotations

import argparse
import functools
import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesparse.models import zoo
from edgesparse.models.command import run_training
from edgesparse.models.tasks import TASKS

if TYPE_CHECKING:
    from edgesparse.models.tasks.task import Task

SPARSITY = 0.75  # where none is asked for


def run(options: argparse.Namespace) -> list[Path]:
    """Train, prune, export, score and describe; returns the files written."""
    from edgesparse.models import export, prune, scoring, tasks
    from edgesparse.models.recipes import runs
    from edgesparse.models.recipes.catalogue import find_recipe

    recipe = find_recipe(options.recipe)
    check_options(options)
    task = tasks.load(options.task)
    say = functools.partial(print, file=sys.stderr, flush=True)
    dense = runs.train_dense(task, seed=options.seed, say=say)
    train_on = functools.partial(runs.train_on, task, dense, seed=options.seed, say=say)
    models = {
        "dense": train_on(recipe="dense", pattern="dense", sparsity=0.0),
        options.recipe: train_on(
            recipe=options.recipe, pattern=options.pattern, sparsity=options.sparsity
        ),
    }
    held, stem = task.splits()[1], options.name or f"{task.name}_{task.network_name}"
    settings = export.Settings(input_name=task.input_name, output_name=task.output_name)
    files = {"dense": f"{stem}_dense.onnx", options.recipe: f"{stem}.onnx"}
    scores = {}
    for name, file in files.items():
        path = options.output / file
        export.export_onnx(models[name], task.shape, path, settings)
        scores[Path(file).stem] = task.score(scoring.run_onnx(path, held.inputs), held.labels)
    left = prune.count_zeros(prune.prunable_layers(models[options.recipe]))
    text = card(task, stem, options, scores, left, recipe.description)
    export.write_atomically(options.output / f"{stem}.md", text.encode())
    heldout = options.output / f"{task.name}_heldout.npz"
    export.write_atomically(heldout, heldout_bytes(task))
    for name, score in scores.items():
        say(f"{name}: {task.metric} {score:.2%}")
    return [
        *(options.output / file for file in files.values()),
        options.output / f"{stem}.md",
        heldout,
    ]


def check_options(options: argparse.Namespace) -> None:
    """Refuse a sparsity or a pattern before anything is trained.

    Raises:
        UsageError: One of them is wrong.
    """
    from edgesparse.models import prune
    from edgesparse.models.recipes.catalogue import find_recipe

    own = find_recipe(options.recipe).patterns
    options.pattern = options.pattern if own is None else own[0]
    is_fixed = own is None and prune.parse_pattern(options.pattern).fixed_density is not None
    if options.sparsity is None and not is_fixed:
        options.sparsity = SPARSITY
    if own is None:
        options.sparsity = prune.resolve_sparsity(options.pattern, options.sparsity)
    else:
        prune.check_sparsity(options.sparsity)


def heldout_bytes(task: Task) -> bytes:
    """Return a compressed npz of the held-out samples, as `edgesparse check --data` takes it."""
    held, buffer = task.splits()[1], io.BytesIO()
    arrays: dict[str, Any] = {task.input_name: held.inputs, "label": held.labels}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def card(
    task: Task,
    stem: str,
    options: argparse.Namespace,
    scores: dict[str, float],
    layers: Sequence[dict[str, Any]],
    recipe: str,
) -> str:
    """Return the Markdown card that `zoo.card` shows."""
    shape = ",".join(map(str, task.shape))
    command = (
        f"python -m edgesparse.models.train {task.name} --recipe {options.recipe}"
        f" --pattern {options.pattern} --sparsity {options.sparsity:g} --seed {options.seed}"
    )
    if options.name:
        command += f" --name {shlex.quote(options.name)}"
    lines = [
        f"# {stem}",
        "",
        f"Task: {TASKS[task.name]} (models/tasks/{task.name}.py).",
        f"Network: {task.architecture}.",
        f"Input `{task.input_name}` float32 [{shape}], output `{task.output_name}`.",
        "",
        f"| network | {task.metric} on {len(task.splits()[1])} held-out samples (onnxruntime) |",
        "|---|---|",
        *(f"| {name} | {score:.2%} |" for name, score in scores.items()),
        "",
        f"Recipe: {options.recipe}, {recipe}.",
        f"Seed: {options.seed}. Pattern: {options.pattern}. Sparsity: {options.sparsity:g}.",
        f"Both were trained for {task.schedule.dense_steps} + {task.schedule.prune_steps} steps of"
        f" {task.schedule.batch} samples.",
        "",
        "| layer | weight | zeros | sparsity |",
        "|---|---|---|---|",
        *(zoo.layer_row(layer) for layer in layers),
        "",
        "Made by:",
        "",
        f"    {command} --output FOLDER",
        "",
        f"which writes {task.name}_heldout.npz for `edgesparse check --metric {task.metric}`, too.",
        "Data: generated from seeds, but for the digits (scikit-learn's, CC BY 4.0).",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; prints the files written and returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_training(lambda: run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgesparse.models.train", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--recipe", default="gradual", help="gradual, sr-ste, latency, ...")
    parser.add_argument("--pattern", default="unstructured", help="block4, quad4, 2:4, ...")
    zeros = f"fraction of zeros, [0, 1); by default {SPARSITY:g}, or what an N:M pattern means"
    parser.add_argument("--sparsity", type=float, help=zeros)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="of the files; by default task and network")
    parser.add_argument("--output", type=Path, required=True, help="folder of the files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
