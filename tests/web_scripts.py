"""Scripts in node that use a bundle's index.mjs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from bundle.fixtures import MODEL_SHA256, require_tool
from bundle.parallel import parallel_inputs, parallel_plan

from edgesparse import codegen
from edgesparse.bundle import Bundle, write_bundle
from edgesparse.target import WASM

GIVEN = f"const given = {{ x: Float32Array.from({parallel_inputs()['x'].tolist()}) }};"

PRELUDE = """
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
const folder = process.argv[1];
const { Session, ModelError } = await import(pathToFileURL(`${folder}/index.mjs`));
const read = (name) => readFile(`${folder}/${name}`);
const contents = async () => ({
  wasm: await read("model.wasm"), weights: await read("weights.bin"),
  manifest: JSON.parse(await read("manifest.json")),
});
const failure = async (action) => {
  try { await action(); } catch (error) {
    return [error instanceof ModelError, error.code, error.message];
  }
  return [false, "", "nothing was thrown"];
};
const inputs = { x: new Float32Array(6), 1: new BigInt64Array(1) };
"""


def evaluate(folder: Path, script: str, *flags: str, cwd: Path | None = None) -> Any:
    """Run a script in which `print(value)` answers; return the value."""
    source = f"{PRELUDE}\nconst print = (v) => console.log(JSON.stringify(v));\n{script}"
    command = [require_tool("node"), *flags, "--input-type=module", "-e", source, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(folder: Path, action: str, *flags: str) -> tuple[str, str]:
    is_ours, code, message = evaluate(folder, f"print(await failure({action}));", *flags)
    assert is_ours, message
    return code, message


def write_parallel(output: Path, *, embed: bool = False) -> Bundle:
    """Write a bundle with all builds of a model that threads share."""
    plan = parallel_plan()
    assert WASM.relaxed
    code, relaxed = codegen.build_objects(plan, (WASM, WASM.relaxed))
    return write_bundle(plan, WASM, code, output, MODEL_SHA256, relaxed=relaxed, embed=embed)
