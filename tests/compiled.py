"""Compile an ONNX model in memory for the host and run it on hostile memory.

The arena and the outputs are filled with NaN and fenced with guard bytes, so that what a kernel
forgets to write, or writes beside its arrays, is found. No bundle is written: this is the shortest
way from a graph to numbers, for tests of lowerings and kernels.
"""

import ctypes
import dataclasses
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

from edgesparse import codegen, frontend, passes
from edgesparse.lower import SUPPORTED, lower
from edgesparse.plan import Plan
from edgesparse.target import Target, resolve_target

GUARD_BYTES = 256
GUARD = 0xA5
NAN_BYTE = 0xFF  # a float of ff bytes is a NaN


class Fenced:
    """64-byte aligned memory between guards."""

    def __init__(self, size_bytes: int, fill: int | bytes = NAN_BYTE) -> None:
        raw = np.full(size_bytes + 2 * GUARD_BYTES + 64, GUARD, np.uint8)
        start = -raw.ctypes.data % 64 + GUARD_BYTES
        self._raw, self._start, self._size = raw, start, size_bytes
        self.bytes = raw[start : start + size_bytes]
        self.bytes[:] = np.frombuffer(fill, np.uint8) if isinstance(fill, bytes) else fill

    @property
    def pointer(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.bytes.ctypes.data)

    def check(self, what: str) -> None:
        before = self._raw[: self._start]
        after = self._raw[self._start + self._size :]
        assert (before == GUARD).all() and (after == GUARD).all(), f"{what}: guard bytes changed"


def plan_of(model: onnx.ModelProto, target: Target | str = "host") -> Plan:
    """Return the plan of a model after the whole pipeline."""
    if isinstance(target, str):
        target = resolve_target(target)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        onnx.save(model, path)
        loaded = frontend.load(path, {})
    optimised = passes.run(loaded, target)
    frontend.check_coverage(optimised, SUPPORTED)
    return lower(optimised, target, "m")


def in_order_host() -> Target:
    """Return the host as if it issued in order: kernels as for a Cortex-A55, lanes and all."""
    host, core = resolve_target("host"), resolve_target("arm64-a55").core
    return dataclasses.replace(host, lanes=4, core=core)


def run_plan(
    plan: Plan,
    inputs: dict[str, np.ndarray],
    target: Target | None = None,
    threads: int = 1,
    *,
    in_bands: bool = False,
) -> dict:
    """Return the outputs of a plan compiled for the host.

    The shares of several threads run one after the other, the last thread's first: what is right
    then does not depend on their order. Step by step, or `in_bands` where the plan has chains.
    """
    code = codegen.build_object(plan, target or resolve_target("host"))
    with tempfile.TemporaryDirectory() as folder:
        main = load_symbol(code, f"{plan.name}_main", pathlib.Path(folder))
        arena, weights = Fenced(plan.arena_bytes), Fenced(len(plan.weights), plan.weights)
        sources = [Fenced(spec.size_bytes, inputs[spec.name].tobytes()) for spec in plan.inputs]
        sinks = [Fenced(spec.size_bytes) for spec in plan.outputs]
        pointers = [memory.pointer for memory in (weights, arena, *sources, *sinks)]
        chains = {chain.first: chain.last for chain in plan.chains if in_bands}
        step = 0
        while step < len(plan.steps):
            last = chains.get(step, step + 1)
            for thread in reversed(range(threads)):
                assert main(*pointers, step, last, thread, threads, None) == 0
            step = last
    for name, memory in (("arena", arena), ("weights", weights)):
        memory.check(name)
    for spec, memory in zip((*plan.inputs, *plan.outputs), (*sources, *sinks), strict=True):
        memory.check(spec.name)
    assert weights.bytes.tobytes() == plan.weights
    return {
        spec.name: memory.bytes.view(spec.dtype).reshape(spec.shape)
        for spec, memory in zip(plan.outputs, sinks, strict=True)
    }


def load_symbol(code: bytes, symbol: str, folder: pathlib.Path):
    """Return a C function of an object file."""
    (folder / "code.o").write_bytes(code)
    linker = [sys.executable, "-m", "ziglang", "ld.lld", "-shared", "-o", "code.so", "code.o"]
    linker += ["--defsym=es_barrier=0"]  # one step at a time meets no barrier
    subprocess.run(linker, cwd=folder, check=True)
    function = ctypes.CDLL(str(folder / "code.so"))[symbol]
    function.restype = ctypes.c_int32
    return function


def expected(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return onnxruntime's outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def random_inputs(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Return standard normal inputs of static shape."""
    rng = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: rng.standard_normal(
            [d.dim_value for d in value.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for value in model.graph.input
        if value.name not in weights
    }


def assert_same_as_onnxruntime(
    model: onnx.ModelProto,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    target: Target | None = None,
    threads: int = 1,
) -> Plan:
    """Compile, run, compare; return the plan for further questions."""
    inputs = random_inputs(model)
    plan = plan_of(model, target or "host")
    found = run_plan(plan, inputs, target, threads)
    for name, reference in expected(model, inputs).items():
        np.testing.assert_allclose(found[name], reference, rtol=rtol, atol=atol, err_msg=name)
    return plan
