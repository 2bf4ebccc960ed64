"""Geometry of the report's charts: everything is a number in an SVG's own units before it is drawn.

A chart is 400 x 250 units, so that its text can be read on a phone, where a unit is about a pixel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgesparse.harness.results import launches_of
from edgesparse.harness.statistics import summarize
from edgesparse.report.sections import Section
from edgesparse.report.wording import format_bytes, format_ms, format_number, is_sparse

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 386, 28, 208
_MOST_DOTS = 800
_SMALLEST, _LARGEST = 2.5, 9.0

Scale = Callable[[float], float]
Layer = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a list.

    Attributes:
        label: Its name.
        value: Its number, for people, e.g. `12.3 us`.
        fraction: Of the longest bar, 0 to 1.
        is_sparse: Ours, or of a layer that skips zeros.
        outline: Where an outlined bar ends on the same scale; 0 for none.
        whisker: Where an interval begins and ends on the same scale, or None.
    """

    label: str
    value: str
    fraction: float
    is_sparse: bool
    outline: float = 0.0
    whisker: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Dot:
    """A point of a chart, in SVG units, with what it says when pointed at."""

    x: float
    y: float
    radius: float
    label: str
    kind: str


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart: its points, and which kind it is."""

    points: str
    kind: str


@dataclasses.dataclass(frozen=True, slots=True)
class Chart:
    """A chart.

    Attributes:
        title: What it shows.
        caption: How to read it.
        x_title: What is measured to the right.
        y_title: What is measured upwards.
        x_ticks: Positions and labels.
        y_ticks: Positions and labels.
        lines: Drawn first.
        dots: Drawn over them.
    """

    title: str
    caption: str
    x_title: str
    y_title: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]
    dots: list[Dot]


def latency_bars(sections: Sequence[Section]) -> list[Bar]:
    """Return a bar with its interval for every timed section, and one for each peer."""
    timed = [(section.title, section.timed) for section in sections if section.timed]
    rows = [(title, t.result, True) for title, t in timed]
    # The first bundle's peer: each was timed beside its own, on the same machine.
    peers = {t.peer["peer"]: t.peer for _, t in reversed(timed) if t.peer}
    rows += [(name, peer, False) for name, peer in peers.items()]
    ends = [(entry.get("median_interval_ms") or [0, 0])[1] for _, entry, _ in rows]
    longest = max([*ends, *(entry["median_ms"] for _, entry, _ in rows)], default=0.0) or 1.0

    def bar(name: str, entry: Layer, ours: bool) -> Bar:
        low, high = entry.get("median_interval_ms") or (None, None)
        whisker = None if low is None or high is None else (low / longest, high / longest)
        time = entry["median_ms"]
        return Bar(name, format_ms(time), time / longest, ours, whisker=whisker)

    return [bar(*row) for row in rows]


def layer_bars(section: Section) -> tuple[list[Bar], str]:
    """Return measured bars with the prediction as an outline, else predicted ones and dense."""
    layers = section.layers
    predicted = [layer["decision"].get("predicted_us") or 0.0 for layer in layers]
    if section.is_profiled:
        measured = [layer["time_us"] or 0.0 for layer in layers]
        return _bars(layers, measured, predicted), "Measured time; outline: what was predicted"
    dense = [layer["decision"].get("predicted_dense_us") or 0.0 for layer in layers]
    return _bars(layers, predicted, dense), "Predicted time; outline: our own dense build"


def _bars(layers: Sequence[Layer], times: list[float], outlines: list[float]) -> list[Bar]:
    longest = max([*times, *outlines, 0.0]) or 1.0
    return [
        Bar(layer["name"], f"{time:.1f} us", time / longest, is_sparse(layer), ghost / longest)
        for layer, time, ghost in zip(layers, times, outlines, strict=True)
        if time or ghost
    ]


def roofline(section: Section) -> Chart | None:
    """Return useful GFLOP/s over useful FLOP per byte, under the roofs; None without a profile.

    Source: Williams, Waterman and Patterson, Roofline, CACM 52(4), 2009.
    """
    roof = section.roofline
    layers = [x for x in section.layers if x["useful_gflops"] and x["bytes"] and x["share"]]
    if roof is None or not layers:
        return None
    threads = section.timed.threads if section.timed else 1
    peak, band = threads * roof["peak_gflops"], threads * roof["l2_gbytes_per_second"]
    xs = [2 * layer["nonzero_macs"] / layer["bytes"] for layer in layers]
    ys = [layer["useful_gflops"] for layer in layers]
    ridge = peak / band
    low_x, high_x = _decades(min([*xs, ridge / 4]), max([*xs, ridge * 4]))
    low_y, high_y = _decades(min(ys), max([*ys, peak]))
    x, y = _log_scale(low_x, high_x, LEFT, RIGHT), _log_scale(low_y, high_y, BOTTOM, TOP)
    corners = [(max(low_x, low_y / band), 0.0), (ridge, peak), (high_x, peak)]
    corners[0] = (corners[0][0], corners[0][0] * band)
    dots = [
        Dot(
            x(a),
            y(b),
            _radius(layer["share"]),
            f"{layer['name']}: {b:.1f} GFLOP/s, "
            f"{a:.2g} FLOP a byte, {format_bytes(layer['bytes'])}",
            _kind(layer),
        )
        for layer, a, b in zip(layers, xs, ys, strict=True)
    ]
    return Chart(
        "Roofline",
        f"Roofs: what the cost model assumes of {threads} x {roof['core']}, {peak:.0f} GFLOP/s and"
        f" {band:.0f} GB/s from the L2 cache. Only non-zero multiply-adds count as work; a larger"
        " dot takes more of the time.",
        "useful FLOP per byte read and written",
        "useful GFLOP/s",
        _log_ticks(low_x, high_x, x),
        _log_ticks(low_y, high_y, y),
        [Line(_points([(x(a), y(b)) for a, b in corners]), "roof")],
        dots,
    )


def sparsity_scatter(section: Section) -> Chart | None:
    """Return each layer's time as a part of our own dense build's, over its zeros."""
    layers = [x for x in section.layers if x["decision"].get("predicted_dense_us")]
    if not layers:
        return None
    parts = [_time_us(layer, section) / layer["decision"]["predicted_dense_us"] for layer in layers]
    top = max(1.1, *parts)
    x, y = _linear_scale(0, 100, LEFT, RIGHT), _linear_scale(0, top, BOTTOM, TOP)
    dots = [
        Dot(
            x(100 * (layer["decision"].get("zeros") or 0.0)),
            y(part),
            _radius(layer["share"]),
            f"{layer['name']}: {100 * (layer['decision'].get('zeros') or 0):.1f} % zeros,"
            f" {part:.2f} of the dense time",
            _kind(layer),
        )
        for layer, part in zip(layers, parts, strict=True)
    ]
    word = "Measured" if section.is_profiled else "Predicted"
    return Chart(
        "Zeros and time",
        f"{word} time over the predicted time of our own dense build. On the slanting line every"
        " zero would save its share of the time; below 1 the layer gains.",
        "zero weights, %",
        "time / dense",
        [(x(v), f"{v:g}") for v in (0, 25, 50, 75, 100)],
        _linear_ticks(0, top, y),
        [
            Line(_points([(x(0), y(1)), (x(100), y(1))]), "level"),
            Line(_points([(x(0), y(1)), (x(100), y(0))]), "roof"),
        ],
        dots,
    )


def sample_strip(section: Section) -> Chart | None:
    """Return the samples in the order in which they were taken, launch by launch."""
    if section.timed is None:
        return None
    result = section.timed.result
    samples = [float(ms) for ms in result["samples_ms"]]
    found = summarize(samples)
    upper = float(np.percentile(samples, 95)) if len(samples) > 20 else max(samples)
    low, high = found.min_ms, max(upper, found.min_ms * 1.02)
    pad = 0.05 * (high - low)
    low, high = max(0.0, low - pad), high + pad
    x = _linear_scale(0, max(1, len(samples) - 1), LEFT, RIGHT)
    y = _linear_scale(low, high, BOTTOM, TOP)
    step = -(-len(samples) // _MOST_DOTS)
    dots = [
        Dot(
            x(index),
            y(min(ms, high)),
            1.6,
            f"sample {index + 1}: {format_ms(ms)}",
            "far" if ms > high else "sparse",
        )
        for index, ms in enumerate(samples)
        if index % step == 0 or ms > high
    ]
    starts = np.cumsum(launches_of(result))[:-1]
    lines = [Line(_points([(x(s - 0.5), TOP), (x(s - 0.5), BOTTOM)]), "level") for s in starts]
    lines.append(Line(_points([(LEFT, y(found.median_ms)), (RIGHT, y(found.median_ms))]), "roof"))
    above = sum(ms > high for ms in samples)
    launches = format_number(len(starts) + 1, "launch", "launches")
    slower = format_number(above, "slower one is", "slower ones are")
    return Chart(
        "Samples",
        f"{len(samples)} samples in order, {launches}; the line is the median."
        + (f" {slower} drawn at the top." if above else "")
        + (f" One in {step} is drawn." if step > 1 else ""),
        "sample",
        "ms" if high >= 1 else "us",
        _linear_ticks(0, len(samples) - 1, x, whole=True) if len(samples) > 1 else [],
        _linear_ticks(low, high, y, factor=1.0 if high >= 1 else 1e3),
        lines,
        dots,
    )


def _time_us(layer: Layer, section: Section) -> float:
    time = layer["time_us"] if section.is_profiled else layer["decision"].get("predicted_us")
    return float(time or 0.0)


def _kind(layer: Layer) -> str:
    return "sparse" if is_sparse(layer) else "plain"


def _radius(share: float | None) -> float:
    """Return a radius whose circle is as large as the share, within limits."""
    if share is None:
        return 4.0
    return min(_LARGEST, max(_SMALLEST, 24 * math.sqrt(share)))


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _linear_scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / ((high - low) or 1.0) * (end - start)


def _log_scale(low: float, high: float, start: float, end: float) -> Scale:
    linear = _linear_scale(math.log10(low), math.log10(high), start, end)
    return lambda value: linear(math.log10(value))


def _decades(low: float, high: float) -> tuple[float, float]:
    """Return the powers of ten that enclose positive numbers."""
    return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high) + 1e-9)


def _log_ticks(low: float, high: float, scale: Scale) -> list[tuple[float, str]]:
    first, last = round(math.log10(low)), round(math.log10(high))
    return [(scale(10.0**power), f"{10.0**power:g}") for power in range(first, last + 1)]


def _linear_ticks(
    low: float, high: float, scale: Scale, *, factor: float = 1.0, whole: bool = False
) -> list[tuple[float, str]]:
    """Return four to eight round numbers between two, shown times a factor."""
    span = (high - low) * factor or 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= 6)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low * factor / step - 1e-9)
    numbers = [step * n for n in range(first, math.floor(high * factor / step + 1e-9) + 1)]
    return [(scale(number / factor), f"{number:.6g}") for number in numbers]
