"""Run one kernel or one plan in this process, under qemu, or in node; memory is full of traps.

Every array gets 64-byte aligned memory with slack after it, as a plan gives it, and guard bytes
around both. Objects may leave only memcpy, memmove and memset undefined.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edgesparse import codegen
from edgesparse.harness.local import relaxed_simd_flags
from edgesparse.plan import Kernel, Plan
from edgesparse.target import Target, host_target, resolve_target

GUARD_BYTES = 128
SLACK_BYTES = 64
ALLOWED_SYMBOLS = {"", "memcpy", "memmove", "memset", "__linear_memory", "__stack_pointer"}

# For what is read instead of run, whatever this machine is.
SSE = host_target("x86_64", frozenset())
_AVX2_FLAGS = frozenset({"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"})
_AVX512_FLAGS = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
AVX2 = host_target("x86_64", _AVX2_FLAGS)
AVX512 = host_target("x86_64", _AVX2_FLAGS | _AVX512_FLAGS)

# Representative kernels run on all of them; the others on the host alone.
TARGETS = (
    pytest.param("host"),
    pytest.param("arm64", marks=pytest.mark.isa("neon")),
    pytest.param("wasm", marks=pytest.mark.isa("wasm")),
)


def run_kernel(kernel: Kernel, *arrays: np.ndarray, target: str = "host") -> list[np.ndarray]:
    """Return the arrays after the call; the originals stay as they are."""
    return _RUNNERS[target](kernel, [np.ascontiguousarray(array) for array in arrays])


def nan(*shape: int) -> np.ndarray:
    """Return an output nobody wrote to yet."""
    return np.full(shape, np.nan, np.float32)


def run_plan(plan: Plan, *inputs: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of a plan on the host, from an arena and outputs full of NaN."""
    main = getattr(_load(codegen.build_object(plan, resolve_target("host"))), f"{plan.name}_main")
    weights = _Memory(np.frombuffer(plan.weights, np.uint8))
    arena = _Memory(np.full(plan.arena_bytes // 4, np.nan, np.float32), slack=0)
    sources = [_Memory(np.ascontiguousarray(array), slack=0) for array in inputs]
    results = [_Memory(_poison(spec.shape, spec.dtype), slack=0) for spec in plan.outputs]
    memories = [weights, arena, *sources, *results]
    pointers = [ctypes.c_void_p(memory.address) for memory in memories]
    assert main(*pointers, 0, len(plan.steps), 0, 1, None) == 0
    for memory in memories:
        memory.check()
    return [memory.array for memory in results]


def assembly(kernel: Kernel, target: str | Target) -> str:
    """Return the assembly of a kernel."""
    module = codegen.build_module({"kernel": kernel.emit("kernel")}, _resolved(target))
    return str(module.inspect_source("asm"))


def object_of(kernel: Kernel, target: str | Target) -> bytes:
    """Return the object file of a kernel, whose symbol is `kernel`."""
    return _object(kernel, _resolved(target))


def _resolved(target: str | Target) -> Target:
    if target == "x86-64-v3":
        return AVX2
    return resolve_target(target) if isinstance(target, str) else target


def undefined_symbols(elf: bytes) -> set[str]:
    """Return what a 64-bit little-endian ELF object expects others to define."""
    (section_offset,) = struct.unpack_from("<Q", elf, 40)
    entry_size, count = struct.unpack_from("<HH", elf, 58)
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", elf, section_offset + i * entry_size)
        for i in range(count)
    ]
    names: set[str] = set()
    for _, kind, _, _, offset, size, link, _, _, entry in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        strings = sections[link][4]
        for position in range(offset, offset + size, entry):
            name, _, _, index = struct.unpack_from("<IBBH", elf, position)
            if index == 0:
                end = elf.index(b"\0", strings + name)
                names.add(elf[strings + name : end].decode())
    return names


class _Memory:
    """An aligned copy of an array, slack after it, guard bytes around."""

    def __init__(self, array: np.ndarray, slack: int = SLACK_BYTES) -> None:
        size = array.nbytes + slack
        self._raw = np.full(size + 2 * GUARD_BYTES + 64, 0xA5, np.uint8)
        start = GUARD_BYTES + -(self._raw.ctypes.data + GUARD_BYTES) % 64
        self._before, self._after = self._raw[:start], self._raw[start + size :]
        self.address = self._raw.ctypes.data + start
        self.array = self._raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        self.array[...] = array
        self._raw[start + array.nbytes : start + size] = 0xFF  # slack is NaN

    def check(self) -> None:
        assert np.all(self._before == 0xA5), "wrote before the buffer"
        assert np.all(self._after == 0xA5), "wrote beyond the slack"


def _poison(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return np.full(shape, np.nan, dtype)
    return np.full(shape, 1 if dtype == "bool" else 77, dtype)


@functools.cache
def _object(kernel: Kernel, target: Target) -> bytes:
    module = codegen.build_module({"kernel": kernel.emit("kernel")}, target)
    return codegen.object_bytes(module)


def _load(elf: bytes) -> ctypes.CDLL:
    unknown = undefined_symbols(elf) - ALLOWED_SYMBOLS - {"es_barrier"}
    assert not unknown, unknown
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "k.o").write_bytes(elf)
        # `main` calls the barrier only when there are several threads.
        _zig("ld.lld", "-shared", "--defsym=es_barrier=0", path / "k.o", "-o", path / "k.so")
        return ctypes.CDLL(str(path / "k.so"))


@functools.cache
def _host_kernel(kernel: Kernel) -> ctypes.CDLL:
    return _load(_object(kernel, resolve_target("host")))


def _run_host(kernel: Kernel, arrays: list[np.ndarray]) -> list[np.ndarray]:
    memories = [_Memory(array) for array in arrays]
    pointers = [ctypes.c_void_p(memory.address) for memory in memories]
    _host_kernel(kernel).kernel(*pointers, *_range(kernel))
    for memory in memories:
        memory.check()
    return [memory.array for memory in memories]


def _run_arm64(kernel: Kernel, arrays: list[np.ndarray]) -> list[np.ndarray]:
    if not shutil.which("qemu-aarch64"):
        pytest.skip("needs qemu-aarch64")
    elf = _object(kernel, resolve_target("arm64"))
    assert undefined_symbols(elf) <= ALLOWED_SYMBOLS, undefined_symbols(elf)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "k.o").write_bytes(elf)
        (path / "main.c").write_text(
            _C_MAIN.replace("COUNT", str(len(arrays))).replace(
                "ARGUMENTS",
                ", ".join([*(f"at[{i}]" for i in range(len(arrays))), *map(str, _range(kernel))]),
            )
        )
        _zig("cc", "-target", "aarch64-linux-musl", "-static", "-O1", path / "main.c",
             path / "k.o", "-o", path / "run")  # fmt: skip
        done = subprocess.run(
            ["qemu-aarch64", path / "run"], input=_frame(arrays), capture_output=True, check=True
        )
    return _unframe(done.stdout, arrays)


def _run_wasm(kernel: Kernel, arrays: list[np.ndarray], target: str = "wasm") -> list[np.ndarray]:
    if not shutil.which("node"):
        pytest.skip("needs node")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "k.o").write_bytes(_object(kernel, resolve_target(target)))
        (path / "mem.c").write_text(_C_MEMORY)
        (path / "run.mjs").write_text(_NODE_MAIN)
        _zig("cc", "-target", "wasm32-freestanding", "-O1", "-fno-builtin", "-c", path / "mem.c",
             "-o", path / "mem.o")  # fmt: skip
        _zig("wasm-ld", "--no-entry", "--export=kernel", "--export=__heap_base", path / "k.o",
             path / "mem.o", "-o", path / "k.wasm")  # fmt: skip
        flags = relaxed_simd_flags() if target == "wasm-relaxed" else ()
        done = subprocess.run(
            ["node", *flags, path / "run.mjs", path / "k.wasm", *map(str, _range(kernel))],
            input=_frame(arrays),
            capture_output=True,
            check=True,
        )
    return _unframe(done.stdout, arrays)


def _range(kernel: Kernel) -> list[int]:
    """All parts of a kernel that can be shared out."""
    parts = getattr(kernel, "parts", None)
    return [] if parts is None else [0, parts]


def _frame(arrays: list[np.ndarray]) -> bytes:
    parts = [struct.pack("<I", len(arrays))]
    for array in arrays:
        parts += [struct.pack("<I", array.nbytes), array.tobytes()]
    return b"".join(parts)


def _unframe(data: bytes, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Read back status and arrays, as the C and JavaScript mains write them."""
    assert data[:1] == b"\0", "a guard byte was overwritten"
    results, position = [], 1
    for array in arrays:
        flat = np.frombuffer(data, array.dtype, array.size, position)
        results.append(flat.reshape(array.shape).copy())
        position += array.nbytes
    return results


def _zig(*arguments: object) -> None:
    command = [sys.executable, "-m", "ziglang", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_RUNNERS = {
    "host": _run_host,
    "arm64": _run_arm64,
    "wasm": _run_wasm,
    "wasm-relaxed": functools.partial(_run_wasm, target="wasm-relaxed"),
}

_C_MAIN = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
void kernel();
int main(void) {
  uint32_t count, size[COUNT + 1];
  uint8_t *at[COUNT + 1], bad = 0;
  fread(&count, 4, 1, stdin);
  for (uint32_t i = 0; i < count; i++) {
    fread(&size[i], 4, 1, stdin);
    uint8_t *raw = aligned_alloc(64, (size[i] + 64 + 256 + 63) / 64 * 64);
    memset(raw, 0xA5, size[i] + 64 + 256);
    at[i] = raw + 128;
    memset(at[i] + size[i], 0xFF, 64);
    fread(at[i], 1, size[i], stdin);
  }
  kernel(ARGUMENTS);
  for (uint32_t i = 0; i < count; i++)
    for (int j = 0; j < 128; j++)
      bad |= at[i][-1 - j] != 0xA5 || at[i][size[i] + 64 + j] != 0xA5;
  fwrite(&bad, 1, 1, stdout);
  for (uint32_t i = 0; i < count; i++) fwrite(at[i], 1, size[i], stdout);
  return 0;
}
"""

_C_MEMORY = """
typedef __SIZE_TYPE__ size;
void *memset(void *to, int value, size n) {
  for (size i = 0; i < n; i++) ((volatile char *)to)[i] = (char)value;
  return to;
}
void *memcpy(void *to, const void *from, size n) {
  for (size i = 0; i < n; i++) ((volatile char *)to)[i] = ((const char *)from)[i];
  return to;
}
"""

_NODE_MAIN = """
import { readFileSync, writeSync } from "node:fs";
const data = readFileSync(0);
const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]));
const { memory, kernel, __heap_base } = instance.exports;
let end = __heap_base.value;
let position = 4;
const spans = [];
for (let i = 0; i < data.readUInt32LE(0); i++) {
  const size = data.readUInt32LE(position);
  const start = Math.ceil((end + 128) / 64) * 64;
  spans.push({ start, size, from: position + 4 });
  position += 4 + size;
  end = start + size + 64 + 128;
}
memory.grow(Math.ceil(end / 65536) + 1);
const bytes = new Uint8Array(memory.buffer);
for (const { start, size, from } of spans) {
  bytes.fill(0xa5, start - 128, start + size + 192);
  bytes.fill(0xff, start + size, start + size + 64);
  bytes.set(data.subarray(from, from + size), start);
}
kernel(...spans.map((span) => span.start), ...process.argv.slice(3).map(Number));
let bad = 0;
for (const { start, size } of spans)
  for (let j = 0; j < 128; j++)
    bad |= bytes[start - 1 - j] !== 0xa5 || bytes[start + size + 64 + j] !== 0xa5;
const out = Buffer.concat([
  Buffer.from([bad]),
  ...spans.map(({ start, size }) => Buffer.from(bytes.slice(start, start + size))),
]);
for (let done = 0; done < out.length; ) done += writeSync(1, out, done);
"""
