"""The README's lines of C, in a program of a model that was compiled as the README says."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import textwrap

import texts

import edgesparse

README = pathlib.Path(__file__).parents[2] / "README.md"
PROGRAM = """
#include <stdio.h>
{include}
static _Alignas(64) unsigned char weights[1 << 16], arena[MB_ARENA_BYTES];
int main(void) {{
  static float x[8], y[8];
  const void *inputs[] = {{x}};
  void *outputs[] = {{y}};
  FILE *file = fopen("mb/weights.bin", "rb");
  size_t weights_bytes = fread(weights, 1, sizeof weights, file);
{body}
  puts(es_status_text(status));
}}
"""


def test_c_runs_as_it_stands(tmp_path: pathlib.Path) -> None:
    section = README.read_text(encoding="utf-8").split("\n**C.**")[1].split("\n**Android.**")[0]
    lines = [line for line in section.splitlines() if line.startswith("    ")]
    include, *body = textwrap.dedent("\n".join(lines)).splitlines()
    model = texts.proto(
        "(float[2, 4] x) => (float[2, 4] y) { y = MatMul(x, w) }", w=texts.random(4, 4)
    )
    (tmp_path / "mb.onnx").write_bytes(model.SerializeToString())
    edgesparse.compile(tmp_path / "mb.onnx", target="host", output=tmp_path / "mb")
    (tmp_path / "app.c").write_text(PROGRAM.format(include=include, body="\n".join(body)))
    command = include.partition("/* ")[2].partition(";")[0].split()[1:]
    compiler = ["cc"] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]
    built = subprocess.run([*compiler, *command], cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    done = subprocess.run(["./a.out"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "ok\n"
