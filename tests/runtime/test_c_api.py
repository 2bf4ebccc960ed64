"""edgesparse.h through ctypes: layout, status codes, alignment."""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle.toy import NASTY_NAME, assert_same, toy_inputs, toy_outputs, zig

from edgesparse import runtime
from edgesparse.bundle import Bundle
from edgesparse.manifest import pack_weights
from edgesparse.native import ModelDescriptor, aligned_empty, load_library

(
    OK,
    NULL_POINTER,
    MISALIGNED,
    FOREIGN,
    VERSION,
    SIZE,
    MISMATCH,
    CORRUPT,
    ABI,
    STEP_RANGE,
    FAILED,
    THREADS,
) = range(12)
RUNTIME = Path(runtime.__file__).parent


def aligned_copy(data: bytes) -> np.ndarray[Any, Any]:
    memory = aligned_empty(len(data))
    memory[:] = np.frombuffer(data, np.uint8)
    return memory


class Opened:
    """A library and arguments that work; tests spoil one at a time."""

    def __init__(self, bundle: Bundle) -> None:
        self.library = load_library(bundle.path / "libmodel.so")
        self.model = self.library.es_default_model()
        self.descriptor: ModelDescriptor = self.model.contents
        self.weights = aligned_copy((bundle.path / "weights.bin").read_bytes())
        self.arena = aligned_empty(self.descriptor.arena_bytes)
        self.inputs = {name: array.copy() for name, array in toy_inputs().items()}
        self.outputs = {"y": np.full((2, 3), np.nan, np.float32), "0": np.zeros(1, np.int64)}

    def run(self, *steps: int, **changes: Any) -> int:
        arguments = {
            "model": self.model,
            "weights": self.weights.ctypes.data,
            "arena": self.arena.ctypes.data,
            "inputs": pointers(self.inputs.values()),
            "outputs": pointers(self.outputs.values()),
        } | changes
        function = self.library.es_run_steps if steps else self.library.es_run
        return int(function(*arguments.values(), *steps))

    def check(self, data: np.ndarray[Any, Any], **changes: Any) -> int:
        model = changes.get("model", self.model)
        return int(self.library.es_check_weights(model, data.ctypes.data, data.size))


def pointers(arrays: Any) -> Any:
    addresses = [None if array is None else array.ctypes.data for array in arrays]
    return (ctypes.c_void_p * len(addresses))(*addresses)


@pytest.fixture
def opened(host_bundle: Bundle) -> Opened:
    return Opened(host_bundle)


def test_descriptor_says_what_the_manifest_says(opened: Opened, host_bundle: Bundle) -> None:
    found, manifest = opened.descriptor, host_bundle.manifest
    assert (found.abi_version, found.name, found.step_count) == (2, b"toy", 2)
    assert found.weights_bytes == manifest["weights_bytes"]
    assert bytes(found.weights_sha256).hex() == manifest["weights_sha256"]
    assert found.arena_bytes == manifest["arena_bytes"]
    tensors = [*found.inputs[: found.input_count], *found.outputs[: found.output_count]]
    assert [
        (t.name.decode(), tuple(t.shape[: t.rank]) if t.rank else (), t.dtype, t.bytes)
        for t in tensors
    ] == [("x", (2, 3), 1, 24), ("1", (), 7, 8), ("y", (2, 3), 1, 24), ("0", (1,), 7, 8)]
    layers = found.layers[: found.layer_count]
    assert [(a.name.decode(), a.first_step, a.last_step) for a in layers] == [
        ("copy", 0, 1),
        (NASTY_NAME, 1, 2),
        ("nothing", 2, 2),
    ]
    assert layers[1].op == b"Conv+Add"


def test_run(opened: Opened) -> None:
    assert opened.run() == OK
    assert_same(opened.outputs, toy_outputs(opened.inputs))


def test_steps_run_one_by_one(opened: Opened) -> None:
    assert opened.run(0, 1) == OK
    assert np.isnan(opened.outputs["y"]).all()
    assert opened.run(1, 2) == OK
    assert_same(opened.outputs, toy_outputs(opened.inputs))
    assert opened.run(2, 2) == OK


@pytest.mark.parametrize("steps", [(-1, 1), (1, 0), (0, 3), (3, 3)])
def test_steps_outside_the_model(opened: Opened, steps: tuple[int, int]) -> None:
    assert opened.run(*steps) == STEP_RANGE


@pytest.mark.parametrize("name", ["model", "weights", "arena", "inputs", "outputs"])
def test_null_arguments(opened: Opened, name: str) -> None:
    assert opened.run(**{name: None}) == NULL_POINTER
    assert opened.run(0, 1, **{name: None}) == NULL_POINTER


def test_null_tensors(opened: Opened) -> None:
    assert opened.run(inputs=pointers([opened.inputs["x"], None])) == NULL_POINTER
    assert opened.run(outputs=pointers([None, opened.outputs["0"]])) == NULL_POINTER


@pytest.mark.parametrize("offset", [1, 32, 63])
def test_misaligned_memory(opened: Opened, offset: int) -> None:
    assert opened.run(weights=opened.weights.ctypes.data + offset) == MISALIGNED
    assert opened.run(arena=opened.arena.ctypes.data + offset) == MISALIGNED
    assert opened.check(aligned_empty(200)[offset:]) == MISALIGNED


def test_tensors_need_only_their_own_alignment(opened: Opened) -> None:
    expected = toy_outputs(opened.inputs)
    x, y = aligned_empty(64)[4:28].view(np.float32), aligned_empty(64)[4:28].view(np.float32)
    x[:] = opened.inputs["x"].ravel()
    opened.inputs["x"], opened.outputs["y"] = x, y
    assert opened.run() == OK
    np.testing.assert_allclose(y, expected["y"].ravel(), rtol=1e-6)


def test_nothing_is_written_outside_the_outputs(opened: Opened) -> None:
    guarded = np.full(8, 7, np.float32)
    opened.outputs["y"] = guarded[1:7]
    assert opened.run() == OK
    assert (guarded[0], guarded[7]) == (7, 7)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda data: data, OK),
        (lambda data: data[:-1], SIZE),
        (lambda data: data + b"\0", SIZE),
        (lambda data: data[:40], SIZE),
        (lambda data: data[:5], FOREIGN),
        (lambda data: b"", FOREIGN),
        (lambda data: b"GGUF" + data[4:], FOREIGN),
        (lambda data: data[:8] + b"\2" + data[9:], VERSION),
        (lambda data: data[:12] + b"\x80" + data[13:], VERSION),
        (lambda data: pack_weights(b"other weights"), MISMATCH),
        (lambda data: pack_weights(bytes(len(data) - 64)), MISMATCH),
    ],
)
def test_check_weights(opened: Opened, change: Any, status: int) -> None:
    memory = aligned_empty(512)
    data = change(opened.weights.tobytes())
    memory[: len(data)] = np.frombuffer(data, np.uint8)
    assert opened.check(memory[: len(data)]) == status


def test_null_weights_or_model(opened: Opened) -> None:
    assert opened.library.es_check_weights(opened.model, None, 64) == NULL_POINTER
    assert opened.check(opened.weights, model=None) == NULL_POINTER


def test_another_abi(opened: Opened) -> None:
    other = ModelDescriptor.from_buffer_copy(opened.descriptor)
    other.abi_version = 1
    assert opened.check(opened.weights, model=ctypes.byref(other)) == ABI
    assert opened.run(model=ctypes.byref(other)) == ABI


def test_a_failing_kernel(opened: Opened) -> None:
    number, pointer = ctypes.c_int32, ctypes.c_void_p
    kind = ctypes.CFUNCTYPE(number, *[pointer] * 4, *[number] * 4, pointer)
    failing = kind(lambda *arguments: -1)
    other = ModelDescriptor.from_buffer_copy(opened.descriptor)
    other.entry = ctypes.cast(failing, ctypes.c_void_p).value
    assert opened.run(model=ctypes.byref(other)) == FAILED


@pytest.mark.parametrize("size", [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000])
def test_verify_weights_hashes_the_payload(opened: Opened, size: int) -> None:
    payload = np.random.default_rng(size).bytes(size)
    data = aligned_copy(pack_weights(payload))
    other = ModelDescriptor.from_buffer_copy(opened.descriptor)
    other.weights_bytes = data.size
    other.weights_sha256[:] = hashlib.sha256(payload).digest()
    verify, model = opened.library.es_verify_weights, ctypes.byref(other)
    assert verify(model, data.ctypes.data, data.size) == OK
    if size:
        data[64 + size // 2] ^= 1
        assert opened.check(data, model=model) == OK
        assert verify(model, data.ctypes.data, data.size) == CORRUPT
    assert verify(model, data.ctypes.data, data.size - 1) in (SIZE, FOREIGN)


def test_every_status_has_its_own_text(opened: Opened) -> None:
    texts = [opened.library.es_status_text(status) for status in range(-1, THREADS + 2)]
    assert texts[0] == texts[-1] == b"unknown status"
    assert len(set(texts[1:-1])) == THREADS + 1


@pytest.mark.parametrize("header", ["edgesparse.h", "edgesparse_pool.h"])
@pytest.mark.parametrize(("language", "standard"), [("c", "c11"), ("c++", "c++11")])
def test_the_headers_compile_alone(
    language: str, standard: str, header: str, tmp_path: Path
) -> None:
    (tmp_path / "use.c").write_text(f'#include "{header}"\nint x = ES_OK;\n')
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{RUNTIME / 'include'}"]
    flags = ["-x", language, f"-std={standard}", *strict]
    zig("cc", "-c", *flags, "use.c", "-o", "use.o", cwd=tmp_path)
