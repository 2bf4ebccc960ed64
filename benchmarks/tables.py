"""The tables of the performance page: rows of the benchmarks -> Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from measuring import Row

UNSTEADY_MARK = "unsteady: "


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; columns after the first are aligned to the right."""
    lines = [list(header), ["---"] + ["---:"] * (len(header) - 1), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def commands(rows: Iterable[Row]) -> str:
    """Return the commands that made some rows, as a code block."""
    return "\n".join(f"    {line}" for line in dict.fromkeys(row["command"] for row in rows))


def groups(rows: Iterable[Row], *keys: str) -> dict[tuple[object, ...], list[Row]]:
    """Return rows by the values of some keys, in the order they come."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def models_table(rows: Sequence[Row]) -> str:
    """Return the whole-network table: engines as columns would not fit, so a line each."""
    lines = []
    for (model, sparsity, pattern, target), group in groups(
        rows, "model", "sparsity", "pattern", "target"
    ).items():
        # A ratio is no steadier than what it is over.
        is_unsteady = any(row.get("is_unsteady") for row in group if row["peer"] == "edgesparse")
        for row in group:
            head = f"{model}, {sparsity:.0%} {pattern}, {target}" if row is group[0] else ""
            mark = UNSTEADY_MARK if is_unsteady or row.get("is_unsteady") else ""
            lines.append([head, *_engine_cells(row, mark)])
    header = ["Model, zeros, target", "Engine", "Median ms", "Min ms", "Its time / ours"]
    return markdown([*header, "Efficiency", "Error"], lines)


def _engine_cells(row: Row, mark: str) -> list[str]:
    if "missing" in row:
        return [row["peer"], f"missing: {_cell(row['missing'])}", "", "", "", ""]
    name = f"{row['peer']} {row['version']}"
    if row["peer"] == "edgesparse":
        name = f"**{name}**"
    efficiency, error = row["efficiency"], row["error"]
    return [
        name,
        f"{row['ms_median']:.2f}",
        f"{row['ms_min']:.2f}",
        f"{mark}{row['ratio']:.2f}",
        "" if efficiency is None else f"{efficiency:.0%}",
        "" if error is None else f"{error:.0e}",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")[:160]


def missing_list(rows: Sequence[Row]) -> str:
    """Return what was missing and why, one line an engine and reason."""
    lines = dict.fromkeys(
        f"- {row['peer']}: {_cell(row['missing'])}" for row in rows if "missing" in row
    )
    return "\n".join(lines) or "None was missing."


def curve_table(rows: Sequence[Row]) -> str:
    """Return our sparse bundle over our dense one, models on targets as columns."""
    columns = list(groups(rows, "model", "target"))
    lines = []
    for sparsity in sorted({row["sparsity"] for row in rows}):
        times = {
            (row["model"], row["target"]): f"{row['ms_median']:.2f} ms, {row['speedup']:.2f}x"
            for row in rows
            if row["sparsity"] == sparsity
        }
        lines.append([f"{sparsity:.0%}", *(times.get(column, "") for column in columns)])
    return markdown(["Zeros", *(", ".join(map(str, column)) for column in columns)], lines)


def kernels_table(rows: Sequence[Row]) -> str:
    """Return percent of peak by shape, one column for each density and pattern."""
    return _by_case(rows, "shape", "Channels@side", "{of_peak:.0%}")


def limits_table(rows: Sequence[Row]) -> str:
    """Return the share of the peak that a tile can reach, and the tile, targets as rows."""
    return _by_case(rows, "target", "Target", "{of_peak:.0%} ({tile})")


def _by_case(rows: Sequence[Row], line: str, title: str, form: str) -> str:
    """Return a line for each value of a key, one column for each density and pattern."""
    columns = list(groups(rows, "density", "pattern"))
    lines = []
    for (value,), group in groups(rows, line).items():
        by_case: dict[tuple[object, ...], Row] = {(r["density"], r["pattern"]): r for r in group}
        cells = [by_case.get(column) for column in columns]
        lines.append([str(value), *(form.format(**c) if c else "" for c in cells)])
    names = {"unstructured": "", "block2": " b2", "block4": " b4"}
    return markdown([title, *(f"{density}{names[str(p)]}" for density, p in columns)], lines)


def fixed_cost_table(rows: Sequence[Row]) -> str:
    """Return open, first run, run and peak memory by target, model and engine."""
    lines = []
    for (target, model, peer), group in groups(rows, "target", "model", "peer").items():
        merged: Row = {key: value for row in group for key, value in row.items()}
        cells = [
            _figure(merged, "open_ms", "{:.2f}", 1),
            _figure(merged, "first_ms", "{:.1f}", 1e3),
            _figure(merged, "ms_median", "{:.2f}", 1e3),
            _figure(merged, "peak_rss_bytes", "{:.1f}", 1e-6),
            _figure(merged, "arena_bytes", "{:.2f}", 1e-6),
            _figure(merged, "shipped_bytes", "{:.2f}", 1e-6),
            _figure(merged, "of_onnx", "{:.3f}", 1),
        ]
        lines.append([f"{target}, {model}", str(peer), *cells])
    header = ["Target, model", "Engine", "Open ms", "First run us", "Run us", "Peak memory MB"]
    return markdown([*header, "Arena MB", "Shipped MB", "Shipped / dense ONNX"], lines)


def _figure(row: Row, key: str, form: str, factor: float) -> str:
    return form.format(row[key] * factor) if key in row else ""


def cost_model_table(rows: Sequence[Row]) -> str:
    """Return rank correlation and regret of every case."""
    lines = [
        [
            f"{row['target']}, {row['shape']}, density {row['density']} {row['pattern']}",
            f"{row['measured']} of {row['candidates']}",
            f"{row['rank_correlation']:.2f}",
            f"{row['regret']:.3f}",
            row["choice"],
            row["best"],
        ]
        for row in rows
    ]
    header = ["Target, layer", "Measured", "Rank correlation", "Regret", "Choice", "Best"]
    return markdown(header, lines)


def reorder_table(rows: Sequence[Row]) -> str:
    """Return what choosing formats and reordering channels did, a line a network and target."""
    header = (
        "Network", "Target", "Row by row ms", "Formats chosen ms", "Reordered ms", "Gains",
        "Predicted", "Layers", "Column loads", "Pass s",
    )  # fmt: skip
    return markdown(header, map(_reorder_cells, rows))


def _reorder_cells(row: Row) -> list[str]:
    times, moved = row["ms_median"], row["layers_reordered"]
    predicted, loads = "", ""
    if moved:
        predicted = f"{row['predicted_us_before'] / row['predicted_us_after']:.2f}x"
        loads = f"{row['union_columns_after'] / row['union_columns_before']:.2f}x"
    return [
        row["model"],
        row["target"],
        *(f"{times[control]:.3f}" for control in ("no-select", "no-reorder", "reordered")),
        f"{row['gain']:.2f}x",
        predicted,
        str(moved),
        loads,
        f"{row['seconds']:.1f}",
    ]


# XNNPACK's f32 SpMM for NEON (commit 75db3c0) under the same model of the A76, at density 0.1: its
# default without structure (32x1), and its best with blocks of four output channels (16x4).
XNNPACK_A76 = {
    "64-128@56": {"unstructured": 1.01, "block4": 0.87},
    "128-256@28": {"unstructured": 0.95, "block4": 0.69},
    "256-512@14": {"unstructured": 0.97, "block4": 0.61},
    "512-512@14": {"unstructured": 0.94, "block4": 0.57},
    "512-1024@7": {"unstructured": 1.32, "block4": 0.62},
}


def modelled_table(rows: Sequence[Row]) -> str:
    """Return modelled cycles for each useful vector multiply-add, cores as columns."""
    cores = [key for key in rows[0] if key.startswith("modelled")]
    lines = []
    for row in rows:
        reference = None
        if row["target"] == "arm64" and row["density"] == 0.1:
            reference = XNNPACK_A76.get(row["shape"], {}).get(row["pattern"])
        lines.append(
            [
                row["target"],
                f"{row['shape']}, density {row['density']} {row['pattern']}",
                row["format"],
                *(f"{row[core]:.2f}" for core in cores),
                "" if reference is None else f"{reference:.2f}",
            ]
        )
    return markdown(["Target", "Layer", "Format", *cores, "XNNPACK, a76-like"], lines)


def regret_sentences(rows: Sequence[Row]) -> str:
    """Return the median and worst regret of every target."""
    sentences = []
    for (target,), group in groups(rows, "target").items():
        regrets = [row["regret"] for row in group]
        median = float(np.median(regrets))
        sentences.append(f"{target}: median regret {median:.3f}, worst {max(regrets):.3f}.")
    return " ".join(sentences)
