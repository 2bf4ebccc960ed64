"""Targets: what code is generated for, and what the cost model may assume about its cores."""

from __future__ import annotations

import dataclasses
import pathlib
import platform

from edgesparse.cpu_model import (
    CORTEX_A55,
    CORTEX_A76,
    V8_X86,
    X86_AVX2,
    X86_AVX512,
    X86_SSE,
    X86_ZEN5,
    CpuModel,
)
from edgesparse.errors import UsageError

_RELAXED = "+relaxed-simd"


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What code is generated for.

    Attributes:
        name: `host`, `arm64`, `arm64-a55`, `wasm` or `wasm-relaxed`.
        triple: LLVM target triple.
        cpu: LLVM CPU name, or "" for the triple's baseline.
        features: LLVM features on top of `cpu`, e.g. `+simd128`.
        lanes: float32 lanes of one SIMD register.
        core: What the cost model assumes.
        required: CPU flags the code needs at run time, as the operating system spells them.
    """

    name: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    lanes: int
    core: CpuModel
    required: tuple[str, ...] = ()

    @property
    def is_wasm(self) -> bool:
        """Whether the target is WebAssembly."""
        return self.triple.startswith("wasm32")

    @property
    def relaxed(self) -> Target | None:
        """The same with relaxed SIMD, for a bundle's second build; None where it is no second one.

        What was decided stands, so both builds share their weights.
        """
        if not self.is_wasm or _RELAXED in self.features:
            return None
        return dataclasses.replace(self, features=(*self.features, _RELAXED))

    @property
    def multiplies_by_lane(self) -> bool:
        """Whether a multiply-add takes its scalar straight from a lane of a vector register."""
        return self.architecture == "aarch64"

    @property
    def architecture(self) -> str:
        """`x86_64`, `aarch64` or `wasm32`."""
        return self.triple.split("-", 1)[0]


# LLVM's schedule for the in-order A53 suits the A76 as well, and never spilled where its own does.
ARM64 = Target("arm64", "aarch64-linux-gnu", "cortex-a53", (), 4, CORTEX_A76)
ARM64_A55 = Target("arm64-a55", "aarch64-linux-gnu", "cortex-a53", (), 4, CORTEX_A55)
# Decided for its build with relaxed SIMD, which most engines run; the other is no slower for it.
WASM = Target("wasm", "wasm32-unknown-unknown", "", ("+simd128",), 4, V8_X86)
WASM_RELAXED = Target(
    "wasm-relaxed", "wasm32-unknown-unknown", "", ("+simd128", _RELAXED), 4, V8_X86
)

DESCRIPTIONS = {
    "host": "this machine, its SIMD width detected",
    "arm64": "Android and Linux on ARMv8.0-A with NEON",
    "arm64-a55": "the same for cores that issue in order: Cortex-A53, A55, A510",
    "wasm": "WebAssembly with simd128, and with relaxed-simd where an engine has it: current"
    " browsers, node >= 18",
    "wasm-relaxed": "WebAssembly with relaxed-simd (fused multiply-add) only: Chromium >= 114,"
    " node >= 22 (node 20 behind a flag)",
}


def _cpu_facts() -> dict[str, str]:
    """What Linux says of this machine's first CPU; empty where it does not."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cpu_flags() -> frozenset[str]:
    """CPU flags of this machine as Linux lists them; empty where it does not."""
    facts = _cpu_facts()
    return frozenset(facts.get("flags", facts.get("Features", "")).split())


def _cpu_family() -> tuple[str, str]:
    """Maker and family of this machine's CPU, as Linux spells them; empty where it does not."""
    facts = _cpu_facts()
    return facts.get("vendor_id", ""), facts.get("cpu family", "")


_AVX2_FLAGS = ("avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm")
_AVX512_FLAGS = (*_AVX2_FLAGS, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_ZEN5 = ("AuthenticAMD", "26")


def host_target(
    machine: str | None = None,
    flags: frozenset[str] | None = None,
    family: tuple[str, str] | None = None,
) -> Target:
    """Return the target for this machine.

    Args:
        machine: Architecture as `platform.machine()` spells it; this machine's by default.
        flags: CPU flags; this machine's by default.
        family: Maker and family of the CPU, which tell its costs; this machine's if `flags` are.

    Raises:
        UsageError: The architecture is neither x86-64 nor aarch64.
    """
    machine = machine or platform.machine()
    if flags is None:
        flags, family = _cpu_flags(), family or _cpu_family()
    if machine in ("aarch64", "arm64"):
        return dataclasses.replace(ARM64, name="host")
    if machine not in ("x86_64", "AMD64"):
        raise UsageError(
            f"target host: expected x86-64 or aarch64, found {machine}",
            hint="compile for another target, e.g. `--target wasm`",
        )
    triple = "x86_64-linux-gnu"
    if flags.issuperset(_AVX512_FLAGS):
        core = X86_ZEN5 if family == _ZEN5 else X86_AVX512
        return Target("host", triple, "x86-64-v4", (), 16, core, _AVX512_FLAGS)
    if flags.issuperset(_AVX2_FLAGS):
        return Target("host", triple, "x86-64-v3", (), 8, X86_AVX2, _AVX2_FLAGS)
    return Target("host", triple, "x86-64", (), 4, X86_SSE)


def resolve_target(name: str) -> Target:
    """Return the target called `name`.

    Raises:
        UsageError: There is no such target.
    """
    fixed = {target.name: target for target in (ARM64, ARM64_A55, WASM, WASM_RELAXED)}
    if name == "host":
        return host_target()
    if name not in fixed:
        raise UsageError(
            f"unknown target {name!r}: expected one of {', '.join(DESCRIPTIONS)}",
            hint="`edgesparse targets` lists them",
        )
    return fixed[name]


def missing_cpu_flags(target_required: tuple[str, ...]) -> tuple[str, ...]:
    """Return the CPU flags that code needs and this machine lacks."""
    if not target_required:
        return ()
    flags = _cpu_flags()
    return tuple(flag for flag in target_required if flag not in flags)
