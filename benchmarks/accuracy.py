"""Accuracy of every recipe beside the latency of what it compiles to.

    python benchmarks/accuracy.py --reduced                    # minutes
    python benchmarks/accuracy.py --jobs 2                     # all: 70 minutes, the gate 90 more
    python benchmarks/accuracy.py --phases page                # docs/accuracy.md from what there is

Phases: `train` trains the cells of the table (`accuracy_cells.py`); `gate` compiles the networks of
the first seed for host, wasm and arm64 and compares the score of the held-out samples with
onnxruntime's; `time` measures those bundles in turns; `page` writes the document and its plots.
Every finished cell is a line of the JSON file, and is skipped when the command is run again.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import multiprocessing
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import accuracy_bundles
import accuracy_cells
import accuracy_page
from accuracy_cells import Cell
from measuring import STDOUT, Row, append_row, parser_of, read_lines, run_script, say
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edgesparse.models import tasks

PHASES = ("train", "gate", "time", "page")
JSON = pathlib.Path("build/accuracy/cells.jsonl")
PAGE = pathlib.Path("docs/accuracy.md")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = parser_of(__doc__ or "", seconds=0.3)
    parser.set_defaults(json=JSON)
    recipes = sorted({recipe for recipe, _ in accuracy_cells.METHODS})
    parser.add_argument("--reduced", action="store_true", help="two tasks, two recipes, one seed")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--tasks", nargs="+", choices=tasks.TASKS)
    parser.add_argument("--recipes", nargs="+", choices=recipes)
    parser.add_argument("--patterns", nargs="+", help="of the recipes; all by default")
    parser.add_argument("--sparsity", type=float, nargs="+", choices=accuracy_cells.SPARSITIES)
    parser.add_argument("--seeds", type=int, help="how many, from 0")
    parser.add_argument("--widths", type=float, nargs="*", help="of small dense networks")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time; times are alone")
    parser.add_argument("--output", type=pathlib.Path, default=PAGE, help="the page")
    options = parser.parse_args()
    options.json = JSON if options.json == STDOUT else options.json
    return options


def chosen_cells(options: argparse.Namespace) -> list[Cell]:
    """Return the cells that the options ask for."""
    reduced = options.reduced
    methods = accuracy_cells.REDUCED_METHODS if reduced else accuracy_cells.METHODS
    sparsities = accuracy_cells.REDUCED_SPARSITIES if reduced else accuracy_cells.SPARSITIES
    names = accuracy_cells.REDUCED_TASKS if reduced else tuple(tasks.TASKS)
    widths = accuracy_cells.REDUCED_WIDTHS if reduced else accuracy_cells.WIDTHS
    kept = [
        (recipe, pattern)
        for recipe, pattern in methods
        if (not options.recipes or recipe in options.recipes)
        and (not options.patterns or pattern in options.patterns)
    ]
    return list(
        accuracy_cells.cells_of(
            options.tasks or names,
            kept,
            options.sparsity or sparsities,
            seeds=options.seeds or (1 if reduced else accuracy_cells.SEEDS),
            widths=widths if options.widths is None else options.widths,
        )
    )


def train(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Train what is not in the file; dense networks first, since others start from them."""
    done = {row["key"] for row in read_lines(options.json) if row["what"] == "accuracy"}
    missing = [cell for cell in cells if cell.key not in done]
    work = functools.partial(accuracy_cells.run_cell, folder=options.json.parent)
    for is_dense in (True, False):
        part = [cell for cell in missing if (cell.recipe == "dense") == is_dense]
        run_all("training", work, part, options, lambda cell: cell.key)


def gate(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Compile what is not in the file, and compare it with onnxruntime on all held-out samples."""
    done = {row["key"] for row in read_lines(options.json) if row["what"] == "accuracy_gate"}
    folder = options.json.parent
    missing = [cell for cell in compiled(cells, folder) if cell.key not in done]
    for name in dict.fromkeys(cell.task for cell in missing):
        accuracy_cells.heldout_path(folder, name)
    work = functools.partial(accuracy_bundles.run_gate, folder=folder)
    run_all("checking", work, missing, options, lambda cell: cell.key)


def compiled(cells: Iterable[Cell], folder: pathlib.Path) -> list[Cell]:
    """Return the cells whose networks have been written."""
    return [cell for cell in cells if accuracy_cells.model_path(folder, cell.key).exists()]


def measure(cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Time the bundles that are not in the file, task by task and target by target."""
    done = {
        (row["key"], row["target"])
        for row in read_lines(options.json)
        if row["what"] == "accuracy_time"
    }
    folder = options.json.parent
    for rows in accuracy_bundles.timed(compiled(cells, folder), folder, done, options.seconds):
        append_row(options.json, *rows)


def run_all(
    what: str,
    work: Callable[[Cell], Row],
    cells: Sequence[Cell],
    options: argparse.Namespace,
    label: Callable[[Cell], str],
) -> None:
    """Work on cells, one or several at a time, and write a line for each as soon as it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task(what, total=len(cells))
        for cell, row in results(work, cells, options.jobs):
            append_row(options.json, row)
            progress.update(bar, advance=1, description=f"{what} {label(cell)}")


def results(
    work: Callable[[Cell], Row], cells: Sequence[Cell], jobs: int
) -> Iterator[tuple[Cell, Row]]:
    """Yield each cell with its row, as they finish."""
    if jobs == 1:
        yield from ((cell, work(cell)) for cell in cells)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = {pool.submit(work, cell): cell for cell in cells}
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()


def main() -> None:
    """Run the phases that are asked for."""
    options = parse_arguments()
    cells = chosen_cells(options)
    phases = {"train": train, "gate": gate, "time": measure}
    for name in PHASES[:-1]:
        if name in options.phases:
            phases[name](cells, options)
    if "page" in options.phases:
        rows = read_lines(options.json)
        if not rows:
            say(f"{options.json} holds no results, so there is no page to write")
        else:
            accuracy_page.write(rows, options.output)


if __name__ == "__main__":
    run_script(main)
