"""Sessions: one opened model that can run, be timed, and be profiled.

`ProcessSession` talks to a bundle's runner, one line in and one JSON line out. Whatever goes wrong
on the other side (it dies, hangs, or prints something else) becomes a `DeviceError` that quotes it.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import queue
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

import numpy as np

from edgesparse.errors import BundleError, DeviceError, UsageError
from edgesparse.files import temporary_folder
from edgesparse.harness.affinity import pin_threads, threads_of
from edgesparse.harness.closing import Closing
from edgesparse.harness.tensors import Array, Tensor, interleave, little_endian, size_bytes

OPEN_TIMEOUT_SECONDS = 120.0
COMMAND_TIMEOUT_SECONDS = 600.0
_LEAVE_SECONDS = 2.0
_END_SECONDS = 8.0
_NS_PER_MS = 1e6
# Of a device's clock over ours; a fake runner in tests answers in no time at all.
_MAX_CLOCK_RATIO = 1.05
_MAX_CLOCK_OFFSET_NS = 1e9
_MAX_NS = 1e15  # eleven days
# Of a runner that cannot open its bundle, by the code it gives.
_HINT = "compile the bundle again, e.g. with `edgesparse compile`"
_OPENING_HINTS = {
    "memory": "compile the model for smaller inputs with `--shape`, or take a device with more"
    " memory, or fewer threads",
}


class Session(Protocol):
    """An opened model.

    Attributes:
        ready: What opening it told: `open_ms`, `timer_resolution_ns`, and for bundles
            `arena_bytes` and `step_count`.
    """

    ready: dict[str, Any]

    def bench(self, count: int, batch: int = 1) -> list[float]:
        """Return `count` samples in ms, each the mean of `batch` back-to-back inferences."""

    def profile(self, count: int) -> list[list[float]]:
        """Return for each of `count` inferences the time of every step in ms."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of samples stacked on a new leading axis, stacked likewise."""

    def load(self, inputs: Mapping[str, Array]) -> None:
        """Keep one sample for timing."""

    def pin(self, *cpus: int) -> None:
        """Bind the threads that compute to a CPU each, where the system can."""

    def close(self) -> None:
        """Give everything back; closing twice is fine."""


def check_inputs(inputs: Mapping[str, Array], tensors: Sequence[Tensor], *, stacked: bool) -> int:
    """Return the number of samples after checking names, shapes and dtypes.

    Args:
        inputs: Arrays by input name.
        tensors: The manifest's `inputs`.
        stacked: The arrays have a leading axis of samples.

    Raises:
        UsageError: Something does not match; the message lists everything that does not.
    """
    wanted = {tensor["name"]: tensor for tensor in tensors}
    problems = [f"{name}: missing" for name in wanted if name not in inputs]
    problems += [f"{name}: no such input" for name in inputs if name not in wanted]
    counts = set()
    for name in wanted.keys() & inputs.keys():
        array, shape, dtype = inputs[name], tuple(wanted[name]["shape"]), wanted[name]["dtype"]
        if array.dtype != np.dtype(dtype):
            problems.append(f"{name}: expected {dtype}, found {array.dtype}")
        if array.shape[stacked:] != shape or array.ndim != len(shape) + stacked:
            axis = "samples x " if stacked else ""
            problems.append(f"{name}: expected {axis}{list(shape)}, found {list(array.shape)}")
        elif stacked:
            counts.add(array.shape[0])
    if len(counts) > 1:
        problems.append(f"inputs hold different numbers of samples: {sorted(counts)}")
    if counts == {0}:
        problems.append("inputs hold no samples")
    if problems:
        known = ", ".join(f"{t['name']} {t['dtype']} {list(t['shape'])}" for t in tensors)
        raise UsageError(
            f"inputs do not fit the model: {'; '.join(sorted(problems))}",
            hint=f"the model takes {known}",
        )
    return counts.pop() if counts else 1


class Place(Protocol):
    """Where a runner works, when that is not a folder of this machine."""

    def word(self, path: pathlib.Path) -> str:
        """Return what the runner calls the file that is `path` here."""

    def send(self, path: pathlib.Path) -> None:
        """Make a file of this machine one of the runner's."""

    def fetch(self, path: pathlib.Path) -> None:
        """Make a file of the runner's one of this machine."""

    def pin(self, process: int, cpus: Sequence[int]) -> None:
        """Bind the threads of the runner's process to a CPU each."""

    def why_ended(self, status: int) -> tuple[str, str]:
        """Return what has become of a runner whose output ended, and a hint."""

    def close(self) -> None:
        """Leave nothing behind."""


class ProcessSession(Closing):
    """A bundle's runner in a process of its own."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        device: str,
        timeout_seconds: float = COMMAND_TIMEOUT_SECONDS,
        open_timeout_seconds: float = OPEN_TIMEOUT_SECONDS,
        place: Place | None = None,
    ) -> None:
        """Start the runner and wait until it is ready.

        Args:
            command: What starts it.
            inputs: The manifest's `inputs`.
            outputs: The manifest's `outputs`.
            device: The device's name.
            timeout_seconds: How long it may take over a command.
            open_timeout_seconds: How long it may take until it is ready.
            place: Where it works, if not here; closed with the session.

        Raises:
            BundleError: The weights are damaged, says a runner on this machine.
            DeviceError: It cannot be started, or cannot open the bundle.
            OutputError: There is no place for temporary files.
        """
        self._inputs, self._outputs = inputs, outputs
        self._device, self._timeout, self._place = device, timeout_seconds, place
        self._stack = contextlib.ExitStack()
        if place is not None:
            self._stack.callback(place.close)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._scratch = self._stack.enter_context(temporary_folder())
        self._stderr = self._stack.enter_context((self._scratch / "stderr").open("w+b"))
        try:
            self._process = self._start(command)
            self._stack.callback(self._stop)
            self.ready = self._read(open_timeout_seconds)
            if "error" in self.ready:
                code = self.ready.get("code", "")
                # Weights that went elsewhere may have been damaged on their way.
                failure = BundleError if code == "weights" and place is None else DeviceError
                raise failure(
                    f"device {device}: the runner cannot open the bundle: {self.ready['error']}",
                    hint=self.ready.get("hint", _OPENING_HINTS.get(code, _HINT)),
                )
        except BaseException:
            self._stack.close()
            raise

    def _start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                encoding="utf-8",
                errors="replace",
                # File names in the protocol are relative, so a space in TMPDIR does no harm.
                cwd=self._scratch,
            )
        except OSError as error:
            raise DeviceError(
                f"device {self._device}: cannot start {command[0]}: {error.strerror}",
                hint="`edgesparse devices` says what is available",
            ) from error
        assert process.stdout is not None
        reader = threading.Thread(target=self._pump, args=(process.stdout,), daemon=True)
        reader.start()
        self._reader = reader
        return process

    def _pump(self, stdout: IO[str]) -> None:
        """Hand lines over to the caller's thread, so that waiting for one can time out."""
        for line in stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read(self, timeout_seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=timeout_seconds)
        except queue.Empty:
            self._end()
            raise DeviceError(
                f"device {self._device}: the runner did not answer within {timeout_seconds:g} s"
                f"{self._quote_stderr()}",
                hint="is the machine overloaded, or the model very large?",
            ) from None
        if line is None:
            self._lines.put(None)  # the next question must not wait for a dead runner
            status = self._process.wait()
            ended, hint = f"the runner ended with status {status}", ""
            if self._place is not None:
                ended, hint = self._place.why_ended(status)
            raise DeviceError(f"device {self._device}: {ended}{self._quote_stderr()}", hint=hint)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self._end()
            raise DeviceError(
                f"device {self._device}: the runner printed {line.strip()[:120]!r},"
                f" which is not its protocol{self._quote_stderr()}"
            )
        return answer

    def _end(self) -> None:
        """Stop a runner that does not leave; one that has a browser to end is given the time."""
        self._process.terminate()
        try:
            self._process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _quote_stderr(self) -> str:
        self._stderr.seek(0)
        text = self._stderr.read().decode(errors="replace").strip()
        return f"; it said: {text[-800:]}" if text else ""

    def _ask(self, *words: object) -> dict[str, Any]:
        line = " ".join(map(str, words))
        assert self._process.stdin is not None
        # A runner that is gone is reported by _read, with its status and last words.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer = self._read(self._timeout)
        if "error" in answer:
            raise DeviceError(f"device {self._device}: `{words[0]}` failed: {answer['error']}")
        return answer

    def bench(self, count: int, batch: int = 1) -> list[float]:
        """Return `count` samples in ms, each the mean of `batch` back-to-back inferences."""
        start = time.monotonic_ns()
        samples = self._ask("bench", count, batch).get("samples_ns", [])
        self._expect(_are_times(samples) and len(samples) == count, "bench")
        # A clock that runs faster than ours, or an answer that arrived altered.
        elapsed = time.monotonic_ns() - start
        told = sum(samples) * batch
        if told > elapsed * _MAX_CLOCK_RATIO + _MAX_CLOCK_OFFSET_NS:
            raise DeviceError(
                f"device {self._device}: it says that {count * batch} inferences took"
                f" {told / _NS_PER_MS:g} ms, but {elapsed / _NS_PER_MS:g} ms went by",
                hint="its clock or the connection cannot be trusted; restart it",
            )
        return [ns / _NS_PER_MS for ns in samples]

    def profile(self, count: int) -> list[list[float]]:
        """Return for each of `count` inferences the time of every step in ms."""
        rows = self._ask("profile", count).get("steps_ns", [])
        steps = self.ready.get("step_count")
        fits = isinstance(rows, list) and all(_are_times(row) and len(row) == steps for row in rows)
        self._expect(fits and len(rows) == count, "profile")
        return [[ns / _NS_PER_MS for ns in row] for row in rows]

    def _expect(self, is_right: bool, command: str) -> None:
        if not is_right:
            raise DeviceError(f"device {self._device}: `{command}` gave an incomplete answer")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of samples stacked on a new leading axis, stacked likewise.

        Raises:
            UsageError: Names, shapes or dtypes do not match.
        """
        count = check_inputs(inputs, self._inputs, stacked=True)
        source, sink = self._scratch / "inputs.bin", self._scratch / "outputs.bin"
        source.write_bytes(interleave(inputs, self._inputs, count))
        sink.unlink(missing_ok=True)
        self._ask("run", count, self._sent(source), self._word(sink))
        if self._place is not None:
            self._place.fetch(sink)
        return self._read_outputs(sink, count)

    def _word(self, path: pathlib.Path) -> str:
        """Return what the runner calls a file."""
        return path.name if self._place is None else self._place.word(path)

    def _sent(self, path: pathlib.Path) -> str:
        """Return what the runner calls a file, after sending it to where it works."""
        if self._place is not None:
            self._place.send(path)
        return self._word(path)

    def _read_outputs(self, path: pathlib.Path, count: int) -> dict[str, Array]:
        sizes = [size_bytes(tensor) for tensor in self._outputs]
        data = np.fromfile(path, np.uint8) if path.exists() else np.empty(0, np.uint8)
        self._expect(data.size == count * sum(sizes), "run")
        pieces = np.split(data.reshape(count, sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
        return {
            tensor["name"]: np.ascontiguousarray(piece)
            .view(little_endian(tensor["dtype"]))
            .reshape(count, *tensor["shape"])
            for tensor, piece in zip(self._outputs, pieces, strict=True)
        }

    def load(self, inputs: Mapping[str, Array]) -> None:
        """Keep one sample for timing.

        Raises:
            UsageError: Names, shapes or dtypes do not match.
        """
        check_inputs(inputs, self._inputs, stacked=False)
        path = self._scratch / "load.bin"
        path.write_bytes(
            interleave({name: array[None] for name, array in inputs.items()}, self._inputs, 1)
        )
        self._ask("load", self._sent(path))

    def pin(self, *cpus: int) -> None:
        """Bind the runner's main thread to one CPU, or its threads to several.

        An engine's compiler threads stay free: what has them computes on one thread.
        """
        # A browser computes in another process than the one that was started.
        main = int(self.ready.get("pid") or self._process.pid)
        if self._place is not None:
            self._place.pin(main, cpus)
            return
        pin_threads(threads_of(main) if len(cpus) > 1 else [main], cpus)

    def _stop(self) -> None:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        # Closing stdin asks the runner to leave.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(timeout=_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._end()
        self._reader.join(timeout=2)
        process.stdout.close()

    def close(self) -> None:
        """End the runner; closing twice is fine."""
        self._stack.close()


def _are_times(values: Any) -> bool:
    """Whether an answer is a list of numbers that can be times."""
    return isinstance(values, list) and all(
        isinstance(value, int | float) and 0 <= value < _MAX_NS for value in values
    )
