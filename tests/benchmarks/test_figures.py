"""Figures: efficiency, ratios, ranks, useful work, memory."""

import json

import cost_model
import fixed_cost
import kernels
import layers
import measuring
import numpy as np
import onnx
import pytest

from edgesparse.harness.bench import Timing


def load_models():
    import importlib.util
    import pathlib

    path = pathlib.Path(measuring.__file__).with_name("models.py")
    spec = importlib.util.spec_from_file_location("benchmark_models", path)
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks itself up by module name.
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


models = load_models()


def timing(*samples: float) -> Timing:
    return Timing(first_ms=9.0, warmup_runs=1, batch=1, samples_ms=list(samples))


def test_efficiency_is_the_share_of_skipped_work_that_became_time():
    timings = {
        "edgesparse": timing(2.0, 2.0, 2.0),
        "edgesparse-dense": timing(9.0, 9.0, 9.0),
        "onnxruntime": timing(8.0, 8.0, 8.0),
        "deepsparse": timing(4.0, 4.0, 4.0),
    }
    rows = {row["peer"]: row for row in models.rows_of(timings, left=0.125)}
    assert rows["edgesparse"]["efficiency"] == pytest.approx(8 / 2 * 0.125)
    assert rows["deepsparse"]["efficiency"] == pytest.approx(8 / 4 * 0.125)
    assert rows["onnxruntime"]["efficiency"] is None
    assert rows["deepsparse"]["ratio"] == 2.0 and rows["edgesparse"]["ratio"] == 1.0


def test_ratio_is_of_pairs_not_of_medians():
    timings = {"edgesparse": timing(1.0, 2.0, 4.0), "deepsparse": timing(3.0, 2.0, 4.0)}
    rows = {row["peer"]: row for row in models.rows_of(timings, left=1.0)}
    assert rows["deepsparse"]["ratio"] == 1.0


def test_samples_of_two_speeds_are_flagged():
    """onnxruntime-web in node, 75 % zeros: 51 ms at first and last, 180 in between."""
    two = [51.0] * 2 + [180.0] * 13 + [53.0] * 6
    assert measuring.is_unsteady(two)
    assert not measuring.is_unsteady([50.0] * 12 + [180.0] * 9)  # the median is of the usual one
    assert not measuring.is_unsteady([51.0, 55.0, 60.0, 52.0])
    timings = {"edgesparse": timing(*[9.0] * 21), "onnxruntime-web": timing(*two)}
    rows = {row["peer"]: row for row in models.rows_of(timings, left=1.0)}
    assert {name: row["is_unsteady"] for name, row in rows.items()} == {
        "edgesparse": False,
        "onnxruntime-web": True,
    }
    about = {"model": "n", "sparsity": 0.75, "pattern": "p", "target": "t", "error": None}
    assert "20.00x unsteady" in models.format_row({**about, **rows["onnxruntime-web"]})


def test_launches_are_joined_and_missing_engines_left_out():
    launches = [
        {"edgesparse": timing(1.0, 2.0), "mnn": timing(5.0, 5.0), "deepsparse": timing(1.0, 1.0)},
        {"edgesparse": timing(3.0), "mnn": timing(6.0)},
    ]
    found = models.joined(launches, {"deepsparse": "it went away", "litertjs": "no wheel"})
    assert {name: t.samples_ms for name, t in found.items()} == {
        "edgesparse": [1.0, 2.0, 3.0],
        "mnn": [5.0, 5.0, 6.0],
    }
    assert found["mnn"].launches == (2, 1)


def test_every_engine_is_opened_afresh_at_every_launch(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["models.py", "--peers", "--launches", "2", "--seconds", "0.1"])
    opened = []

    def open_again(bundle, device):
        opened.append(bundle)
        return measuring.open_bundle(bundle, device)

    def build(folder, name, sparsity, pattern="unstructured"):
        shape = layers.Shape(8, 8, 4)
        weight = layers.random_weight(shape, 1.0 - sparsity, "unstructured")
        return layers.save_layer(folder / f"{sparsity}.onnx", shape, weight)

    monkeypatch.setattr(models, "build_model", build)
    monkeypatch.setattr(models, "open_bundle", open_again)
    rows = list(models.measure(tmp_path, 0.5, "host", models.parse_arguments()))
    assert [row["peer"] for row in rows] == ["edgesparse", "edgesparse-dense"]
    assert all(len(row["samples_ms"]) >= 20 and row["layers"] for row in rows)
    assert rows[0]["error"] < 1e-5
    assert len(opened) == 4


def test_relative_error_is_over_the_largest_value():
    expected = {"y": np.array([1.0, -4.0])}
    assert models.relative_error({"y": np.array([1.0, -3.0])}, expected) == 0.25


def test_useful_gflops_and_share_of_peak():
    row = kernels.figures(timing(2.0, 1.0), macs=10**9, peak_gflops=4000.0)
    assert row["gflops"] == pytest.approx(2000.0)
    assert row["of_peak"] == pytest.approx(0.5)


def test_intensity_counts_each_byte_once():
    shape = layers.Shape(cols=4, rows=8, side=2)
    macs = 16 * shape.pixels
    assert kernels.intensity(shape, macs) == 2 * macs / (4 * (16 + 4 * 4 + 8 * 4))


@pytest.mark.parametrize("pattern", layers.PATTERNS)
def test_random_weight_has_exactly_the_density_in_blocks(pattern):
    shape = layers.Shape(cols=32, rows=64, side=1)
    weight = layers.random_weight(shape, 0.25, pattern)
    assert np.count_nonzero(weight) == 0.25 * 32 * 64
    height = layers.PATTERNS[pattern]
    masks = (weight != 0).reshape(-1, height, 32)
    assert (masks == masks[:, :1]).all()


def test_a_saved_layer_is_a_valid_model(tmp_path):
    shape = layers.Shape(3, 5, 4)
    weight = layers.random_weight(shape, 1.0, "unstructured")
    onnx.checker.check_model(onnx.load(layers.save_layer(tmp_path / "m.onnx", shape, weight)))


def test_the_layers_of_a_session_are_those_with_multiply_adds():
    class Runner:
        ready = run = load = pin = close = None

        def profile(self, count):
            return [[100.0, 1.0, 2.0, 100.0]] * count

    manifest = [{"steps": [0, 1], "macs": 0}, {"steps": [1, 3], "macs": 7}]
    session = layers.LayerSession(Runner(), [*manifest, {"steps": [3, 4], "macs": 0}])
    assert session.bench(2, 3) == [3.0, 3.0]


def test_rank_correlation():
    assert cost_model.rank_correlation([1, 2, 3], [10, 20, 90]) == pytest.approx(1.0)
    assert cost_model.rank_correlation([1, 2, 3], [9, 5, 1]) == pytest.approx(-1.0)
    assert cost_model.mean_ranks([5, 1, 5]).tolist() == [1.5, 0.0, 1.5]


def test_candidates_to_measure_are_the_best_and_some_of_the_rest():
    assert cost_model.spread(5, 9) == [0, 1, 2, 3, 4]
    chosen = cost_model.spread(200, 20)
    assert chosen[:10] == list(range(10)) and chosen[-1] == 199
    assert len(set(chosen)) == 20


def test_a_forced_candidate_is_what_is_compiled(tmp_path):
    shape = layers.Shape(8, 8, 4)
    weight = layers.random_weight(shape, 0.5, "unstructured")
    model = layers.save_layer(tmp_path / "m.onnx", shape, weight)
    found = cost_model.candidates_of(model, "wasm")
    last = max(found, key=lambda candidate: candidate.cycles)
    with cost_model.forced(last):
        bundle = measuring.compile_model(model, "wasm")
    assert layers.linear_layer(bundle.manifest["layers"])["decision"]["format"] == last.label


def test_peak_memory_is_read_from_the_kernel():
    assert fixed_cost.high_water_bytes("Name:\tx\nVmHWM:\t   12 kB\nVmRSS:\t 7 kB\n") == 12 * 1024


def test_command_line_leaves_out_where_results_go():
    words = ["/home/x/benchmarks/curve.py", "--json", "/tmp/a b", "--seconds", "2", "--json=y"]
    assert measuring.command_line(words) == "python benchmarks/curve.py --seconds 2"
    assert measuring.command_line(["a.py", "--lib", "/opt/b.so"]).endswith("--lib b.so")


def test_rows_carry_command_and_machine(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    measuring.write_rows(path, [{"what": "x"}, {"what": "y"}])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["what"] for row in rows] == ["x", "y"]
    assert rows[0]["threads"] == 1 and {"command", "cpu", "edgesparse"} <= rows[0].keys()
