"""memcpy, memmove and memset of the runtime against numpy, at sizes that straddle vectors."""

from __future__ import annotations

import ctypes
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bundle.fixtures import require_tool
from bundle.toy import zig

from edgesparse import link, runtime

SOURCE = Path(runtime.__file__).parent / "src" / "libc.c"
RENAMED = [f"-D{name}=es_{name}" for name in ("memcpy", "memmove", "memset")]
WRAPPER = f"""
#include "{SOURCE}"
void *copy(void *to, const void *from, size_t n) {{ return memcpy(to, from, n); }}
void *move(void *to, const void *from, size_t n) {{ return memmove(to, from, n); }}
void *set(void *to, int value, size_t n) {{ return memset(to, value, n); }}
"""
SIZES = [0, 1, 7, 15, 16, 17, 31, 33, 64, 100, 257]


@pytest.fixture(scope="module")
def libc(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    work = tmp_path_factory.mktemp("libc")
    (work / "wrapper.c").write_text(WRAPPER)
    flags = ["-O2", "-ffreestanding", "-fPIC", "-fno-sanitize=all", *RENAMED]
    zig("cc", "-shared", "-nostdlib", *flags, "wrapper.c", "-o", "libc.so", cwd=work)
    library = ctypes.CDLL(str(work / "libc.so"))
    for function in (library.copy, library.move):
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        function.restype = ctypes.c_void_p
    library.set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    library.set.restype = ctypes.c_void_p
    return library


@pytest.mark.parametrize("size", SIZES)
def test_copy_and_set(libc: ctypes.CDLL, size: int) -> None:
    source = np.random.default_rng(size).integers(0, 256, size + 2).astype(np.uint8)
    target = np.full(size + 2, 7, np.uint8)
    address = target.ctypes.data + 1
    assert libc.copy(address, source.ctypes.data + 1, size) == address
    np.testing.assert_array_equal(target[1 : size + 1], source[1 : size + 1])
    assert libc.set(address, 0x1FE, size) == address
    np.testing.assert_array_equal(target, [7, *[0xFE] * size, 7])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [-300, -17, -16, -1, 0, 1, 16, 17, 300])
def test_move_handles_overlap(libc: ctypes.CDLL, size: int, shift: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, 1200).astype(np.uint8)
    expected = data.copy()
    expected[500 + shift : 500 + shift + size] = data[500 : 500 + size]
    libc.move(data.ctypes.data + 500 + shift, data.ctypes.data + 500, size)
    np.testing.assert_array_equal(data, expected)


@pytest.mark.isa("wasm")
def test_wasm_versions(tmp_path: Path) -> None:
    node = require_tool("node")
    (tmp_path / "libc.c").write_bytes(SOURCE.read_bytes())
    target = ["-target", "wasm32-freestanding", "-O2", "-ffreestanding", "-g0"]
    target += link._WASM_FEATURES
    zig("cc", "-c", *target, "libc.c", "-o", "libc.o", cwd=tmp_path)
    names = [f"--export={name}" for name in ("memcpy", "memmove", "memset", "__heap_base")]
    zig("wasm-ld", "--no-entry", *names, "libc.o", "-o", "libc.wasm", cwd=tmp_path)
    script = """
        const { readFileSync } = require("node:fs");
        const module = new WebAssembly.Module(readFileSync("libc.wasm"));
        const { exports } = new WebAssembly.Instance(module);
        const { memory, memcpy, memmove, memset, __heap_base } = exports;
        memory.grow(1);
        const at = __heap_base.value;
        const bytes = new Uint8Array(memory.buffer, at, 8);
        bytes.set([1, 2, 3, 4, 5, 6, 7, 8]);
        memmove(at + 1, at, 4);
        memcpy(at + 5, at, 2);
        const end = memset(at + 7, 0x1fe, 1);
        console.log(JSON.stringify([end - at, ...bytes]));
    """
    done = subprocess.run([node, "-e", script], cwd=tmp_path, capture_output=True, text=True)
    assert json.loads(done.stdout) == [7, 1, 1, 2, 3, 4, 1, 1, 254], done.stderr
    assert (tmp_path / "libc.wasm").read_bytes().count(b"\xfc\x0a\0\0") == 2
