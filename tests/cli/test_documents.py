"""Documents that somebody else wrote, cut, or hands over in a pipe."""

from __future__ import annotations

import json
import os
import threading

import pytest


@pytest.fixture
def measured(run, make_bundle):
    """Measure the fake bundle `out`."""
    make_bundle()
    return run("bench", "out", "--runs", 5, "--warmup", 1, "--launches", 1, "--json").document


def without(document, *keys):
    *path, last = keys
    cut = json.loads(json.dumps(document))
    found = cut
    for key in path:
        found = found[key]
    del found[last]
    return cut


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["edgesparse"], "a document lacks edgesparse"),
        (["device"], "a document lacks device"),
        (["device", "cpu"], "a device lacks cpu"),
        (["results", 0, "model_sha256"], "a result lacks model_sha256"),
        (["results", 0, "p90_ms"], "a result lacks p90_ms"),
    ],
)
def test_what_is_cut_is_neither_kept_nor_shown(run, measured, tmp_path, keys, message) -> None:
    cut = without(measured, *keys)
    (tmp_path / "b.json").write_text(json.dumps(cut))
    (tmp_path / "f.json").write_text(json.dumps({"rows": [{"document": None}, {"document": cut}]}))
    for arguments in (
        ["results", "add", "b.json", "--db", "r.db"],
        *(["report", "b.json"], ["report", "out", "--bench", "b.json"], ["report", "f.json"]),
    ):
        outcome = run(*arguments)
        assert outcome.code == 2
        assert f"{message}, or has it of another type" in outcome.err
    assert not (tmp_path / "r.db").exists()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"rows": [3]}, "is not a result of `edgesparse bench --json`"),
        ({"rows": [{"document": {"a": 1}}]}, "is not a result of `edgesparse bench --json`"),
        ({"schema": 1, "results": [{"samples_ms": 5}]}, "a result holds no samples"),
        ({"outputs": [1]}, "is not a result of `edgesparse check --json`"),
    ],
)
def test_what_is_no_document(run, tmp_path, document, message) -> None:
    (tmp_path / "f.json").write_text(json.dumps(document))
    outcome = run("report", "f.json")
    assert outcome.code == 2
    assert message in outcome.err


def test_outputs_of_a_check_are_checked(run, make_bundle, model, tmp_path) -> None:
    make_bundle()
    document = run("check", model, "out", "--json").document
    (tmp_path / "c.json").write_text(json.dumps({**document, "outputs": [1]}))
    outcome = run("report", "out", "c.json")
    assert outcome.code == 2
    assert "c.json is not a result of `edgesparse check --json`" in outcome.err


def test_a_result_in_a_pipe(run, measured, tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    text = json.dumps(measured)
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(text,), daemon=True)
    writer.start()
    outcome = run("report", "pipe", "--html", "r.html")
    writer.join(10)
    assert (outcome.code, outcome.err) == (0, "")
    assert "5 samples in order" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["report", "f.json"], 2),
        (["report", "out", "--check", "f.json"], 2),
        (["inspect", "bundle"], 1),
        (["farm", "f.json"], 2),
    ],
)
def test_what_is_nested_too_deeply_is_no_traceback(
    run, make_bundle, tmp_path, arguments, code
) -> None:
    """Python's readers of JSON and YAML go as deep as the brackets do."""
    make_bundle()
    deep = "[" * 100_000
    (tmp_path / "f.json").write_text(deep)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text(deep)
    outcome = run(*arguments)
    assert outcome.code == code
    assert "recursion" in outcome.err
