"""The verb `results`: real measurements of fake bundles, and documents with times of their own."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

DB = ("--db", "r.sqlite")


@pytest.fixture
def keep(run, make_bundle, tmp_path):
    """Keep a result with other times than were measured: a document is data."""
    make_bundle()
    measured = run("bench", "out", "--runs", 20, "--warmup", 1, "--profile", "--json").document

    def keep_one(ms: float, date: str = "2026-01-01T00:00:00+00:00", tag: str = "", **changes):
        (result,) = measured["results"]
        samples = [ms * (1 + 0.001 * (i % 3)) for i in range(20)]
        times = {"samples_ms": samples, "median_ms": samples[1], "median_interval_ms": None}
        document = {
            **measured,
            "date": date,
            "results": [{**result, **times, **changes.pop("result", {})}],
            **changes,
        }
        (tmp_path / "d.json").write_text(json.dumps(document))
        outcome = run("results", "add", "d.json", "--tag", tag, *DB)
        assert outcome.code == 0, outcome.err
        return int(outcome.out.rpartition(" ")[2])

    return keep_one


def test_weeks_are_listed_with_every_change(run, keep) -> None:
    for week, ms in enumerate((1.0, 1.0001, 1.2, 0.9), start=1):
        keep(ms, f"2026-01-0{week}T10:00:00+00:00", f"v{week}")
    outcome = run("results", "list", *DB)
    rows = re.findall(r"^ *(\d) +(\S+ \S+) +(v\d) .*", outcome.out, re.MULTILINE)
    assert rows == [(str(n), f"2026-01-0{n} 10:00", f"v{n}") for n in (1, 2, 3, 4)]
    first, same, slower, faster = outcome.out.splitlines()[2:]
    assert "%" not in first.partition("ms")[2]
    assert "same, within the noise" in same
    assert "+20.0 %" in slower and "slower" in slower
    assert "-25.0 %" in faster and "faster" in faster
    markdown = run("results", "list", "--tag", "v3", "--markdown", *DB).out
    assert "| v3 |" in markdown and "v2" not in markdown


def test_list_shows_the_newest_and_reads_no_samples(run, keep, monkeypatch) -> None:
    def refuse(store, number):
        raise AssertionError("a document was read")

    for ms in (1.0, 1.2, 0.9):
        keep(ms)
    monkeypatch.setattr("edgesparse.harness.store.Store.document", refuse)
    outcome = run("results", "list", "--last", 2, *DB)
    assert re.findall(r"^ *(\d) .*?([+-]\d+\.\d %)", outcome.out, re.MULTILINE) == [
        ("2", "+20.0 %"),
        ("3", "-25.0 %"),
    ]
    assert outcome.err == ""
    monkeypatch.setattr("edgesparse.cli.results._DEFAULT_LAST", 1)
    outcome = run("results", "list", *DB)
    assert "-25.0 %" in outcome.out and "+20.0 %" not in outcome.out
    assert "note: 2 older results are left out; `--last N` shows more" in outcome.err
    assert len(run("results", "list", "--json", *DB).document["results"]) == 3
    (newest,) = run("results", "list", "--json", "--last", 1, *DB).document["results"]
    assert newest["id"] == 3


def test_list_json(run, keep) -> None:
    keep(1.0)
    (result,) = run("results", "list", "--json", *DB).document["results"]
    assert (result["id"], result["name"], result["runs"]) == (1, "fake", 20)


def test_show(run, keep, tmp_path) -> None:
    keep(2.0)
    outcome = run("results", "show", 1, *DB)
    assert re.search(r"out +host +2 ms", outcome.out)
    assert "the layers sum to" in outcome.out
    (tmp_path / "base.json").write_text(run("results", "show", 1, "--json", *DB).out)
    bench = run("bench", "out", "--runs", 20, "--warmup", 1, "--baseline", "base.json")
    assert (bench.code, "faster" in bench.out) == (0, True)


def test_the_last_is_compared_with_the_one_before(run, keep) -> None:
    for ms in (9.0, 1.0, 1.1):
        keep(ms)
    keep(5.0, result={"name": "other"})
    outcome = run("results", "compare", *DB)
    assert outcome.code == 5
    assert re.search(r"fake +host +host +1 ms +1.1 ms +\+10.0 % .* regression", outcome.out)
    assert "other" not in outcome.out
    assert "fake on host is 10.0 % slower than result 2" in outcome.err
    assert run("results", "compare", "--max-regression", "11%", *DB).code == 0
    (entry,) = run("results", "compare", "--json", *DB).document["comparisons"]
    assert entry["is_regression"]
    assert entry["interval"][0] < entry["change"] < entry["interval"][1]
    assert (entry["before"]["id"], entry["after"]["id"]) == (2, 3)


def test_what_is_no_longer_measured_fails_no_job(run, keep) -> None:
    def days(day: int) -> str:
        return f"2026-01-{day:02}T03:00:00+00:00"

    keep(1.0, days(1), "v1")
    keep(1.2, days(2))
    assert run("results", "compare", *DB).code == 5
    for day in (9, 10):
        keep(5.0, days(day), result={"name": "other"})
    for options in ((), ("--before-tag", "v1")):
        outcome = run("results", "compare", *options, *DB)
        assert (outcome.code, "fake" in outcome.out) == (0, False)
        assert "note: 1 series, older than the newest result by more than 1 d" in outcome.err
        assert run("results", "compare", "--since", 8, *options, *DB).code == 5
    assert "other" in run("results", "compare", *DB).out
    # What is named may be of any age.
    for named in (("--name", "fake"), (1, 2)):
        assert run("results", "compare", *named, *DB).code == 5
    # A series of one result is new, and hides no other's age.
    keep(1.0, days(30), result={"name": "new"})
    assert "note: 2 series" in run("results", "compare", *DB).err


def test_two_that_are_named(run, keep) -> None:
    for ms in (1.0, 2.0, 1.0):
        keep(ms, tag=f"{ms}")
    outcome = run("results", "compare", 2, 1, "--markdown", *DB)
    assert "| 2 ms | 1 ms | -50.0 % |" in outcome.out
    assert "-50.0 %" in run("results", "compare", 2, *DB).out
    assert "-50.0 %" in run("results", "compare", "--before-tag", "2.0", *DB).out
    for wrong in ((1, 2, 3), (1, "--before-tag", "x")):
        assert run("results", "compare", *wrong, *DB).code == 2


def test_results_that_are_not_alike_are_said_to_be(run, keep) -> None:
    keep(1.0)
    keep(1.0, threads=2)
    keep(1.0, result={"model_sha256": "f" * 64})
    assert "1 and 2 are not alike" in run("results", "compare", 1, 2, *DB).err
    assert "come from different models fake" in run("results", "compare", 1, 3, *DB).err


def test_noise_is_no_regression(run, keep) -> None:
    wild = [1.0, 2.0] * 10
    keep(1.0, result={"samples_ms": wild})
    keep(1.0, result={"samples_ms": [1.2, 2.1] * 10})
    outcome = run("results", "compare", *DB)
    assert outcome.code == 0
    assert "+10.0 %" in outcome.out
    assert "same, within the noise" in outcome.out


def test_what_differs_from_day_to_day_is_noise_if_it_is_known(run, keep) -> None:
    for ms in (1.0, 1.2, 1.05, 1.15, 1.0, 1.18):
        keep(ms)
    assert run("results", "compare", *DB).code == 5
    outcome = run("results", "compare", "--pool", 5, *DB)
    assert (outcome.code, "same, within the noise" in outcome.out) == (0, True)
    keep(2.0)
    assert run("results", "compare", "--pool", 5, *DB).code == 5
    assert run("results", "compare", 1, "--pool", 2, *DB).code == 2


def test_export(run, keep, tmp_path) -> None:
    keep(1.0, tag='a "b", c')
    keep(2.0, tag="d")
    rows = list(csv.DictReader(io.StringIO(run("results", "export", "--csv", *DB).out)))
    assert [(row["id"], row["tag"], row["name"]) for row in rows] == [
        ("1", 'a "b", c', "fake"),
        ("2", "d", "fake"),
    ]
    assert float(rows[1]["median_ms"]) == 2.002
    documents = run("results", "export", "--json", "--tag", "d", *DB).document["documents"]
    assert [len(d["results"][0]["samples_ms"]) for d in documents] == [20]
    assert run("results", "export", "--csv", "-o", "r.csv", *DB).out == ""
    assert (tmp_path / "r.csv").read_text().startswith("id,date,tag")
    assert run("results", "export", *DB).code == 2
    gone = run("results", "export", "--csv", "-o", "gone/r.csv", *DB)
    assert (gone.code, "cannot write gone/r.csv" in gone.err) == (1, True)


def test_nothing_is_kept(run) -> None:
    for verb in (["list"], ["show", 1], ["compare"], ["export", "--csv"]):
        outcome = run("results", *verb, *DB)
        assert outcome.code == 2
        assert "error: no results are stored in r.sqlite" in outcome.err
        assert "bench BUNDLE --save" in outcome.err


def test_nothing_to_compare(run, keep) -> None:
    keep(1.0)
    outcome = run("results", "compare", *DB)
    assert outcome.code == 0
    assert "note: there is nothing to compare yet" in outcome.err
    assert run("results", "compare", "--json", *DB).document["comparisons"] == []
    for wrong in (("--name", "gone"), ("--before-tag", "gone")):
        outcome = run("results", "compare", *wrong, *DB)
        assert (outcome.code, "r.sqlite holds no such result" in outcome.err) == (2, True)
