"""Results kept over weeks: one SQLite file, to which any number of processes may add.

    with Store() as store:
        ids = store.add(document, tag="v1.2")
        newest = store.find(name="mobilenet", target="host")[-1]
        document = store.document(newest.id)

Results that can be compared form a series: one network, target, device and number of threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgesparse.errors import OutputError, UsageError
from edgesparse.files import printable
from edgesparse.harness.closing import Closing
from edgesparse.harness.results import now
from edgesparse.harness.statistics import Estimate, median_interval

# What a file lacks is made up for when it is opened. Never change an entry, append one.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY, date TEXT NOT NULL, edgesparse TEXT NOT NULL, tag TEXT NOT NULL,
        device TEXT NOT NULL, cpu TEXT NOT NULL, threads INTEGER NOT NULL, document BLOB NOT NULL);
    CREATE TABLE result (
        id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run (id),
        position INTEGER NOT NULL, bundle TEXT NOT NULL, name TEXT NOT NULL, target TEXT NOT NULL,
        model_sha256 TEXT NOT NULL, median_ms REAL NOT NULL, low_ms REAL, high_ms REAL,
        min_ms REAL NOT NULL, p90_ms REAL NOT NULL, p99_ms REAL, first_ms REAL, open_ms REAL,
        runs INTEGER NOT NULL, shipped_bytes INTEGER, arena_bytes INTEGER, ratio REAL);
    """,
    "CREATE INDEX result_series ON result (name, target, run);",
)

# Writers wait for each other; one takes milliseconds.
_BUSY_SECONDS = 30.0
_VARIABLE = "EDGESPARSE_RESULTS"

_COLUMNS = """result.id, date, tag, edgesparse, device, cpu, threads, bundle, name, target,
    model_sha256, median_ms, low_ms, high_ms, min_ms, p90_ms, p99_ms, first_ms, open_ms, runs,
    shipped_bytes, arena_bytes, ratio"""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredResult:
    """One bundle's result, without its samples; times in ms, names as in the document."""

    id: int
    date: str
    tag: str
    edgesparse: str
    device: str
    cpu: str
    threads: int
    bundle: str
    name: str
    target: str
    model_sha256: str
    median_ms: float
    low_ms: float | None
    high_ms: float | None
    min_ms: float
    p90_ms: float
    p99_ms: float | None
    first_ms: float | None
    open_ms: float | None
    runs: int
    shipped_bytes: int | None
    arena_bytes: int | None
    ratio: float | None

    @property
    def series(self) -> tuple[str, str, str, str, int]:
        """What results must share to be compared."""
        return self.name, self.target, self.device, self.cpu, self.threads

    @property
    def estimate(self) -> Estimate:
        """Its median and the interval of it, in ms; none wide where it is not known."""
        low, high = (self.median_ms if ms is None else ms for ms in (self.low_ms, self.high_ms))
        return self.median_ms, (low, high)


def default_path() -> pathlib.Path:
    """Return where results are kept: $EDGESPARSE_RESULTS, or the user's data folder."""
    if given := os.environ.get(_VARIABLE):
        return pathlib.Path(given)
    import platformdirs

    return pathlib.Path(platformdirs.user_data_dir("edgesparse")) / "results.sqlite"


class Store(Closing):
    """An opened file of results."""

    def __init__(self, path: str | os.PathLike[str] | None = None, *, create: bool = True) -> None:
        """Open the file, and bring it up to date.

        Args:
            path: The file; where results are kept by default.
            create: Make the file, and its folder, if there is none.

        Raises:
            UsageError: There is none, or it holds something else, or a newer edgesparse made it.
            OutputError: It cannot be made or written.
        """
        self.path = pathlib.Path(path) if path is not None else default_path()
        with self._explained():
            if not create and not self.path.exists():
                raise UsageError(
                    f"no results are stored in {self.path}",
                    hint="`edgesparse bench BUNDLE --save` stores one;"
                    " `--db FILE` names another file",
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Transactions are opened by hand: all that write are immediate.
            self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._migrate()
            except BaseException:
                self._db.close()
                raise

    def _migrate(self) -> None:
        if self._version() == len(MIGRATIONS):
            return
        with self._transaction():
            # Somebody else may have done it meanwhile.
            version = self._version()
            if version > len(MIGRATIONS):
                raise UsageError(
                    f"{self.path} holds version {version} of the store, known is {len(MIGRATIONS)}",
                    hint="a newer edgesparse wrote it; update, or name another file with `--db`",
                )
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables and not version:
                raise UsageError(
                    f"{self.path} is an SQLite file, but none of edgesparse's",
                    hint="name another file with `--db`",
                )
            for script in MIGRATIONS[version:]:
                for statement in filter(str.strip, script.split(";")):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite and the system say into errors of ours."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise OutputError(
                f"cannot use the results in {self.path}: {error}",
                hint="`--db FILE` names another file",
            ) from error
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"{self.path} is no file of results: {error}",
                hint="`--db FILE` names another file",
            ) from error

    def add(self, document: Mapping[str, Any], tag: str = "") -> list[int]:
        """Return the numbers under which a document's results are kept from now on.

        Args:
            document: From `result_document`.
            tag: What the user calls it, e.g. a commit.
        """
        device = document["device"]
        packed = zlib.compress(json.dumps(document).encode())
        row = (
            document.get("date") or now(),
            document["edgesparse"],
            tag,
            device["name"],
            device["cpu"],
            document.get("threads", 1),
            packed,
        )
        with self._explained(), self._transaction():
            columns = "date, edgesparse, tag, device, cpu, threads, document"
            run = self._insert("run", columns, row)
            return [
                self._insert_result(run, position, result)
                for position, result in enumerate(document["results"])
            ]

    def _insert_result(self, run: int, position: int, result: Mapping[str, Any]) -> int:
        low, high = result.get("median_interval_ms") or median_interval(result["samples_ms"])
        kept = (
            "bundle, name, target, model_sha256, median_ms, min_ms, p90_ms, p99_ms, first_ms,"
            " open_ms, runs, shipped_bytes, arena_bytes, ratio"
        )
        values = [result.get(key) for key in kept.split(", ")]
        columns = f"{kept}, run, position, low_ms, high_ms"
        return self._insert("result", columns, (*values, run, position, low, high))

    def _insert(self, table: str, columns: str, values: Sequence[Any]) -> int:
        marks = ", ".join("?" * len(values))
        statement = f"INSERT INTO {table} ({columns}) VALUES ({marks})"
        cursor = self._db.execute(statement, tuple(map(_kept, values)))
        return int(cursor.lastrowid or 0)

    def find(self, **wanted: str | int | None) -> list[StoredResult]:
        """Return results, the oldest first.

        Args:
            wanted: Columns of `StoredResult` and the value they must have; None for any.
        """
        fields = {field.name for field in dataclasses.fields(StoredResult)}
        asked = {key: value for key, value in wanted.items() if value is not None}
        if unknown := asked.keys() - fields:
            raise ValueError(f"results have no {sorted(unknown)}")
        names = {"id": "result.id"}
        terms = [f"{names.get(key, key)} = ?" for key in asked]
        query = (
            f"SELECT {_COLUMNS} FROM result JOIN run ON run.id = result.run"
            f" WHERE {' AND '.join(terms) or '1'} ORDER BY date, result.id"
        )
        with self._explained():
            try:
                rows = self._db.execute(query, tuple(map(_kept, asked.values()))).fetchall()
            except OverflowError:  # a number of more than 64 bits is no result's
                return []
        return [StoredResult(*row) for row in rows]

    def one(self, number: int) -> StoredResult:
        """Return the result of that number.

        Raises:
            UsageError: There is none.
        """
        found = self.find(id=number)
        if not found:
            raise UsageError(
                f"{self.path} holds no result {number}",
                hint="`edgesparse results list` shows their numbers",
            )
        return found[0]

    def document(self, number: int) -> dict[str, Any]:
        """Return the document of a result: as it was measured, with this result alone.

        Raises:
            UsageError: There is no such result, or its document is damaged.
        """
        self.one(number)
        query = "SELECT document, position FROM run JOIN result ON run.id = run WHERE result.id = ?"
        with self._explained():
            packed, position = self._db.execute(query, (number,)).fetchone()
        try:
            document: dict[str, Any] = json.loads(zlib.decompress(packed))
            return {**document, "results": [document["results"][position]]}
        except (zlib.error, ValueError, LookupError, TypeError) as error:
            raise UsageError(
                f"result {number} in {self.path} is damaged: {error}",
                hint="name a copy of the file with `--db`, or measure it again",
            ) from error

    def samples(self, number: int) -> list[float]:
        """Return a result's samples in ms."""
        samples: list[float] = self.document(number)["results"][0]["samples_ms"]
        return samples

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _kept(value: Any) -> Any:
    """Return a value as SQLite keeps it, whose text is Unicode."""
    return printable(value) if isinstance(value, str) else value


def latest_steps(
    results: Iterable[StoredResult], before: int = 1
) -> list[tuple[list[StoredResult], StoredResult]]:
    """Return for every series with two results or more the last one, and those just before it.

    Args:
        results: The oldest first.
        before: How many of those before; fewer where there are no more.
    """
    groups = [group for group in in_series(results) if len(group) > 1]
    return [(group[-1 - before : -1] or group[:-1], group[-1]) for group in groups]


def earliest_recent(results: Sequence[StoredResult], days: float) -> str:
    """Return the date from which on results count as recent: so many days before the newest.

    Args:
        results: The oldest first; at least one.
        days: How many.
    """
    newest = results[-1].date
    try:
        return (datetime.datetime.fromisoformat(newest) - datetime.timedelta(days)).isoformat()
    except (ValueError, OverflowError):  # of a document that somebody else wrote
        return ""


def pooled(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return samples of several results as if each were a launch of one.

    An interval then knows how much results of different days differ; of one result alone, how much
    its launches do.

    Args:
        entries: Of `results` in documents.
    """
    if len(entries) == 1:
        return {**entries[0]}
    return {
        "samples_ms": [ms for entry in entries for ms in entry["samples_ms"]],
        "launches": [len(entry["samples_ms"]) for entry in entries],
    }


def in_series(results: Iterable[StoredResult]) -> list[list[StoredResult]]:
    """Return results gathered into series, in the order in which series begin."""
    groups: dict[tuple[Any, ...], list[StoredResult]] = {}
    for result in results:
        groups.setdefault(result.series, []).append(result)
    return list(groups.values())
