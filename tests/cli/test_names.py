"""Names of files that are no UTF-8, in what verbs write."""

from __future__ import annotations

import json
import sqlite3

import numpy as np

NAME = "ba\udcffd"  # as Python spells the bytes `ba\\xffd`
SPELLED = "ba\\udcffd"


def test_a_bundle_whose_name_is_no_text_is_measured_checked_and_shown(
    run, make_bundle, model, tmp_path
) -> None:
    make_bundle(NAME)
    measured = run("bench", NAME, "--runs", 3, "--warmup", 1, "--against-ort", model, "--json")
    assert [result["bundle"] for result in measured.document["results"]] == [SPELLED]
    checked = run("check", model, NAME, "--samples", 1, "--json")
    assert checked.document["bundle"] == SPELLED
    (tmp_path / "b.json").write_text(measured.out)
    (tmp_path / "c.json").write_text(checked.out)
    outcome = run("report", NAME, "b.json", "c.json", "--title", NAME, "--html", "r.html")
    assert outcome.code == 0, outcome.err
    assert f"<title>{SPELLED}" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_results_under_names_that_are_no_text_are_kept_and_found(
    run, make_bundle, tmp_path
) -> None:
    make_bundle(NAME)
    options = ["--runs", 3, "--warmup", 1, "--tag", NAME, "--db", "r.sqlite"]
    outcome = run("bench", NAME, *options)
    assert outcome.code == 0, outcome.err
    with sqlite3.connect(tmp_path / "r.sqlite") as store:
        query = "SELECT tag, bundle FROM result JOIN run ON run.id = run"
        assert store.execute(query).fetchall() == [(SPELLED, SPELLED)]
    assert SPELLED in run("results", "list", "--tag", NAME, "--db", "r.sqlite").out


def test_documents_with_other_than_text_are_kept_and_shown(run, make_bundle, tmp_path) -> None:
    make_bundle()
    document = run("bench", "out", "--runs", 3, "--warmup", 1, "--json").document
    document["results"][0]["name"] = NAME
    (tmp_path / "b.json").write_text(json.dumps(document))
    assert run("results", "add", "b.json", "--db", "r.sqlite").code == 0
    assert run("report", "b.json", "--html", "r.html").code == 0
    assert SPELLED in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_names_that_the_system_refuses_end_in_a_sentence(run, make_bundle, model, tmp_path) -> None:
    """So does what lies in a folder that others may not look into."""
    make_bundle()
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 4), np.float32))
    name = "n" * 300
    (tmp_path / "farm.yaml").write_text(f"models: [{name}]\ntargets: [host]\n")
    for arguments in (
        ("inspect", name),
        ("check", model, name),
        ("bench", name),
        ("report", name),
        ("report", "7", "--db", name),
        ("results", "list", "--db", name),
        ("run", "out", "--inputs", "x.npz", "--outputs", name),
        ("farm", "farm.yaml"),
    ):
        outcome = run(*arguments)
        assert outcome.code, arguments
        assert name in outcome.err, arguments
        assert "hint: " in outcome.err, arguments
