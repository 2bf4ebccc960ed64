"""The performance page: every figure has its command, what was missing is listed, plots are SVG."""

import json
import pathlib
import re
import xml.etree.ElementTree as ElementTree

import performance
import plots
import pytest

COMMON = {"cpu": "a core", "edgesparse": "1.2.3", "threads": 1}
NETWORK = {
    "what": "models",
    "model": "net",
    "sparsity": 0.9,
    "pattern": "unstructured",
    "target": "host",
    "command": "python benchmarks/models.py --model net",
    **COMMON,
}
LAYERS = [
    {"name": "first <&>", "median_us": 10.0},
    {"name": "second", "median_us": 20.0},
]
FIGURES = {"version": "9", "ms_median": 2.0, "ms_min": 1.5, "ratio": 1.0, "error": 1e-6}
ROWS = [
    {**NETWORK, **FIGURES, "peer": "edgesparse", "efficiency": 0.5, "layers": LAYERS},
    {**NETWORK, **FIGURES, "peer": "edgesparse-dense", "efficiency": None, "layers": LAYERS},
    {**NETWORK, "peer": "deepsparse", "missing": "no | wheel"},
    *(
        {
            "what": "curve",
            "model": "net",
            "target": "host",
            "sparsity": sparsity,
            "speedup": speedup,
            "interval": [speedup - 0.02, speedup + 0.02],
            "ms_median": 3.0,
            "command": "python benchmarks/curve.py",
            **COMMON,
        }
        for sparsity, speedup in ((0.0, 1.0), (0.3, 0.99), (0.5, 0.9), (0.9, 3.3))
    ),
    *(
        {
            "what": "kernels",
            "target": "wasm",
            "shape": "8-8@4",
            "density": density,
            "pattern": "block4",
            "of_peak": 0.62,
            "gflops": 31.0,
            "peak_gflops": 50.0,
            "l2_gb_per_s": 40.0,
            "intensity": 3.0,
            "command": "python benchmarks/kernels.py",
            **COMMON,
        }
        for density in (0.1, 1.0)
    ),
    {
        "what": "limits",
        "target": "host",
        "density": 0.1,
        "pattern": "block4",
        "tile": "4x5",
        "of_peak": 0.84,
        "command": "python benchmarks/limits.py",
        **COMMON,
    },
    {
        "what": "fixed_cost",
        "target": "host",
        "model": "one_pixel",
        "peer": "edgesparse",
        "open_ms": 0.5,
        "first_ms": 0.004,
        "ms_median": 0.001,
        "command": "python benchmarks/fixed_cost.py",
        **COMMON,
    },
    {
        "what": "cost_model",
        "target": "host",
        "shape": "8-8@4",
        "density": 0.1,
        "pattern": "unstructured",
        "measured": 5,
        "candidates": 9,
        "rank_correlation": 0.8,
        "regret": 1.07,
        "choice": "1x8",
        "best": "2x8",
        "command": "python benchmarks/cost_model.py",
        **COMMON,
    },
    {
        "what": "reorder",
        "model": "toy_scattered",
        "target": "host",
        "ms_median": {"no-select": 3.5, "no-reorder": 3.25, "reordered": 2.5},
        "gain": 1.31,
        "choice": 1.08,
        "layers_reordered": 4,
        "union_columns_before": 200,
        "union_columns_after": 90,
        "predicted_us_before": 60.0,
        "predicted_us_after": 40.0,
        "seconds": 0.3,
        "command": "python benchmarks/reorder.py",
        **COMMON,
    },
    {
        "what": "arm64_cycles",
        "target": "arm64",
        "shape": "8-8@4",
        "density": 0.1,
        "pattern": "block4",
        "format": "4x24",
        "modelled (a76-like)": 0.71,
        "command": "python benchmarks/arm64_cycles.py",
        **COMMON,
    },
]


def test_every_section_shows_its_command_and_figures():
    text, _ = performance.page(ROWS)
    for row in ROWS:
        assert f"    {row['command']}\n" in text
    for figure in ("0.90x", "62%", "1.070", "0.71", "50%", "1.31x", "1.50x", "0.45x", "84% (4x5)"):
        assert figure in text


def test_a_ratio_of_two_speeds_is_marked_and_the_mark_explained():
    text, _ = performance.page(ROWS)
    assert "unsteady" not in text
    ours, dense, *rest = ROWS
    own, _ = performance.page([ours, {**dense, "is_unsteady": True}, *rest])
    assert own.count("| unsteady: 1.00 |") == 1
    assert "*unsteady*: the engine, or the bundle it is held against, ran at two speeds" in own
    assert "more than 1.3 times their 10th percentile" in own
    both, _ = performance.page([{**ours, "is_unsteady": True}, dense, *rest])
    assert both.count("| unsteady: 1.00 |") == 2


def test_the_page_does_not_claim_to_be_the_makefiles():
    text, _ = performance.page(ROWS)
    assert "Written by `benchmarks/performance.py` from the results of the commands" in text
    assert "Written by `make bench`" not in text


def test_missing_peers_are_listed_and_do_not_break_the_table():
    text, _ = performance.page(ROWS)
    assert "- deepsparse: no / wheel" in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert tables
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_sparse_bundle_slower_than_dense_beyond_the_noise_is_named():
    text, _ = performance.page(ROWS)
    assert "Slower than dense: net, host 50% (0.90x)." in text


def test_plots_are_well_formed_and_shown():
    text, drawn = performance.page(ROWS)
    assert set(drawn) == set(re.findall(r"\(plots/([^)]+)\)", text))
    assert any(name.startswith("layers_net") for name in drawn)
    for svg in drawn.values():
        assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_sections_without_results_are_left_out():
    text, drawn = performance.page(ROWS[2:3])
    assert "## Kernels" not in text and "## Whole networks" in text and not drawn


def test_results_are_read_file_by_file(tmp_path: pathlib.Path):
    (tmp_path / "2.jsonl").write_text(json.dumps({"what": "b"}) + "\n")
    (tmp_path / "1.jsonl").write_text(json.dumps({"what": "a"}) + "\n")
    assert [row["what"] for row in performance.read_rows(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(("least", "step"), [(0.19, 0.2), (1.0, 1.0), (23, 50), (0.6, 1.0)])
def test_ticks_are_round(least, step):
    assert plots.round_step(least) == pytest.approx(step)


def test_axes_cover_their_values():
    assert plots.linear_axis("x", 4.45).high >= 4.45
    axis = plots.log_axis("x", 3.0, 60.0)
    assert axis.low <= 3 and axis.high >= 60
    assert axis.place(axis.low) == 0 and axis.place(axis.high) == 1
    assert axis.place((axis.low * axis.high) ** 0.5) == pytest.approx(0.5)
