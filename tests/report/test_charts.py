"""Positions are numbers: a chart's dots are where its data is."""

from __future__ import annotations

import copy

import pytest

from edgesparse.report import charts
from edgesparse.report.charts import BOTTOM, LEFT, RIGHT, TOP
from edgesparse.report.sections import Section, sections_of


@pytest.fixture
def section(document) -> Section:
    (found,) = sections_of([], [document], [])
    return found


def in_frame(chart: charts.Chart) -> bool:
    ends = [
        tuple(map(float, point.split(","))) for line in chart.lines for point in line.points.split()
    ]
    dots = [(dot.x, dot.y) for dot in chart.dots]
    return all(LEFT - 1 <= x <= RIGHT + 1 and TOP - 1 <= y <= BOTTOM + 1 for x, y in ends + dots)


def test_the_roofline_has_its_ridge_where_both_roofs_meet(section) -> None:
    chart = charts.roofline(section)
    assert chart is not None and in_frame(chart)
    (roof,) = chart.lines
    (x0, y0), (x1, y1), (x2, y2) = (
        tuple(map(float, point.split(","))) for point in roof.points.split()
    )
    assert y1 == y2 and y0 > y1 and x0 < x1 < x2 == RIGHT
    decades = {label: x for x, label in chart.x_ticks}
    assert decades["1"] < x1 < decades["10"]  # 50 / 20 = 2.5 FLOP a byte


def test_a_layer_stands_at_its_intensity_and_speed(section) -> None:
    """2 * 200 / 640 = 0.625 FLOP a byte; 400 FLOP in 3 us = 0.133 GFLOP/s."""
    (dot,) = charts.roofline(section).dots
    x = {label: x for x, label in charts.roofline(section).x_ticks}
    y = {label: y for y, label in charts.roofline(section).y_ticks}
    decade = x["1"] - x["0.1"]
    assert dot.x == pytest.approx(x["0.1"] + 0.79588 * decade, abs=0.1)
    assert dot.y == pytest.approx(y["0.1"] + 0.12494 * (y["1"] - y["0.1"]), abs=0.1)
    assert (dot.kind, dot.label.startswith("conv: 0.1 GFLOP/s, 0.62 FLOP a byte")) == (
        "sparse",
        True,
    )


def test_no_roofline_without_a_profile_or_roofs(section, document) -> None:
    del document["results"][0]["roofline"]
    assert charts.roofline(sections_of([], [document], [])[0]) is None
    del document["results"][0]["layers"]
    assert charts.roofline(sections_of([], [document], [])[0]) is None


def test_the_scatter_compares_time_with_the_dense_build(section) -> None:
    """3 us measured, 6 us dense predicted, 80 % zeros."""
    chart = charts.sparsity_scatter(section)
    assert chart is not None and in_frame(chart)
    (dot,) = chart.dots
    assert dot.x == pytest.approx(LEFT + 0.8 * (RIGHT - LEFT))
    assert dot.y == pytest.approx(BOTTOM + 0.5 / 1.1 * (TOP - BOTTOM))
    assert "conv: 80.0 % zeros, 0.50 of the dense time" in dot.label
    assert chart.caption.startswith("Measured")


def test_the_strip_shows_launches_and_what_is_far_out(document) -> None:
    samples = document["results"][0]["samples_ms"]
    samples[30] = 50.0
    (section,) = sections_of([], [document], [])
    chart = charts.sample_strip(section)
    assert chart is not None and in_frame(chart)
    assert len(chart.dots) == 60
    assert [dot.kind for dot in chart.dots].count("far") == 1
    assert chart.dots[30].y == pytest.approx(TOP)
    assert [line.kind for line in chart.lines] == ["level", "level", "roof"]
    assert chart.caption.startswith("60 samples in order, 3 launches")
    assert "1 slower one is drawn" in chart.caption
    document["results"][0]["launches"] = [60]
    (section,) = sections_of([], [document], [])
    chart = charts.sample_strip(section)
    assert chart is not None
    assert chart.caption.startswith("60 samples in order, 1 launch;")


def test_a_long_strip_is_thinned_but_keeps_what_is_far_out(document) -> None:
    result = document["results"][0]
    result["samples_ms"] = [1.0, 1.01] * 2000 + [9.0]
    (section,) = sections_of([], [document], [])
    chart = charts.sample_strip(section)
    assert len(chart.dots) < 810
    assert chart.dots[-1].kind == "far"
    assert "One in 6 is drawn" in chart.caption


def test_one_sample_is_a_strip(document) -> None:
    document["results"][0]["samples_ms"] = [2.0]
    (section,) = sections_of([], [document], [])
    chart = charts.sample_strip(section)
    assert chart is not None and in_frame(chart)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 100, ["0", "20", "40", "60", "80", "100"]),
        (0.93, 1.07, ["0.95", "1", "1.05"]),
        (0, 1.1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (2.0, 2.0, ["2"]),
    ],
)
def test_ticks_are_round(low, high, labels) -> None:
    scale = charts._linear_scale(low, high, 0, 1)
    assert [text for _, text in charts._linear_ticks(low, high, scale)] == labels


def test_bars_share_a_scale_with_their_intervals(document) -> None:
    slow = copy.deepcopy(document)
    slow["device"]["name"] = "adb:X"
    slow["results"][0] |= {"median_ms": 4.0, "median_interval_ms": [3.0, 5.0]}
    bars = charts.latency_bars(sections_of([], [document, slow], []))
    assert [bar.label for bar in bars] == ["host", "host on adb:X"]
    assert bars[1].fraction == pytest.approx(0.8)
    assert bars[1].whisker == (pytest.approx(0.6), pytest.approx(1.0))
