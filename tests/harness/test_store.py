from __future__ import annotations

import contextlib
import pathlib
import sqlite3
import subprocess
import sys
from typing import Any

import pytest

from edgesparse.errors import OutputError, UsageError
from edgesparse.harness import store as store_module
from edgesparse.harness.store import (
    MIGRATIONS,
    Store,
    default_path,
    earliest_recent,
    in_series,
    latest_steps,
    pooled,
)


def document(ms: float = 1.0, name: str = "net", date: str = "2026-01-01", **device: Any) -> Any:
    samples = [ms, ms, ms * 1.1]
    result = {
        "bundle": f"out/{name}",
        "name": name,
        "target": "host",
        "model_sha256": "0" * 64,
        "median_ms": ms,
        "median_interval_ms": [ms, ms * 1.1],
        "min_ms": ms,
        "p90_ms": ms * 1.1,
        "p99_ms": None,
        "first_ms": 2.0,
        "open_ms": 1.5,
        "runs": 3,
        "shipped_bytes": 10,
        "arena_bytes": 20,
        "ratio": None,
        "samples_ms": samples,
    }
    return {
        "schema": 1,
        "edgesparse": "0.1.0",
        "date": date,
        "threads": 1,
        "device": {"name": "host", "cpu": "a cpu", **device},
        "results": [result, {**result, "name": f"{name}-2"}],
    }


def test_what_is_added_is_found_again(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path / "deep" / "r.sqlite") as store:
        assert store.add(document(), tag="v1") == [1, 2]
        first, second = store.find()
        assert (first.name, second.name, first.tag) == ("net", "net-2", "v1")
        assert (first.median_ms, first.low_ms, first.high_ms, first.p99_ms) == (1, 1, 1.1, None)
        assert store.document(2) == {**document(), "results": [document()["results"][1]]}
        assert store.samples(1) == [1.0, 1.0, 1.1]
        assert store.one(2) == second


def test_results_are_found_by_what_they_are(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path / "r.sqlite") as store:
        store.add(document(), tag="a")
        store.add(document(name="other", cpu="another cpu"), tag="b")
        assert [r.id for r in store.find(name="net")] == [1]
        assert [r.id for r in store.find(tag="b", target="host", device=None)] == [3, 4]
        assert store.find(name="'; DROP TABLE run; --") == []
        with pytest.raises(ValueError, match="color"):
            store.find(color="red")


def test_the_oldest_comes_first_whenever_it_was_added(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path / "r.sqlite") as store:
        for date in ("2026-03-01", "2026-01-01", "2026-02-01"):
            store.add(document(date=date))
        assert [r.date for r in store.find(name="net")] == [
            "2026-01-01",
            "2026-02-01",
            "2026-03-01",
        ]


def test_series_are_of_one_network_target_device_and_threads(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path / "r.sqlite") as store:
        store.add(document(1.0))
        store.add(document(9.0, cpu="faster"))
        store.add(document(2.0))
        store.add(document(3.0))
        found = store.find(name="net")
    assert [[r.median_ms for r in group] for group in in_series(found)] == [[1, 2, 3], [9]]
    for before, medians in ((1, [2]), (2, [1, 2]), (9, [1, 2])):
        ((earlier, last),) = latest_steps(found, before)
        assert ([r.median_ms for r in earlier], last.median_ms) == (medians, 3)


@pytest.mark.parametrize(
    ("date", "earliest"),
    [
        ("2026-03-01T03:00:00+00:00", "2026-02-28T03:00:00+00:00"),
        ("2026-03-01", "2026-02-28T00:00:00"),
        ("of old", ""),
    ],
)
def test_what_is_recent_is_counted_from_the_newest(tmp_path, date, earliest) -> None:
    with Store(tmp_path / "r.sqlite") as store:
        store.add(document(date="2025-01-01"))
        store.add(document(date=date))
        assert earliest_recent(store.find(), days=1) == earliest
        assert earliest_recent(store.find(), days=1e9) == ""


def test_results_are_pooled_as_launches() -> None:
    old = {"samples_ms": [1.0, 2.0]}
    new = {"samples_ms": [3.0, 4.0, 5.0], "launches": [1, 2]}
    assert pooled([old, new]) == {"samples_ms": [1.0, 2.0, 3.0, 4.0, 5.0], "launches": [2, 3]}
    assert pooled([new]) == new


def test_a_document_of_before_there_were_intervals(tmp_path: pathlib.Path) -> None:
    old = document()
    for key in ("median_interval_ms", "p99_ms"):
        del old["results"][0][key]
    del old["date"], old["threads"]
    with Store(tmp_path / "r.sqlite") as store:
        store.add(old)
        found = store.one(1)
    assert (found.low_ms, found.high_ms, found.threads) == (1.0, 1.1, 1)
    assert found.date.startswith("20")


def test_a_file_of_before_is_brought_up_to_date(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.sqlite"
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "MIGRATIONS", MIGRATIONS[:1])
        with Store(path) as store:
            store.add(document(), tag="old")
    with Store(path) as store:
        assert [r.tag for r in store.find()] == ["old", "old"]
        store.add(document(), tag="new")
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()
    db.close()
    assert ("result_series",) in names


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.sqlite"
    with Store(path) as store:
        store.add(document())
    broken = (*MIGRATIONS, "CREATE TABLE more (id INTEGER); ALTER TABLE gone ADD COLUMN x")
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "MIGRATIONS", broken)
        with pytest.raises(OutputError, match="gone"):
            Store(path)
    with Store(path) as store:
        assert len(store.find()) == 2
        tables = store._db.execute("SELECT name FROM sqlite_master").fetchall()
    assert ("more",) not in tables


def test_a_file_of_later_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "r.sqlite"
    with Store(path) as store:
        store._db.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="version 99 of the store") as caught:
        Store(path)
    assert "newer edgesparse" in caught.value.hint


def test_foreign_files_are_refused(tmp_path: pathlib.Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a database, but long enough to be looked at as one " * 30)
    with pytest.raises(UsageError, match="is no file of results"):
        Store(text)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE cats (name TEXT)")
    db.close()
    with pytest.raises(UsageError, match="none of edgesparse's"):
        Store(foreign)
    assert "cats" in foreign.read_bytes().decode(errors="replace")


@pytest.mark.parametrize("damage", ["substr(document, 1, 20)", "x'00'", "'text'"])
def test_a_damaged_document_is_said(tmp_path: pathlib.Path, damage: str) -> None:
    path = tmp_path / "r.sqlite"
    with Store(path) as store:
        store.add(document())
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE run SET document = {damage}")
    with Store(path) as store:
        assert len(store.find()) == 2
        with pytest.raises(UsageError, match=r"result 1 in .* is damaged: ") as caught:
            store.document(1)
        assert "--db" in caught.value.hint


def test_a_file_that_cannot_be(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot use the results in"):
        Store(tmp_path / "file" / "r.sqlite")
    with pytest.raises(UsageError, match="no results are stored in"):
        Store(tmp_path / "none.sqlite", create=False)
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.parametrize("number", [7, 2**63])
def test_a_result_that_is_not_there(tmp_path: pathlib.Path, number: int) -> None:
    with Store(tmp_path / "r.sqlite") as store:
        for ask in (store.one, store.document, store.samples):
            with pytest.raises(UsageError, match=f"holds no result {number}"):
                ask(number)
        assert store.find(threads=number) == []


WRITER = """
import pathlib, sys
sys.path.insert(0, sys.argv[2])
from harness.test_store import document
from edgesparse.harness.store import Store
for number in range(10):
    with Store(sys.argv[1]) as store:
        store.add(document(), tag=f"{sys.argv[3]}.{number}")
"""


def test_many_write_at_once(tmp_path: pathlib.Path) -> None:
    """They race to create the tables, too."""
    path, tests = tmp_path / "r.sqlite", pathlib.Path(__file__).parents[1]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, tests, str(index)])
        for index in range(4)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    with Store(path) as store:
        tags = [r.tag for r in store.find(name="net")]
    assert sorted(tags) == sorted(f"{i}.{n}" for i in range(4) for n in range(10))


def test_where_results_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.delenv("EDGESPARSE_RESULTS", raising=False)
    assert default_path().parts[-2:] == ("edgesparse", "results.sqlite")
    monkeypatch.setenv("EDGESPARSE_RESULTS", str(tmp_path / "mine"))
    assert default_path() == tmp_path / "mine"
