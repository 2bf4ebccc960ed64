"""The accuracy table: which cells there are, that what is done stays done, and the page."""

import dataclasses
import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")

import accuracy
import accuracy_cells
import accuracy_page
from accuracy_cells import Cell
from measuring import append_row, read_lines

from edgesparse.models import tasks

COMMON = {"cpu": "a core", "edgesparse": "1.2.3", "command": "python benchmarks/accuracy.py"}


def row_of(cell: Cell, score: float) -> dict[str, object]:
    row = dataclasses.asdict(cell)
    left = 0.4 if cell.pattern == "1:8" else 1 - cell.sparsity
    sizes = {"parameters": 100, "seconds": 2.0, "dense_seconds": 0.0, "left": left}
    return {"what": "accuracy", "key": cell.key, **row, "metric": "top1", "score": score, **sizes}


@pytest.fixture
def rows():
    """Three seeds of two recipes on one task; the first seed compiled and timed."""
    methods = (("gradual", "unstructured"), ("sr-ste", "n:m"))
    found = []
    for index, cell in enumerate(
        accuracy_cells.cells_of(["digits"], methods, (0.5, 0.9), widths=(0.5,))
    ):
        found.append(row_of(cell, 0.9 + 0.01 * cell.seed - 0.1 * (cell.width < 1)))
        is_reference = cell.recipe == "dense" and cell.width == 1
        if cell.seed == 0 and not is_reference:
            times = {"us_median": 50.0 - index, "us_dense": 50.0}
            for target in ("host", "wasm"):
                what = {"what": "accuracy_time", "key": cell.key, "target": target}
                found.append({**what, **times})
        if cell.seed == 0:
            gate = {"device": "host", "samples": 10, "max_abs": 1e-6, "problems": []}
            gate |= {"bundle_percent": 90.0, "onnxruntime_percent": 90.0}
            both = {"host": gate, "arm64": {"missing": "no qemu"}}
            found.append({"what": "accuracy_gate", "key": cell.key, "targets": both})
    return [{**row, **COMMON} for row in found]


def test_the_whole_table_has_every_cell_once():
    cells = list(accuracy_cells.cells_of(tasks.TASKS))
    methods = len(accuracy_cells.METHODS) * len(accuracy_cells.SPARSITIES)
    assert len(cells) == 5 * 3 * (1 + len(accuracy_cells.WIDTHS) + methods)
    assert len({cell.key for cell in cells}) == len(cells)
    assert all(re.fullmatch(r"[\w.-]+", cell.key) for cell in cells)
    assert {cell.pattern for cell in cells if cell.recipe == "sr-ste"} == {
        "2:4", "1:4", "1:8", "1:16",
    }  # fmt: skip


def test_page_has_every_figure_with_its_spread(rows):
    text, plots = accuracy_page.page(rows)
    assert "**This page holds 18 of the 915 networks of the whole table.**" in text
    assert "| Recipe, pattern (dense: 91.0 ± 1.0) | 50% | 75% | 90% | 95% |" in text
    assert "| gradual, unstructured | 91.0 ± 1.0 |  | 91.0 ± 1.0 |  |" in text
    assert "| sr-ste, n:m | 91.0 ± 1.0 |  | 91.0 ± 1.0 (60% zeros) |  |" in text
    assert "| dense, width 0.5 | 100 | 81.0 ± 1.0 |" in text
    assert "| host | host | 6 | 60 | 6 | 0.000 | 1.0e-06 | 0 |" in text
    assert "arm64 | " not in text
    # The fastest of equal scores alone is on the front.
    assert "better than: sr-ste n:m 90% (45 us, 91.0 %)." in text
    assert sorted(plots) == ["accuracy_digits_host.svg", "accuracy_digits_wasm.svg"]
    for name, svg in plots.items():
        ElementTree.fromstring(svg)
        assert f"plots/{name}" in text


def test_page_of_one_seed_claims_no_spread(rows):
    first = [row for row in rows if row["what"] == "accuracy" and row["seed"] == 0]
    text, plots = accuracy_page.page(first)
    assert "±" not in text.split("## digits")[1]
    assert plots == {}
    assert "Nothing of it has been compiled" in text


def test_finished_cells_are_skipped(tmp_path: pathlib.Path, monkeypatch):
    path = tmp_path / "cells.jsonl"
    cells = list(accuracy_cells.cells_of(["digits"], (), (), seeds=1, widths=(0.5,)))
    append_row(path, row_of(cells[0], 0.5))
    with path.open("a") as file:
        file.write('{"what": "accuracy", "key": "torn')  # killed while writing
    seen = []

    def run_cell(cell, folder):
        seen.append(cell.key)
        return row_of(cell, 0.25)

    monkeypatch.setattr(accuracy_cells, "run_cell", run_cell)
    options = ["accuracy.py", "--tasks", "digits", "--json", str(path), "--phases", "train"]
    monkeypatch.setattr(
        sys, "argv", [*options, "--seeds", "1", "--widths", "0.5", "--recipes", "gradual",
                      "--patterns", "none"]
    )  # fmt: skip
    accuracy.main()
    assert seen == [cells[1].key]
    assert [row["score"] for row in read_lines(path)] == [0.5, 0.25]
    accuracy.main()
    assert len(seen) == 1


def test_rows_tell_command_and_machine(tmp_path: pathlib.Path):
    append_row(tmp_path / "a.jsonl", {"x": 1})
    append_row(tmp_path / "a.jsonl", {"x": 2})
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["x"] for line in lines] == [1, 2]
    assert all(line["cpu"] and line["threads"] == 1 for line in lines)


@pytest.mark.slow
def test_from_training_to_times(tmp_path: pathlib.Path, monkeypatch):
    """Two real networks, trained for a few steps, compared and measured on the host."""
    pytest.importorskip("onnxruntime")
    import accuracy_bundles

    from edgesparse.models.tasks import sorting

    data = sorting.make(64, seed=1), sorting.make(10, seed=2)
    schedule = dataclasses.replace(sorting.TASK.schedule, batch=16, dense_steps=4, prune_steps=10)
    task = dataclasses.replace(sorting.TASK, splits=lambda: data, schedule=schedule)
    monkeypatch.setattr(tasks, "load", lambda name: task)
    monkeypatch.setattr(accuracy_bundles, "TARGETS", ("host",))
    cells = [
        Cell("sorting", "dense", "dense", 0.0, 0),
        Cell("sorting", "gradual", "block4", 0.9, 0),
    ]
    rows = [accuracy_cells.run_cell(cell, tmp_path) for cell in cells]
    assert [row["left"] for row in rows] == [1.0, pytest.approx(0.1, abs=0.01)]
    for cell in cells:
        gate = accuracy_bundles.run_gate(cell, tmp_path)["targets"]["host"]
        assert gate["problems"] == []
        assert gate["samples"] == 10
        assert gate["bundle_percent"] == gate["onnxruntime_percent"]
    (found,) = accuracy_bundles.timed(cells, tmp_path, set(), 0.02)
    assert [(row["key"], row["target"]) for row in found] == [(cells[1].key, "host")]
    assert found[0]["us_median"] > 0 and found[0]["us_dense"] > 0
    done = {(cells[1].key, "host")}
    assert list(accuracy_bundles.timed(cells, tmp_path, done, 0.02)) == []
