"""The runner protocol, spoken by the native runner (also under qemu) and by runner.mjs in node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle.fixtures import require_tool
from bundle.toy import assert_same, toy_inputs, toy_outputs

from edgesparse.bundle import Bundle

DEVICES = [
    "host",
    pytest.param("qemu", marks=pytest.mark.isa("neon")),
    pytest.param("node", marks=pytest.mark.isa("wasm")),
]


class Runner:
    def __init__(self, *command: str | Path) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.ready = self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self, last: str = "") -> tuple[int, str, str]:
        out, err = self.process.communicate(last, timeout=120)
        return self.process.returncode, out, err


@pytest.fixture(params=DEVICES)
def command(request: pytest.FixtureRequest) -> Callable[[Path], list[str | Path]]:
    """From a bundle's directory to the command that runs it; a bundle for the device is at hand."""
    if request.param == "node":
        node = require_tool("node")
        return lambda path: [node, path / "runner.mjs", path]
    emulator = [require_tool("qemu-aarch64")] if request.param == "qemu" else []
    return lambda path: [*emulator, path / "runner", path / "weights.bin"]


@pytest.fixture
def bundle(request: pytest.FixtureRequest) -> Bundle:
    device = request.node.callspec.params["command"]
    name = {"host": "host_bundle", "qemu": "arm_bundle", "node": "wasm_bundle"}[device]
    bundle: Bundle = request.getfixturevalue(name)
    return bundle


@pytest.fixture
def runner(bundle: Bundle, command: Callable[[Path], list[str | Path]]) -> Iterator[Runner]:
    opened = Runner(*command(bundle.path))
    yield opened
    if opened.process.returncode is None:
        assert opened.close() == (0, "", "")


def write_samples(path: Path, seeds: range) -> list[dict[str, np.ndarray[Any, Any]]]:
    samples = [toy_inputs(seed) for seed in seeds]
    path.write_bytes(b"".join(s["x"].tobytes() + s["1"].tobytes() for s in samples))
    return samples


def read_sample(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    return {
        "y": np.frombuffer(data[:24], np.float32).reshape(2, 3),
        "0": np.frombuffer(data[24:32], np.int64),
    }


def test_ready_line(runner: Runner) -> None:
    assert runner.ready["ready"] is True
    assert (runner.ready["arena_bytes"], runner.ready["step_count"]) == (64, 2)
    assert runner.ready["open_ms"] > 0
    assert runner.ready["timer_resolution_ns"] > 0


@pytest.mark.parametrize("folder", ["plain", "with space"])
def test_run(runner: Runner, tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    given, taken = tmp_path / folder / "in", tmp_path / folder / "out"
    samples = write_samples(given, range(5))
    assert runner.ask(f'run 5 "{given}" "{taken}"') == {"ran": 5}
    data = taken.read_bytes()
    assert len(data) == 5 * 32
    for i, inputs in enumerate(samples):
        assert_same(read_sample(data[32 * i : 32 * i + 32]), toy_outputs(inputs))


def test_unquoted_words(runner: Runner, tmp_path: Path) -> None:
    write_samples(tmp_path / "in", range(1))
    assert runner.ask(f"  run\t1 {tmp_path / 'in'}  {tmp_path / 'out'} ") == {"ran": 1}


def test_timing_answers_have_the_asked_shape(runner: Runner, tmp_path: Path) -> None:
    write_samples(tmp_path / "in", range(1))
    assert len(runner.ask("bench 7")["samples_ns"]) == 7
    assert runner.ask(f"load {tmp_path / 'in'}") == {"loaded": True}
    samples = runner.ask("bench 3 50")["samples_ns"]
    assert len(samples) == 3
    assert all(sample > 0 for sample in samples)
    profiles = runner.ask("profile 4")["steps_ns"]
    assert [len(steps) for steps in profiles] == [2, 2, 2, 2]


def test_bad_commands_answer_and_do_not_kill(runner: Runner, tmp_path: Path) -> None:
    write_samples(tmp_path / "in", range(2))
    given, taken = tmp_path / "in", tmp_path / "out"
    for line, message in [
        ("fly", "unknown command fly"),
        ('say"quoted" \\', "unknown command"),
        ("run 1", "run takes 3 to 3 words, found 1"),
        ("bench", "bench takes 1 to 2 words, found 0"),
        ("bench 1 2 3", "found 3"),
        ("bench 0", "from 1 to 10000000, found 0"),
        ("bench -3", "found -3"),
        ("bench 99999999999999999999", "from 1 to"),
        ("bench two", "found two"),
        ("bench 1 x", "found x"),
        ("profile 1.5", "found 1.5"),
        (f"run 3 {given} {taken}", "expected 96 bytes, found 64"),
        (f"load {given}", "expected 32 bytes, found 64"),
        (f"load {tmp_path / 'none'}", "no such file"),
        (f"load {tmp_path / 'größe-模型-🙂'}", "größe-模型-🙂"),
        (f"run 2 {given} {tmp_path / 'no' / 'out'}", "no such file"),
    ]:
        answer = runner.ask(line)
        assert message.lower() in answer["error"].lower(), line
        assert isinstance(answer["code"], str)
    assert runner.ask(f"run 2 {given} {taken}") == {"ran": 2}


def test_empty_lines_are_ignored(runner: Runner) -> None:
    assert len(runner.ask("\n   \nbench 1")["samples_ns"]) == 1


def test_quit_ends_it(runner: Runner) -> None:
    assert runner.close("quit\nbench 1\n") == (0, "", "")


def test_quiet_and_last_line_without_an_end(runner: Runner) -> None:
    code, out, err = runner.close("bench 2")
    assert (code, err, len(json.loads(out)["samples_ns"])) == (0, "", 2)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-1], "bytes|truncated"),
        (lambda data: b"", "bytes|empty"),
        (lambda data: data[:-1] + b"\1", "corrupt"),
        (lambda data: b"GGUF" + data[4:], "not an edgesparse weights file"),
        (lambda data: data[:30] + b"\0" + data[31:], "belong to another model"),
    ],
)
def test_bad_weights_are_refused_at_the_start(
    bundle: Bundle,
    command: Callable[[Path], list[str | Path]],
    tmp_path: Path,
    spoil: Callable[[bytes], bytes],
    message: str,
) -> None:
    copy = Path(shutil.copytree(bundle.path, tmp_path / "copy"))
    (copy / "weights.bin").write_bytes(spoil((copy / "weights.bin").read_bytes()))
    runner = Runner(*command(copy))
    assert runner.ready["code"] == "weights"
    assert any(part in runner.ready["error"] for part in message.split("|"))
    assert runner.close() == (1, "", "")


def test_a_missing_bundle_is_an_error(
    bundle: Bundle, command: Callable[[Path], list[str | Path]]
) -> None:
    runner = Runner(*command(bundle.path)[:-1], bundle.path / "none")
    assert "no such file" in runner.ready["error"].lower()
    assert runner.close()[0] == 1


def test_no_arguments_is_an_error(
    bundle: Bundle, command: Callable[[Path], list[str | Path]]
) -> None:
    runner = Runner(*command(bundle.path)[:-1])
    assert runner.ready["code"] == "usage"
    assert runner.close()[0] == 1


@pytest.mark.parametrize("threads", ["0", "-1", "65", "two", "2x", ""])
def test_native_runner_refuses_impossible_threads(host_bundle: Bundle, threads: str) -> None:
    runner = Runner(host_bundle.path / "runner", host_bundle.path / "weights.bin", threads)
    assert runner.ready["error"] == f"expected 1 to 64 threads, found {threads}"
    assert runner.close()[0] == 1


def test_native_runner_on_threads(host_bundle: Bundle, tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "in", range(3))
    runner = Runner(host_bundle.path / "runner", host_bundle.path / "weights.bin", "3")
    assert runner.ask(f"run 3 {tmp_path / 'in'} {tmp_path / 'out'}") == {"ran": 3}
    data = (tmp_path / "out").read_bytes()
    for i, inputs in enumerate(samples):
        assert_same(read_sample(data[32 * i : 32 * i + 32]), toy_outputs(inputs))
    assert runner.close() == (0, "", "")


def test_native_runner_survives_overlong_lines(host_bundle: Bundle) -> None:
    runner = Runner(host_bundle.path / "runner", host_bundle.path / "weights.bin")
    assert "longer than" in runner.ask("load " + "x" * 100_000)["error"]
    assert len(runner.ask("bench 1")["samples_ns"]) == 1
    assert runner.close()[0] == 0
