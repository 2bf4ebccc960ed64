"""A plan of toy kernels with parts: every step reads what all threads wrote in the step before."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from edgesparse.kernels import tir
from edgesparse.plan import Arg, Buffer, Layer, Plan, Step, TensorSpec, allocate, parts_of

SIZE = 520
STEPS = 24
INPUTS, OUTPUTS = (TensorSpec("x", (SIZE,)),), (TensorSpec("y", (SIZE,)),)


@dataclasses.dataclass(frozen=True)
class Rotate:
    """y[i] = 0.5 x[i] + 0.5 x[(i + shift) mod size], cut into parts."""

    shift: int
    parts: int
    name: str = "rotate"

    def emit(self, symbol: str) -> Any:
        return tir.function(symbol, {"x": "float32", "y": "float32"}, self._body, ranged=True)

    def _body(self, first: Any, last: Any, x: Any, y: Any) -> None:
        length = SIZE // self.parts
        with tir.between(first, last) as part, tir.loop(length) as j:
            i = part * length + j
            _, other = tir.divide(i + self.shift, SIZE)
            tir.store(y, i, (tir.load(x, i) + tir.load(x, other)) * tir.splat(0.5))


@dataclasses.dataclass(frozen=True)
class Reverse:
    """y[i] = x[size - 1 - i]; takes no range."""

    name: str = "reverse"

    def emit(self, symbol: str) -> Any:
        return tir.function(symbol, {"x": "float32", "y": "float32"}, self._body)

    def _body(self, x: Any, y: Any) -> None:
        with tir.loop(SIZE) as i:
            tir.store(y, i, tir.load(x, SIZE - 1 - i))


def kernels_of_steps() -> list[Any]:
    """Shared steps, pairs of serial ones, and one that has a range but a single part."""
    pattern = [Rotate(37, 13), Reverse(), Reverse(), Rotate(211, 8), Rotate(5, 1)]
    return [pattern[step % len(pattern)] for step in range(STEPS)]


def parallel_plan(name: str = "toy") -> Plan:
    kernels = kernels_of_steps()
    symbols = {kernel: f"{name}_k{i}" for i, kernel in enumerate(dict.fromkeys(kernels))}
    buffers = [Buffer(f"b{i}", 4 * SIZE, i, i + 1) for i in range(STEPS - 1)]
    arena_bytes, bound = allocate(buffers)
    steps = []
    for i, kernel in enumerate(kernels):
        last = i == STEPS - 1
        source = Arg("arena", 0, 4 * SIZE, "r", buffers[i - 1]) if i else _io("input", "r")
        sink = _io("output", "w") if last else Arg("arena", 0, 4 * SIZE, "w", buffers[i])
        steps.append(Step(symbols[kernel], (source, sink), 0, parts_of(kernel)))
    layer = Layer("all", "Toy", (SIZE,), 0, 0, {"reason": "a toy"})
    by_symbol = {symbol: kernel for kernel, symbol in symbols.items()}
    return Plan(
        name, INPUTS, OUTPUTS, by_symbol, tuple(steps), (layer,), bytes(64), arena_bytes, bound
    )


def _io(space: Any, access: Any) -> Arg:
    return Arg(space, 0, 4 * SIZE, access, index=0)


@functools.cache
def parallel_inputs(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.random.default_rng(seed).standard_normal(SIZE).astype(np.float32)}


def parallel_outputs(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    x = inputs["x"]
    for kernel in kernels_of_steps():
        if isinstance(kernel, Rotate):
            x = (x + np.roll(x, -kernel.shift)) * np.float32(0.5)
        else:
            x = x[::-1]
    return {"y": x}
