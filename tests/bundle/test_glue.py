from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from bundle.toy import toy_plan, zig

import edgesparse
from edgesparse import glue, runtime
from edgesparse.compiler import c_identifier
from edgesparse.errors import UsageError
from edgesparse.plan import Step, TensorSpec

DIGEST = "0f" * 32


def test_steps_of_layers() -> None:
    plan = toy_plan()
    plan.steps = tuple(Step("k", (), layer) for layer in (0, 0, 2, 2, 2))
    assert glue.layer_steps(plan) == [(0, 2), (2, 2), (2, 5)]


def test_scattered_steps_are_a_bug() -> None:
    plan = toy_plan()
    plan.steps = tuple(Step("k", (), layer) for layer in (0, 1, 0))
    with pytest.raises(ValueError, match="not in the order of their layers"):
        glue.layer_steps(plan)


def test_the_plans_name_is_an_identifier() -> None:
    with pytest.raises(ValueError, match="not a C identifier"):
        glue.descriptor(toy_plan("2 x"), DIGEST)


def test_no_models_function_has_a_name_of_the_header(tmp_path: Path) -> None:
    header = runtime.source("include/edgesparse.h").decode()
    for taken in set(re.findall(r"(?<!<)\b(\w+)_model\b", header)) | {"es"}:
        assert c_identifier(taken) == f"m_{taken}"
        with pytest.raises(UsageError, match=f"'{taken}' is taken") as caught:
            edgesparse.compile("model.onnx", output=tmp_path / "out", name=taken)
        assert f"--name m_{taken}" in caught.value.hint


def test_a_name_cannot_leave_its_comment() -> None:
    plan = toy_plan()
    plan.inputs = (dataclasses.replace(plan.inputs[0], name="*/ int x; /*"),)
    assert "*/ int" not in glue.header(plan, "host")


@pytest.mark.parametrize("standard", ["c11", "c++17"])
def test_generated_files_compile_without_warnings(standard: str, tmp_path: Path) -> None:
    plan = toy_plan()
    plan.inputs = tuple(
        TensorSpec(f"in {i}", (2, 1)[:i], name) for i, name in enumerate(glue._C_TYPES)
    )
    include = Path(glue.__file__).parent / "runtime" / "include"
    (tmp_path / "include").symlink_to(include)
    (tmp_path / "model.h").write_text(glue.header(plan, "host"))
    (tmp_path / "descriptor.c").write_text(glue.descriptor(plan, DIGEST))
    (tmp_path / "use.c").write_text('#include "model.h"\nint used = TOY_ARENA_BYTES;\n')
    language = ["-x", "c++"] if standard == "c++17" else []
    strict = [*language, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    zig("cc", "-c", *strict, "use.c", "-o", "use.o", cwd=tmp_path)
    if standard == "c11":
        zig("cc", "-c", *strict, "-Iinclude", "descriptor.c", "-o", "d.o", cwd=tmp_path)


def test_a_model_without_arena_inputs_or_layers_compiles(tmp_path: Path) -> None:
    plan = dataclasses.replace(toy_plan(), inputs=(), layers=(), steps=(), arena_bytes=0)
    include = Path(glue.__file__).parent / "runtime" / "include"
    (tmp_path / "descriptor.c").write_text(glue.descriptor(plan, DIGEST))
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{include}"]
    zig("cc", "-c", *strict, "descriptor.c", "-o", "d.o", cwd=tmp_path)
    example = glue._example(plan)
    assert "es_run(model, weights, NULL, inputs, outputs)" in example
