"""Predicted cycles of one operator in one format and tiling on one core.

A roofline of the inner loop, for data in L1: a step of a bucket loads the column's tile, its index
and its weights, and issues rows x vectors multiply-adds; whichever port is busier sets the pace. To
that come a fixed price per bucket loop and the epilogue. Cycles rank candidates; the predicted time
of a layer is in proportion to them, and what moving its activations takes. It is no latency.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse import winograd
from edgesparse.cpu_model import CpuModel
from edgesparse.formats import fills, pattern_masks, superset_table
from edgesparse.tiling import Block, vectors_of

LINE_BYTES = 64
# What is left of a bucket's price where the branch predictor knows how often its loop runs.
LEARNED = 0.4
PAGE_BYTES = 4096
# To put a number of a vector of rows into its row's plane.
TURNED_CYCLES = 0.54
# A column of a lone pixel: two loads and a multiply-add; set by MobileNetV1's dense layers at 7x7.
LONE_CYCLES = 1.5
# To wait for a line from beyond L2 that no prefetcher saw coming.
FAR_LINE_CYCLES = 116
# With rows in the lanes, weights that stay in L2 beside the rings of a chain: every tile of pixels
# reads all of them. With so few a product may run in bands, and its planes are then never far.
BANDED_BYTES = 256 << 10
# Weights of a single pixel, read once, from beyond L2; set by MobileNetV1's 1000x1024 classifier.
STREAMED_BYTES_PER_CYCLE = 10
# Columns of a single row that fill a vector, put together lane by lane.
ROW_LANES = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What a format asks of the kernel, per tile of pixels.

    Attributes:
        group: Rows of a group.
        groups: Groups of rows.
        steps: pattern -> columns in its buckets, over all groups.
        rows: Output rows.
        columns: Columns of the matrix: what a panel holds.
        footprint: Columns that some row uses, a KxK window's K neighbours counted once: what a
            tile of pixels occupies of the cache.
        pages: Pages of memory that those columns lie on, in one tile.
    """

    group: int
    groups: int
    steps: dict[int, int]
    rows: int
    columns: int
    footprint: float
    pages: float = 0.0

    @property
    def buckets(self) -> int:
        """Bucket loops entered, over all groups."""
        return self.groups * len(self.steps)

    def pressure(self, core: CpuModel) -> float:
        """Return how much larger a tile is to the L1 cache than its bytes.

        A cache that drops what was used least recently keeps its share of columns picked at random,
        but nothing of a tile that does not fit when every group reads all of it in the same order.
        """
        read = min(1.0, sum(self.steps.values()) / max(1.0, self.groups * self.footprint))
        return 1 + read * (core.sweep_pressure - 1)

    def under(self, patterns: tuple[int, ...]) -> Work:
        """Return the work of the same matrix with another pattern set, which covers this one's."""
        table = superset_table(self.group, patterns)
        steps = dict.fromkeys(patterns, 0)
        for mask, columns in self.steps.items():
            steps[patterns[table[mask]]] += columns
        return dataclasses.replace(self, steps=steps)

    def filled(self) -> Work:
        """Return the work with what `formats.is_filled` adds: groups that take all columns."""
        every = self.groups * self.columns
        if not fills(self.group, self.steps, sum(self.steps.values()), every):
            return self
        return dataclasses.replace(self, steps=dict.fromkeys(self.steps, every))


def work_of(weight: npt.NDArray[Any], group: int, neighbours: int = 1, pages: float = 0.0) -> Work:
    """Return the work of a matrix in groups of `group` rows, its patterns the masks that occur.

    Args:
        weight: (rows, cols).
        group: Rows of a group.
        neighbours: Columns that read the same pixels but for a shift of a few: the taps of a row.
        pages: Pages of memory a tile touches for each column, neighbours counted once.
    """
    masks = pattern_masks(weight, group)
    histogram = np.bincount(masks.reshape(-1), minlength=1 << group)
    histogram[0] = 0
    steps = {int(mask): int(histogram[mask]) for mask in np.nonzero(histogram)[0]}
    used = float(masks.any(axis=0).sum()) / neighbours
    rows, columns = weight.shape
    return Work(group, len(masks), steps, rows, columns, used, used * pages)


def pages_per_column(stride: int, taps: int, pitch: int) -> float:
    """Return how many pages of memory a tile touches for each column, taps of one row as one.

    Args:
        stride: Elements between input channels.
        taps: Rows of the window.
        pitch: Elements between rows of the input.
    """
    touched = 1 + (taps - 1) * pitch * 4 / PAGE_BYTES
    return min(touched, stride * 4 / PAGE_BYTES) / taps


@dataclasses.dataclass(frozen=True, slots=True)
class Sweep:
    """What groups read again and again, one after the other: the columns of a tile, or a panel.

    Attributes:
        size: Bytes.
        pages: Pages of memory they lie on.
    """

    size: float
    pages: float = 0.0


def sweep_of(
    work: Work, vectors: int, lanes: int, k_blocks: int = 1, *, panel: bool = False
) -> Sweep:
    """Return what groups read of a tile of `vectors` vectors, a block of columns at a time."""
    size = vectors * lanes * 4 * (work.columns if panel else work.footprint) / k_blocks
    return Sweep(size, size / PAGE_BYTES if panel else work.pages / k_blocks)


def spmm_cycles(
    work: Work,
    blocks: Sequence[Block],
    lanes: int,
    core: CpuModel,
    k_blocks: int = 1,
    *,
    panel: bool = False,
) -> float:
    """Return predicted cycles of an SpMM over all its tiles.

    Args:
        work: What the format asks of the kernel.
        blocks: How the pixels are covered.
        lanes: float32 lanes of a vector.
        core: The core.
        k_blocks: Blocks of columns.
        panel: Whether tiles are copied into panels.
    """
    cycles = 0.0
    core = _learned(core, work.buckets * k_blocks * sum(block.tiles for block in blocks))
    for block in blocks:
        vectors = len(block.vectors)
        read = sweep_of(work, vectors, lanes, k_blocks, panel=panel)
        sweep = Sweep(read.size * work.pressure(core), read.pages)
        if block.vectors:
            cycles += block.tiles * _tile_cycles(work, vectors, sweep, lanes, core, k_blocks)
        if block.lone:
            alone = not block.vectors
            cycles += block.tiles * _lone_cycles(work, core, k_blocks, alone=alone)
        if panel:
            cycles += block.tiles * work.columns * block.parts * core.panel_cycles
    return cycles


def _learned(core: CpuModel, loops: int) -> CpuModel:
    """Return the core with the price of a bucket in a layer of so many loops."""
    if loops >= core.learned_loops:
        return core
    share = max(LEARNED, loops / core.learned_loops)
    return dataclasses.replace(core, bucket_cycles=share * core.bucket_cycles)


def gemv_cycles(stored: int, lanes: int, core: CpuModel) -> float:
    """Return predicted cycles of a GEMV: two loads and an index for each multiply-add.

    Of a single row, weights are loaded by vectors. Every weight is used once an inference, so what
    does not fit the pipeline waits for memory.
    """
    steps = stored / lanes
    loads = 3 if lanes > 1 else 2 + 1 / ROW_LANES
    compute = steps * max(loads / core.loads_per_cycle, 1 / core.fma_per_cycle)
    return max(compute, 4 * (stored + steps) / STREAMED_BYTES_PER_CYCLE)


def gemm_cycles(
    columns: int,
    groups: int,
    vectors: int,
    blocks: Sequence[Block],
    lanes: int,
    core: CpuModel,
    planes_bytes: int,
) -> float:
    """Return predicted cycles of a product with rows in the lanes.

    Prices are set by the layers of seven dense networks on a core with AVX-512: median 1.00 of what
    was measured, 0.87 to 1.09 from the 5th to the 95th percentile.

    Args:
        columns: Columns that groups of rows use, over all groups.
        groups: Groups of rows.
        vectors: Vectors of rows of a group.
        blocks: How the pixels are covered, in vectors of one pixel.
        lanes: float32 lanes of a vector.
        core: The core.
        planes_bytes: Of the (haloed) planes that every group reads.
    """
    weights = vectors * lanes * 4
    cycles = columns * weights / core.streamed_bytes_per_cycle
    if core.l2_bytes and columns * weights > BANDED_BYTES:
        beyond = _missed(planes_bytes, core.l2_bytes)
        cycles += groups * planes_bytes / LINE_BYTES * beyond * FAR_LINE_CYCLES
    for block in blocks:
        pixels = len(block.vectors)
        loads = (vectors + pixels) / core.loads_per_cycle
        loads += weights / LINE_BYTES * core.l2_line_cycles
        multiply = vectors * pixels / core.fma_per_cycle
        busier, other = sorted((loads, multiply), reverse=True)
        turned = TURNED_CYCLES * pixels * vectors * lanes
        cycles += block.tiles * (columns * (busier + core.not_hidden * other) + groups * turned)
    return cycles


def winograd_cycles(
    work: Work,
    outputs: int,
    channels: tuple[int, int],
    blocks: Sequence[Block],
    lanes: int,
    core: CpuModel,
) -> float:
    """Return predicted cycles of a 3x3 convolution by transforms of tiles.

    Args:
        work: Of one place of a tile.
        outputs: Of a tile along an axis.
        channels: Input and output channels.
        blocks: How the tiles are covered, in one place.
        lanes: float32 lanes of a vector.
        core: The core.
    """
    places, pixels = winograd.products_of(outputs), outputs**2
    around = 0.0
    for planes, steps, moved in zip(
        channels,
        winograd.transform_steps(outputs),
        (2 * places + 2 * pixels, places + 3 * pixels),  # haloed, transformed; and back, cropped
        strict=True,
    ):
        vector = steps / core.fma_per_cycle + moved * lanes * 4 / core.transformed_bytes_per_cycle
        around += planes * vectors_of(blocks) * vector
    return places * spmm_cycles(work, blocks, lanes, core) + around / core.pace


def depthwise_cycles(taps: int, vectors: int, channels: int, core: CpuModel) -> float:
    """Return predicted cycles of a depthwise convolution with `vectors` vectors a channel."""
    copy = 2 * vectors / core.loads_per_cycle
    multiply = vectors * taps * max(1 / core.fma_per_cycle, 0.7 / core.loads_per_cycle)
    return channels * (copy + multiply) / core.pace


def _tile_cycles(
    work: Work, vectors: int, sweep: Sweep, lanes: int, core: CpuModel, k_blocks: int
) -> float:
    """Return the cycles of one tile.

    A step that adds to few sums waits for what was added to them before. The end of a bucket's loop
    overlaps with the next bucket's, which mostly adds to others.
    """
    cycles = work.buckets * k_blocks * core.bucket_cycles
    overlapped = core.overlapped_steps * work.groups * k_blocks if len(work.steps) > 1 else 0
    prices = {
        rows: step_cycles(rows, vectors, sweep, lanes, core)
        for rows in {mask.bit_count() for mask in work.steps}
    }
    for mask, steps in work.steps.items():
        step = prices[mask.bit_count()]
        longer = max(0.0, core.latency_cycles - step)
        cycles += steps * step + max(0, steps - overlapped) * longer
    epilogue = work.rows * (1 + 2 * vectors) / core.loads_per_cycle
    waiting = (k_blocks - 1) * work.rows * vectors * core.resume_cycles
    return cycles + epilogue + waiting


def _lone_cycles(work: Work, core: CpuModel, k_blocks: int, *, alone: bool) -> float:
    """Return what a lone pixel adds to columns, to buckets (a shuffle, a sum) and to rows.

    Where it stands alone, a bucket has two loops.
    """
    steps = sum(work.steps.values()) * LONE_CYCLES
    bucket = 2 + (2 * core.bucket_cycles if alone else 0)
    return steps + (bucket * work.buckets + work.rows) * k_blocks


def step_cycles(rows: int, vectors: int, sweep: Sweep, lanes: int, core: CpuModel) -> float:
    """Return predicted cycles of one column that `rows` rows of a group use, in one tile.

    Args:
        rows: Rows that use the column.
        vectors: Vectors of the tile.
        sweep: What all groups read in turn.
        lanes: float32 lanes of a vector.
        core: The core.
    """
    loads = vectors * _load_cycles(sweep.size, lanes, core) + _walk_cycles(sweep.pages, core)
    scalars = (1 + rows * core.weight_loads) / core.loads_per_cycle
    multiply = vectors * rows / core.fma_per_cycle
    spilled = max(0, _registers_needed(rows, vectors, core) - core.registers)
    busier, other = sorted((loads + scalars, multiply), reverse=True)
    step = busier + core.not_hidden * other + spilled
    return max(step, core.spilled_cycles) if spilled else step


def _load_cycles(tile_bytes: float, lanes: int, core: CpuModel) -> float:
    """Cycles to load one vector of a tile that is read again and again from L1, or from L2."""
    first = 1 / core.loads_per_cycle
    beyond = max(first, lanes * 4 / LINE_BYTES * core.l2_line_cycles)
    return first + _missed(tile_bytes, core.l1_bytes) * (beyond - first)


def _walk_cycles(pages: float, core: CpuModel) -> float:
    """Cycles to find the page of a column that is read again and again."""
    return _missed(pages, core.tlb_pages) * core.walk_cycles if core.tlb_pages else 0.0


def _missed(used: float, held: float) -> float:
    """Return the share that misses in a cache.

    Other data lives there too: misses start at half of it, and grow evenly.
    """
    return min(1.0, max(0.0, used / held - 0.5))


def _registers_needed(rows: int, vectors: int, core: CpuModel) -> int:
    """SIMD registers of a bucket's loop: accumulators, activations, weights, one to spare.

    Where a multiply-add takes its activation from memory or its weight from a lane, one activation
    is enough at a time; V8 holds the whole column. A spill costs about a cycle a step, or what a
    sum takes that goes through memory.
    """
    streamed = min(rows, vectors) if core.broadcast_is_free else rows + vectors
    return rows * vectors + streamed + 1


def fits_registers(group: int, vectors: int, core: CpuModel) -> bool:
    """Whether a whole group's accumulators can stay in registers: no kernel spills those."""
    held = min(group, vectors) if core.broadcast_is_free else 2
    return group * vectors + held + 1 <= core.registers


def microseconds(cycles: float, core: CpuModel, moved_bytes: float = 0.0) -> float:
    """Return the predicted microseconds of a layer.

    Args:
        cycles: What its candidate is predicted to take.
        core: The core.
        moved_bytes: Of activations that it reads and writes, whatever the candidate.
    """
    return cycles * core.pace / (core.clock_ghz * 1e3) + _moved_microseconds(moved_bytes, core)


def _moved_microseconds(moved_bytes: float, core: CpuModel) -> float:
    """Return what it takes to read and write a layer's activations.

    Those of small layers stay in L1, or come from L2 in time.
    """
    if not core.l2_bytes:
        return 0.0
    near, far = (1 / (gbytes * 1e3) for gbytes in core.moved_gbytes_per_second)
    beyond = _missed(moved_bytes, core.l2_bytes)
    price = _missed(moved_bytes, core.l2_bytes / 8) * near + beyond * (far - near)
    return moved_bytes * price
