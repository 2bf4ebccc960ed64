"""Run a bundle's libmodel.so in this process, through ctypes."""

from __future__ import annotations

import _thread
import ctypes
import functools
import os
import queue
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse.errors import BundleError
from edgesparse.plan import ALIGNMENT_BYTES, TensorSpec

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


class TensorDescriptor(ctypes.Structure):
    """`es_tensor` of edgesparse.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("rank", ctypes.c_uint32),
        ("dtype", ctypes.c_int32),
        ("bytes", ctypes.c_uint64),
    )


class LayerDescriptor(ctypes.Structure):
    """`es_layer` of edgesparse.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("op", ctypes.c_char_p),
        ("first_step", ctypes.c_int32),
        ("last_step", ctypes.c_int32),
    )


class ModelDescriptor(ctypes.Structure):
    """`es_model` of edgesparse.h."""

    _fields_ = (
        ("abi_version", ctypes.c_uint32),
        ("input_count", ctypes.c_uint32),
        ("output_count", ctypes.c_uint32),
        ("layer_count", ctypes.c_uint32),
        ("step_count", ctypes.c_int32),
        ("name", ctypes.c_char_p),
        ("inputs", ctypes.POINTER(TensorDescriptor)),
        ("outputs", ctypes.POINTER(TensorDescriptor)),
        ("layers", ctypes.POINTER(LayerDescriptor)),
        ("weights_bytes", ctypes.c_uint64),
        ("arena_bytes", ctypes.c_uint64),
        ("weights_sha256", ctypes.c_uint8 * 32),
        ("entry", ctypes.c_void_p),
    )


class Team(ctypes.Structure):
    """`es_team` of edgesparse.h."""

    _fields_ = (("opaque", ctypes.c_uint32 * 48),)


def aligned_empty(size_bytes: int) -> Bytes:
    """Return (size_bytes,) uint8 that starts at a multiple of `ALIGNMENT_BYTES`."""
    memory = np.empty(size_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[start : start + size_bytes]


class NativeModel:
    """An opened libmodel.so with its weights mapped and its arena and tensors allocated.

    Attributes:
        library: The library, its functions declared.
        descriptor: What the library says about its model.
    """

    def __init__(
        self,
        library: Path,
        weights: Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
    ) -> None:
        """Open the library and check that weights and tensors are the ones it was made for.

        Raises:
            BundleError: The library cannot be loaded, or the weights or the tensors differ.
        """
        self.library = load_library(library)
        self._model = self.library.es_default_model()
        self.descriptor: ModelDescriptor = self._model.contents
        self._weights: Bytes = np.memmap(weights, np.uint8, mode="r")
        self._check_weights(weights)
        self._check_tensors(library, inputs, outputs)
        self._arena = aligned_empty(self.descriptor.arena_bytes)
        self._inputs = {spec.name: _aligned_array(spec) for spec in inputs}
        self._outputs = {spec.name: _aligned_array(spec) for spec in outputs}
        self._arguments = (
            self._model,
            self._weights.ctypes.data,
            self._arena.ctypes.data,
            _pointers(self._inputs),
            _pointers(self._outputs),
        )
        self._lock = threading.Lock()
        self._crew: _Crew | None = None

    def run(self, inputs: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
        """Return the outputs for inputs of the right names, shapes and dtypes.

        Args:
            inputs: Input name -> array.
            threads: 1 to `plan.MAX_THREADS`.
        """
        with self._lock:
            if self._crew is not None:
                self._crew.wait()
            for name, array in self._inputs.items():
                np.copyto(array, inputs[name])
            status = self._run_together(threads) if threads > 1 else self._run_alone()
            self._require_ok(status, "running the model")
            return {name: array.copy() for name, array in self._outputs.items()}

    def _run_alone(self) -> int:
        return int(self.library.es_run(*self._arguments))

    def _run_together(self, threads: int) -> int:
        """Run on threads of their own, which stay for the next time."""
        if self._crew is None or not self._crew.fits(threads):
            crew = _Crew(threads)
            status = self.library.es_team_init(ctypes.byref(crew.team), threads)
            self._require_ok(status, "starting threads")
            self._crew = crew
        share = functools.partial(self._run_share, self._crew.team)
        return max(self._crew.do(share))

    def _run_share(self, team: Team, thread: int) -> int:
        last = self.descriptor.step_count
        return int(
            self.library.es_run_thread(*self._arguments, ctypes.byref(team), thread, 0, last)
        )

    def _check_weights(self, path: Path) -> None:
        status = self.library.es_verify_weights(
            self._model, self._weights.ctypes.data, self._weights.size
        )
        self._require_ok(status, f"opening {path}")

    def _check_tensors(
        self, path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        code = self.descriptor
        stated = [(spec.name, spec.size_bytes) for spec in (*inputs, *outputs)]
        compiled = [
            (table[index].name.decode(), table[index].bytes)
            for table, count in ((code.inputs, code.input_count), (code.outputs, code.output_count))
            for index in range(count)
        ]
        if stated != compiled:
            raise BundleError(
                f"opening {path}: the manifest describes tensors {stated}, the code {compiled}",
                hint="compile the model again",
            )

    def _require_ok(self, status: int, doing: str) -> None:
        if status:
            raise BundleError(
                f"{doing}: {self.library.es_status_text(status).decode()}",
                hint="compile the model again",
            )


class _Shares:
    """One number of threads' shares of a run: all of them are done, or none is.

    Threads that have begun wait for each other, so none may begin before all are told; whoever
    tells them may be interrupted.
    """

    def __init__(self, action: Callable[[int], int], count: int) -> None:
        self.statuses = [0] * count
        self.is_told = False
        self.telling = threading.Lock()
        self._action = action
        self._undone = [threading.Lock() for _ in range(count)]
        for undone in self._undone:
            undone.acquire()

    def do(self, thread: int) -> None:
        """Do one thread's share."""
        try:
            with self.telling:
                begins = self.is_told
            if begins:
                self.statuses[thread] = self._action(thread)
        finally:
            self._undone[thread].release()

    def wait(self) -> None:
        """Return when all shares that were begun are done."""
        if self.is_told:
            for undone in self._undone:
                with undone:
                    pass


class _Crew:
    """Threads that do shares; interrupts, which only the main thread hears, stop none of them."""

    def __init__(self, count: int) -> None:
        self.team = Team()
        self._process = os.getpid()
        self._orders: list[_Orders] = [queue.SimpleQueue() for _ in range(count)]
        self._shares: _Shares | None = None
        for thread, orders in enumerate(self._orders):
            # Neither the dismissal nor the start runs a line of Python on this thread: there an
            # interrupt would be lost, or threading.Thread.start would make another error of it.
            dismissal = weakref.ref(self, orders.put)
            _thread.start_new_thread(_work, (orders, thread, dismissal))

    def fits(self, count: int) -> bool:
        """Whether these are `count` threads of this process; a forked one has none."""
        return (self._process, len(self._orders)) == (os.getpid(), count)

    def do(self, action: Callable[[int], int]) -> list[int]:
        """Return what `action(thread)` gives on each thread."""
        self._shares = shares = _Shares(action, len(self._orders))
        with shares.telling:
            for orders in self._orders:
                orders.put(shares)
            shares.is_told = True
        self.wait()
        return shares.statuses

    def wait(self) -> None:
        """Return when what an interrupted `do` left undone is done."""
        if self._shares is not None and self._process == os.getpid():
            self._shares.wait()
            self._shares = None


_Orders = queue.SimpleQueue[_Shares | weakref.ref[_Crew]]


def _work(orders: _Orders, thread: int, dismissal: weakref.ref[_Crew]) -> None:
    while isinstance(shares := orders.get(), _Shares):
        shares.do(thread)
        del shares  # it holds the model, whose end is this thread's


def load_library(path: Path) -> ctypes.CDLL:
    """Return the library at `path`, its functions declared.

    Raises:
        BundleError: It cannot be loaded.
    """
    try:
        library = ctypes.CDLL(_loader_path(path), mode=os.RTLD_LOCAL | os.RTLD_NOW)
    except OSError as error:
        raise BundleError(f"loading {path}: {error}", hint="compile the model again") from error
    model, memory = ctypes.POINTER(ModelDescriptor), ctypes.c_void_p
    tensors = ctypes.POINTER(ctypes.c_void_p)
    library.es_default_model.argtypes, library.es_default_model.restype = [], model
    library.es_check_weights.argtypes = [model, memory, ctypes.c_uint64]
    library.es_verify_weights.argtypes = [model, memory, ctypes.c_uint64]
    library.es_run.argtypes = [model, memory, memory, tensors, tensors]
    library.es_run_steps.argtypes = [*library.es_run.argtypes, ctypes.c_int32, ctypes.c_int32]
    team, number = ctypes.POINTER(Team), ctypes.c_int32
    library.es_team_init.argtypes = [team, number]
    library.es_run_thread.argtypes = [model, memory, memory, tensors, tensors, team, *[number] * 3]
    library.es_status_text.argtypes, library.es_status_text.restype = (
        [ctypes.c_int],
        ctypes.c_char_p,
    )
    return library


_loaded: dict[str, list[tuple[int, int]]] = {}


def _loader_path(path: Path) -> str:
    """Return a spelling of `path` that the loader has not seen with another file behind it.

    The loader takes an equal path for an equal file, so a bundle that was compiled again would
    keep running its old code; every new file behind a path is spelled with one more `/.`.
    """
    status = path.stat()
    versions = _loaded.setdefault(str(path.absolute()), [])
    if (identity := (status.st_dev, status.st_ino)) not in versions:
        versions.append(identity)
    return f"{path.absolute().parent}{'/.' * versions.index(identity)}/{path.name}"


def _aligned_array(spec: TensorSpec) -> Array:
    return aligned_empty(spec.size_bytes).view(spec.dtype).reshape(spec.shape)


def _pointers(arrays: Mapping[str, Array]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays.values()))
