"""Standard streams that are full, closed, or of an encoding that lacks letters."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

COMMAND = f"{sys.executable} -m edgesparse"
FULL = pathlib.Path("/dev/full")


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        errors="replace",
    )


@pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("arguments", ["targets", "targets --json", "cache dir", "--help"])
def test_a_full_disk_is_said(arguments) -> None:
    done = shell(f"{COMMAND} {arguments} > {FULL}")
    assert done.returncode == 1
    assert done.stderr == (
        "error: cannot write the output: No space left on device\n"
        "hint: make room, or write elsewhere\n"
    )


@pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
def test_where_nothing_can_be_said_the_exit_code_tells() -> None:
    assert shell(f"{COMMAND} frobnicate 2> {FULL}").returncode == 2


def test_streams_may_be_closed(model) -> None:
    assert shell(f"{COMMAND} targets >&-").returncode == 0
    done = shell(f"{COMMAND} compile '{model}' -o '{model.parent}/out' <&- >&- 2>&-")
    assert done.returncode == 0
    assert bundle_names(model.parent) == ["out"]


@pytest.mark.parametrize("arguments", ["targets", "targets --json", "--help"])
def test_nobody_reads_any_more(arguments) -> None:
    """As with `| head`: neither a success nor a failure, but what a shell calls a closed pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "edgesparse", *arguments.split()]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def bundle_names(folder: pathlib.Path) -> list[str]:
    return [path.parent.name for path in folder.glob("*/manifest.json")]


@pytest.mark.parametrize("json_option", ["", "--json"])
def test_names_that_an_encoding_lacks_are_shown_escaped(make_bundle, json_option) -> None:
    bundle = make_bundle("\N{SNOWMAN}")
    command = f"{COMMAND} bench '{bundle.path}' --runs 1 --warmup 0 --launches 1 {json_option}"
    done = shell(command, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C.UTF-8")
    assert done.returncode == 0
    assert r"\u2603" in done.stdout


@pytest.mark.parametrize("verb", ["", "results", "zoo", "cache"])
def test_no_verb_shows_the_help(run, verb) -> None:
    outcome = run(*verb.split())
    assert "Commands:" in outcome.out + outcome.err
    assert "error" not in outcome.err
