from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgesparse.cli.app import VERBS

ZOO = ("list", "build", "card")
RESULTS = ("list", "show", "compare", "export", "add")
COMMANDS = [
    (),
    *((verb,) for verb in VERBS),
    *(("zoo", name) for name in ZOO),
    *(("results", name) for name in RESULTS),
]


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_help_is_as_written(command, run, golden) -> None:
    outcome = run(*command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    golden(f"cli/{'-'.join(('edgesparse', *command))}.txt", outcome.out)


def imported_by(*arguments: str) -> set[str]:
    script = f"""
import sys
from edgesparse.cli import main
main({list(arguments)!r})
print("MODULES", *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("MODULES ")[2].split())


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_help_imports_nothing_heavy(command) -> None:
    heavy = {"numpy", "onnx", "onnx_ir", "tvm", "torch", "onnxruntime", "rich", "jinja2"}
    assert not heavy & imported_by(*command, "--help")


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, edgesparse; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "onnx_ir", "tvm", "click"} & set(done.stdout.split())


def test_help_is_fast() -> None:
    """0.3 s of one core, in the best of a few tries; what else the machine does is not counted."""
    command = [sys.executable, "-m", "edgesparse", "--help"]
    assert any(cpu_seconds(command) < 0.3 for _ in range(20))


def cpu_seconds(command: list[str]) -> float:
    """Return what a program takes of a core, the system's work for it included."""
    before = os.times()
    subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


def test_version(run) -> None:
    import edgesparse

    outcome = run("--version")
    assert (outcome.code, outcome.out) == (0, f"edgesparse {edgesparse.__version__}\n")
