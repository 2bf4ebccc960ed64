"""Targets: what code is generated for, and what the cost model may assume about its cores."""

from __future__ import annotations

import dataclasses
import pathlib
import platform

from edgesparse.errors import UsageError


@dataclasses.dataclass(frozen=True, slots=True)
class CpuModel:
    """What the cost model may assume about a core.

    Attributes:
        name: What the figures describe.
        fma_per_cycle: SIMD multiply-adds issued per cycle.
        loads_per_cycle: SIMD loads issued per cycle.
        registers: SIMD registers a kernel may hold.
        broadcast_is_free: A weight takes a register only while it multiplies.
        bucket_cycles: Fixed price of one bucket's loop: counter, branch, mispredicted exit.
        l1_bytes: L1 data cache of one core, in bytes.
        l2_line_cycles: Cycles for a 64-byte line from L2, streaming.
        resume_cycles: Cycles a vector of accumulators costs between two blocks of columns: put
            aside, taken up again, and what the shorter loops lose.
        clock_ghz: Only scales predictions into microseconds.
        pace: How long the products of whole layers take beside their predicted cycles, whose prices
            are there to rank candidates.
        split_cycles: What a vector of pixels costs more to load where a window's taps shift it:
            most vectors as wide as a cache line then lie in two.
        l2_bytes: L2 cache of one core, in bytes; 0 where what follows was never measured: predicted
            speed-ups are then what arithmetic gains.
        moved_gbytes_per_second: Input and output of layers that fit the L2 cache, and of larger
            ones.
        band_bytes: What planes that run band by band may take of the L2 cache together; 0 where
            bands did not win, or were never measured.
        in_order: Issues in order: it waits for loads, and half a vector's load, unlike a whole
            one's, issues beside a multiply-add. All its tiles have panels.
        panel_cycles: Cycles to copy a vector into a panel; 0 where panels did not win, or were
            never measured.
        tlb_pages: Pages of 4 KiB that a core finds at once; 0 where that was never measured.
        walk_cycles: What a column of a tile costs that lies on none of them.
        resident_bytes: Weights that stay in the cache while tiles pass by: more are gone through in
            passes over all tiles; 0 where passes did not win, or were never measured.
        prefetch_bytes: How far ahead weights are asked for that the next level's prefetcher would
            deliver late; 0 where that did not win, or was never measured.
        streams_rows: Whether depthwise tiles loop over their rows, because what is unrolled spills.
        streamed_bytes_per_cycle: Weights from beyond L2 that a product with rows in the lanes gets
            while it waits for them, each read once.
        sweep_pressure: How much larger a tile is to the L1 cache when groups read all its columns,
            than when they read few.
        not_hidden: Share of the less busy port's work, loads' or multiply-adds', that does not hide
            behind the other's; fitted, like the prices above, to all tiles of MobileNetV1's shapes
            at several densities.
        latency_cycles: How long a multiply-add's result takes, in cycles as they are predicted; 0
            where tiles have more sums than that takes, or it was never measured.
        spilled_cycles: The same where registers are too few, and an engine keeps sums in memory.
        learned_loops: Loops of a layer from which on their ends are never learned; of fewer, a
            bucket's price is less by as much, down to `cost.LEARNED`. 0 where all cost the same.
        overlapped_steps: Steps at the end of a bucket's loop that overlap with the next bucket's.
        rolled_steps: Steps that the loop of a bucket has in the mean, up to which LLVM may not
            unroll it: to predict whether there is a remainder costs more than is saved.
        masked_loads: Whether a load of some of a vector's lanes costs what one of all does.
        blocked_group: Most rows of a group whose columns may come in blocks: larger ones did not
            win on every engine.
        weight_loads: What a weight takes beside other loads; a load and a half where an engine puts
            it into all lanes itself.
        min_gain: Predicted speed-up from which on a kernel that skips zeros is preferred to one
            that skips none, where zeros are few: as far as predictions can be trusted.
    """

    name: str
    fma_per_cycle: float
    loads_per_cycle: float
    registers: int
    broadcast_is_free: bool
    bucket_cycles: float
    l1_bytes: int
    l2_line_cycles: float
    resume_cycles: float
    clock_ghz: float
    pace: float = 1.0
    split_cycles: float = 0.0
    l2_bytes: int = 0
    moved_gbytes_per_second: tuple[float, float] = (1.0, 1.0)
    band_bytes: int = 0
    in_order: bool = False
    panel_cycles: float = 0.0
    tlb_pages: int = 0
    walk_cycles: float = 0.0
    resident_bytes: int = 0
    prefetch_bytes: int = 0
    streamed_bytes_per_cycle: float = 10.0
    sweep_pressure: float = 1.0
    streams_rows: bool = False
    not_hidden: float = 0.2
    latency_cycles: float = 0.0
    spilled_cycles: float = 0.0
    learned_loops: int = 0
    overlapped_steps: int = 0
    rolled_steps: int = 0
    masked_loads: bool = False
    blocked_group: int = 8
    weight_loads: float = 1.0
    min_gain: float = 1.08


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


CORTEX_A76 = CpuModel(
    "cortex-a76",
    fma_per_cycle=2,
    loads_per_cycle=2,
    registers=32,
    broadcast_is_free=True,
    bucket_cycles=16,
    l1_bytes=64 << 10,
    l2_line_cycles=2,
    resume_cycles=12,
    clock_ghz=2.4,
)
CORTEX_A55 = CpuModel(
    "cortex-a55",
    fma_per_cycle=1,
    loads_per_cycle=0.5,
    registers=32,
    broadcast_is_free=True,
    bucket_cycles=25,
    l1_bytes=19 << 10,
    l2_line_cycles=11,
    resume_cycles=12,
    clock_ghz=1.8,
    in_order=True,
    panel_cycles=11,
)
V8_X86 = CpuModel(
    "v8 on x86-64",
    fma_per_cycle=2,
    loads_per_cycle=2,
    registers=16,
    broadcast_is_free=False,
    bucket_cycles=2,
    l1_bytes=34 << 10,
    l2_line_cycles=2.6,
    resume_cycles=5.3,
    clock_ghz=3.8,
    pace=0.54,
    l2_bytes=2 << 20,
    moved_gbytes_per_second=(125, 25),
    panel_cycles=2.1,
    tlb_pages=58,
    walk_cycles=2,
    resident_bytes=192 << 10,
    not_hidden=1,
    streams_rows=True,
    latency_cycles=7.4,
    spilled_cycles=20,
    overlapped_steps=32,
    rolled_steps=20,
    blocked_group=1,
    weight_loads=1.5,
)
X86_AVX512 = CpuModel(
    "x86-64 avx-512",
    fma_per_cycle=2,
    loads_per_cycle=2,
    registers=32,
    broadcast_is_free=True,
    bucket_cycles=8,
    l1_bytes=96 << 10,
    l2_line_cycles=1,
    resume_cycles=1.5,
    clock_ghz=3.8,
    split_cycles=0.5,
    l2_bytes=2 << 20,
    moved_gbytes_per_second=(83, 40),
    band_bytes=1 << 20,
    prefetch_bytes=4096,
    sweep_pressure=2.0,
    not_hidden=0.5,
    rolled_steps=20,
    masked_loads=True,
)
# Two multiply-adds and two loads of whole vectors a cycle, and they hide each other; what costs is
# the end of a loop that was predicted wrong, and sums put aside between two blocks of columns.
X86_ZEN5 = CpuModel(
    "amd zen 5",
    fma_per_cycle=2,
    loads_per_cycle=2,
    registers=32,
    broadcast_is_free=True,
    bucket_cycles=20,
    l1_bytes=84 << 10,
    l2_line_cycles=1.8,
    resume_cycles=4,
    clock_ghz=4.0,
    split_cycles=0.5,
    l2_bytes=1 << 20,
    moved_gbytes_per_second=(150, 150),
    band_bytes=512 << 10,
    prefetch_bytes=4096,
    streamed_bytes_per_cycle=100,
    sweep_pressure=1.3,
    not_hidden=0.2,
    latency_cycles=4.5,
    learned_loops=2000,
    overlapped_steps=12,
    rolled_steps=20,
    masked_loads=True,
    min_gain=1.03,
)
# Fitted where AVX2 is not all there is: to its code on a Zen 5.
X86_AVX2 = CpuModel(
    "x86-64 avx2",
    fma_per_cycle=2,
    loads_per_cycle=2,
    registers=16,
    broadcast_is_free=True,
    bucket_cycles=12,
    l1_bytes=40 << 10,
    l2_line_cycles=1.5,
    resume_cycles=3,
    clock_ghz=3.8,
    prefetch_bytes=4096,
    streamed_bytes_per_cycle=20,
    sweep_pressure=1.2,
    not_hidden=0.3,
    rolled_steps=20,
)
X86_SSE = CpuModel(
    "x86-64 sse",
    fma_per_cycle=1,
    loads_per_cycle=2,
    registers=14,
    broadcast_is_free=False,
    bucket_cycles=12,
    l1_bytes=32 << 10,
    l2_line_cycles=3,
    resume_cycles=6,
    clock_ghz=3.0,
    rolled_steps=20,
    weight_loads=2,
)

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
