"""A two-step model made by hand, so that the rooms under the compiler are tested without it.

step 0  arena = x                      (through memcpy, which the runtime must provide)
step 1  y = 2 * arena + w + shift,  count = shift + 1
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse.plan import Layer, Plan, Step, TensorSpec
from edgesparse.target import Target

W = np.array([0.5, -1, 2, 3, 4, 5], np.float32)
NASTY_NAME = 'conv "1"\\ ??/ */ ü\n'

SOURCE = """
#include <stddef.h>
#include <stdint.h>
void *memcpy(void *, const void *, size_t);
int32_t NAME_main(const void *weights, void *arena, const void *x, const void *shift, void *y,
                  void *count, int32_t first, int32_t last) {
  const float *w = weights;
  float *copy = arena;
  for (int32_t step = first; step < last; step++) {
    if (step == 0) {
      memcpy(copy, x, ((const uint32_t *)weights)[6]);
    } else {
      int64_t s = *(const int64_t *)shift;
      for (int i = 0; i < 6; i++) ((float *)y)[i] = 2 * copy[i] + w[i] + (float)s;
      *(int64_t *)count = s + 1;
    }
  }
  return 0;
}
"""

INPUTS = (TensorSpec("x", (2, 3)), TensorSpec("1", (), "int64"))
OUTPUTS = (TensorSpec("y", (2, 3)), TensorSpec("0", (1,), "int64"))


def toy_plan(name: str = "toy", w: np.ndarray[Any, Any] = W) -> Plan:
    layers = (
        Layer("copy", "Identity", (2, 3), 0, 0, {"reason": "a copy", "zeros": np.float32(0.5)}),
        Layer(NASTY_NAME, "Conv+Add", (2, 3), 6, 6, {"reason": "dense", "group": np.int64(4)}),
        Layer("nothing", "Reshape", (6,), 0, 0, {"reason": "no step"}),
    )
    steps = (Step("copy", (), 0), Step("conv", (), 1))
    weights = w.astype(np.float32).tobytes() + np.uint32(24).tobytes() + bytes(36)
    return Plan(name, INPUTS, OUTPUTS, {}, steps, layers, weights, 64, 64)


@functools.cache
def toy_object(target: Target, name: str = "toy") -> bytes:
    triple = "wasm32-freestanding" if target.is_wasm else f"{target.architecture}-linux-musl"
    source = SOURCE.replace("NAME", name)
    return zig_object(source, "-target", triple, "-ffreestanding", "-fPIC", "-g")


def zig_object(source: str, *flags: str) -> bytes:
    with tempfile.TemporaryDirectory() as work:
        Path(work, "toy.c").write_text(source)
        zig("cc", "-c", "-O2", *flags, "toy.c", "-o", "toy.o", cwd=Path(work))
        return Path(work, "toy.o").read_bytes()


def zig(*arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", *arguments], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def toy_inputs(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)
    return {
        "x": random.standard_normal((2, 3)).astype(np.float32),
        "1": np.array(random.integers(-9, 9), np.int64),
    }


def toy_outputs(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    y = 2 * inputs["x"] + W.reshape(2, 3) + inputs["1"].astype(np.float32)
    return {"y": y.astype(np.float32), "0": inputs["1"].reshape(1) + 1}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-6)
