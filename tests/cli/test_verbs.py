from __future__ import annotations

import hashlib
import json
import re
import types

import numpy as np
import onnx
import pytest
from bundle.toy import toy_object, toy_plan
from fake_bundle import LAYERS

from edgesparse.bundle import write_bundle
from edgesparse.harness.devices import HostDevice
from edgesparse.plan import Layer
from edgesparse.target import WASM


@pytest.fixture
def compiler(monkeypatch, make_bundle):
    """A compiler that tells its arguments and knows one model."""
    calls = []

    def inspect(model, **options):
        calls.append(options)
        layers = [{k: v for k, v in layer.items() if k != "steps"} for layer in LAYERS]
        return types.SimpleNamespace(
            target=options["target"], layers=tuple(Layer(**layer) for layer in layers)
        )

    def compile(model, **options):
        options.pop("progress")("linking", 0.5)
        calls.append(options)
        return make_bundle(options["output"].name)

    monkeypatch.setattr("edgesparse.compiler.inspect", inspect)
    monkeypatch.setattr("edgesparse.compiler.compile", compile)
    return calls


def test_inspect_shows_every_layer(run, compiler) -> None:
    outcome = run("inspect", "m.onnx", "--target", "arm64", "--shape", "x:1,4")
    assert compiler == [
        {"target": "arm64", "shapes": {"x": (1, 4)}, "tuned": True, "reorder": True, "select": True}
    ]
    assert re.search(r"conv +Conv\+Relu +4x4x1x1 +80.0% +4 rows, all patterns", outcome.out)
    assert "3.00x" in outcome.out
    assert "no weights; fuse: two consumers" in outcome.out
    assert outcome.out.splitlines()[-1] == (
        "1 of 2 layers skip zeros: 0.0002 of 0.001 M multiply-adds left; layers with weights"
        " predicted 0.002 ms, our own dense 0.006 ms: 3.00x"
    )
    assert "\x1b" not in outcome.out


def test_inspect_json(run, compiler) -> None:
    document = run("inspect", "m.onnx", "--json").document
    assert document["summary"]["sparse_layers"] == 1
    assert document["layers"][0]["decision"]["speedup"] == 3.0


def test_inspect_a_bundle(run, make_bundle, tmp_path) -> None:
    make_bundle()
    outcome = run("inspect", "out")
    assert re.search(r"conv +Conv\+Relu +4x4x1x1 +80.0% +4 rows, all patterns", outcome.out)
    assert outcome.out.splitlines()[-1].startswith("1 of 2 layers skip zeros")
    assert "downloads" not in run("inspect", "out", "--json").document
    refused = run("inspect", "out", "--target", "host")
    assert (refused.code, "it is compiled already" in refused.err) == (2, True)
    (tmp_path / "empty").mkdir()
    assert "it has no manifest.json" in run("inspect", "empty").err


def test_inspect_tells_what_a_page_downloads(run, wasm_bundle) -> None:
    lines = run("inspect", wasm_bundle.path).out.splitlines()
    (row,) = (line for line in lines if line.startswith("simd128 "))
    names = ("index.mjs", "model.wasm", "manifest.json", "weights.bin")
    sizes = [(wasm_bundle.path / name).stat().st_size for name in names]
    shown = [float(size) for size in re.findall(r"([\d.]+) kB \(", row)]
    assert shown == pytest.approx([size / 1e3 for size in (*sizes, sum(sizes))], abs=0.06)
    assert any(line.startswith("onnxruntime-web 1.") for line in lines)
    assert "published figures" in lines[-1]
    downloads = run("inspect", wasm_bundle.path, "--json").document["downloads"]
    titles = [download["title"].split(" 1.")[0] for download in downloads]
    assert titles == ["simd128", "simd128, threads", "onnxruntime-web"]
    assert downloads[0]["total"]["raw_bytes"] == sum(sizes)


def test_compile(run, compiler) -> None:
    outcome = run("compile", "m.onnx", "-o", "b", "--name", "net")
    assert outcome.code == 0
    (call,) = compiler
    assert (call["name"], call["target"], call["shapes"]) == ("net", "host", {})
    assert "b: fake for host, 0.1 kB of code and weights, 4.1 kB arena" in outcome.out
    assert "4 rows" not in outcome.out


def test_compile_explains(run, compiler) -> None:
    assert "4 rows, all patterns" in run("compile", "m.onnx", "-o", "b", "--explain").out


def test_compile_json(run, compiler) -> None:
    document = run("compile", "m.onnx", "-o", "b", "--json").document
    assert document["shipped_bytes"] == document["weights_bytes"] == 128
    assert "layers" not in document
    assert run("compile", "m.onnx", "-o", "c", "--json", "--explain").document["layers"] == LAYERS


def test_run_writes_the_outputs(run, make_bundle, tmp_path) -> None:
    make_bundle()
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez(tmp_path / "x.npz", x=x)
    outcome = run("run", "out", "--inputs", "x.npz", "--outputs", "y.npz")
    assert (outcome.code, outcome.out) == (0, "")
    with np.load(tmp_path / "y.npz") as outputs:
        np.testing.assert_array_equal(outputs["y"], 2 * x)


def test_bench_table(run, make_bundle, model) -> None:
    make_bundle()
    outcome = run("bench", "out", "--runs", 5, "--warmup", 1, "--against-ort", model, "--profile")
    assert outcome.code == 0
    assert re.search(r"out +host +1 ms +1 ms", outcome.out)
    assert re.search(r"onnxruntime \d+\.\d+", outcome.out)
    assert "one thread on" in outcome.out
    assert re.search(r"softmax <b> +Softmax +1x4 +5.0 us +62.5%", outcome.out)
    assert re.search(r"conv .* 4 rows, all patterns +3.0 us +37.5% +0.1 +2.0 us", outcome.out)
    assert "the layers sum to 8 us when timed one by one, 1 ms otherwise" in outcome.out


def test_bench_top(run, make_bundle) -> None:
    make_bundle()
    out = run("bench", "out", "--runs", 5, "--warmup", 1, "--profile", "--top", 1).out
    assert "Softmax" in out
    assert "Conv+Relu" not in out


def test_bench_json(run, make_bundle, model) -> None:
    make_bundle("a")
    make_bundle("b", mode="ms=2")
    options = ["--runs", 6, "--warmup", 1, "--against-ort", model, "--json"]
    document = run("bench", "a", "b", *options).document
    assert [result["bundle"] for result in document["results"]] == ["a", "b"]
    against = document["against"]
    assert against["peer"] == "onnxruntime"
    assert len(against["samples_ms"]) == against["runs"] == 6
    assert against["ratio"] == document["results"][0]["ratio"]
    assert document["results"][0]["ratio"] > document["results"][1]["ratio"]


def test_bench_relative(run, make_bundle) -> None:
    make_bundle("a", mode="ms=3")
    make_bundle("b", mode="ms=2")
    make_bundle("c", mode="ms=3")
    outcome = run("bench", "a", "b", "c", "--relative", "--runs", 20, "--warmup", 1)
    assert re.search(r"b +host .* 1\.50x \(1\.50-1\.50\)", outcome.out)
    assert "b is 1.500x as fast as a (1.500x to 1.500x with 99 % confidence)" in outcome.out
    assert "c takes as long as a within the noise" in outcome.out


def test_bench_profile_order_and_types(run, make_bundle, tmp_path) -> None:
    make_bundle()
    options = ["--runs", 5, "--warmup", 1]

    def order(*more) -> list[str]:
        out = run("bench", "out", *options, "--profile", *more).out
        return re.findall(r"^(conv|softmax)", out, re.MULTILINE)

    assert order() == order("--sort", "order") == ["conv", "softmax"]
    assert order("--sort", "time") == ["softmax", "conv"]
    assert order("--top", 2, "--sort", "order") == ["conv", "softmax"]
    out = run("bench", "out", *options, "--by-type", "--trace", "t.json").out
    assert re.search(r"^Softmax +1 +5.0 us +62.5%", out, re.MULTILINE)
    assert "softmax <b>" not in out
    trace = json.loads((tmp_path / "t.json").read_text())
    assert any(event["name"] == "softmax <b>" for event in trace["traceEvents"])


def test_bench_markdown(run, make_bundle, tmp_path) -> None:
    make_bundle("a|b")
    options = ["--runs", 20, "--warmup", 1]
    document = run("bench", "a|b", *options, "--json").out
    (tmp_path / "before.json").write_text(document)
    out = run("bench", "a|b", *options, "--markdown", "--baseline", "before.json", "--profile").out
    header, rule, row = out.splitlines()[:3]
    assert header.startswith("| Bundle | Target | Median |")
    assert re.fullmatch(r"(\| (---|--:) )+\|", rule)
    assert row.startswith(r"| a\|b | host | 1 ms |")
    change = r"\| [-+]0\.0 % \| [-+]0\.\d to [-+]0\.\d % \| same, within the noise \|$"
    assert re.search(change, row)
    assert r"| softmax \<b\> | Softmax |" in out


class Elsewhere(HostDevice):
    """This machine under another name, which may have no bundle's runner."""

    is_remote = True

    def __init__(self, name: str, problem: str | None = None) -> None:
        self.name, self.problem = name, problem

    def available(self) -> str | None:
        return self.problem


def test_bench_on_several_devices(run, make_bundle, monkeypatch) -> None:
    make_bundle()
    fleet = [Elsewhere("ssh:pi@shelf"), HostDevice(), Elsewhere("adb:X", "it is unauthorised")]
    monkeypatch.setattr("edgesparse.harness.devices.all_phones", lambda: fleet[:2])
    options = ["--runs", 5, "--warmup", 1, "--device", "adb:all"]
    outcome = run("bench", "out", *options)
    assert outcome.code == 0, outcome.err
    rows = re.findall(r"^(\S+) +out +host +1 ms", outcome.out, re.MULTILINE)
    assert rows == ["ssh:pi@shelf", "host"]
    assert "measuring on ssh:pi@shelf, host" in outcome.err
    monkeypatch.setattr("edgesparse.harness.devices.all_phones", lambda: fleet)
    outcome = run("bench", "out", *options, "--json")
    assert outcome.code == 6
    documents = outcome.document["documents"]
    assert [d["device"]["name"] for d in documents] == ["ssh:pi@shelf", "host"]
    assert [f["device"] for f in outcome.document["failures"]] == ["adb:X"]
    assert "error: device adb:X: it is unauthorised" in outcome.err


def test_bench_saves(run, make_bundle, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("EDGESPARSE_RESULTS", str(tmp_path / "kept.sqlite"))
    make_bundle()
    options = ["--runs", 5, "--warmup", 1]
    assert "saved as 1 in" in run("bench", "out", *options, "--save").err
    assert "saved as 2 in" in run("bench", "out", *options, "--tag", "v2").err
    assert "saved as 1 in other.sqlite" in run("bench", "out", *options, "--db", "other.sqlite").err
    assert "saved" not in run("bench", "out", *options).err


def test_check(run, make_bundle, model, tmp_path) -> None:
    make_bundle()
    x = np.eye(4, dtype=np.float32)
    np.savez(tmp_path / "d.npz", x=x, label=np.array([0, 1, 2, 0]))
    outcome = run("check", model, "out", "--data", "d.npz", "--max-drop", 0)
    assert outcome.code == 0
    assert "top1 accuracy on 4 samples: bundle 75.00 %, onnxruntime 75.00 %" in outcome.out
    assert "within rtol 0.001, atol 0.0001" in outcome.out


def test_check_json(run, make_bundle, model) -> None:
    make_bundle()
    document = run("check", model, "out", "--json", "--samples", 3).document
    (output,) = document["outputs"]
    assert document["passed"]
    assert (output["samples"], output["max_abs"], output["top1_agreement"]) == (3, 0.0, 1.0)
    assert document["accuracy"] is None


def test_report(run, make_bundle, model, tmp_path) -> None:
    make_bundle()
    bench = run("bench", "out", "--runs", 5, "--warmup", 1, "--profile", "--json")
    (tmp_path / "b.json").write_text(bench.out)
    (tmp_path / "c.json").write_text(run("check", model, "out", "--json").out)
    outcome = run("report", "out", "--html", "r.html", "--bench", "b.json", "--check", "c.json")
    assert (outcome.code, outcome.out, outcome.err) == (0, "r.html\n", "")
    page = (tmp_path / "r.html").read_text()
    assert "softmax &lt;b&gt;" in page
    assert "Measured time" in page
    assert "1 ms" in page
    assert "http" not in page


def test_report_of_what_a_page_downloads(run, tmp_path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx.ModelProto(ir_version=10).SerializeToString())
    digest = hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    plan, code = toy_plan(), toy_object(WASM)
    bundle = write_bundle(plan, WASM, code, tmp_path / "web", model_sha256=digest)

    def page_of(*options) -> str:
        assert run("report", "web", *options, "--html", "r.html").code == 0
        return re.sub(r"\s+", " ", (tmp_path / "r.html").read_text())

    page = page_of()
    assert "What a page downloads" in page
    assert f"{(bundle.path / 'model.wasm').stat().st_size / 1e3:.1f} kB" in page
    assert "onnxruntime-web 1.30.0, with one thread: published figures" in page
    assert "its sum lacks the ONNX file" in page
    assert "its weights are the ONNX file that was compiled" in page_of("--model", "m.onnx")
    (tmp_path / "other.onnx").write_bytes(b"")
    outcome = run("report", "web", "--model", "other.onnx")
    assert (outcome.code, "none of the bundles was compiled" in outcome.err) == (2, True)


def test_report_of_what_it_is_given(run, make_bundle, model, tmp_path) -> None:
    """A result alone, kept ones by number, a check, what `results export` wrote: all by kind."""
    make_bundle()
    bench = run("bench", "out", "--runs", 5, "--warmup", 1, "--profile", "--json", "--db", "r.db")
    (tmp_path / "b.json").write_text(bench.out)
    (tmp_path / "c.json").write_text(run("check", model, "out", "--json").out)
    run("results", "export", "--json", "-o", "e.json", "--db", "r.db")
    document = bench.document
    document["device"]["name"] = "adb:X"
    farm = {"schema": 1, "rows": [{"document": None}, {"document": document}]}
    (tmp_path / "f.json").write_text(json.dumps(farm))

    def page_of(*sources) -> str:
        outcome = run("report", *sources, "--html", "r.html")
        assert (outcome.code, outcome.err) == (0, "")
        return (tmp_path / "r.html").read_text()

    for sources in (["b.json"], ["e.json"], [1, "--db", "r.db"], ["f.json"]):
        page = page_of(*sources)
        assert "softmax &lt;b&gt;" in page
        assert "4 rows, all patterns" in page
    assert "Against onnxruntime" in page_of("b.json", "c.json")
    assert "host on adb:X" in page_of("out", "b.json", "f.json")


def test_report_of_nothing(run, model, make_bundle, tmp_path) -> None:
    assert "name a bundle or a result" in run("report").err
    make_bundle()
    (tmp_path / "c.json").write_text(run("check", model, "out", "--json").out)
    outcome = run("report", "c.json")
    assert (outcome.code, "nothing to report on" in outcome.err) == (2, True)
    assert "no results are stored" in run("report", 7, "--db", "gone.db").err


def test_report_without_measurements(run, make_bundle, tmp_path) -> None:
    make_bundle()
    outcome = run("report", "out", "--html", "r.html")
    assert "hint: no latency in it" in outcome.err
    page = (tmp_path / "r.html").read_text()
    assert "Predicted time" in page
    assert "not timed" in page


@pytest.mark.parametrize("text", ["{}", "[]", "x"])
def test_report_of_foreign_documents(run, make_bundle, tmp_path, text) -> None:
    make_bundle()
    (tmp_path / "f.json").write_text(text)
    for option in ("--bench", "--check"):
        outcome = run("report", "out", option, "f.json")
        assert outcome.code == 2
        assert "error: f.json is not" in outcome.err


def test_targets(run) -> None:
    names = [target["name"] for target in run("targets", "--json").document["targets"]]
    assert names == ["host", "arm64", "arm64-a55", "wasm", "wasm-relaxed"]
    assert "wasm-relaxed" in run("targets").out


def test_devices(run, monkeypatch) -> None:
    monkeypatch.setattr("edgesparse.harness.local._node", lambda: None)
    # Looking for phones would start an adb server, which stays.
    monkeypatch.setattr("edgesparse.harness.adb.find_adb", lambda: None)
    devices = {d["name"]: d for d in run("devices", "--json").document["devices"]}
    assert devices["node"]["reason"] == "node is not installed"
    assert not devices["qemu"]["measures_latency"]
    assert re.search(
        r"node +no +WebAssembly in node +node is not installed: apt-get", run("devices").out
    )


def test_zoo(run) -> None:
    models = {m["name"]: m for m in run("zoo", "list", "--json").document["models"]}
    assert models["digits_mobilenet_v1"]["is_trained"]
    assert models["mobilenet_v1"]["path"] is None
    assert "mobilenet_v1" in run("zoo", "list").out
    assert run("zoo", "card", "digits_mobilenet_v1").out.startswith("#")


def test_zoo_build_passes_everything_on(run, monkeypatch) -> None:
    calls = []

    def build(name, **options):
        calls.append((name, options))
        sparsity = options["sparsity"] or 0.5
        return {
            "name": name,
            "input_shape": [1, 3, 32, 32],
            "size_bytes": 1000,
            "sparsity": sparsity,
            "left_dense": ["stem", "head"] if options["pattern"] == "2:4" else [],
        }

    monkeypatch.setattr("edgesparse.models.zoo.build", build)
    options = ["--sparsity", 0.9, "--pattern", "block4", "--seed", 3, "-o", "m.onnx"]
    assert "input 1x3x32x32, 90 % zeros (block4)" in run("zoo", "build", "x", *options).out
    ((name, given),) = calls
    assert (name, given["sparsity"], given["pattern"], given["seed"]) == ("x", 0.9, "block4", 3)
    assert run("zoo", "build", "x", *options, "--json").document["name"] == "x"
    for pattern, sparsity in (("block4", 0.8), ("2:4", None)):
        run("zoo", "build", "x", "--pattern", pattern, "-o", "m.onnx")
        assert calls[-1][1]["sparsity"] == sparsity
    told = run("zoo", "build", "x", "--pattern", "2:4", "-o", "m.onnx").err
    assert "2 layers stay dense, 2:4 does not fit them: stem, head" in told
