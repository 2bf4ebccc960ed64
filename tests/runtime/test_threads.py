"""es_team, es_run_thread and the pool: status codes, and a program under ThreadSanitizer."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle.fixtures import require_tool
from bundle.toy import zig

from edgesparse import runtime
from edgesparse.bundle import Bundle
from edgesparse.native import ModelDescriptor, Team, aligned_empty, load_library
from edgesparse.plan import MAX_THREADS

OK, NULL_POINTER, ABI, STEP_RANGE, THREADS = 0, 1, 8, 9, 11
RUNTIME = Path(runtime.__file__).parent
SOURCES = [RUNTIME / "src" / f"{stem}.c" for stem in ("edgesparse", "pool", "sha256", "team")]
PROGRAM = Path(__file__).parent / "threads.c"
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g", "-pthread"]
RUNS, STEPS, SIZE = 200, 6, 64


def expected_sum() -> int:
    values = np.arange(SIZE) ** 2 % 101
    for _ in range(RUNS * STEPS):
        values = (values + np.roll(values, -23)) % 1000
    return int((values * np.arange(1, SIZE + 1)).sum())


class Opened:
    """A library, a team of two, and arguments that work; tests spoil one at a time."""

    def __init__(self, bundle: Bundle) -> None:
        self.library = load_library(bundle.path / "libmodel.so")
        self.model = self.library.es_default_model()
        self.team = Team()
        assert self.library.es_team_init(ctypes.byref(self.team), 2) == OK
        self.weights = aligned_empty((bundle.path / "weights.bin").stat().st_size)
        self.weights[:] = np.fromfile(bundle.path / "weights.bin", np.uint8)
        self.memory = aligned_empty(4096)
        pointer = self.memory.ctypes.data
        self.tensors = (ctypes.c_void_p * 2)(pointer + 1024, pointer + 2048)

    def run(self, thread: int, first: int = 0, last: int = 2, **changes: Any) -> int:
        arguments = {
            "model": self.model,
            "weights": self.weights.ctypes.data,
            "arena": self.memory.ctypes.data,
            "inputs": self.tensors,
            "outputs": self.tensors,
            "team": ctypes.byref(self.team),
        } | changes
        return int(self.library.es_run_thread(*arguments.values(), thread, first, last))


@pytest.fixture
def opened(host_bundle: Bundle) -> Opened:
    return Opened(host_bundle)


@pytest.mark.parametrize("threads", [-1, 0, 65, 2**31 - 1])
def test_a_team_of_impossible_size(opened: Opened, threads: int) -> None:
    assert opened.library.es_team_init(ctypes.byref(opened.team), threads) == THREADS
    assert opened.run(0) == THREADS


def test_the_largest_team(opened: Opened) -> None:
    assert opened.library.es_team_init(ctypes.byref(opened.team), MAX_THREADS) == OK
    header = (RUNTIME / "include" / "edgesparse.h").read_text()
    assert f"#define ES_MAX_THREADS {MAX_THREADS}\n" in header


def test_a_team_nobody_initialised(opened: Opened) -> None:
    opened.team = Team()
    assert opened.run(0) == THREADS


@pytest.mark.parametrize("thread", [-1, 2, 64])
def test_a_thread_outside_its_team(opened: Opened, thread: int) -> None:
    assert opened.run(thread) == THREADS


def test_null_pointers(opened: Opened) -> None:
    assert opened.library.es_team_init(None, 2) == NULL_POINTER
    for name in ("model", "weights", "arena", "inputs", "outputs", "team"):
        assert opened.run(0, **{name: None}) == NULL_POINTER


def test_the_other_checks_come_before_anybody_waits(opened: Opened) -> None:
    for thread in (0, 1):
        assert opened.run(thread, first=0, last=3) == STEP_RANGE
    other = ModelDescriptor.from_buffer_copy(opened.model.contents)
    other.abi_version = 1
    assert opened.run(0, model=ctypes.byref(other)) == ABI


def test_a_team_of_one_waits_for_nobody(opened: Opened) -> None:
    assert opened.library.es_team_init(ctypes.byref(opened.team), 1) == OK
    assert opened.run(0) == OK


Build = Callable[..., Path]


def build_with_zig(folder: Path, *flags: str) -> Path:
    sources = [str(path) for path in (PROGRAM, *SOURCES)]
    zig("cc", *FLAGS, *flags, f"-I{RUNTIME / 'include'}", *sources, "-o", "program", cwd=folder)
    return folder / "program"


def build_with_sanitizer(folder: Path, *flags: str) -> Path:
    command = [require_tool("gcc"), *FLAGS, *flags, "-fsanitize=thread"]
    command += [f"-I{RUNTIME / 'include'}", *map(str, (PROGRAM, *SOURCES)), "-o", "program"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if "tsan" in done.stderr:
        pytest.skip("gcc has no ThreadSanitizer here")
    assert done.returncode == 0, done.stderr
    return folder / "program"


def run_program(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # ThreadSanitizer does not know every layout of memory that a kernel randomises.
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    done = subprocess.run(
        [*fixed, str(program), *arguments], capture_output=True, text=True, timeout=120
    )
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not run on this kernel")
    return done


@pytest.mark.parametrize("build", [build_with_zig, build_with_sanitizer])
def test_threads_and_pools_compute_the_same(build: Build, tmp_path: Path) -> None:
    program = build(tmp_path)
    for way in ("threads", "pool"):
        for threads in (1, 2, 3):
            done = run_program(program, way, str(threads))
            assert (done.returncode, done.stdout) == (0, f"{expected_sum()}\n"), done.stderr
            assert done.stderr == ""


def test_the_sanitizer_sees_a_missing_barrier(tmp_path: Path) -> None:
    program = build_with_sanitizer(tmp_path, "-DWITHOUT_BARRIER")
    assert "data race" in run_program(program, "threads", "2").stderr


def test_pools_of_impossible_size(tmp_path: Path) -> None:
    source = """
        #include "edgesparse_pool.h"
        int main(void) {
          es_pool_destroy(0);
          return es_pool_create(0) || es_pool_create(65) || es_pool_create(-1) ||
                 es_pool_run(0, 0, 0, 0, 0, 0) != ES_NULL_POINTER;
        }
    """
    (tmp_path / "main.c").write_text(source)
    sources = ["main.c", *map(str, SOURCES)]
    zig("cc", *FLAGS, f"-I{RUNTIME / 'include'}", *sources, "-o", "program", cwd=tmp_path)
    assert subprocess.run([tmp_path / "program"]).returncode == 0


def test_the_shipped_pool_builds_with_the_archive(host_bundle: Bundle, tmp_path: Path) -> None:
    """As the header says: edgesparse_pool.c is compiled with the program, by the program's cc."""
    program = """
        #include "model.h"
        #include "include/edgesparse_pool.h"
        int main(void) {
          es_pool *pool = es_pool_create(2);
          es_status status = es_pool_run(pool, toy_model(), 0, 0, 0, 0);
          es_pool_destroy(pool);
          return status == ES_NULL_POINTER ? 0 : 1;
        }
    """
    (tmp_path / "main.c").write_text(program)
    root = host_bundle.path
    files = ["main.c", str(root / "include" / "edgesparse_pool.c"), str(root / "libmodel.a")]
    zig("cc", *FLAGS, f"-I{root}", *files, "-o", "program", cwd=tmp_path)
    assert subprocess.run([tmp_path / "program"]).returncode == 0
