"""Every way to compile a linear operator that is worth predicting.

All candidates are lossless. A candidate's *pattern set* holds a superset of every mask that occurs
in a group of rows: all that occur, where they are few; the full mask alone, which is a dense or
block kernel; or a set in between, in which rare masks are stored under a superset with explicit
zeros, because that costs less than a loop of their own.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from edgesparse import cost, kernels_arm, kernels_wasm, winograd
from edgesparse.cpu_model import CpuModel
from edgesparse.formats import all_patterns, full_pattern, union_columns
from edgesparse.geometry import Kind, Operator, has_short_convolution
from edgesparse.geometry import tiles_of as tiles_of_operator
from edgesparse.passes.pattern_sets import reduced_patterns
from edgesparse.plan import align_up
from edgesparse.target import Target
from edgesparse.tiling import flat_blocks, vectors_of

GROUPS = (1, 2, 3, 4, 8)
GEMV_LANES = (1, 4, 8, 16)
# Vectors of rows and pixels of a tile with rows in the lanes; offered for windows, most of whose
# vectors of pixels lie in two cache lines, and where those would be filled by less than this.
GEMM_TILES = ((1, 14), (2, 6), (2, 7), (2, 10), (2, 14), (3, 4))
WELL_FILLED = 0.95
# Narrower vectors are filled better, and LLVM spills these tiles on aarch64.
GEMM_LANES = 8
X86_TILES: dict[int, tuple[int, ...]] = dict.fromkeys(
    (1, 2, 4, 8), (1, 2, 3, 4, 5, 6, 7, 8, 10, 12)
)
# More bucket loops than this cost more code and mispredictions than the cost model sees.
MAX_PATTERNS = 24
# Blocks of columns, and how many columns one must have to be worth a loop of its own.
K_BLOCKS = (1, 2, 4, 8, 16)
MIN_COLUMNS = 32

# Of more vectors than these, one is no gain that is worth its code.
LONE_VECTORS = 64

# The share of weights that are not zero from which on zeros are few.
FEW_ZEROS = 0.75

# What a block of transformed tiles and their products may take of the cache.
HELD_BYTES = 1 << 20
# How many more bytes the weights of a layer may take for being transformed.
MOST_GROWTH_BYTES = 2 << 20

Weight = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """One way to compile a linear operator.

    Attributes:
        group: Rows of a group.
        patterns: Pattern set.
        tile_vectors: Vectors of a tile.
        k_blocks: Blocks that the columns come in.
        panel: Whether tiles are copied into panels.
        cycles: Predicted.
        label: For people.
        kernel: The kernel family.
        loads: Vectors of pixels that it loads; 0 where single pixels are.
        lone: Whether one pixel has no vector.
        outputs: Of a tile along an axis, for Winograd's transforms.
        block: Tiles that should not be exceeded by a block of them.
    """

    group: int
    patterns: tuple[int, ...]
    tile_vectors: int
    k_blocks: int
    panel: bool
    cycles: float
    label: str
    kernel: Kind = "spmm"
    loads: int = 0
    lone: bool = False
    outputs: int = 0
    block: int = 0


def predicted_us(operator: Operator, candidate: Candidate, target: Target) -> float:
    """Return the predicted time of an operator in microseconds."""
    return cost.microseconds(candidate.cycles, target.core, operator.moved_bytes)


def ranked(
    operator: Operator, weight: Weight, target: Target, groups: Sequence[int] | None = None
) -> list[Candidate]:
    """Return the candidates of an operator that is not depthwise, the best predicted first.

    Where zeros are few, or a dense build would transform tiles, and skipping zeros is predicted to
    gain less than `CpuModel.min_gain`, the kernel that skips none comes first: predictions are not
    that exact, and a sparse build must not be slower than a dense one.

    Args:
        operator: What the node is to the kernels.
        weight: Its matrix, (rows, cols).
        target: What is compiled for.
        groups: Rows of a group to consider; all by default.
    """
    found = sorted(candidates(operator, weight, target, groups), key=lambda c: c.cycles)
    safe = next((c for c in found if len(c.patterns) == 1 and c.group > 1), None)
    if safe is None:
        return found
    are_few = operator.groups * np.count_nonzero(weight) >= FEW_ZEROS * weight.size
    if (are_few or safe.outputs) and safe.cycles < target.core.min_gain * found[0].cycles:
        found.remove(safe)
        found.insert(0, safe)
    return found


def candidates(
    operator: Operator, weight: Weight, target: Target, groups: Sequence[int] | None = None
) -> Iterator[Candidate]:
    """Return the candidates of an operator in no particular order; arguments as in `ranked`."""
    if operator.kind == "gemv":
        yield from _gemv_candidates(weight, target)
        return
    found: list[Candidate] = []
    for group in GROUPS if groups is None else groups:
        if group == 1 or group <= operator.rows:
            found += _group_candidates(operator, weight, group, target)
    yield from found if operator.is_flat else _with_split_loads(found, target.core)
    if groups is None and has_short_convolution(operator):
        yield from _winograd_candidates(operator, weight, target)
    is_odd = not operator.is_flat or _filled(operator, target) < WELL_FILLED
    if groups is None and target.lanes >= GEMM_LANES and is_odd:
        yield from _gemm_candidates(operator, weight, target)


def _with_split_loads(found: list[Candidate], core: CpuModel) -> Iterator[Candidate]:
    """Return candidates of a window with what loads cost that taps shift into two cache lines.

    All take longer by what the best one does: among themselves they are ranked better without, but
    kernels that load single pixels do not have that price.
    """
    best = min(found, key=lambda candidate: candidate.cycles, default=None)
    if best is not None and best.cycles:
        longer = 1 + core.split_cycles * best.loads / best.cycles
        found = [dataclasses.replace(c, cycles=c.cycles * longer) for c in found]
    yield from found


def _filled(operator: Operator, target: Target) -> float:
    """Return the share of the lanes that hold pixels, where vectors are filled with pixels."""
    return operator.out_layout.pixels / (vectors_of(operator.blocks(1)) * target.lanes)


def _group_candidates(
    operator: Operator, weight: Weight, group: int, target: Target
) -> Iterator[Candidate]:
    (taps, neighbours), pitch = operator.window.kernel, operator.window.pitch
    pages = cost.pages_per_column(operator.channel_stride, taps, pitch)
    work = cost.work_of(weight, group, neighbours, pages)
    full = full_pattern(group)
    fixed: list[tuple[str, tuple[int, ...]]] = [
        ("unstructured" if group == 1 else "full pattern", full)
    ]
    occurring = tuple(work.steps)
    if occurring and occurring != full and len(occurring) <= MAX_PATTERNS:
        label = "all patterns" if occurring == all_patterns(group) else f"{len(occurring)} patterns"
        fixed.insert(0, (label, occurring))
    found: list[Candidate] = []
    for label, patterns in fixed:
        found += _pattern_candidates(operator, work.under(patterns).filled(), label, target)
    yield from found
    if group == 1 or not work.steps:
        return
    best: dict[str, Candidate] = {}
    known = {patterns for _, patterns in fixed}
    for patterns in sorted(_reduced_sets(operator, work, found, target) - known):
        label, padded = f"{len(patterns)} patterns", work.under(patterns)
        for candidate in _pattern_candidates(operator, padded, label, target):
            rival = best.setdefault(candidate.label, candidate)
            best[candidate.label] = min(rival, candidate, key=lambda c: c.cycles)
    yield from best.values()


def _reduced_sets(
    operator: Operator, work: cost.Work, found: Sequence[Candidate], target: Target
) -> set[tuple[int, ...]]:
    """Return the pattern sets that suit the best tile of `found` for each number of blocks."""
    sets = set()
    for k_blocks in {candidate.k_blocks for candidate in found}:
        rivals = (candidate for candidate in found if candidate.k_blocks == k_blocks)
        vectors = min(rivals, key=lambda candidate: candidate.cycles).tile_vectors
        lanes, core = operator.out_layout.lanes, target.core
        sets.add(reduced_patterns(work, vectors, lanes, core, MAX_PATTERNS, k_blocks))
    return sets


def _pattern_candidates(
    operator: Operator, work: cost.Work, label: str, target: Target
) -> Iterator[Candidate]:
    group, patterns, lanes = work.group, tuple(work.steps), operator.out_layout.lanes
    for vectors, lone in itertools.product(tiles_of(target).get(group, ()), _lone(operator)):
        if (group, vectors) != (1, 1) and not cost.fits_registers(group, vectors, target.core):
            continue
        blocks = operator.blocks(vectors, lone=lone)
        loads = vectors_of(blocks) * sum(work.steps.values())
        joins = any(block.lone and block.vectors for block in blocks)
        for k_blocks, panel in itertools.product(K_BLOCKS, _panels(operator, target.core)):
            if panel and joins:  # no panel holds both
                continue
            if k_blocks > 1 and not _may_be_blocked(
                operator, group, vectors, k_blocks, target.core
            ):
                break
            cycles = cost.spmm_cycles(work, blocks, lanes, target.core, k_blocks, panel=panel)
            cut = f", {k_blocks} column blocks" if k_blocks > 1 else ""
            copied = ", panels" if panel and not target.core.in_order else ""
            tile = f"{vectors * lanes}+1" if lone else vectors * lanes
            name = f"{group}x{tile}, {label}{cut}{copied}"
            yield Candidate(
                group, patterns, vectors, k_blocks, panel, cycles, name, loads=loads, lone=lone
            )


def _lone(operator: Operator) -> tuple[bool, ...]:
    """Return whether one pixel has no vector: both are worth predicting where vectors are few."""
    is_worth = operator.may_be_lone and vectors_of(operator.blocks(1)) <= LONE_VECTORS
    return (False, True) if is_worth else (False,)


def _panels(operator: Operator, core: CpuModel) -> tuple[bool, ...]:
    """Return whether tiles may be copied into panels, or must be.

    Taps of a window read the same lines shifted, and a panel holds each of them.
    """
    if core.in_order:
        return (True,)
    return (False, True) if core.panel_cycles and operator.is_flat else (False,)


def _may_be_blocked(
    operator: Operator, group: int, vectors: int, k_blocks: int, core: CpuModel
) -> bool:
    """Partial sums wait in the output, where no other thread's tile may put anything."""
    if operator.tiles_overlap(vectors):
        return False
    return group <= core.blocked_group and operator.cols >= k_blocks * MIN_COLUMNS


def tiles_of(target: Target) -> dict[int, tuple[int, ...]]:
    """Return rows of a group -> vectors of a tile that are tried."""
    if target.core.in_order:
        return kernels_arm.IN_ORDER_TILES
    tables = {"aarch64": kernels_arm.TILES, "wasm32": kernels_wasm.TILES}
    return tables.get(target.architecture, X86_TILES)


def _gemv_candidates(weight: Weight, target: Target) -> Iterator[Candidate]:
    for lanes in GEMV_LANES:
        if lanes > target.lanes:
            continue
        stored = union_columns(weight, lanes) * lanes
        cycles = cost.gemv_cycles(stored, lanes, target.core)
        label = f"{lanes} rows a vector" if lanes > 1 else "row by row"
        yield Candidate(lanes, full_pattern(lanes), 1, 1, False, cycles, label, "gemv")


def _gemm_candidates(operator: Operator, weight: Weight, target: Target) -> Iterator[Candidate]:
    core, lanes = target.core, target.lanes
    for vectors, pixels in GEMM_TILES:
        group = vectors * lanes
        if group > operator.rows or not cost.fits_registers(vectors, pixels, core):
            continue
        blocks = operator.pixel_blocks(pixels)
        groups = -(-operator.rows // group)
        columns = union_columns(weight, group)
        planes = 4 * operator.in_layout.channels * operator.channel_stride
        cycles = cost.gemm_cycles(columns, groups, vectors, blocks, lanes, core, planes)
        label = f"{group} rows in the lanes x {pixels} pixels"
        yield Candidate(group, full_pattern(group), pixels, 1, False, cycles, label, "gemv")


def _winograd_candidates(operator: Operator, weight: Weight, target: Target) -> Iterator[Candidate]:
    channels = operator.in_layout.channels
    used = np.any(weight.reshape(operator.rows, channels, -1), axis=2)
    for outputs in winograd.PAIRS:
        growth = 4 * used.size * (winograd.products_of(outputs) - winograd.TAPS**2)
        if growth > MOST_GROWTH_BYTES:
            continue
        span = tiles_of_operator(operator, outputs).window.span
        for group in tiles_of(target):
            if 1 < group <= operator.rows:
                work = cost.work_of(used, group).under(full_pattern(group)).filled()
                yield from _transformed_candidates(work, outputs, span, channels, target)


def _transformed_candidates(
    work: cost.Work, outputs: int, span: int, channels: int, target: Target
) -> Iterator[Candidate]:
    """Return the candidates with such tiles and the group of `work`, which is of one place."""
    group, lanes = work.group, target.lanes
    columns = channels + align_up(work.rows, group)
    most = HELD_BYTES // (4 * winograd.products_of(outputs) * columns)
    for vectors in tiles_of(target)[group]:
        if not cost.fits_registers(group, vectors, target.core):
            continue
        blocks = [
            block
            for _, size in winograd.blocks_of_tiles(span, lanes, vectors, most)
            for block in flat_blocks(size, lanes, vectors)
        ]
        planes = (channels, work.rows)
        cycles = cost.winograd_cycles(work, outputs, planes, blocks, lanes, target.core)
        label = f"Winograd, tiles of {outputs}x{outputs}, {group}x{vectors * lanes}"
        found = Candidate(group, full_pattern(group), vectors, 1, False, cycles, label, "winograd")
        yield dataclasses.replace(found, outputs=outputs, block=most)
