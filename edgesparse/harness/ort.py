"""A session of onnxruntime in this process: the peer of `bench --against-ort` and of `check`."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgesparse.errors import DeviceError, InvalidModelError, UsageError
from edgesparse.harness.affinity import own_threads, pin_threads
from edgesparse.harness.tensors import Array, Tensor
from edgesparse.model_files import widened_model

_NS_PER_MS = 1e6
_IDLE_CHECK_SECONDS = 0.01
_MAX_IDLE_CHECKS = 30


def ort_available() -> str | None:
    """Return why onnxruntime cannot be used, or None when it can."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        return f"onnxruntime cannot be imported ({error})"
    return None


def timer_resolution_ns() -> int:
    """Return the smallest step seen between two readings of the clock."""
    steps = []
    for _ in range(50):
        start = now = time.perf_counter_ns()
        while now == start:
            now = time.perf_counter_ns()
        steps.append(now - start)
    return min(steps)


class OrtSession:
    """The ONNX model under onnxruntime's CPU provider; half precision widened to float32."""

    def __init__(
        self, model: str | os.PathLike[str], inputs: Sequence[Tensor], threads: int = 1
    ) -> None:
        """Open the model.

        Args:
            model: The ONNX file.
            inputs: Names, shapes and dtypes of one sample; they fix symbolic dimensions.
            threads: How many threads share an operator; operators run one after the other.

        Raises:
            DeviceError: onnxruntime is not installed.
            InvalidModelError: onnxruntime cannot load the model.
            UsageError: The model has other inputs.
        """
        if reason := ort_available():
            raise DeviceError(reason, hint="pip install onnxruntime")
        start = time.perf_counter_ns()
        self._model = pathlib.Path(model)
        before = own_threads()
        self._session = _open(self._model, threads)
        self._workers = sorted(own_threads() - before)
        self._check_names(inputs)
        self._sample = _random_sample(inputs)
        self.ready: dict[str, Any] = {
            "ready": True,
            "open_ms": (time.perf_counter_ns() - start) / _NS_PER_MS,
            "timer_resolution_ns": timer_resolution_ns(),
        }

    def _check_names(self, inputs: Sequence[Tensor]) -> None:
        own = sorted(tensor.name for tensor in self._session.get_inputs())
        asked = sorted(tensor["name"] for tensor in inputs)
        if own != asked:
            raise UsageError(
                f"{self._model} takes {', '.join(own)}, but the bundle takes {', '.join(asked)}",
                hint="give the ONNX file the bundle was compiled from",
            )

    @staticmethod
    def version() -> str:
        """Return onnxruntime's version."""
        import onnxruntime

        return str(onnxruntime.__version__)

    @property
    def output_names(self) -> list[str]:
        """Names of the graph's outputs."""
        return [output.name for output in self._session.get_outputs()]

    def bench(self, count: int, batch: int = 1) -> list[float]:
        """Return `count` samples in ms, each the mean of `batch` back-to-back inferences."""
        run, sample, clock = self._session.run, self._sample, time.perf_counter_ns
        samples = []
        for _ in range(count):
            start = clock()
            for _ in range(batch):
                run(None, sample)
            samples.append((clock() - start) / batch / _NS_PER_MS)
        if self._workers:
            _wait_until_idle()
        return samples

    def profile(self, count: int) -> list[list[float]]:
        """Not offered: a peer is timed as a whole."""
        raise NotImplementedError(f"onnxruntime is not profiled ({count} runs asked for)")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of samples stacked on a new leading axis, stacked likewise.

        Raises:
            UsageError: onnxruntime cannot run the model on these inputs.
        """
        count = len(next(iter(inputs.values()))) if inputs else 1
        rows = [
            self._infer({name: array[index] for name, array in inputs.items()})
            for index in range(count)
        ]
        return {
            name: np.stack([np.asarray(value) for value in values])
            for name, values in zip(self.output_names, zip(*rows, strict=True), strict=True)
        }

    def _infer(self, sample: dict[str, Array]) -> list[Any]:
        try:
            return list(self._session.run(None, sample))
        # Its exceptions share no base class but Exception.
        except Exception as error:
            raise _unfit_inputs(str(self._model), error) from error

    def load(self, inputs: Mapping[str, Array]) -> None:
        """Keep one sample for timing."""
        self._sample = dict(inputs)

    def pin(self, *cpus: int) -> None:
        """Bind the calling thread, which is the first that computes, and the workers."""
        pin_threads([0, *self._workers], cpus)

    def close(self) -> None:
        """Nothing to give back: the session ends with the object."""


def _wait_until_idle() -> None:
    """Wait until onnxruntime's workers sleep.

    They spin for some 30 ms after a run, on CPUs that the next session in turn needs.
    """
    for _ in range(_MAX_IDLE_CHECKS):
        before = time.process_time()
        time.sleep(_IDLE_CHECK_SECONDS)
        if time.process_time() - before < _IDLE_CHECK_SECONDS / 10:
            return


class PartialSession:
    """A model given as bytes, of which a run computes only what is asked for."""

    def __init__(self, model: bytes) -> None:
        """Open the model.

        Raises:
            DeviceError: onnxruntime is not installed.
            InvalidModelError: onnxruntime cannot load the model.
        """
        if reason := ort_available():
            raise DeviceError(reason, hint="pip install onnxruntime")
        import onnxruntime

        self._session = _open(model, 1)
        self._partly = onnxruntime.RunOptions()
        self._partly.only_execute_path_to_fetches = True

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return some of the model's outputs.

        Raises:
            UsageError: onnxruntime cannot run the model on these inputs.
        """
        try:
            return [np.asarray(v) for v in self._session.run(outputs, dict(inputs), self._partly)]
        # Its exceptions share no base class but Exception.
        except Exception as error:
            raise _unfit_inputs("the model", error) from error


def _open(model: pathlib.Path | bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what it says is in the exception, too
    name = "the model" if isinstance(model, bytes) else str(model)
    source = model if isinstance(model, bytes) else widened_model(model) or name
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    # Its exceptions share no base class but Exception.
    except Exception as error:
        raise InvalidModelError(
            f"onnxruntime cannot load {name}: {_first_line(error)}",
            hint="is this the ONNX file the bundle was compiled from?",
        ) from error


def _unfit_inputs(model: str, error: Exception) -> UsageError:
    """A model that was opened fails only on what it is given."""
    return UsageError(
        f"onnxruntime cannot run {model} on these inputs: {_first_line(error)}",
        hint="does the data fit the model? Indices, say, may lie outside of a table",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _random_sample(tensors: Sequence[Tensor]) -> dict[str, Array]:
    """Return one sample like the runner's own: uniform in [-1, 1]."""
    random = np.random.default_rng(0)
    return {tensor["name"]: random_array(random, tensor) for tensor in tensors}


def random_array(random: np.random.Generator, tensor: Tensor, count: int | None = None) -> Array:
    """Return one random sample, or `count` stacked: floats in [-1, 1], integers 0 and 1."""
    shape = tuple(tensor["shape"]) if count is None else (count, *tensor["shape"])
    dtype = np.dtype(tensor["dtype"])
    if np.issubdtype(dtype, np.floating):
        return random.uniform(-1, 1, shape).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)
