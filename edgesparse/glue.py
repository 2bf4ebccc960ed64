"""The C files that are written for one model: its descriptor, its header, and the default entry.

The compiled object has one function with a parameter for every tensor; `descriptor` wraps it into
the uniform `es_model` of edgesparse.h.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from edgesparse.plan import Plan, TensorSpec

HEADER_BYTES = 64

_C_TYPES = {
    "float32": ("ES_FLOAT32", "float"),
    "float64": ("ES_FLOAT64", "double"),
    "float16": ("ES_FLOAT16", "uint16_t"),
    "bool": ("ES_BOOL", "uint8_t"),
    "int8": ("ES_INT8", "int8_t"),
    "uint8": ("ES_UINT8", "uint8_t"),
    "int16": ("ES_INT16", "int16_t"),
    "uint16": ("ES_UINT16", "uint16_t"),
    "int32": ("ES_INT32", "int32_t"),
    "uint32": ("ES_UINT32", "uint32_t"),
    "int64": ("ES_INT64", "int64_t"),
    "uint64": ("ES_UINT64", "uint64_t"),
}

_DESCRIPTOR = """\
#include "edgesparse.h"

int32_t {name}_main({parameters});
const es_model *{name}_model(void);

static int32_t entry(const void *payload, void *arena, const void *const *inputs,
                     void *const *outputs, int32_t first, int32_t last, int32_t thread,
                     int32_t threads, es_team *team) {{
  (void)inputs, (void)threads, (void)team;
  return {call};
}}

{tables}
static const es_model MODEL = {{
    .abi_version = ES_ABI_VERSION,
    .input_count = {input_count},
    .output_count = {output_count},
    .layer_count = {layer_count},
    .step_count = {step_count},
    .name = {label},
    .inputs = {inputs},
    .outputs = {outputs},
    .layers = {layers},
    .weights_bytes = {weights_bytes},
    .arena_bytes = {arena_bytes},
    .weights_sha256 = {{{digest}}},
    .entry = entry,
}};

const es_model *{name}_model(void) {{ return &MODEL; }}
"""

_DEFAULT = """\
#include "edgesparse.h"

const es_model *{name}_model(void);

const es_model *es_default_model(void) {{ return {name}_model(); }}
"""

_HEADER = """\
/* {name}, compiled by edgesparse for {target}.
 *
{tensors}
 *
 * A complete program; build it with `cc -I. program.c libmodel.a`:
 *
{example}
 */
#ifndef {macro}_MODEL_H
#define {macro}_MODEL_H

#include "include/edgesparse.h"

#define {macro}_WEIGHTS_BYTES {weights_bytes}
#define {macro}_ARENA_BYTES {arena_bytes}
{sizes}

#ifdef __cplusplus
extern "C" {{
#endif

/* Returns the model; the tensors, layers and sizes above are also in there. */
const es_model *{name}_model(void);

#ifdef __cplusplus
}}
#endif

#endif
"""

_EXAMPLE = """\
#include <stdio.h>
#include "model.h"

static _Alignas(64) unsigned char weights[{macro}_WEIGHTS_BYTES];
{storage}

int main(void) {{
  FILE *file = fopen("weights.bin", "rb");
  if (file == NULL || fread(weights, 1, sizeof weights, file) != sizeof weights) {{
    return 1;
  }}
  fclose(file);
  const es_model *model = {name}_model();
  const void *inputs[] = {{{inputs}}};
  void *outputs[] = {{{outputs}}};
  es_status status = es_check_weights(model, weights, sizeof weights);
  if (status == ES_OK) {{
    status = es_run(model, weights, {arena}, inputs, outputs);
  }}
  puts(es_status_text(status));
  return status == ES_OK ? 0 : 1;
}}"""


def layer_steps(plan: Plan) -> list[tuple[int, int]]:
    """Return first and last (exclusive) step of every layer; an empty range where it has none.

    Raises:
        ValueError: The steps of a layer are not next to each other; a bug of the lowering.
    """
    order = [step.layer for step in plan.steps]
    if order != sorted(order):
        raise ValueError(f"plan {plan.name}: steps are not in the order of their layers: {order}")
    ends = np.searchsorted(order, range(len(plan.layers)), side="right")
    starts = np.searchsorted(order, range(len(plan.layers)), side="left")
    return [(int(first), int(last)) for first, last in zip(starts, ends, strict=True)]


def descriptor(plan: Plan, payload_sha256: str) -> str:
    """Return model.c: `<name>_model` and the `es_model` it returns."""
    _check_name(plan.name)
    pointers = ["const void *"] * len(plan.inputs) + ["void *"] * len(plan.outputs)
    return _DESCRIPTOR.format(
        name=plan.name,
        label=_c_string(plan.name),
        parameters=", ".join(
            ["const void *", "void *", *pointers, "int32_t", "int32_t"]
            + (["int32_t", "int32_t", "es_team *"] if plan.is_parallel else [])
        ),
        call=_main_call(plan),
        tables=_tensor_table("INPUTS", plan.inputs)
        + _tensor_table("OUTPUTS", plan.outputs)
        + _layer_table(plan),
        input_count=len(plan.inputs),
        output_count=len(plan.outputs),
        layer_count=len(plan.layers),
        step_count=len(plan.steps),
        inputs="INPUTS" if plan.inputs else "0",
        outputs="OUTPUTS" if plan.outputs else "0",
        layers="LAYERS" if plan.layers else "0",
        weights_bytes=HEADER_BYTES + len(plan.weights),
        arena_bytes=plan.arena_bytes,
        digest=", ".join(str(byte) for byte in bytes.fromhex(payload_sha256)),
    )


def _main_call(plan: Plan) -> str:
    arguments = ["payload", "arena"]
    arguments += [f"inputs[{i}]" for i in range(len(plan.inputs))]
    arguments += [f"outputs[{i}]" for i in range(len(plan.outputs))]
    arguments += ["first", "last"]
    if plan.is_parallel:
        return f"{plan.name}_main({', '.join([*arguments, 'thread', 'threads', 'team'])})"
    return f"thread == 0 ? {plan.name}_main({', '.join(arguments)}) : 0"


def default_entry(plan: Plan) -> str:
    """Return default.c: `es_default_model`, for artefacts that hold exactly one model."""
    return _DEFAULT.format(name=plan.name)


def header(plan: Plan, target_name: str) -> str:
    """Return model.h: how to use the model, its sizes, and the declaration of `<name>_model`."""
    macro = plan.name.upper()
    tensors = [
        f"{role} {index}: {_comment(spec.name)}, {spec.dtype} {list(spec.shape)}"
        for role, specs in (("input", plan.inputs), ("output", plan.outputs))
        for index, spec in enumerate(specs)
    ]
    return _HEADER.format(
        name=plan.name,
        target=target_name,
        macro=macro,
        tensors=_indent_comment(tensors),
        example=_indent_comment(_example(plan).splitlines(), "     "),
        weights_bytes=HEADER_BYTES + len(plan.weights),
        arena_bytes=plan.arena_bytes,
        sizes="\n".join(
            f"#define {macro}_{role}_{index}_{unit} {size}"
            for role, specs in (("INPUT", plan.inputs), ("OUTPUT", plan.outputs))
            for index, spec in enumerate(specs)
            for unit, size in (("ELEMENTS", _elements(spec)), ("BYTES", spec.size_bytes))
        ),
    )


def _example(plan: Plan) -> str:
    macro = plan.name.upper()
    storage = [
        f"static {_C_TYPES[spec.dtype][1]} {role}_{index}[{macro}_{role.upper()}_{index}_ELEMENTS];"
        for role, specs in (("input", plan.inputs), ("output", plan.outputs))
        for index, spec in enumerate(specs)
    ]
    if plan.arena_bytes:
        storage.insert(0, f"static _Alignas(64) unsigned char arena[{macro}_ARENA_BYTES];")
    return _EXAMPLE.format(
        name=plan.name,
        macro=macro,
        storage="\n".join(storage),
        inputs=", ".join(f"input_{i}" for i in range(len(plan.inputs))) or "NULL",
        outputs=", ".join(f"output_{i}" for i in range(len(plan.outputs))) or "NULL",
        arena="arena" if plan.arena_bytes else "NULL",
    )


def _tensor_table(table: str, specs: Sequence[TensorSpec]) -> str:
    shapes = "".join(
        f"static const int64_t {table}_{index}_SHAPE[] = {{{', '.join(map(str, spec.shape))}}};\n"
        for index, spec in enumerate(specs)
        if spec.shape
    )
    rows = [
        f"{{{_c_string(spec.name)}, {f'{table}_{index}_SHAPE' if spec.shape else '0'}, "
        f"{len(spec.shape)}, {_C_TYPES[spec.dtype][0]}, {spec.size_bytes}}}"
        for index, spec in enumerate(specs)
    ]
    return shapes + _c_array("es_tensor", table, rows)


def _layer_table(plan: Plan) -> str:
    rows = [
        f"{{{_c_string(layer.name)}, {_c_string(layer.op)}, {first}, {last}}}"
        for layer, (first, last) in zip(plan.layers, layer_steps(plan), strict=True)
    ]
    return _c_array("es_layer", "LAYERS", rows)


def _c_array(kind: str, name: str, rows: Iterable[str]) -> str:
    body = "".join(f"    {row},\n" for row in rows)
    return f"static const {kind} {name}[] = {{\n{body}}};\n" if body else ""


def _c_string(text: str) -> str:
    """Return a C string literal: plain ASCII, everything doubtful as three octal digits."""
    plain = set(range(0x20, 0x7F)) - set(b'"\\?')
    literal = "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode())
    return f'"{literal}"'


def _comment(text: str) -> str:
    """Return text that cannot end or open a comment."""
    return re.sub(r"[^\w.:-]", "_", text, flags=re.ASCII)


def _indent_comment(lines: Iterable[str], indent: str = " ") -> str:
    return "\n".join(f" *{indent}{line}".rstrip() for line in lines)


def _elements(spec: TensorSpec) -> int:
    return spec.size_bytes // np.dtype(spec.dtype).itemsize


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"plan name {name!r} is not a C identifier")
