"""Every way to go wrong has a sentence, a hint where one helps, and its exit code."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from interrupts import interrupted

from edgesparse.errors import LatencyError, UnsupportedModelError
from edgesparse.lower import lower
from edgesparse.plan import TensorSpec


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "no such command 'frobnicate'"),
        (["bench"], "missing argument 'BUNDLES...'"),
        (["compile", "m.onnx"], "missing option '-o' / '--output'"),
        (["compile", "m.onnx", "-o", "d", "--target", "mips"], "'mips' is not one of 'host'"),
        (["inspect", "m.onnx", "--shape", "x"], "'x' is no shape like x:1,3,224,224"),
        (["inspect", "m.onnx", "--shape", "x:1,-3"], "'x:1,-3' is no shape"),
        (["inspect", "m.onnx", "--shape", "x:1", "--shape", "x:2"], "an input is named twice"),
        (["bench", "b", "--max-regression", "lots"], "'lots' is no percentage like 5%"),
        (["bench", "b", "--max-regression", "5%"], "--max-regression needs something to compare"),
        (["compile", "m.onnx", "-o", "o", "--embed"], "target host: its weights are always a file"),
        (["bench", "b", "--threads", "65"], "65 is not in the range 1<=x<=64"),
        (["bench", "b", "--cooldown", "1e300"], "1e+300 is not in the range 0<=x<=86400"),
        (["bench", "b", "--warmup", "20000000"], "20000000 is not in the range 0<=x<=10000000"),
        (["bench", "b", "--launches", "9" * 20], f"{'9' * 20} is not in the range 1<=x<=1000"),
        (["bench", "b", "--top", "3"], "--top is about layers of a profile"),
        (["bench", "b", "--sort", "time"], "--sort is about layers of a profile"),
        (["bench", "b", "--relative"], "--relative compares bundles"),
        (["bench", "b", "c", "--relative", "--baseline", "d"], "--baseline and --relative are two"),
        (["bench", "b", "--json", "--markdown"], "--json and --markdown are two forms"),
        (["check", "m.onnx", "b", "--samples", "0"], "there is nothing to compare on"),
        (["run", "b", "--outputs", "y.npz"], "missing option '--inputs'"),
        (["zoo", "card", "alexnet"], "zoo network 'alexnet' is unknown"),
        (["zoo", "build", "mobilenet_v1", "--sparsity", "1", "-o", "f"], "range 0<=x<1"),
    ],
)
def test_usage_errors(run, arguments, message) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert message in outcome.err.partition("\nhint: ")[0]
    assert outcome.err.startswith("error: ")


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize(
    "arguments",
    [
        *(["check", "m.onnx", "b", option] for option in ("--rtol", "--atol", "--max-drop")),
        *(["bench", "b", option] for option in ("--seconds", "--cooldown")),
        *(["results", "compare", "--since"], ["tune", "m.onnx", "--seconds"]),
        ["zoo", "build", "mobilenet_v1", "-o", "f", "--width"],
    ],
)
def test_numbers_are_finite(run, arguments, number) -> None:
    outcome = run(*arguments, number)
    assert outcome.code == 2
    assert f"invalid value for '{arguments[-1]}': {number} is no finite number" in outcome.err


@pytest.mark.parametrize(
    "options",
    [
        *(["--relative"], ["--max-regression", "5%"], ["--baseline", "b.json"], ["--save"]),
        *(["--tag", "t"], ["--db", "r.db"], ["--threads", "2"], ["--cores", "big"]),
        *(["--device", "host"], ["--trace", "t.json"], ["--markdown"], ["--by-type"]),
        *(["--against-ort", "m.onnx"], ["--runs", "3"], ["--seconds", "1"], ["--warmup", "1"]),
        *(["--launches", "5"], ["--cooldown", "1"], ["--profile", "--sort", "time"]),
    ],
)
def test_modelling_refuses_what_only_measuring_heeds(run, options) -> None:
    outcome = run("bench", "a", "b", "--model", "a55", "--profile", "--top", "3", *options)
    assert outcome.code == 2
    assert "--model measures nothing" in outcome.err
    option = next(word for word in options if word != "--profile")
    assert f"--json beside it, found {option}\n" in outcome.err
    assert "hint: leave out `--model`" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [["bench", "gone"], ["run", "gone", "--inputs", "x", "--outputs", "y"], ["report", "gone"]],
)
def test_a_missing_bundle(run, arguments) -> None:
    outcome = run(*arguments)
    assert outcome.code == 1
    assert "reading bundle gone: expected a directory, found nothing" in outcome.err


def test_a_model_that_is_not_onnx(run, tmp_path) -> None:
    (tmp_path / "m.onnx").write_text("hello")
    for verb in (["inspect", "m.onnx"], ["compile", "m.onnx", "-o", "d"]):
        outcome = run(*verb)
        assert outcome.code == 3
        assert outcome.err.startswith("error: ")
    assert not (tmp_path / "d").exists()


def test_what_cannot_be_compiled_is_3(run, monkeypatch) -> None:
    def refuse(*args, **options):
        raise UnsupportedModelError("2 nodes cannot be compiled", hint="cut them off")

    monkeypatch.setattr("edgesparse.compiler.compile", refuse)
    outcome = run("compile", "m.onnx", "-o", "d", "--json")
    assert outcome.code == 3
    assert outcome.out == ""
    assert outcome.err == "error: 2 nodes cannot be compiled\nhint: cut them off\n"


def test_more_memory_than_webassembly_has_is_3(run, model, tmp_path, monkeypatch) -> None:
    def with_large_arena(*arguments):
        return dataclasses.replace(lower(*arguments), arena_bytes=5 << 30)

    monkeypatch.setattr("edgesparse.compiler.lower", with_large_arena)
    for target in ("wasm", "wasm-relaxed"):
        outcome = run("compile", model, "-o", "d", "--target", target)
        assert outcome.code == 3
        message = f"takes 5.37 GB of memory, expected at most 4.29 GB for target {target}\nhint: "
        assert message in outcome.err
    assert not (tmp_path / "d").exists()
    assert run("compile", model, "-o", "d").code == 0


def test_an_image_that_webassembly_has_no_memory_to_make_planes_of_is_3(
    run, model, monkeypatch
) -> None:
    image = TensorSpec("x", (1, 1, 19000, 19000))

    def of_large_image(*arguments):
        plan = lower(*arguments)
        return dataclasses.replace(plan, inputs=(image,), arena_bytes=image.size_bytes)

    monkeypatch.setattr("edgesparse.compiler.lower", of_large_image)
    outcome = run("compile", model, "-o", "d", "--target", "wasm")
    assert outcome.code == 3
    # The image, and in the arena its planes and its pixels of four bytes.
    assert "takes 4.33 GB of memory, expected at most 4.29 GB" in outcome.err


def test_foreign_inputs(run, make_bundle, tmp_path) -> None:
    make_bundle()
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4)))
    outcome = run("run", "out", "--inputs", "x.npz", "--outputs", "y.npz")
    assert outcome.code == 2
    assert "x: expected float32, found float64" in outcome.err
    assert not (tmp_path / "y.npz").exists()


def test_unwritable_outputs(run, make_bundle, tmp_path) -> None:
    make_bundle()
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4), np.float32))
    outcome = run("run", "out", "--inputs", "x.npz", "--outputs", "gone/y.npz")
    assert outcome.code == 1
    assert "cannot write gone/y.npz: No such file or directory" in outcome.err
    assert "--outputs" in outcome.err


def test_outputs_never_replace_the_inputs(run, make_bundle, tmp_path) -> None:
    make_bundle()
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4), np.float32))
    outcome = run("run", "out", "--inputs", "x.npz", "--outputs", "./x.npz")
    assert (outcome.code, "error: x.npz holds the inputs" in outcome.err) == (2, True)
    with np.load(tmp_path / "x.npz") as kept:
        assert list(kept) == ["x"]


@pytest.mark.parametrize("output", ["gone/y.npz", "out", "x.npz/y.npz"])
def test_unwritable_outputs_are_known_before_anything_runs(
    run, make_bundle, tmp_path, monkeypatch, output
) -> None:
    make_bundle()
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4), np.float32))
    monkeypatch.setattr("edgesparse.harness.devices.open_session", lambda *_: pytest.fail("ran"))
    outcome = run("run", "out", "--inputs", "x.npz", "--outputs", output)
    assert (outcome.code, f"error: cannot write {output}: " in outcome.err) == (1, True)


def test_unwritable_report(run, make_bundle) -> None:
    make_bundle()
    outcome = run("report", "out", "--html", "gone/r.html")
    assert outcome.code == 1
    assert "cannot write gone/r.html" in outcome.err
    assert "hint: choose another file with `--html`" in outcome.err


@pytest.mark.parametrize("option", ["--trace", "--db"])
def test_what_cannot_be_kept_is_shown(run, make_bundle, tmp_path, option) -> None:
    make_bundle()
    (tmp_path / "folder").mkdir()
    outcome = run("bench", "out", "--runs", 3, "--warmup", 1, option, "folder", "--json")
    assert outcome.code == 1
    assert outcome.document["results"][0]["runs"] == 3
    assert "folder" in outcome.err


def test_unwritable_trace(run, make_bundle) -> None:
    make_bundle()
    outcome = run("bench", "out", "--runs", 3, "--warmup", 1, "--trace", "gone/t.json")
    assert outcome.code == 1
    assert "cannot write gone/t.json" in outcome.err
    assert "hint: choose another file with `--trace`" in outcome.err


def test_an_older_report_outlives_a_failure(run, make_bundle, tmp_path, monkeypatch) -> None:
    make_bundle()
    (tmp_path / "r.html").write_text("old")
    monkeypatch.setattr("edgesparse.report.report", lambda *args, **options: "new \ud800")
    with pytest.raises(UnicodeEncodeError):
        run("report", "out", "--html", "r.html")
    assert (tmp_path / "r.html").read_text() == "old"


def test_a_foreign_model_is_refused(run, make_bundle, model) -> None:
    make_bundle(model_sha256="f" * 64)
    outcome = run("check", model, "out")
    assert outcome.code == 2
    assert "compiled from another model" in outcome.err
    assert "--force" in outcome.err
    assert run("check", model, "out", "--force").code == 0


def test_check_against_a_model_with_other_inputs(run, make_bundle, tmp_path) -> None:
    make_bundle()
    text = '<ir_version: 10, opset_import: ["": 18]> g (float[1,4] z) => (float[1,4] y) {y=Relu(z)}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "other.onnx")
    outcome = run("check", "other.onnx", "out", "--force")
    assert outcome.code == 2
    assert "takes z, but the bundle takes x" in outcome.err


def test_wrong_numbers_are_4_and_still_printed(run, make_bundle, model) -> None:
    make_bundle(mode="factor=2.1")
    outcome = run("check", model, "out", "--json")
    assert outcome.code == 4
    assert not outcome.document["passed"]
    assert "differ from onnxruntime by more than rtol 0.001, atol 0.0001" in outcome.err


def test_nan_is_4(run, make_bundle, model) -> None:
    make_bundle(mode="nan")
    outcome = run("check", model, "out", "--json")
    assert outcome.code == 4
    assert outcome.document["outputs"][0]["failing"] == 32
    assert outcome.document["outputs"][0]["max_abs"] is None


def test_a_latency_regression_is_5(run, make_bundle, tmp_path) -> None:
    make_bundle(mode="ms=1")
    before = run("bench", "out", "--runs", 30, "--warmup", 1, "--json")
    (tmp_path / "before.json").write_text(before.out)
    same = run("bench", "out", "--runs", 30, "--warmup", 1, "--baseline", "before.json")
    assert same.code == 0
    document = before.document
    document["results"][0]["samples_ms"] = [0.5] * 30
    (tmp_path / "faster.json").write_text(json.dumps(document))
    slower = run("bench", "out", "--runs", 30, "--warmup", 1, "--baseline", "faster.json", "--json")
    assert slower.code == LatencyError.exit_code == 5
    assert slower.document["results"][0]["baseline"]["is_regression"]
    assert "100.2 % slower, allowed are 5 %, beyond the noise" in slower.err
    options = ["--baseline", "faster.json", "--max-regression", "150%"]
    assert run("bench", "out", "--runs", 30, "--warmup", 1, *options).code == 0


def test_a_regression_against_the_bundle_beside_it_is_5(run, make_bundle) -> None:
    make_bundle("base", mode="ms=1")
    make_bundle("head", mode="ms=1.1")
    options = ["--relative", "--runs", 30, "--warmup", 1]
    assert run("bench", "base", "head", *options).code == 0
    outcome = run("bench", "base", "head", *options, "--max-regression", "5%", "--markdown")
    assert outcome.code == 5
    assert "head: median 1.101 ms, base 1.001 ms: 10.0 % slower, allowed are 5 %" in outcome.err
    assert outcome.out.splitlines()[3].endswith("| regression |")
    assert run("bench", "base", "head", *options, "--max-regression", "11%").code == 0
    assert run("bench", "head", "base", *options, "--max-regression", "5%").code == 0


def test_a_slowdown_within_the_noise_warns(run, make_bundle, tmp_path) -> None:
    make_bundle(mode="ms=1")
    document = run("bench", "out", "--runs", 9, "--warmup", 1, "--json").document
    document["results"][0]["samples_ms"] = [0.5, 0.5, 0.5, 0.5, 2.0]
    (tmp_path / "noisy.json").write_text(json.dumps(document))
    outcome = run("bench", "out", "--runs", 9, "--warmup", 1, "--baseline", "noisy.json")
    assert outcome.code == 0
    assert "warning: out: median" in outcome.err
    assert "but within the noise" in outcome.err


def test_an_emulator_does_not_bench(run, make_bundle, monkeypatch) -> None:
    monkeypatch.setattr("edgesparse.harness.local._qemu", lambda: "/usr/bin/qemu-aarch64")
    make_bundle(target="arm64", triple="aarch64-linux-gnu")
    outcome = run("bench", "out", "--device", "qemu")
    assert outcome.code == 6
    assert "an emulated time is no latency" in outcome.err


def test_a_missing_device_is_6(run, make_bundle, monkeypatch) -> None:
    monkeypatch.setattr("edgesparse.harness.local._node", lambda: None)
    make_bundle(target="wasm", triple="wasm32-unknown-unknown")
    outcome = run("bench", "out")
    assert outcome.code == 6
    assert outcome.err == "error: device node: node is not installed\n" + (
        "hint: apt-get install nodejs\n"
    )


def test_a_dying_runner_is_6(run, make_bundle, model) -> None:
    make_bundle(mode="die")
    outcome = run("check", model, "out")
    assert outcome.code == 6
    assert "fake runner: out of memory" in outcome.err


def test_two_devices_in_one_bench(run, make_bundle, monkeypatch) -> None:
    monkeypatch.setattr("edgesparse.harness.local._node", lambda: "/usr/bin/node")
    make_bundle("a")
    make_bundle("b", target="wasm", triple="wasm32-unknown-unknown")
    outcome = run("bench", "a", "b")
    assert outcome.code == 2
    assert "run on different devices: host and node" in outcome.err


def test_results_stand_only_where_there_are_any(run, make_bundle, monkeypatch) -> None:
    monkeypatch.setattr("edgesparse.harness.local._node", lambda: None)
    make_bundle("a")
    make_bundle("b", target="wasm", triple="wasm32-unknown-unknown")
    options = ["--device", "host", "--device", "node", "--runs", 1, "--warmup", 0]
    outcome = run("bench", "a", "b", *options)
    assert outcome.code == 6
    assert "device node" in outcome.err and "device host" in outcome.err
    assert "results stand" not in outcome.err
    assert "hint: the other devices' results stand" in run("bench", "a", *options).err


def test_our_own_bugs_keep_their_traceback(run, monkeypatch) -> None:
    def stumble(*args, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("edgesparse.compiler.inspect", stumble)
    with pytest.raises(ZeroDivisionError):
        run("inspect", "m.onnx")


def test_ctrl_c_is_quiet(run, monkeypatch) -> None:
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("edgesparse.compiler.compile", interrupt)
    outcome = run("compile", "m.onnx", "-o", "d")
    assert outcome.code == 130
    assert "Traceback" not in outcome.err


def test_ctrl_c_ends_a_hanging_runner(make_bundle) -> None:
    bundle = make_bundle(mode="hang")
    command = [sys.executable, "-m", "edgesparse", "bench", bundle.path]
    process, err = interrupted(command, first="measuring")
    assert process.returncode == 130
    assert err.strip() == ""


def test_bars_are_imported_before_it_is_said_that_it_measures(make_bundle) -> None:
    """Python may lose an interrupt while it imports, and end as if nobody had caught it."""
    words = ["bench", str(make_bundle().path), "--runs", "3", "--warmup", "1"]
    script = f"""if True:
        import sys
        from edgesparse.cli import main, output
        known = []
        output.say = lambda message: known.append(set(sys.modules))
        main({words})
        print(sorted(name for name in sys.modules.keys() - known[0] if "rich.progress" in name))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_closed_pipe_is_fine() -> None:
    command = f"{sys.executable} -m edgesparse targets --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode in (0, 141)
    assert done.stderr == ""
