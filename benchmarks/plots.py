"""Small SVG plots: lines over linear axes, pairs of bars, points under a roof. No dependencies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 56, 48
LEGEND_TOP = 32
COLORS = ("#1f6feb", "#d1662b", "#2b8a57", "#8250df", "#b02a4c", "#57606a")
STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:14px}"
    ".grid{stroke:#ddd}.axis{stroke:#888}</style>"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """One axis: where values go.

    Attributes:
        label: What it shows, with the unit.
        low: Smallest value.
        high: Largest value.
        ticks: Values with a line and a label.
        is_log: Equal ratios are equal lengths.
    """

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def place(self, value: float) -> float:
        """Return where a value stands between the ends, 0 to 1."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = (math.log(v) for v in (low, high, max(value, low)))
        return (value - low) / (high - low)


def linear_axis(label: str, high: float, *, low: float = 0.0) -> Axis:
    """Return an axis with about five round ticks that covers `low` to `high`."""
    step = round_step((high - low) / 5)
    count = math.ceil((high - low) / step - 1e-9)
    return Axis(label, low, low + step * count, tuple(low + step * i for i in range(count + 1)))


def log_axis(label: str, low: float, high: float) -> Axis:
    """Return an axis by powers of two that covers `low` to `high`."""
    first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
    last = max(last, first + 1)
    ticks = tuple(2.0**power for power in range(first, last + 1))
    return Axis(label, ticks[0], ticks[-1], ticks, is_log=True)


def round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def line_chart(title: str, x: Axis, y: Axis, lines: Mapping[str, Sequence[Point]]) -> str:
    """Return an SVG with one line and dots for each series."""
    parts = []
    for (name, points), color in zip(lines.items(), _colors(), strict=False):
        places = [_place(x, y, point) for point in points]
        pairs = zip(places, points, strict=True)
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [_dot(place, color, f"{name}: {p[1]:.3g}") for place, p in pairs]
    return _document(title, [*_frame(x, y), *parts, *_legend(list(lines))])


def scatter(
    title: str,
    x: Axis,
    y: Axis,
    series: Mapping[str, Sequence[Point]],
    roof: Callable[[float], float],
) -> str:
    """Return an SVG with dots under a roof, a function of x drawn as a line."""
    steps = [x.low * (x.high / x.low) ** (i / 60) for i in range(61)]
    edge = " ".join("{:.1f},{:.1f}".format(*_place(x, y, (v, roof(v)))) for v in steps)
    parts = [f'<polyline points="{edge}" fill="none" stroke="#333" stroke-width="2"/>']
    for (name, points), color in zip(series.items(), _colors(), strict=False):
        parts += [_dot(_place(x, y, p), color, f"{name}: {p[1]:.3g}") for p in points]
    return _document(title, [*_frame(x, y), *parts, *_legend(list(series))])


def bar_chart(
    title: str, label: str, names: Sequence[str], series: Mapping[str, Sequence[float]]
) -> str:
    """Return an SVG with a group of horizontal bars for each name."""
    bar, gap, top = 12, 6, TOP
    pitch = bar * len(series) + gap
    height = top + pitch * len(names) + 30
    left, most = 220, max(max(values) for values in series.values())
    scale = (WIDTH - left - 70) / most if most else 0
    parts = [f'<text x="{left}" y="{height - 8}">{escape(label)}</text>']
    for row, name in enumerate(names):
        y = top + row * pitch
        middle = y + pitch / 2
        parts.append(f'<text x="{left - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>')
        for (values, color), index in zip(_colored(series), range(len(series)), strict=True):
            width, at = values[row] * scale, y + index * bar
            parts.append(
                f'<rect x="{left}" y="{at}" width="{width:.1f}" height="{bar - 1}" fill="{color}"/>'
            )
            end = left + width + 4
            parts.append(f'<text x="{end:.1f}" y="{at + bar - 2}">{values[row]:.3g}</text>')
    return _document(title, [*parts, *_legend(list(series), LEFT)], height)


def _colored(series: Mapping[str, Sequence[float]]) -> Iterable[tuple[Sequence[float], str]]:
    return zip(series.values(), _colors(), strict=False)


def _colors() -> Iterable[str]:
    return COLORS * 4


def _place(x: Axis, y: Axis, point: Point) -> Point:
    across, up = x.place(point[0]), y.place(point[1])
    return (
        LEFT + across * (WIDTH - LEFT - RIGHT),
        HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
    )


def _dot(place: Point, color: str, tip: str) -> str:
    center = f'cx="{place[0]:.1f}" cy="{place[1]:.1f}"'
    return f'<circle {center} r="3.5" fill="{color}"><title>{escape(tip)}</title></circle>'


def _frame(x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick in x.ticks:
        at, bottom = _place(x, y, (tick, y.low))
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for tick in y.ticks:
        left, at = _place(x, y, (x.low, tick))
        end = WIDTH - RIGHT
        parts.append(f'<line class="grid" x1="{left}" x2="{end}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{x.label}</text>')
    parts.append(
        f'<text transform="translate(16 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.label)}</text>"
    )
    return parts


def _legend(names: Sequence[str], left: int = LEFT) -> list[str]:
    parts, at = [], float(left)
    for name, color in zip(names, _colors(), strict=False):
        parts.append(f'<rect x="{at}" y="{LEGEND_TOP}" width="10" height="10" fill="{color}"/>')
        parts.append(f'<text x="{at + 14}" y="{LEGEND_TOP + 10}">{escape(name)}</text>')
        at += 34 + 6.8 * len(name)
    return parts


def _document(title: str, parts: Iterable[str], height: int = HEIGHT) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
        f'{STYLE}<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n'
        f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>\n{body}\n</svg>\n'
    )
