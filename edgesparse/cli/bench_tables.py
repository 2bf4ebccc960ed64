"""What `bench` and `results` show of result documents: grids and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgesparse.cli.output import Grid
from edgesparse.report import format_bytes, format_ms, format_number, format_ratio

Document = Mapping[str, Any]


def latency_grid(documents: Sequence[Document], *, relative: bool = False) -> Grid:
    """Return one row a bundle, and one a peer, of one document a device."""
    several = len(documents) > 1
    peers = list(dict.fromkeys(d["against"]["peer"] for d in documents if d["against"]))
    compared = any("baseline" in result for d in documents for result in d["results"])
    grid = Grid(
        [
            *(["Device"] if several else []),
            "Bundle",
            "Target",
            *(">Median", ">Min", ">p90", ">p99", ">First run", ">Load", ">Samples", ">Size"),
            *(f">{peer} / bundle" for peer in peers),
            *([">As fast as the first"] if relative else []),
            *([">Baseline", ">Change", ">99 % interval", "Verdict"] if compared else []),
        ]
    )
    for document in documents:
        device = [str(document["device"]["name"])] if several else []
        for result in document["results"]:
            row = [*device, result["bundle"], result["target"], *_times(result)]
            row += [format_ms(result["open_ms"]), str(result["runs"])]
            row += [format_bytes(result["shipped_bytes"])]
            row += [_with_interval(result, "ratio") for _ in peers]
            row += [_with_interval(result, "over_first")] if relative else []
            grid.add_row(*row, *(_baseline_cells(result) if compared else []))
        if peer := document["against"]:
            row = [*device, f"{peer['peer']} {peer['version']}", "", *_times(peer)]
            row += ["", str(peer["runs"])]
            grid.add_row(*row, *[""] * (len(grid.columns) - len(row)))
    return grid


def _times(entry: Document) -> list[str]:
    return [
        format_ms(entry.get(key)) for key in ("median_ms", "min_ms", "p90_ms", "p99_ms", "first_ms")
    ]


def _with_interval(result: Document, key: str) -> str:
    if result.get(key) is None:
        return ""
    low, high = result[f"{key}_interval"]
    return f"{format_ratio(result[key])} ({low:.2f}-{high:.2f})"


def _baseline_cells(result: Document) -> list[str]:
    baseline = result.get("baseline")
    if baseline is None:
        return [""] * 4
    return [format_ms(baseline["median_ms"]), *change_cells(baseline)]


def change_cells(comparison: Document) -> list[str]:
    """Return the change, its interval, and the verdict of a `statistics.Comparison`."""
    low, high = comparison["interval"]
    return [
        f"{100 * comparison['change']:+.1f} %",
        f"{100 * low:+.1f} to {100 * high:+.1f} %",
        verdict(comparison),
    ]


def verdict(comparison: Document) -> str:
    """Return in words what a comparison with a baseline says."""
    low, high = comparison["interval"]
    if comparison["is_regression"]:
        return "regression"
    if low <= 0 <= high:
        return "same, within the noise"
    return "faster" if high < 0 else "slower"


def relative_sentences(document: Document) -> list[str]:
    """Return a sentence for each bundle after the first: how much faster, and how sure that is."""
    first, *others = document["results"]
    return [_relative_sentence(first["bundle"], other) for other in others]


def _relative_sentence(first: str, result: Document) -> str:
    low, high = result["over_first_interval"]
    interval = f"{low:.3f}x to {high:.3f}x with 99 % confidence"
    if low <= 1 <= high:
        return f"{result['bundle']} takes as long as {first} within the noise ({interval})"
    return f"{result['bundle']} is {result['over_first']:.3f}x as fast as {first} ({interval})"


def conditions_line(document: Document) -> str:
    """Return threads, CPU, pinning, launches, warm-up and share of outliers in a line."""
    device, results = document["device"], document["results"]
    count = document["threads"]
    pinned = device["pinned_cpus"]
    warmups = ", ".join(str(result["warmup_runs"]) for result in results)
    shares = [result["outlier_share"] for result in results if "outlier_share" in result]
    outliers = ", ".join(f"{100 * share:.1f} %" for share in shares)
    launches = format_number(len(results[0].get("launches") or [1]), "launch", "launches")
    return (
        f"{'one thread' if count == 1 else f'{count} threads'} on {device['cpu']}"
        + (f", CPU {', '.join(map(str, sorted(pinned)))}" if pinned else "")
        + (f", node {device['node']}" if "node" in device else "")
        + f"; {launches}, warm-up {warmups} inferences"
        + (f"; far out {outliers}" if outliers else "")
    )


def profile_heading(result: Document) -> str:
    """Return what profiling cost: layers are timed one by one, totals are not."""
    total_ms = sum(layer["median_us"] for layer in result["layers"]) / 1e3
    return (
        f"{result['bundle']}: the layers sum to {format_ms(total_ms)} when timed one by one,"
        f" {format_ms(result['median_ms'])} otherwise (overhead"
        f" {100 * result['profile_overhead']:+.1f} %)"
    )


def profile_grid(result: Document, top: int | None, sort: str | None) -> Grid:
    """Return the layers; in the network's order unless sorted or cut."""
    grid = Grid(
        [
            *("Layer", "Op", "Output", "Format", ">Median", ">Share", ">Useful GFLOP/s"),
            *(">Bytes", ">Predicted"),
        ]
    )
    for layer in _chosen(result["layers"], top, sort):
        predicted = layer["predicted_us"]
        grid.add_row(
            layer["name"],
            layer["op"],
            "x".join(map(str, layer["shape"])),
            layer["format"],
            *_cost_cells(layer),
            "" if predicted is None else f"{predicted:.1f} us",
        )
    return grid


def _chosen(layers: Sequence[Document], top: int | None, sort: str | None) -> Sequence[Document]:
    if sort == "time" or (top is not None and sort is None):
        layers = sorted(layers, key=lambda layer: -float(layer["median_us"]))
    if top is None or sort != "order":
        return layers[:top]
    slowest = sorted(range(len(layers)), key=lambda index: -layers[index]["median_us"])[:top]
    return [layers[index] for index in sorted(slowest)]


def type_grid(result: Document) -> Grid:
    """Return the sums over layers of one operator, the longest first."""
    grid = Grid(["Op", ">Layers", ">Median", ">Share", ">Useful GFLOP/s", ">Bytes"])
    for row in result["by_type"]:
        grid.add_row(row["op"], str(row["layers"]), *_cost_cells(row))
    return grid


def _cost_cells(row: Document) -> Iterable[str]:
    gflops, size = row["useful_gflops"], row["bytes"]
    yield f"{row['median_us']:.1f} us"
    yield f"{100 * row['share']:.1f}%"
    yield "" if gflops is None else f"{gflops:.1f}"
    yield "" if size is None else format_bytes(size)
