from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import numpy as np
import pytest

DEVICES = "edgesparse.harness.local"
TRIPLES = {
    "wasm": "wasm32-unknown-unknown",
    "wasm-relaxed": "wasm32-unknown-unknown",
    "arm64": "riscv64-linux-gnu",
}


@pytest.fixture
def fakes(monkeypatch, make_bundle, model, tmp_path) -> None:
    """A compiler of fake bundles and a digits model that doubles; node is missing."""

    def compile(source, *, target, output, progress):
        return make_bundle(
            f"demo-out/{target}", target=target, triple=TRIPLES.get(target), features=("+simd128",)
        )

    np.savez(tmp_path / "d.npz", x=np.eye(4, dtype=np.float32), label=np.array([0, 1, 2, 3]))
    monkeypatch.setattr("edgesparse.compiler.compile", compile)
    monkeypatch.setattr("edgesparse.models.zoo.path", lambda name: model)
    monkeypatch.setattr("edgesparse.models.zoo.heldout_path", lambda: tmp_path / "d.npz")
    monkeypatch.setattr("edgesparse.cli.demo._SECONDS", 0.01)
    monkeypatch.setattr(f"{DEVICES}._node", lambda: None)


@pytest.mark.usefixtures("fakes")
def test_what_cannot_run_here_is_skipped_with_the_reason(run, tmp_path) -> None:
    outcome = run("demo")
    assert outcome.code == 0
    assert re.search(r"host +host +100.00 % +100.00 % .* 1 ms ", outcome.out)
    assert re.search(r"wasm +skipped +skipped", outcome.out)
    for target in ("wasm", "wasm-relaxed"):
        assert (
            f"skipped: check and bench of {target}: device node: node is not installed"
            " (apt-get install nodejs)" in outcome.err
        )
    assert (tmp_path / "demo-out" / "results.json").exists()
    assert "<!doctype html>" in (tmp_path / "demo-out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("in_the_way", "found"),
    [
        ("demo-out/host/mine", "writing demo-out/host: expected a bundle or an empty directory"),
        ("demo-out/report.html/x", "cannot write demo-out/report.html: expected a file"),
        ("demo-out", "cannot write demo-out/results.json: "),
    ],
)
def test_what_cannot_be_written_is_known_first(
    run, tmp_path, monkeypatch, in_the_way, found
) -> None:
    monkeypatch.setattr("edgesparse.frontend.load", lambda *_: pytest.fail("compiled"))
    (tmp_path / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / in_the_way).write_text("")
    outcome = run("demo")
    assert (outcome.code, f"error: {found}" in outcome.err) == (1, True)
    assert "hint: choose another folder with `--output`\n" in outcome.err


def test_a_page_that_cannot_be_served_is_not_written(run, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = run("demo", "--serve", "--port", taken.getsockname()[1])
    assert (outcome.code, "Address already in use" in outcome.err) == (6, True)
    assert not (tmp_path / "demo-out").exists()


def test_a_page_that_cannot_be_written(run, make_bundle, tmp_path, monkeypatch) -> None:
    def compile(source, *, target, output):
        bundle = make_bundle(f"demo-out/web/{output.name}", target=target)
        (bundle.path / "demo").mkdir()
        (bundle.path / "demo" / "index.html").write_text("page")
        return bundle

    monkeypatch.setattr("edgesparse.compiler.compile", compile)
    (tmp_path / "demo-out/web/models.mjs").mkdir(parents=True)
    outcome = run("demo", "--serve", "--port", 0)
    assert (outcome.code, "cannot write demo-out/web/models.mjs: " in outcome.err) == (1, True)
    assert "hint: choose another folder with `--output`\n" in outcome.err


@pytest.mark.usefixtures("fakes")
def test_without_onnxruntime(run, monkeypatch) -> None:
    monkeypatch.setattr("edgesparse.harness.ort.ort_available", lambda: "onnxruntime is missing")
    outcome = run("demo", "--json")
    host = outcome.document["targets"][0]
    assert host["check"] is None
    assert host["bench"]["against"] is None
    assert host["bench"]["results"][0]["median_ms"] == pytest.approx(1, abs=0.01)
    assert "skipped: check of host: onnxruntime is missing" in outcome.err


def accuracies(document) -> Iterator[tuple[float, float]]:
    for target in document["targets"]:
        accuracy = target["check"]["accuracy"]
        yield accuracy["bundle_percent"], accuracy["onnxruntime_percent"]


@pytest.mark.slow
@pytest.mark.isa("neon")
@pytest.mark.isa("wasm")
def test_the_real_demo(run) -> None:
    outcome = run("demo", "--json")
    assert outcome.code == 0, outcome.err
    for bundle, onnxruntime in accuracies(outcome.document):
        assert bundle == onnxruntime > 95
    benches = [target["bench"] for target in outcome.document["targets"]]
    assert [bench is None for bench in benches] == [False, False, False, True]
