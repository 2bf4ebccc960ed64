"""From object code to what a device loads, with ziglang as compiler and linker.

native: model.o      the compiled model, without debug sections
        libmodel.a   the same, its descriptor and the runtime, for a program that has a C library
        libmodel.so  all of that and memcpy and friends: needs no other library, 16 KiB pages
        runner       the bench runner with its pool of threads, a static executable
wasm:   model.wasm   everything, no imports, exports its memory
        model.threads.wasm   the same for threads: imports a shared memory, and how to wait
        model.relaxed.wasm, model.relaxed.threads.wasm   the same with relaxed SIMD

Every tool runs in one temporary directory on relative names, so that no path gets into a file and
equal input gives equal bytes.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgesparse import glue, runtime
from edgesparse.errors import DeviceError, OutputError
from edgesparse.files import TEMPORARY_HINT, temporary_folder, whole_file
from edgesparse.plan import IMAGE_SYMBOL, Plan
from edgesparse.target import Target
from edgesparse.user_cache import CACHE_VARIABLE

Progress = Callable[[str], None]

MODULE, RELAXED_MODULE = "model", "model.relaxed"
PAGE_BYTES = 16384
WASM_STACK_BYTES = 256 << 10
PUBLIC_SYMBOLS = (
    "es_check_weights",
    "es_default_model",
    "es_run",
    "es_run_steps",
    "es_run_thread",
    "es_status_text",
    "es_team_init",
    "es_verify_weights",
)

# With -r, lld ignores --strip-debug. The other section is TVM's conversions of float16, which no
# kernel calls and which, being weak, would become those of the whole program.
_STRIP_SCRIPT = b"SECTIONS { /DISCARD/ : { *(.debug*) *(.text.tvm.fp16.conv) } }\n"
_STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g0")
_FREESTANDING = ("-O2", "-ffreestanding", "-fPIC", "-fno-stack-protector")
# Every engine with simd128 has bulk-memory: memcpy is one instruction.
_WASM_FEATURES = ("-msimd128", "-mbulk-memory")
# Only es_barrier uses atomics; what else is linked in is as good on a shared memory.
_SHARED_MEMORY = (
    "--import-memory",
    "--shared-memory",
    "--max-memory=4294967296",
    "--no-check-features",
    "--export=__stack_pointer",
)
_RUNTIME = ("default", "descriptor", "edgesparse", "libc", "sha256", "team")
_RUNNER = ("pool", "runner", "runner_session")
_PARALLEL = 2
_LEAST_ROOM_BYTES = 32e6  # the C library takes half of it


def link(
    plan: Plan,
    target: Target,
    object_bytes: bytes,
    payload_sha256: str,
    output: Path,
    progress: Progress | None = None,
    relaxed: bytes | None = None,
) -> None:
    """Write the target's artefacts into the directory `output`.

    Args:
        plan: What was compiled.
        target: What it was compiled for.
        object_bytes: The object file with `<plan.name>_main`.
        payload_sha256: Hexadecimal SHA-256 of `plan.weights`.
        output: An existing directory.
        progress: Told in a sentence when something slow begins.
        relaxed: For WebAssembly, maybe a second object file, with relaxed SIMD.

    Raises:
        DeviceError: ziglang is not installed.
        OutputError: There is no room for what is temporary, or for what zig keeps.
        RuntimeError: A tool failed; a bug of the compiler.
    """
    if progress and is_first_link(target):
        progress(f"building the C library for {_zig_triple(target)} (once per machine)")
    with temporary_folder() as work:
        _write_sources(work, plan, object_bytes, payload_sha256)
        if target.is_wasm:
            artefacts = _link_wasm(work, target, relaxed)
        else:
            artefacts = _link_native(work, target)
        for artefact in artefacts:
            shutil.copy(work / artefact, output / artefact)
    _mark_linked(target)


def is_first_link(target: Target) -> bool:
    """Return whether ziglang has yet to build this target's C library: half a minute."""
    return not target.is_wasm and not _marker(target).exists()


def build_simulator(output: Path) -> None:
    """Write the plugin that models arm64 cores under qemu: a library of this machine.

    Args:
        output: The file; it appears whole or not at all.

    Raises:
        DeviceError: ziglang is not installed.
        OutputError: The file cannot be written.
    """
    with temporary_folder() as work:
        sources = runtime.sources("armtime")
        for file, contents in sources.items():
            (work / file).write_bytes(contents)
        files = [file for file in sources if file.endswith(".c")]
        shared = ["-O2", "-fPIC", "-shared", *files, "-o", "armtime.so"]
        _run_all(work, [["cc", *_STRICT, *shared]])
        hint = f"choose another cache folder with {CACHE_VARIABLE}"
        with whole_file(output, hint) as partial:
            output.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(work / "armtime.so", partial)


def _write_sources(work: Path, plan: Plan, object_bytes: bytes, payload_sha256: str) -> None:
    files = runtime.sources("src") | {
        **runtime.sources("include"),
        "descriptor.c": glue.descriptor(plan, payload_sha256).encode(),
        "default.c": glue.default_entry(plan).encode(),
        "compiled.o": object_bytes,
        "exports.map": _version_script(plan).encode(),
        "strip.ld": _STRIP_SCRIPT,
    }
    try:
        for name, contents in files.items():
            (work / name).write_bytes(contents)
    except OSError as error:
        raise OutputError(
            f"linking the model: cannot write {work}: {error.strerror}", hint=TEMPORARY_HINT
        ) from error


def _version_script(plan: Plan) -> str:
    symbols = " ".join(f"{symbol};" for symbol in (*PUBLIC_SYMBOLS, f"{plan.name}_model"))
    return f"{{ global: {symbols} local: *; }};\n"


def _link_native(work: Path, target: Target) -> tuple[str, ...]:
    _run_all(
        work,
        [_compile(target, stem, *_FREESTANDING) for stem in _RUNTIME]
        + [_compile(target, stem, "-O2") for stem in _RUNNER]
        + [["ld.lld", "-r", "-Tstrip.ld", "compiled.o", "-o", "model.o"]],
    )
    archived = ["model.o", "descriptor.o", "edgesparse.o", "sha256.o", "team.o"]
    shared = [*archived, "default.o", "libc.o"]
    executable = [*(f"{stem}.o" for stem in _RUNNER), *archived, "default.o"]
    _run_all(
        work,
        [
            ["ar", "rcsD", "libmodel.a", *archived],
            ["ld.lld", *_shared_flags(), *shared, "-o", "libmodel.so"],
            ["cc", "-target", _zig_triple(target), "-static", "-s", *executable, "-o", "runner"],
        ],
    )
    return ("model.o", "libmodel.a", "libmodel.so", "runner")


def _shared_flags() -> list[str]:
    """Flags of libmodel.so: it binds to its own symbols, whatever else the process has loaded."""
    return [
        "-shared",
        "-soname=libmodel.so",
        "--version-script=exports.map",
        "-Bsymbolic",
        "--no-undefined",
        "--gc-sections",
        "--strip-debug",
        "--build-id=none",
        "-znow",
        "-znoexecstack",
        f"-zmax-page-size={PAGE_BYTES}",
        f"-zcommon-page-size={PAGE_BYTES}",
    ]


def wasm_modules(stem: str) -> tuple[str, str]:
    """Return the names of a build's module for one thread, and of the one for several."""
    return f"{stem}.wasm", f"{stem}.threads.wasm"


def _link_wasm(work: Path, target: Target, relaxed: bytes | None) -> tuple[str, ...]:
    flags = (*_FREESTANDING, *_WASM_FEATURES)
    threaded = _compile(target, "team", *flags, "-matomics", output="team-threads.o")
    _run_all(work, [*(_compile(target, stem, *flags) for stem in _RUNTIME), threaded])
    objects = [f"{stem}.o" for stem in _RUNTIME]
    shared = ["team-threads.o" if name == "team.o" else name for name in objects]
    compiled = {MODULE: "compiled.o"}
    if relaxed is not None:
        (work / "relaxed.o").write_bytes(relaxed)
        compiled[RELAXED_MODULE] = "relaxed.o"
    commands = []
    for stem, model in compiled.items():
        alone, together = wasm_modules(stem)
        commands.append(["wasm-ld", *_wasm_flags(), model, *objects, "-o", alone])
        threads = [*_wasm_flags(), *_SHARED_MEMORY]
        commands.append(["wasm-ld", *threads, model, *shared, "-o", together])
    _run_all(work, commands)
    return tuple(name for stem in compiled for name in wasm_modules(stem))


def _wasm_flags() -> list[str]:
    exports = [f"--export={symbol}" for symbol in (*PUBLIC_SYMBOLS, "__heap_base")]
    exports.append(f"--export-if-defined={IMAGE_SYMBOL}")
    layout = ["--stack-first", "-z", f"stack-size={WASM_STACK_BYTES}"]
    # A warning is a function whose two declarations differ; the linker makes calls to it trap.
    return ["--no-entry", "--fatal-warnings", "--gc-sections", "--strip-debug", *layout, *exports]


def _compile(target: Target, stem: str, *flags: str, output: str = "") -> list[str]:
    triple = ["-target", _zig_triple(target)]
    return ["cc", "-c", *triple, *_STRICT, *flags, f"{stem}.c", "-o", output or f"{stem}.o"]


def _zig_triple(target: Target) -> str:
    return "wasm32-freestanding" if target.is_wasm else f"{target.architecture}-linux-musl"


def _run_all(work: Path, commands: Sequence[list[str]]) -> None:
    """Run independent commands of zig side by side."""
    environment = _environment()
    with ThreadPoolExecutor(_PARALLEL) as pool:
        list(pool.map(lambda command: _run(work, command, environment), commands))


def _run(work: Path, command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", *command],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        _check_room(work, Path(environment["ZIG_GLOBAL_CACHE_DIR"]))
        raise RuntimeError(
            f"`zig {' '.join(command)}` exited with {done.returncode}:\n{done.stderr}{done.stdout}"
        )


def _check_room(*folders: Path) -> None:
    """Tell a tool that failed for want of room from a bug; its own words may be none.

    Raises:
        OutputError: A folder is all but full, or cannot be written.
    """
    for folder in folders:
        if not os.access(folder, os.W_OK | os.X_OK):
            reason = f"{folder} is not writable"
        elif (free := shutil.disk_usage(folder).free) < _LEAST_ROOM_BYTES:
            reason = f"{folder} is full, {free / 1e6:.1f} MB are left"
        else:
            continue
        raise OutputError(
            f"linking the model: {reason}",
            hint="make room there, or name other folders with TMPDIR and ZIG_GLOBAL_CACHE_DIR",
        )


def _environment() -> dict[str, str]:
    if importlib.util.find_spec("ziglang") is None:
        raise DeviceError(
            "linking the model: the Python package ziglang is missing",
            hint="pip install ziglang",
        )
    cache = _cache()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # zig would try for ever
        raise OutputError(
            f"linking the model: {cache} cannot be made: {error.strerror}",
            hint="name another folder with ZIG_GLOBAL_CACHE_DIR",
        ) from error
    return os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(cache)}


def _cache() -> Path:
    """Return where zig keeps the C libraries it built: its own default when that is writable."""
    if given := os.environ.get("ZIG_GLOBAL_CACHE_DIR"):
        return Path(given).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = Path(home) / "zig"
    existing = next(path for path in (cache, *cache.absolute().parents) if os.path.exists(path))
    return cache.absolute() if os.access(existing, os.W_OK) else _private_temporary_cache()


def _private_temporary_cache() -> Path:
    cache = Path(tempfile.gettempdir()) / f"edgesparse-zig-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.is_symlink() or cache.stat().st_uid != os.getuid():
        raise DeviceError(
            f"linking the model: {cache} belongs to somebody else",
            hint="set ZIG_GLOBAL_CACHE_DIR to a directory of your own",
        )
    return cache


def _marker(target: Target) -> Path:
    version = importlib.metadata.version("ziglang")
    return _cache() / f"edgesparse-linked-{version}-{_zig_triple(target)}"


def _mark_linked(target: Target) -> None:
    if is_first_link(target):
        _marker(target).touch()
