"""Write and read a bundle: the directory that a device is given.

native: manifest.json model.o libmodel.a libmodel.so runner weights.bin model.h
        include/{edgesparse.h,edgesparse_pool.h,edgesparse_pool.c}
wasm:   manifest.json model[.relaxed][.threads].wasm weights.bin package.json index.d.mts demo/
        {index,bundle,files,shared,threads,worker}.mjs, the bench runner {runner,runner-*}.mjs

The same input gives the same bytes: keys are sorted, and nothing holds a date or a path.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgesparse import glue, npm, runtime
from edgesparse.errors import BundleError, OutputError, UsageError
from edgesparse.files import replace_folder
from edgesparse.manifest import (
    MANIFEST,
    RECOMPILE,
    WEIGHTS,
    build_manifest,
    check_files,
    check_weights_header,
    describe,
    json_bytes,
    pack_weights,
    read_manifest,
    read_specs,
)
from edgesparse.plan import MAX_THREADS, Plan, TensorSpec, is_number_of_threads
from edgesparse.target import Target, missing_cpu_flags

if TYPE_CHECKING:
    from edgesparse.native import NativeModel

Array = npt.NDArray[Any]


def write_bundle(
    plan: Plan,
    target: Target,
    object_bytes: bytes,
    output: Path,
    model_sha256: str,
    progress: Callable[[str], None] | None = None,
    relaxed: bytes | None = None,
    embed: bool = False,
) -> Bundle:
    """Link a compiled plan and write its bundle to `output`, whole or not at all.

    Args:
        plan: What was compiled.
        target: What it was compiled for.
        object_bytes: The object file with `<plan.name>_main`.
        output: Directory to write; a bundle that is there is replaced.
        model_sha256: The model's, from `model_digest`, for the manifest.
        progress: Told in a sentence when something slow begins.
        relaxed: For WebAssembly, maybe a second object file, with relaxed SIMD.
        embed: Put the weights into the WebAssembly modules.

    Raises:
        OutputError: `output` holds something else than a bundle, or cannot be written.
    """
    from edgesparse import link

    check_output(output)
    payload_sha256 = hashlib.sha256(plan.weights).hexdigest()
    with _replacing(output) as directory:
        link.link(plan, target, object_bytes, payload_sha256, directory, progress, relaxed)
        description = describe(plan, glue.layer_steps(plan), target, model_sha256)
        weights = pack_weights(plan.weights)
        if target.is_wasm:
            description |= {"builds": npm.builds_of(target, relaxed is not None)}
            description |= {"embedded": True} if embed else {}
            npm.add_sections(directory, description, weights if embed else None)
            modules = npm.modules_of(description["builds"])
            _write_files(directory, npm.package_files(plan.name, modules, not embed))
        else:
            _write_files(directory, _native_files(plan, target))
        if not embed:
            _write_files(directory, {WEIGHTS: weights})
        _write_files(directory, {MANIFEST: build_manifest(description, directory)})
    return Bundle(output)


def check_output(output: Path) -> None:
    """Check that a bundle may be written to `output`; cheap, so worth doing before compiling.

    Raises:
        OutputError: It is a file, holds something else than a bundle, cannot be written, or is
            where this process stands, which would be left in a directory that is gone.
    """
    hint = "choose another directory with `-o`"
    if os.path.isdir(output):  # pathlib raises where we may not look
        if _is_around_us(output):
            raise OutputError(
                f"writing {output}: it is replaced as a whole, expected another directory than the"
                " current one and those around it",
                hint=f"{hint}, e.g. a new one in here, or go to another directory first",
            )
        if foreign := _foreign_files(output):
            names = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise OutputError(
                f"writing {output}: expected a bundle or an empty directory, found {names}",
                hint=f"{hint}, or remove what is there",
            )
    elif os.path.lexists(output):
        raise OutputError(f"writing {output}: expected a directory, found a file", hint=hint)
    existing = next(path for path in output.absolute().parents if os.path.exists(path))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"writing {output}: {existing} is not a writable directory", hint=hint)


def _is_around_us(directory: Path) -> bool:
    try:
        return Path.cwd().is_relative_to(directory.resolve())
    except OSError:  # where we are is gone already
        return False


def _foreign_files(directory: Path) -> list[str]:
    """Return the files that no bundle wrote; replacing the directory would lose them."""
    present = {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    try:
        own = {MANIFEST, *read_manifest(directory)["files"]}
    except BundleError:
        own = set()
    return sorted(present - own)


@contextlib.contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """Yield a new directory beside `output`, which takes its place when the block succeeds.

    Raises:
        OutputError: The operating system refused to write.
    """
    goal = output.resolve()
    created = [parent for parent in goal.parents if not os.path.exists(parent)]
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(goal) as name:
            fresh = Path(name) / "new"
            fresh.mkdir()
            yield fresh
            replace_folder(fresh, goal, Path(name) / "old")
    except BaseException as error:
        for parent in created:
            with contextlib.suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            raise OutputError(
                f"writing {output}: {error.strerror or error}",
                hint="choose another directory with `-o`, or make room",
            ) from error
        raise


def _temporary_beside(goal: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(
        prefix=f".{goal.name}.", dir=goal.parent, ignore_cleanup_errors=True
    )


def _write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, contents in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)


def _native_files(plan: Plan, target: Target) -> dict[str, bytes]:
    return {
        "model.h": glue.header(plan, target.name).encode(),
        "include/edgesparse.h": runtime.source("include/edgesparse.h"),
        "include/edgesparse_pool.h": runtime.source("include/edgesparse_pool.h"),
        "include/edgesparse_pool.c": runtime.source("src/pool.c"),
    }


class Bundle:
    """A bundle on disk.

    Attributes:
        path: Its directory.
        manifest: The parsed manifest.json.
        inputs: Model inputs in order.
        outputs: Model outputs in order.
    """

    def __init__(self, path: str | Path) -> None:
        """Read the manifest and check that every file is there, whole and of this model.

        Raises:
            BundleError: The directory is not a bundle, is truncated, or of another version.
        """
        self.path = Path(path)
        self.manifest: dict[str, Any] = read_manifest(self.path)
        self.inputs = read_specs(self.path, self.manifest, "inputs")
        self.outputs = read_specs(self.path, self.manifest, "outputs")
        check_files(self.path, self.manifest)
        if WEIGHTS in self.manifest["files"]:
            check_weights_header(self.path, self.manifest)

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is open: a copy, maybe in another process, opens its own to run."""
        return {key: value for key, value in self.__dict__.items() if key != "_native"}

    @property
    def name(self) -> str:
        """The model's name, a C identifier."""
        return str(self.manifest["name"])

    @property
    def manifest_sha256(self) -> str:
        """Hexadecimal SHA-256 of the manifest, and so of all files: no other bundle has it."""
        return hashlib.sha256(json_bytes(self.manifest)).hexdigest()

    def run(self, inputs: Mapping[str, npt.ArrayLike], threads: int = 1) -> dict[str, Array]:
        """Return output name -> array for one run of the model in this process.

        Args:
            inputs: Input name -> array of exactly the model's shape and dtype.
            threads: How many threads share the work; the outputs are the same for any number.

        Raises:
            UsageError: A name, shape or dtype is wrong, or the number of threads.
            BundleError: The bundle is not for this machine.
        """
        if not is_number_of_threads(threads):
            raise UsageError(
                f"running bundle {self.path}: expected 1 to {MAX_THREADS} threads,"
                f" found {threads!r}",
                hint="give no more threads than the machine has cores",
            )
        return self._native.run(self._checked(inputs), int(threads))

    def verify(self) -> None:
        """Hash every file.

        Raises:
            BundleError: A file is not what the compiler wrote.
        """
        for name, entry in self.manifest["files"].items():
            if hashlib.sha256((self.path / name).read_bytes()).hexdigest() != entry["sha256"]:
                raise BundleError(f"verifying bundle {self.path}: {name} differs", hint=RECOMPILE)

    @functools.cached_property
    def _native(self) -> NativeModel:
        from edgesparse.native import NativeModel

        self._require_this_machine()
        library, weights = self.path / "libmodel.so", self.path / WEIGHTS
        return NativeModel(library, weights, self.inputs, self.outputs)

    def _require_this_machine(self) -> None:
        target = self.manifest["target"]
        compiled_for = target["triple"].split("-", 1)[0]
        machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(
            platform.machine(), platform.machine()
        )
        doing = f"running bundle {self.path} in this process"
        if compiled_for != machine or not sys.platform.startswith("linux"):
            raise BundleError(
                f"{doing}: it is compiled for {target['triple']}, "
                f"this is {sys.platform} on {machine}",
                hint="compile with `--target host`, or use `--device qemu` or `--device node`",
            )
        if missing := missing_cpu_flags(tuple(target["required"])):
            raise BundleError(
                f"{doing}: this machine's CPU lacks {', '.join(missing)}",
                hint="compile with `--target host` on this machine",
            )

    def _checked(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        expected = [spec.name for spec in self.inputs]
        if not isinstance(inputs, Mapping):
            raise UsageError(
                f"running bundle {self.path}: expected a mapping of input names to arrays, found"
                f" {type(inputs).__name__}",
                hint=f"name what it is for: `run({{{next(iter(expected), None)!r}: array}})`",
            )
        given = list(inputs)
        if set(expected) != set(given):
            raise UsageError(
                f"running bundle {self.path}: expected inputs {expected}, found {given}",
                hint="give exactly one array for each input",
            )
        return {spec.name: self._checked_array(spec, inputs[spec.name]) for spec in self.inputs}

    def _checked_array(self, spec: TensorSpec, value: npt.ArrayLike) -> Array:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise UsageError(
                f"running bundle {self.path}: input {spec.name} expected {spec.dtype} "
                f"{list(spec.shape)}, found what is no array: {error}",
                hint="are all its rows equally long?",
            ) from error
        if array.dtype != np.dtype(spec.dtype) or array.shape != spec.shape:
            raise UsageError(
                f"running bundle {self.path}: input {spec.name} expected {spec.dtype} "
                f"{list(spec.shape)}, found {array.dtype} {list(array.shape)}",
                hint=f"convert it: np.asarray({spec.name}, {spec.dtype!r}).reshape{spec.shape}",
            )
        return array
