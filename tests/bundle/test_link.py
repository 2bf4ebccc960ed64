from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from bundle.elf import Elf
from bundle.fixtures import MODEL_SHA256, write_toy
from bundle.parallel import parallel_plan
from bundle.toy import SOURCE, toy_object, toy_plan, zig, zig_object

from edgesparse import codegen, link
from edgesparse.bundle import Bundle, write_bundle
from edgesparse.errors import DeviceError, OutputError
from edgesparse.target import ARM64, WASM, Target, resolve_target

EXPORTS = {*link.PUBLIC_SYMBOLS, "toy_model"}


@pytest.fixture(params=["host", "arm"])
def native_bundle(request: pytest.FixtureRequest) -> Bundle:
    bundle: Bundle = request.getfixturevalue(f"{request.param}_bundle")
    return bundle


def test_library_needs_nothing_and_exports_the_api(native_bundle: Bundle) -> None:
    library = Elf(native_bundle.path / "libmodel.so")
    defined, undefined = library.dynamic_symbols()
    assert (defined, undefined) == (EXPORTS, set())
    assert library.needed_libraries() == 0


def test_library_has_pages_that_android_takes(native_bundle: Bundle) -> None:
    alignments = Elf(native_bundle.path / "libmodel.so").load_alignments()
    assert len(alignments) >= 2
    assert set(alignments) == {16384}


def test_object_keeps_its_symbols_and_loses_debug_sections(native_bundle: Bundle) -> None:
    defined, undefined = Elf(native_bundle.path / "model.o").static_symbols()
    assert "toy_main" in defined
    assert undefined <= {"memcpy"}
    assert b".debug" not in (native_bundle.path / "model.o").read_bytes()


@pytest.mark.parametrize("target", ["host", "arm64", "arm64-a55"])
def test_object_defines_the_models_symbols_only(target: str, tmp_path: Path) -> None:
    resolved, plan = resolve_target(target), parallel_plan()
    code = codegen.build_object(plan, resolved)
    bundle = write_bundle(plan, resolved, code, tmp_path / "toy", MODEL_SHA256)
    defined, undefined = Elf(bundle.path / "model.o").global_symbols()
    assert defined == {"toy_main", *plan.kernels}
    assert undefined <= {"es_barrier", "memcpy", "memset"}


def test_temporary_files_in_a_folder_beyond_the_locales_letters(
    host: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "é").mkdir()
    monkeypatch.delattr(os, "memfd_create", raising=False)
    # As Python spells the name where the locale knows ASCII only.
    monkeypatch.setattr(tempfile, "tempdir", f"{tmp_path}/\udcc3\udca9")
    assert codegen.build_object(parallel_plan(), host).startswith(b"\x7fELF")


def test_temporary_files_in_a_folder_that_tvm_cannot_be_told(
    host: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(OutputError, match="expected the name of a folder in UTF-8") as caught:
        codegen.build_object(parallel_plan(), host)
    assert "TMPDIR" in caught.value.hint
    assert not list(folder.iterdir())


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files in memory are Linux's")
def test_llvm_writes_to_no_disk(
    host: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full one it ends the process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert codegen.build_object(parallel_plan(), host).startswith(b"\x7fELF")


@pytest.mark.parametrize("reason", ["is full", "is not writable"])
def test_a_tool_that_fails_for_want_of_room_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    command, environment = ["cc", "missing.c"], link._environment()
    if reason == "is full":
        usage = link.shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(link.shutil, "disk_usage", lambda folder: usage)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match=f"{tmp_path} {reason}") as caught:
        link._run(tmp_path, command, environment)
    assert "TMPDIR" in caught.value.hint


def test_archive_leaves_memcpy_to_the_program(host_bundle: Bundle) -> None:
    members = (host_bundle.path / "libmodel.a").read_bytes()
    assert b"libc.o" not in members
    assert b"default.o" not in members


def compile_and_run(directory: Path, program: str, *objects: Path) -> str:
    (directory / "program.c").write_text(program)
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"]
    triple = ["-target", f"{os.uname().machine}-linux-musl"]
    includes = [f"-I{path.parent}" for path in objects[:1]]
    files = ["program.c", *map(str, objects)]
    zig("cc", *triple, *flags, *includes, *files, "-o", "program", cwd=directory)
    done = subprocess.run([directory / "program"], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_headers_example_compiles_and_runs(host_bundle: Bundle, tmp_path: Path) -> None:
    lines = (host_bundle.path / "model.h").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if "#include <stdio.h>" in line)
    end = lines.index(" */", start)
    program = "\n".join(line.removeprefix(" *") for line in lines[start:end])
    (tmp_path / "weights.bin").symlink_to(host_bundle.path / "weights.bin")
    assert compile_and_run(tmp_path, program, host_bundle.path / "libmodel.a") == "ok\n"


def test_two_archives_link_into_one_program(
    host: Target, host_bundle: Bundle, tmp_path: Path
) -> None:
    other = write_toy(host, tmp_path / "other", name="second")
    program = """
        #include <stdio.h>
        #include "model.h"
        const es_model *second_model(void);
        int main(void) { printf("%s %s\\n", toy_model()->name, second_model()->name); return 0; }
    """
    archives = [bundle.path / "libmodel.a" for bundle in (host_bundle, other)]
    assert compile_and_run(tmp_path, program, *archives) == "toy second\n"


IMPORTS, EXPORTED = 2, 7


def wasm_sections(module: bytes) -> dict[int, bytes]:
    sections, at = {}, 8
    while at < len(module):
        kind, size, shift = module[at], 0, 0
        while True:
            at += 1
            size |= (module[at] & 127) << shift
            shift += 7
            if module[at] < 128:
                break
        sections[kind] = module[at + 1 : at + 1 + size]
        at += 1 + size
    return sections


def test_wasm_module_has_no_imports(wasm_bundle: Bundle) -> None:
    sections = wasm_sections((wasm_bundle.path / "model.wasm").read_bytes())
    assert IMPORTS not in sections
    exported = [*link.PUBLIC_SYMBOLS, "memory", "__heap_base"]
    assert all(name.encode() in sections[EXPORTED] for name in exported)


def test_wasm_module_for_threads_imports_a_shared_memory(wasm_bundle: Bundle) -> None:
    sections = wasm_sections((wasm_bundle.path / "model.threads.wasm").read_bytes())
    count, imports = sections[IMPORTS][0], sections[IMPORTS][1:]
    assert count == 2
    shared_with_maximum = b"\x03env\x06memory\x02\x03"
    assert imports.startswith(shared_with_maximum)
    assert b"\x03env\x07es_wait\x00" in imports
    exported = [*link.PUBLIC_SYMBOLS, "__stack_pointer", "__heap_base"]
    assert all(name.encode() in sections[EXPORTED] for name in exported)


@pytest.mark.parametrize("target", [ARM64, WASM], ids=lambda target: target.name)
def test_unknown_symbols_are_a_bug_with_the_linkers_words(target: Target, tmp_path: Path) -> None:
    triple = "wasm32-freestanding" if target.is_wasm else "aarch64-linux-musl"
    source = SOURCE.replace("NAME", "toy").replace("s + 1", "(int64_t)expf(s)")
    source = "float expf(float);" + source
    broken = zig_object(source, "-target", triple, "-ffreestanding", "-fno-builtin", "-fPIC")
    with pytest.raises(RuntimeError, match="expf"):
        write_bundle(toy_plan(), target, broken, tmp_path / "toy", MODEL_SHA256)
    assert not list(tmp_path.iterdir())


def test_another_signature_is_a_bug(tmp_path: Path) -> None:
    source = "int toy_main(void) { return 0; }"
    broken = zig_object(source, "-target", "wasm32-freestanding", "-ffreestanding")
    with pytest.raises(RuntimeError, match="signature mismatch: toy_main"):
        write_bundle(toy_plan(), WASM, broken, tmp_path / "toy", MODEL_SHA256)


def test_the_c_library_is_announced_once(
    host: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = tmp_path / "done"
    monkeypatch.setattr(link, "_marker", lambda target: done)
    said: list[str] = []
    for name in ("one", "two"):
        output = tmp_path / name
        write_bundle(toy_plan(), host, toy_object(host), output, MODEL_SHA256, said.append)
    assert len(said) == 1
    assert "linux-musl" in said[0]


def test_cache_is_zigs_own_or_a_private_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert link._cache() == tmp_path / ".cache" / "zig"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(link.tempfile, "gettempdir", lambda: str(tmp_path))
    private = link._cache()
    assert private.parent == tmp_path
    assert private.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "given"))
    assert link._cache() == tmp_path / "given"


def test_a_home_that_the_system_refuses_to_look_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ZIG_GLOBAL_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / ("n" * 300)))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(link.tempfile, "gettempdir", lambda: str(tmp_path))
    assert link._cache().parent == tmp_path


def test_a_cache_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "file" / "zig"))
    with pytest.raises(OutputError, match="file/zig cannot be made: Not a directory") as caught:
        link._environment()
    assert caught.value.hint == "name another folder with ZIG_GLOBAL_CACHE_DIR"


def test_missing_ziglang_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="ziglang is missing") as caught:
        link._environment()
    assert caught.value.hint == "pip install ziglang"
