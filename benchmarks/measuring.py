"""What the benchmarks share: taking turns, rows, JSON lines, compiled models.

A row is a flat dict; `what` names the benchmark. Its figures come with the command that made them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import edgesparse
from edgesparse.bundle import Bundle
from edgesparse.errors import EdgeSparseError
from edgesparse.harness.bench import Limits, Timing, bench_sessions, pinned
from edgesparse.harness.cpus import choose_cpus
from edgesparse.harness.devices import open_session, resolve_device
from edgesparse.harness.local import cpu_name
from edgesparse.harness.session import ProcessSession, Session
from edgesparse.models import zoo

Row = dict[str, Any]

STDOUT = pathlib.Path("-")
# A median so many times the 10th percentile is of two speeds, not of one with noise.
UNSTEADY = 1.3


def parser_of(text: str, *, seconds: float) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has.

    Args:
        text: The benchmark's docstring; its first line is the description.
        seconds: Default measuring time of each engine.
    """
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=seconds, help="of measuring, per engine")
    add_json_option(parser)
    return parser


def run_script(main: Callable[[], None]) -> None:
    """Run a benchmark; what a user can cause is a sentence, a hint and an exit code."""
    try:
        main()
    except EdgeSparseError as error:
        say(f"error: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json [FILE]`; without a file the lines are printed."""
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        type=pathlib.Path,
        metavar="FILE",
        help="write JSON lines, to standard output if no file is named",
    )


def command_line(words: Sequence[str] | None = None) -> str:
    """Return the command that is running, without where its output goes.

    Absolute paths say something about this machine only, so their last part stands for them.
    """
    words = list(sys.argv if words is None else words)
    kept, skip = [], False
    for word in words[1:]:
        if (skip and not word.startswith("-")) or word.startswith("--json="):
            skip = False
        elif word == "--json":
            skip = True
        else:
            skip = False
            kept.append(pathlib.Path(word).name if word.startswith("/") else word)
    return shlex.join(["python", f"benchmarks/{pathlib.Path(words[0]).name}", *kept])


def write_rows(path: pathlib.Path | None, rows: Sequence[Row]) -> None:
    """Write JSON lines, if that is wanted; each row tells its command and machine."""
    if path is None:
        return
    if path == STDOUT:
        print("".join(_lines(rows)), end="")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(_lines(rows)), encoding="utf-8")


def publish(measured: Iterable[Row], form: Callable[[Row], str], path: pathlib.Path | None) -> None:
    """Print every row in a form as soon as it is measured, and write all of them in the end."""
    rows = []
    for row in measured:
        rows.append(row)
        print(form(row), flush=True)
    write_rows(path, rows)


def append_row(path: pathlib.Path, *rows: Row) -> None:
    """Add JSON lines, as `write_rows` writes them, to a file that may not exist yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read() != b"\n":  # a line that was being written when its process ended
                file.write(b"\n")
        file.write("".join(_lines(rows)).encode())


def read_lines(path: pathlib.Path) -> list[Row]:
    """Return the rows of a file of JSON lines; none of a missing file, none of a torn last line."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def _lines(rows: Sequence[Row]) -> list[str]:
    common = {
        "command": command_line(),
        "cpu": cpu_name(),
        "edgesparse": edgesparse.__version__,
        "threads": 1,
    }
    return [json.dumps({**row, **common}, allow_nan=False) + "\n" for row in rows]


def say(text: str) -> None:
    """Tell what is being done, on stderr."""
    print(text, file=sys.stderr, flush=True)


def take_turns(
    sessions: Mapping[str, Session], seconds: float, warmup: int | None = None
) -> dict[str, Timing]:
    """Return the timing of every session, all pinned to one CPU and measured in turns.

    Args:
        sessions: By the name of the engine or case.
        seconds: Of measuring, each.
        warmup: Runs of warm-up, each; until the time is stable by default.
    """
    opened = list(sessions.values())
    with pinned(opened, choose_cpus(1)):
        timings = bench_sessions(opened, Limits(seconds=seconds, warmup=warmup))
    return dict(zip(sessions, timings, strict=True))


def is_unsteady(samples_ms: Sequence[float]) -> bool:
    """Whether samples are of two speeds, so that their median may be either."""
    return float(np.median(samples_ms)) > UNSTEADY * float(np.percentile(samples_ms, 10))


def open_bundle(bundle: Bundle, device: str | None = None) -> ProcessSession:
    """Return a session of a bundle on a device, by default the one its target runs on here."""
    return open_session(resolve_device(device, bundle), bundle, fresh=True)


@contextlib.contextmanager
def closing(sessions: Mapping[str, Session]) -> Iterator[None]:
    """Close all sessions at the end, those that were added meanwhile too."""
    try:
        yield
    finally:
        for session in sessions.values():
            session.close()


def build_model(
    folder: pathlib.Path, name: str, sparsity: float, pattern: str = "unstructured"
) -> pathlib.Path:
    """Return the ONNX file of a network of the zoo with pruned random weights."""
    path = folder / f"{name}_{round(sparsity * 100)}_{pattern}.onnx"
    if not path.exists():
        zoo.build(name, sparsity=sparsity, pattern=pattern, seed=0, output=path)
    return path


def compile_model(model: pathlib.Path, target: str) -> Bundle:
    """Return the bundle of a model beside its ONNX file, as the cost model chooses, untuned."""
    output = model.with_suffix(f".{target}")
    return edgesparse.compile(model, target=target, output=output, tuned=False)
