"""`edgesparse sparsify`: what it prints, and how it fails."""

import json
import re
import shlex

import numpy as np
import onnx
import pytest
from prunable_nets import save

from edgesparse.cli import main


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return save(tmp_path_factory.mktemp("net"))


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        code = main(["sparsify", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_table_and_the_totals(run, files, tmp_path):
    code, out, err = run(
        *(files[0], "--data", files[1], "--sparsity", "0.6", "--pattern", "rows4"),
        *("--samples", "32", "--min-weights", "100", "-o", "s.onnx", "--emit-masks", "m.npz"),
    )
    assert code == 0
    row = (
        r"second +Conv +32x32x3x3 +0\.0% +-> +\d\d\.\d% +rows4 +\d+\.\d% +[\d.]+ us +-> +[\d.]+ us"
    )
    assert re.search(row, out)
    assert re.search(r"deep .*depthwise: its kernel skips no zeros; refitted", out)
    assert re.search(r"stem .*72 weights, fewer than 100; refitted", out)
    assert re.search(r"s\.onnx: 0\.0 % -> 6\d\.\d % zeros; layers with weights predicted", out)
    assert "calibrated on 32 samples; on 128 others the outputs differ by" in out
    assert re.search(r"top1 accuracy on those: 100\.00 % -> [\d.]+ % \([+-][\d.]+ points\)", out)
    assert "edgesparse compile s.onnx --target host -o s" in err
    assert (tmp_path / "s.onnx").exists()
    assert set(np.load(tmp_path / "m.npz").files) == {"first.w", "second.w", "head.w"}


def test_json(run, files):
    code, out, _ = run(
        *(files[0], "--data", files[1], "--latency", "0.8x", "--samples", "32", "--json"),
        *("--min-weights", "100", "-o", "s.onnx", "--dense", "second"),
    )
    document = json.loads(out)
    assert code == 0
    assert document["us"] <= 0.8 * document["us_before"]
    second = next(layer for layer in document["layers"] if layer["name"] == "second")
    assert (second["zeros"], second["reason"]) == (None, "left as it is, as asked")
    assert document["drop"] == document["judgement"]["before"] - document["judgement"]["after"]


def test_one_sample_that_judges_has_no_variance(run, tmp_path):
    path, data = save(tmp_path, count=2, labels=False)
    arguments = (path, "--data", data, "--sparsity", "0.7", "-o", "s.onnx")
    code, out, _ = run(*arguments)
    assert code == 0
    assert "on 1 others the outputs differ by an unknown part of their variance: one" in out
    judged = json.loads(run(*arguments, "--json")[1])["judgement"]
    assert judged == {"samples": 1, "error": None, "before": None, "after": None}


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["-o", "s.onnx"], 2, "expected one goal", "--latency 0.6x"),
        (["-o", "s.onnx", "--sparsity", "0.5", "--max-drop", "1"], 2, "expected one goal", ""),
        (["--sparsity", "0.5"], 2, "missing option '-o'", ""),
        (
            ["-o", "s.onnx", "--sparsity", "0.5", "--pattern", "4:2"],
            2,
            "unknown pattern '4:2'",
            "nm",
        ),
        (
            ["-o", "s.onnx", "--sparsity", "0.5", "--dense", "second", "--dense", "secnod"],
            2,
            "no layers called secnod, which",
            "it has stem, first, deep",
        ),
        (["-o", "s.onnx", "--latency", "0.01x", "--samples", "8"], 5, "cannot be reached", "0."),
    ],
)
def test_errors(run, files, tmp_path, arguments, code, message, hint):
    found, out, err = run(files[0], "--data", files[1], *arguments)
    assert (found, out) == (code, "")
    error, _, rest = err.partition("\nhint: ")
    assert error.startswith("error: ") and message in error
    assert hint in rest
    assert not (tmp_path / "s.onnx").exists()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["-o", "d.npz"], "d.npz would hold both the samples and the model"),
        (["-o", "s", "--emit-masks", "./s"], "s would hold both the model and the masks"),
        (["-o", "s", "--emit-masks", "m.onnx"], "m.onnx would hold both the model and the masks"),
        (["-o", "s", "--emit-masks", "d.npz"], "d.npz would hold both the samples and the masks"),
    ],
)
def test_no_file_is_written_over_another(run, files, tmp_path, outputs, message):
    data = files[1].read_bytes()
    (tmp_path / "d.npz").write_bytes(data)
    code, _, err = run("m.onnx", "--data", "d.npz", "--sparsity", "0.5", *outputs)
    assert code == 2
    assert message in err
    assert (tmp_path / "d.npz").read_bytes() == data and not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["-o", "s.onnx", "--emit-masks", "file/m.npz"], "cannot write file/m.npz: "),
        (["-o", "s.onnx", "--emit-masks", "."], "cannot write .: expected a file, found a folder"),
        (["-o", "file/s.onnx"], "cannot write file/s.onnx: "),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_read(run, tmp_path, outputs, message):
    (tmp_path / "file").write_text("")
    code, _, err = run("gone.onnx", "--data", "gone.npz", "--sparsity", "0.5", *outputs)
    assert code == 1
    assert err.startswith(f"error: {message}")
    option = "--emit-masks" if "--emit-masks" in outputs else "--output"
    assert f"hint: choose another file with `{option}`" in err


def test_folders_of_both_files_are_made(run, files, tmp_path):
    outputs = ("-o", "new/s.onnx", "--emit-masks", "other/new/m.npz")
    options = ("--sparsity", "0.5", "--samples", "8", *outputs)
    assert run(files[0], "--data", files[1], *options)[0] == 0
    assert (tmp_path / "new" / "s.onnx").exists()
    assert np.load(tmp_path / "other" / "new" / "m.npz").files


@pytest.mark.parametrize("name", ["my model.onnx", "model"])
def test_what_comes_next_can_be_typed(run, files, tmp_path, name):
    model = onnx.load(files[0])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, "symbolic.onnx")
    shape = ",".join(map(str, static_shape(model)))
    options = ("--sparsity", "0.5", "--samples", "8", "--shape", f"x:{shape}", "-o", name)
    code, _, err = run("symbolic.onnx", "--data", files[1], *options)
    assert code == 0
    lines = [line.partition("edgesparse ")[2] for line in err.splitlines()]
    for line in filter(None, lines):
        assert main(shlex.split(line)) == 0, line


def static_shape(model):
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return [1, *(dim.dim_value for dim in dims[1:])]


def test_data_that_does_not_fit(run, files, tmp_path):
    np.savez(tmp_path / "other.npz", z=np.zeros((4, 1, 10, 10), np.float32))
    arguments = (files[0], "--data", "other.npz", "--sparsity", "0.5", "-o", "s.onnx")
    code, _, err = run(*arguments)
    assert code == 2
    assert "no array called 'x'" in err


def test_data_of_another_kind(run, files, tmp_path):
    arrays = np.load(files[1])
    np.savez(tmp_path / "double.npz", x=arrays["x"].astype(np.float64), label=arrays["label"])
    code, _, err = run(files[0], "--data", "double.npz", "--sparsity", "0.5", "-o", "s.onnx")
    assert code == 2
    assert "double.npz does not fit the model: x: expected float32, found float64\nhint: " in err


def test_a_model_that_is_none(run, files, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    code, _, err = run("bad.onnx", "--data", files[1], "--sparsity", "0.5", "-o", "s.onnx")
    assert code == 3
    assert "bad.onnx is not an ONNX model" in err
