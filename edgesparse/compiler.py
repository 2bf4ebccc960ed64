"""compile(): the whole pipeline as one readable list."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import onnx_ir as ir

from edgesparse import frontend, passes
from edgesparse.bundle import Bundle, check_output, write_bundle
from edgesparse.errors import UnsupportedModelError, UsageError
from edgesparse.link import WASM_STACK_BYTES
from edgesparse.lower import SUPPORTED, layer_of, lower
from edgesparse.model_files import model_digest, model_path
from edgesparse.passes.reorder_channels import ReorderChannelsPass
from edgesparse.passes.select_pattern import SelectPatternPass, UnstructuredPatternPass
from edgesparse.plan import Layer, Plan
from edgesparse.target import Target, resolve_target
from edgesparse.tune_cache import apply_tuned

Progress = Callable[[str, float], None]
Shapes = Mapping[str, tuple[int, ...]]

_WASM_MEMORY_BYTES = 4 << 30  # its addresses have 32 bits
_TAKEN = ("es", "es_default")  # es_model and es_default_model are in edgesparse.h

_STAGES = [stage.name for stage in passes.PIPELINE]
_SELECT = _STAGES.index(SelectPatternPass.__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Inspection:
    """What would be compiled, and why.

    Attributes:
        target: Name of the target.
        layers: Operators of the optimised graph with their decisions.
    """

    target: str
    layers: tuple[Layer, ...]


def compile(
    model: str | Path,
    *,
    target: str = "host",
    output: str | Path,
    shapes: Shapes | None = None,
    name: str | None = None,
    tuned: bool = True,
    reorder: bool = True,
    select: bool = True,
    embed: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Compile an ONNX model into a bundle.

    Args:
        model: ONNX file.
        target: `host`, `arm64`, `arm64-a55`, `wasm` or `wasm-relaxed`.
        output: Folder of the bundle; an older bundle there is replaced.
        shapes: Static shapes for inputs with symbolic dimensions.
        name: Prefix of every C symbol; the file's stem by default.
        tuned: Use what `tune` measured on this machine, where it did; else the cost model alone.
        reorder: Permute channels where that is predicted to gain.
        select: Choose every operator's format from the cost model; otherwise sparse operators are
            computed one row at a time, and dense ones dense. `reorder` and `select` are there for
            comparisons.
        embed: Put the weights into the WebAssembly modules, not into a file of their own.
        progress: Told the stage and the finished fraction.

    Raises:
        UsageError: Unknown target, bad shapes, a name that is no C identifier or is taken, or a
            target whose weights cannot be embedded.
        ModelError: The model cannot be compiled.
        OutputError: The bundle cannot be written.
    """
    say = progress or _say_nothing
    path = model_path(model)
    resolved = resolve_target(target)
    if embed and not resolved.is_wasm:
        raise UsageError(
            f"target {target}: its weights are always a file of their own",
            hint="leave out `--embed`, or compile with `--target wasm`",
        )
    check_output(Path(output))
    symbol = c_identifier(path.stem) if name is None else _checked_identifier(name)

    say("reading the model", 0.0)
    prepared = prepare(path, resolved, shapes, say, reorder=reorder)
    optimised = _decide(prepared, resolved, tuned, select)
    return build(optimised, resolved, Path(output), symbol, model_digest(path), say, embed)


def inspect(
    model: str | Path,
    *,
    target: str = "host",
    shapes: Shapes | None = None,
    tuned: bool = True,
    reorder: bool = True,
    select: bool = True,
) -> Inspection:
    """Return what `compile` would do with a model, without generating code.

    Raises:
        UsageError: Unknown target or bad shapes.
        ModelError: The model cannot be compiled.
    """
    resolved = resolve_target(target)
    prepared = prepare(model_path(model), resolved, shapes, reorder=reorder)
    optimised = _decide(prepared, resolved, tuned, select)
    return Inspection(target, tuple(layer_of(node) for node in optimised.graph))


def _decide(prepared: ir.Model, target: Target, tuned: bool, select: bool) -> ir.Model:
    if not select:
        UnstructuredPatternPass(target)(prepared)
    elif tuned:
        apply_tuned(prepared, target)
    return finish(prepared, target)


def prepare(
    path: Path,
    target: Target,
    shapes: Shapes | None = None,
    progress: Progress | None = None,
    *,
    reorder: bool = True,
    without: Collection[str] = (),
) -> ir.Model:
    """Return a model with its graph optimised, before formats are chosen for its operators.

    Args:
        path: ONNX file.
        target: What is compiled for.
        shapes: Static shapes for inputs with symbolic dimensions.
        progress: Told the stage and the finished fraction.
        reorder: Permute channels where that is predicted to gain.
        without: Class names of passes to leave out.

    Raises:
        UsageError: Bad shapes.
        ModelError: The model cannot be compiled.
    """
    loaded = frontend.load(path, dict(shapes or {}))
    (progress or _say_nothing)("optimising the graph", 0.1)
    left_out = {*without} if reorder else {*without, ReorderChannelsPass.__name__}
    return passes.run(loaded, target, only=_STAGES[:_SELECT], without=left_out)


def finish(model: ir.Model, target: Target) -> ir.Model:
    """Decide what `prepare` left open; a decision that an operator already carries stands.

    Raises:
        UnsupportedModelError: Operators are not supported.
    """
    finished = passes.run(model, target, only=_STAGES[_SELECT:])
    frontend.check_coverage(finished, SUPPORTED)
    return finished


def build(
    model: ir.Model,
    target: Target,
    output: Path,
    name: str,
    model_sha256: str,
    progress: Progress | None = None,
    embed: bool = False,
) -> Bundle:
    """Generate code for a finished model and write its bundle.

    Args:
        model: From `finish`.
        target: What to generate code for.
        output: Folder of the bundle.
        name: Prefix of every C symbol.
        model_sha256: The model's, from `model_digest`, for the manifest.
        progress: Told the stage and the finished fraction.
        embed: Put the weights into the WebAssembly modules.

    Raises:
        UnsupportedModelError: It takes more memory than the target has addresses for.
        OutputError: The bundle cannot be written.
    """
    from edgesparse.codegen import build_objects

    say = progress or _say_nothing
    say("planning", 0.25)
    plan = lower(model, target, name)
    _check_memory(plan, target)
    say("generating code", 0.35)
    targets = [target, *filter(None, (target.relaxed,))]
    code, *relaxed = build_objects(
        plan, targets, progress=lambda f: say("generating code", 0.35 + 0.4 * f)
    )
    say("linking", 0.75)
    bundle = write_bundle(
        plan,
        target,
        code,
        output,
        model_sha256=model_sha256,
        progress=lambda stage: say(stage, 0.8),
        relaxed=next(iter(relaxed), None),
        embed=embed,
    )
    say("done", 1.0)
    return bundle


def _check_memory(plan: Plan, target: Target) -> None:
    """Refuse what no WebAssembly memory can hold."""
    needed = WASM_STACK_BYTES + len(plan.weights) + max(plan.arena_bytes, _image_bytes(plan))
    needed += sum(spec.size_bytes for spec in (*plan.inputs, *plan.outputs))
    if target.is_wasm and needed > _WASM_MEMORY_BYTES:
        raise UnsupportedModelError(
            f"the model takes {needed / 1e9:.2f} GB of memory, expected at most"
            f" {_WASM_MEMORY_BYTES / 1e9:.2f} GB for target {target.name}",
            hint="fix smaller inputs with `--shape`, or compile with `--target host` or `arm64`",
        )


def _image_bytes(plan: Plan) -> int:
    """Return what index.mjs reserves from the arena's start on, to make planes of an image."""
    if not plan.inputs:
        return 0
    image = plan.inputs[0]
    pixels = math.prod(image.shape[2:4]) if len(image.shape) > 3 else 0
    return 4 * pixels + image.size_bytes


def c_identifier(text: str) -> str:
    """Return `text` as a C identifier that a model may have."""
    cleaned = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_").lower() or "model"
    return f"m_{cleaned}" if cleaned[0].isdigit() or cleaned in _TAKEN else cleaned


def _checked_identifier(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, flags=re.ASCII):
        raise UsageError(
            f"name {name!r} is no C identifier",
            hint=f"use letters, digits and underscores, e.g. `--name {c_identifier(name)}`",
        )
    if name in _TAKEN:
        raise UsageError(
            f"name {name!r} is taken: {name}_model is a name of edgesparse.h",
            hint=f"choose another, e.g. `--name {c_identifier(name)}`",
        )
    return name


def _say_nothing(stage: str, fraction: float) -> None:
    del stage, fraction
