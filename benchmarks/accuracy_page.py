"""docs/accuracy.md and its plots, from the lines that `accuracy.py` wrote."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Mapping, Sequence

from accuracy_cells import COMPILED_SEED, METHODS, SPARSITIES, Cell, cells_of
from measuring import Row, say
from plots import Point, line_chart, linear_axis
from tables import commands, groups, markdown

from edgesparse.models import tasks

TARGETS = ("host", "wasm")
FAR_OFF = 0.05  # zeros more or less than a column says are told in the cell
# Series of the plots; the tables have all.
PLOTTED = {
    "small dense": ("dense", "dense"),
    "unstructured": ("gradual", "unstructured"),
    "block4": ("gradual", "block4"),
    "block8": ("gradual", "block8"),
    "mix": ("latency", "mix"),
    "N:M": ("sr-ste", "n:m"),
}
METRICS = {
    "top1": "share of samples whose class is right",
    "token": "share of tokens that are right",
    "mean_iou": "mean intersection over union of the classes' pixels",
    "ap50": "average precision of boxes at half overlap, mean over classes",
}


def write(rows: Sequence[Row], output: pathlib.Path) -> None:
    """Write the page and its plots."""
    text, plots = page(rows)
    folder = output.parent / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("accuracy_*.svg"):
        stale.unlink()
    for name, svg in plots.items():
        (folder / name).write_text(svg, encoding="utf-8")
    output.write_text(text, encoding="utf-8")
    say(f"wrote {output} and {len(plots)} plots")


def page(rows: Sequence[Row]) -> tuple[str, dict[str, str]]:
    """Return the page's text, and its plots by file name."""
    # Of a line that was written twice, the later counts.
    cells = {row["key"]: row for row in rows if row["what"] == "accuracy"}
    times = {(row["key"], row["target"]): row for row in rows if row["what"] == "accuracy_time"}
    gates = {row["key"]: row for row in rows if row["what"] == "accuracy_gate"}
    plots: dict[str, str] = {}
    parts = [introduction(list(cells.values())), coverage(cells), gate_section(gates, cells)]
    for (name,), group in sorted(
        groups(cells.values(), "task").items(), key=lambda item: list(tasks.TASKS).index(item[0][0])
    ):
        parts.append(task_section(str(name), group, times, plots))
    return "\n\n".join(parts) + "\n", plots


def introduction(cells: Sequence[Row]) -> str:
    """Return the page's head: how networks were trained, and how to read the figures."""
    cpus = ", ".join(dict.fromkeys(row["cpu"] for row in cells))
    versions = ", ".join(dict.fromkeys(row["edgesparse"] for row in cells))
    return f"""# Accuracy

What each recipe of `models/` costs in accuracy, and what it gains in time. Written by
`benchmarks/accuracy.py` from its own results; edgesparse {versions} on {cpus}.

Tasks are generated or small (see [recipes.md](recipes.md)): they tell recipes apart, they say
nothing about ImageNet. A network is trained densely, then trained on for fewer steps while a recipe
prunes it; `dense` is trained on for as long without pruning. Scores are of held-out samples.
*mean ± half the range* over the seeds that were trained; without ±, one seed, and then differences
of a point may be chance. Seconds of training are of the machine as it was, busy or not.

Sparsity is that of the layers that are pruned (not the first convolution, nor depthwise ones, nor
layers with fewer than 256 weights). N:M is 2:4, 1:4, 1:8 and 1:16, so its last columns mean 87.5
and 93.75 % zeros; layers whose channels M does not divide stay dense, and zeros far from the
column's are told in the cell. `low-rank` saves about as many weights as the column says, with no
zeros. `int8` networks have weights on int8's grid, and are scored and timed in float32.

Times are medians of bundles that take turns with the dense one, one thread, seed 0, as the cost
model chooses, untuned: microseconds on the host, and in node for wasm. These networks are tiny:
their times are mostly depthwise layers and fixed cost, and larger networks gain more
(see [performance.md](performance.md))."""


def coverage(cells: Mapping[str, Row]) -> str:
    """Return which part of the whole table there is, what it took, and what makes the rest."""
    lines = []
    for name in tasks.TASKS:
        wanted = list(cells_of([name]))
        found = [cells[cell.key] for cell in wanted if cell.key in cells]
        seconds = sum(row["seconds"] + row["dense_seconds"] for row in found)
        mean = statistics.mean(row["seconds"] for row in found) if found else 0.0
        seeds = len({row["seed"] for row in found})
        lines.append(
            [name, f"{len(found)} of {len(wanted)}", str(seeds), f"{mean:.1f}", f"{seconds:.0f}"]
        )
    table = markdown(
        ["Task", "Networks", "Seeds", "Seconds a network", "Seconds of training"], lines
    )
    total = sum(1 for _ in cells_of(tasks.TASKS))
    found_total = sum(1 for cell in cells_of(tasks.TASKS) if cell.key in cells)
    said = (
        "This is the whole table."
        if found_total == total
        else f"**This page holds {found_total} of the {total} networks of the whole table.**"
        " Empty cells were not trained, or not timed. The whole table is made by"
    )
    made = "Made by:\n\n" + commands(cells.values())
    whole = "    python benchmarks/accuracy.py --jobs 2"
    return "\n\n".join(["## What is here", said, whole, table, made])


def gate_section(gates: Mapping[str, Row], cells: Mapping[str, Row]) -> str:
    """Return how the compiled networks' scores compare with onnxruntime's."""
    lines, worst = [], 0.0
    for target in ("host", "wasm", "arm64"):
        found = [gate["targets"][target] for gate in gates.values() if target in gate["targets"]]
        checked = [each for each in found if "missing" not in each]
        if not checked:
            continue
        drops = [abs(e["onnxruntime_percent"] - e["bundle_percent"]) for e in checked]
        worst = max(worst, *drops)
        equal = sum(drop == 0 for drop in drops)
        failed = sum(bool(each["problems"]) for each in checked)
        samples = sum(each["samples"] for each in checked)
        device = ", ".join(dict.fromkeys(each["device"] for each in checked))
        counts = [target, device, str(len(checked)), str(samples), str(equal)]
        largest = max(each["max_abs"] for each in checked)
        lines.append([*counts, f"{max(drops):.3f}", f"{largest:.1e}", str(failed)])
    if not lines:
        return "## The gate\n\nNothing of it has been compiled and compared yet."
    header = ["Target", "Device", "Networks", "Samples", "Same score", "Largest difference, points"]
    trained = sum(row["seed"] == COMPILED_SEED for row in cells.values())
    text = (
        f"Of the {trained} networks of seed 0 that were trained, {len(gates)} have been compiled"
        " for each target, and their bundles scored on all held-out samples beside onnxruntime on"
        " the exported file. *Outside* counts networks of which any output is"
        " beyond `edgesparse check`'s tolerance, or the score beyond a tenth of a point."
    )
    return "\n\n".join(
        [
            "## The gate",
            text,
            markdown([*header, "Largest difference of an output", "Outside"], lines),
        ]
    )


def task_section(
    name: str, rows: Sequence[Row], times: Mapping[tuple[str, str], Row], plots: dict[str, str]
) -> str:
    """Return one task: scores, times, plots of one against the other."""
    task_metric = str(rows[0]["metric"])
    parts = [
        f"## {name}",
        f"{tasks.TASKS[name].capitalize()}; `{task_metric}`, in per cent: {METRICS[task_metric]}.",
        score_table(name, rows),
        width_table(name, rows, times),
    ]
    if any(key[0].startswith(f"{name}_") for key in times):
        parts.append(time_table(name, rows, times))
    for target in TARGETS:
        lines = series(name, rows, times, target)
        if len(lines) > 1:
            file = f"accuracy_{name}_{target}.svg"
            plots[file] = pareto_plot(name, target, lines)
            parts += [front_sentence(name, rows, times, target), f"![{name}](plots/{file})"]
    return "\n\n".join(parts)


def scores_of(rows: Sequence[Row], **wanted: object) -> list[float]:
    """Return the scores, in per cent, of the rows with these values."""
    return [100 * row["score"] for row in rows if all(row[k] == v for k, v in wanted.items())]


def mean_and_spread(scores: Sequence[float]) -> str:
    """Return a cell: the mean, and half the range where there are several."""
    if not scores:
        return ""
    mean = statistics.mean(scores)
    return f"{mean:.1f}" + (f" ± {(max(scores) - min(scores)) / 2:.1f}" if len(scores) > 1 else "")


def other_zeros(rows: Sequence[Row], cell: Cell) -> str:
    """Return what is to be said where a network is not as sparse as its column says."""
    found = [row["left"] for row in rows if row["key"] == cell.key]
    if not found or abs(1 - found[0] - cell.sparsity) <= FAR_OFF:
        return ""
    return f" ({1 - found[0]:.0%} zeros)"


def cell_of(name: str, recipe: str, pattern: str, sparsity: float) -> Cell:
    """Return the first seed's cell of a line and a column of the table."""
    *_, cell = cells_of([name], [(recipe, pattern)], [sparsity], seeds=1, widths=())
    return cell


def score_table(name: str, rows: Sequence[Row]) -> str:
    """Return recipes and patterns as lines, sparsities as columns."""
    lines = []
    for recipe, pattern in METHODS:
        cells = []
        for sparsity in SPARSITIES:
            cell = cell_of(name, recipe, pattern, sparsity)
            wanted = {"recipe": recipe, "pattern": cell.pattern, "sparsity": sparsity}
            cells.append(mean_and_spread(scores_of(rows, **wanted)) + other_zeros(rows, cell))
        if any(cells):
            lines.append([f"{recipe}, {pattern}", *cells])
    dense = mean_and_spread(scores_of(rows, recipe="dense", width=1.0))
    header = [f"Recipe, pattern (dense: {dense})", *(f"{s:.0%}" for s in SPARSITIES)]
    return markdown(header, lines)


def time_of(
    times: Mapping[tuple[str, str], Row], cell: Cell, target: str
) -> tuple[float, float] | None:
    """Return microseconds of a network and of the dense one beside it."""
    if cell.recipe == "dense" and cell.width == 1.0:
        beside = [
            row["us_dense"]
            for (key, found), row in times.items()
            if key.startswith(f"{cell.task}_") and found == target
        ]
        return (statistics.median(beside),) * 2 if beside else None
    row = times.get((cell.key, target))
    return (row["us_median"], row["us_dense"]) if row else None


def time_cell(times: Mapping[tuple[str, str], Row], cell: Cell, target: str) -> str:
    """Return a cell: microseconds, and how many times as fast as dense."""
    found = time_of(times, cell, target)
    return f"{found[0]:.0f} ({found[1] / found[0]:.2f}x)" if found else ""


def width_table(name: str, rows: Sequence[Row], times: Mapping[tuple[str, str], Row]) -> str:
    """Return the dense networks of several widths."""
    lines = []
    for cell in cells_of([name], (), (), seeds=1):
        found = scores_of(rows, recipe="dense", width=cell.width)
        if found:
            weights = next(r["parameters"] for r in rows if r["key"] == cell.key)
            line = [f"dense, width {cell.width:g}", str(weights), mean_and_spread(found)]
            lines.append([*line, *(time_cell(times, cell, target) for target in TARGETS)])
    return markdown(["Network", "Parameters", "Score", "Host us", "wasm us"], lines)


def time_table(name: str, rows: Sequence[Row], times: Mapping[tuple[str, str], Row]) -> str:
    """Return times of recipes and patterns, host before wasm."""
    lines = []
    for target in TARGETS:
        for recipe, pattern in METHODS:
            cells = [
                time_cell(times, cell_of(name, recipe, pattern, sparsity), target)
                for sparsity in SPARSITIES
            ]
            if any(cells):
                lines.append([f"{target}: {recipe}, {pattern}", *cells])
    header = ["Microseconds (times as fast as dense)", *(f"{s:.0%}" for s in SPARSITIES)]
    return markdown(header, lines)


def timed_points(
    name: str, rows: Sequence[Row], times: Mapping[tuple[str, str], Row], target: str
) -> dict[tuple[str, str], list[tuple[str, Point]]]:
    """Return, by recipe and pattern, label and (microseconds, mean score) of what was timed."""
    found: dict[tuple[str, str], list[tuple[str, Point]]] = {}
    for method in (("dense", "dense"), *METHODS):
        if method[0] == "dense":
            cells = [(f"width {c.width:g}", c) for c in cells_of([name], (), (), seeds=1)]
        else:
            cells = [(f"{s:.0%}", cell_of(name, *method, s)) for s in SPARSITIES]
        for label, cell in cells:
            scores = scores_of(
                rows,
                recipe=cell.recipe,
                pattern=cell.pattern,
                sparsity=cell.sparsity,
                width=cell.width,
            )
            us = time_of(times, cell, target)
            if scores and us:
                text = (
                    f"{method[0]} {method[1]} {label}" if method[0] != "dense" else f"dense {label}"
                )
                found.setdefault(method, []).append((text, (us[0], statistics.mean(scores))))
    return found


def series(
    name: str, rows: Sequence[Row], times: Mapping[tuple[str, str], Row], target: str
) -> dict[str, list[Point]]:
    """Return the plotted series: dense widths and some recipes."""
    found = timed_points(name, rows, times, target)
    return {
        label: sorted(point for _, point in found[method])
        for label, method in PLOTTED.items()
        if method in found
    }


def pareto_plot(name: str, target: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """Return a plot of scores over microseconds."""
    points = [point for line in lines.values() for point in line]
    x = linear_axis("microseconds", max(us for us, _ in points))
    scores = [score for _, score in points]
    y = linear_axis("score, per cent", max(scores), low=5 * (min(scores) // 5))
    return line_chart(f"{name}, {target}: score against time", x, y, lines)


def front_sentence(
    name: str, rows: Sequence[Row], times: Mapping[tuple[str, str], Row], target: str
) -> str:
    """Return which networks no other beats in both score and time."""
    every = [each for group in timed_points(name, rows, times, target).values() for each in group]
    front = [
        (us, f"{label} ({us:.0f} us, {score:.1f} %)")
        for label, (us, score) in every
        if not any(u <= us and s >= score and (u, s) != (us, score) for _, (u, s) in every)
    ]
    listed = "; ".join(text for _, text in sorted(front))
    return f"On {target} no other network is both faster and better than: {listed}."
