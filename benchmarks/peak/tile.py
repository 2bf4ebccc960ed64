"""A tile's multiply-adds beside its loads in x86-64 assembly: what no compiler can improve on."""

from __future__ import annotations

import dataclasses

# Registers that hold what is loaded and used at once; two, so that none is waited for.
TEMPORARIES = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Tile:
    """Columns of a tile that lies in L1.

    Attributes:
        group: Rows of the tile.
        vectors: Vectors of the tile.
        rows: Rows that use each column.
    """

    group: int
    vectors: int
    rows: int


def tile_assembly(tile: Tile, lanes: int, turns: int) -> str:
    """Return `float peak(int passes)`, which goes over `turns` times `tile.group` columns a pass.

    A column loads each vector and weight once; of vectors and rows, the fewer stay in registers
    while the others pass through. The rows take turns, column by column, so that no multiply-add
    waits for the one before. Both lie in `.data`: unwritten pages of `.bss` are one page of memory
    at several addresses, which a cache that predicts ways by address takes for misses.

    Args:
        tile: The tile.
        lanes: float32 lanes of a vector, 8 or 16.
        turns: How often all rows take their turn in a pass.
    """
    width, vector_bytes = ("zmm" if lanes == 16 else "ymm"), 4 * lanes
    columns = [_column(tile, index, vector_bytes, width) for index in range(tile.group)]
    column_bytes = tile.vectors * vector_bytes
    zeros = [f"vxorps %xmm{i}, %xmm{i}, %xmm{i}" for i in range(min(16, tile.group * tile.vectors))]
    zeros += [f"vpxord %zmm{i}, %zmm{i}, %zmm{i}" for i in range(16, tile.group * tile.vectors)]
    lines = [
        *zeros,
        "1: lea activations(%rip), %rsi",
        "lea weights(%rip), %rdx",
        f"mov ${turns}, %ecx",
        ".p2align 6",
        "2:",
        *(line for column in columns for line in column),
        f"add ${tile.group * column_bytes}, %rsi",
        f"add ${tile.group * tile.rows * 4}, %rdx",
        "dec %ecx",
        "jne 2b",
        "dec %edi",
        "jne 1b",
        "vzeroupper",
        "ret",
    ]
    body = "\n  ".join(lines)
    return f""".text
.globl peak
.p2align 6
peak:
  {body}
.data
.p2align 6
activations: .skip {turns * tile.group * column_bytes}
weights: .skip {turns * tile.group * tile.rows * 4}
.section .note.GNU-stack,"",@progbits
"""


def _column(tile: Tile, index: int, vector_bytes: int, width: str) -> list[str]:
    """Return the instructions of one column of a turn."""
    accumulators = tile.group * tile.vectors

    def sums(row: int, vector: int) -> str:
        turn = (index * tile.rows + row) % tile.group
        return f"%{width}{turn * tile.vectors + vector}"

    def load_vector(vector: int, register: str) -> str:
        at = (index * tile.vectors + vector) * vector_bytes
        return f"vmovaps {at}(%rsi), {register}"

    def load_weight(row: int, register: str) -> str:
        return f"vbroadcastss {(index * tile.rows + row) * 4}(%rdx), {register}"

    def register(number: int) -> str:
        return f"%{width}{accumulators + number}"

    if tile.vectors <= tile.rows:
        held, passing, load_held, load_passing = tile.vectors, tile.rows, load_vector, load_weight
    else:
        held, passing, load_held, load_passing = tile.rows, tile.vectors, load_weight, load_vector
    lines = [load_held(number, register(number)) for number in range(held)]
    for number in range(passing):
        temporary = register(held + number % TEMPORARIES)
        lines.append(load_passing(number, temporary))
        for other in range(held):
            row, vector = (number, other) if held == tile.vectors else (other, number)
            lines.append(f"vfmadd231ps {temporary}, {register(other)}, {sums(row, vector)}")
    return lines
