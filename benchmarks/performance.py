"""Write docs/performance.md from the benchmarks' JSON lines.

    python benchmarks/performance.py build/bench --output docs/performance.md

Reads every *.jsonl file of the folder; plots go to `plots/` beside the page. A benchmark that was
not run has no section.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Callable, Sequence

from curve import is_slower
from measuring import UNSTEADY, Row, say
from plots import bar_chart, line_chart, linear_axis, log_axis, scatter
from tables import (
    UNSTEADY_MARK,
    commands,
    cost_model_table,
    curve_table,
    fixed_cost_table,
    groups,
    kernels_table,
    limits_table,
    missing_list,
    modelled_table,
    models_table,
    regret_sentences,
    reorder_table,
)

SLOWEST_LAYERS = 14
UNSTEADY_NOTE = (
    f"*{UNSTEADY_MARK.strip(': ')}*: the engine, or the bundle it is held against, ran at two"
    f" speeds (the median of its samples is more than {UNSTEADY} times their 10th percentile), and"
    " the ratio is of the one it happened to have for longer: it is no figure to go by."
)

# Writes the rows of one benchmark, and adds plots by file name.
Section = Callable[[Sequence[Row], dict[str, str]], str]


def main() -> None:
    """Write the page and its plots."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=pathlib.Path, help="folder with *.jsonl files")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs/performance.md"))
    options = parser.parse_args()
    rows = read_rows(options.results)
    if not rows:
        parser.error(f"{options.results} holds no results; run the benchmarks with --json first")
    text, plots = page(rows)
    folder = options.output.parent / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.svg"):
        if not stale.name.startswith("accuracy_"):  # those are accuracy.py's
            stale.unlink()
    for name, svg in plots.items():
        (folder / name).write_text(svg, encoding="utf-8")
    options.output.write_text(text, encoding="utf-8")
    say(f"wrote {options.output} and {len(plots)} plots")


def read_rows(folder: pathlib.Path) -> list[Row]:
    """Return the rows of all *.jsonl files of a folder, file by file."""
    lines = (
        line
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    )
    return [json.loads(line) for line in lines]


def page(rows: Sequence[Row]) -> tuple[str, dict[str, str]]:
    """Return the page's text, and its plots by file name."""
    plots: dict[str, str] = {}
    parts = [introduction(rows)]
    for what, write in SECTIONS.items():
        own = [row for row in rows if row["what"] == what]
        if own:
            parts.append(write(own, plots))
    parts.append(f"## Engines that were missing\n\n{missing_list(rows)}")
    return "\n\n".join(parts) + "\n", plots


def introduction(rows: Sequence[Row]) -> str:
    """Return the page's head: the machine, and how to read the figures."""
    cpus = ", ".join(dict.fromkeys(row["cpu"] for row in rows))
    versions = ", ".join(dict.fromkeys(row["edgesparse"] for row in rows))
    return f"""# Performance

Written by `benchmarks/performance.py` from the results of the commands that stand above the tables;
`make bench` runs the same benchmarks, with options of its own. edgesparse {versions} on {cpus}.
One thread, pinned to one CPU, batch 1, float32, random weights. In each run all engines take turns,
so that a machine that slows down for a while slows all of them; ratios are medians over pairs of
samples taken side by side. Choices are the cost model's: nothing here was tuned on the machine.
WebAssembly runs in node, or in headless Chromium where the target says so; arm64 devices are not
timed here."""


def section(title: str, rows: Sequence[Row], *parts: str) -> str:
    """Return a heading, the commands that made the rows, and paragraphs or tables."""
    return "\n\n".join([f"## {title}", commands(rows), *parts])


def models_section(rows: Sequence[Row], plots: dict[str, str]) -> str:
    """Return the comparison of whole networks, with bars of the layers."""
    measured = [row for row in rows if "missing" not in row]
    parts = [
        "An engine whose *time / ours* is above 1 is slower than the bundle. `edgesparse-dense` is"
        " our bundle of the same network without zeros. *Efficiency* is the share of the skipped"
        " work that becomes time saved: (best dense engine's time / this time) / (multiply-adds /"
        " remaining multiply-adds). *Error* is the largest difference from onnxruntime over its"
        " largest value; beyond 1 % an engine is listed as missing. MNN rounds"
        " more than the others in 3x3 convolutions: its Winograd does.",
        models_table(rows),
    ]
    if any(row.get("is_unsteady") for row in measured):
        parts.insert(1, UNSTEADY_NOTE)
    runs = groups(measured, "model", "sparsity", "pattern", "target")
    for (model, sparsity, pattern, target), group in runs.items():
        by_peer = {row["peer"]: row for row in group}
        sparse, dense = by_peer.get("edgesparse"), by_peer.get("edgesparse-dense")
        if sparse and dense and "layers" in sparse:
            assert isinstance(sparsity, float)
            name = f"layers_{model}_{round(100 * sparsity)}_{pattern}_{target}.svg"
            title = f"{model}, {sparsity:.0%} zeros, {target}: the slowest layers"
            plots[name] = layer_bars(title, dense["layers"], sparse["layers"])
            parts.append(f"![{title}](plots/{name})")
    return section("Whole networks", rows, *parts)


def layer_bars(title: str, dense: Sequence[Row], sparse: Sequence[Row]) -> str:
    """Return bars of the layers that are slowest when dense, dense and sparse."""
    times = {layer["name"]: layer["median_us"] for layer in sparse}
    shared = [layer for layer in dense if layer["name"] in times]
    slowest = sorted(shared, key=lambda layer: -layer["median_us"])[:SLOWEST_LAYERS]
    names = [layer["name"] for layer in shared if layer in slowest]
    by_name = {layer["name"]: layer["median_us"] for layer in shared}
    series = {
        "dense": [by_name[name] for name in names],
        "sparse": [times[name] for name in names],
    }
    return bar_chart(title, "microseconds, timed layer by layer", names, series)


def curve_section(rows: Sequence[Row], plots: dict[str, str]) -> str:
    """Return the density curve."""
    lines = {
        f"{model}, {target}": [(100 * row["sparsity"], row["speedup"]) for row in group]
        for (model, target), group in groups(rows, "model", "target").items()
    }
    highest = max(speedup for line in lines.values() for _, speedup in line)
    x, y = linear_axis("% zeros", 100), linear_axis("times as fast as our dense bundle", highest)
    plots["curve.svg"] = line_chart("Our bundle over our own dense bundle", x, y, lines)
    slower = [row for row in rows if is_slower(row)]
    verdict = "Nowhere is the sparse bundle slower than the dense one beyond the noise."
    if slower:
        points = ", ".join(
            f"{r['model']}, {r['target']} {r['sparsity']:.0%} ({r['speedup']:.2f}x)" for r in slower
        )
        verdict = f"Slower than dense: {points}."
    picture = "![density curve](plots/curve.svg)"
    return section("From 0 to 95 % zeros", rows, verdict, curve_table(rows), picture)


def kernels_section(rows: Sequence[Row], plots: dict[str, str]) -> str:
    """Return percent of peak for every case, and a roofline, target by target."""
    parts = [
        "Pointwise shapes of MobileNetV1: useful operations (two for each non-zero weight"
        " and pixel) a second, as a share of the peak that a loop of multiply-adds in registers"
        " reaches in the same runtime and run. Columns are densities; b2 and b4 are zeros in blocks"
        " of 2 and 4 output channels.",
    ]
    for (target,), group in groups(rows, "target").items():
        peak = max(row["peak_gflops"] for row in group)
        bandwidth = max(row["l2_gb_per_s"] for row in group)
        name = f"roofline_{target}.svg"
        plots[name] = roofline(f"{target}: roofline", group, peak, bandwidth)
        measured = f"{target}: peak {peak:.0f} GFLOP/s, second-level cache {bandwidth:.0f} GB/s"
        parts += [f"**{measured}**", kernels_table(group), f"![roofline](plots/{name})"]
    return section("Kernels", rows, *parts)


def roofline(title: str, rows: Sequence[Row], peak: float, bandwidth: float) -> str:
    """Return dots of all cases under the roof of peak and second-level cache."""
    series = {
        str(pattern): [(row["intensity"], row["gflops"]) for row in group]
        for (pattern,), group in groups(rows, "pattern").items()
    }
    points = [point for dots in series.values() for point in dots]
    x = log_axis(
        "useful operations per byte moved at least once",
        min(peak / bandwidth / 2, *(x for x, _ in points)),
        max(x for x, _ in points),
    )
    y = log_axis("useful GFLOP/s", min(y for _, y in points), peak)
    return scatter(title, x, y, series, lambda at: min(peak, at * bandwidth))


def described(title: str, text: str, *parts: Callable[[Sequence[Row]], str]) -> Section:
    """Return the writer of a section without plots: a text, then what `parts` make of the rows."""

    def write(rows: Sequence[Row], plots: dict[str, str]) -> str:
        del plots
        return section(title, rows, text, *(part(rows) for part in parts))

    return write


SECTIONS: dict[str, Section] = {
    "models": models_section,
    "curve": curve_section,
    "kernels": kernels_section,
    "limits": described(
        "What a tile can reach",
        "Shares of the same peak that a tile's multiply-adds reach beside the loads of its"
        " activations and weights, all data in L1 and nothing else in the loop: no column"
        " numbers, no buckets, no outputs, whole vectors, nothing cold. No kernel of these"
        " tiles is above its column here. In brackets the best, rows x vectors.",
        limits_table,
    ),
    "fixed_cost": described(
        "Fixed cost",
        "`one_pixel` is a 1x1 convolution of one channel and one pixel: the price of a call."
        " Peak memory is the resident set of the whole process: of onnxruntime's, the Python"
        " interpreter is a part, of both wasm engines', node.",
        lambda rows: fixed_cost_table([row for row in rows if "missing" not in row]),
    ),
    "reorder": described(
        "Formats and the order of channels",
        "Every network three times, in turns: sparse layers row by row (`--no-reorder"
        " --no-select`), with formats chosen (`--no-reorder`), and with channels reordered"
        " too. *Gains* is the median over pairs of samples; within the noise of a few per"
        " cent it should not be below 1. *Column loads* are those of the reordered layers,"
        " after over before; *predicted* is their predicted speed-up. `scattered` networks"
        " were pruned in blocks of four rows that do not lie side by side; `2_4` has two"
        " weights left in four.",
        reorder_table,
    ),
    "cost_model": described(
        "Cost model",
        "*Regret* is the time of the cost model's choice over that of the best candidate.",
        regret_sentences,
        cost_model_table,
    ),
    "arm64_cycles": described(
        "arm64, modelled",
        "Cycles for each useful vector multiply-add (one non-zero weight times four pixels) by"
        " a model of the core, counted under emulation: they rank kernels, they are no"
        " latencies. An A55 needs 1 at least, an A76 0.5. The last column is XNNPACK's sparse"
        " kernel (commit 75db3c0) under the same model of the A76: its default for unstructured"
        " zeros, its best for blocks of four.",
        modelled_table,
    ),
}

if __name__ == "__main__":
    main()
