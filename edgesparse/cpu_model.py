"""What the cost model knows of a core: one `CpuModel` for each that has been fitted."""

from __future__ import annotations

import dataclasses


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
        transformed_bytes_per_cycle: Of tiles that are read, transformed and written, for Winograd.
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
    transformed_bytes_per_cycle: float = 9
    min_gain: float = 1.08


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
    transformed_bytes_per_cycle=40,
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
    transformed_bytes_per_cycle=25,
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
