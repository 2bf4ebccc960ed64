"""What only ARM has: the tiles that suit NEON's 32 registers of four floats.

The portable fp32 emitters already become `ldp q, q` and `fmla v.4s, v.4s, v.s[lane]` here, so this
package holds no emitter of its own; those for `sdot`, `i8mm` and fp16 will stand beside the table.

A row's fixed price, the start of its sums and the mispredicted exit of its loop, is paid once a
tile: below a density of one half a single row with the widest tile wins, above it two or four rows
(`benchmarks/arm64_cycles.py --formats 1x25 2x12 4x6`). 17 and 25 vectors cover the 49 of a 14x14
plane in three tiles and in two, 13 cover a 7x7 plane; 7, 14 and 21 are whole rows of 28 pixels.
"""

from __future__ import annotations

# Rows of a group -> vectors of a tile worth trying. 1x25, 2x12 and 4x6 hold 24 or 25 accumulators;
# one more vector of columns and LLVM spills for in-order cores (tests/linear/test_assembly.py reads
# the machine code).
TILES: dict[int, tuple[int, ...]] = {
    1: (1, 2, 3, 4, 6, 7, 8, 10, 13, 14, 17, 20, 21, 24, 25),
    2: (1, 2, 3, 4, 6, 7, 8, 10, 12),
    4: (1, 2, 3, 4, 5, 6),
    8: (1, 2),
}

# In-order cores load a tile's vectors by halves from a panel, several columns ahead: LLVM keeps up
# to eight of them in registers, and spills from 1x24, 2x10 and, with all patterns, 4x6 on.
IN_ORDER_TILES: dict[int, tuple[int, ...]] = {
    1: (1, 2, 3, 4, 6, 7, 8, 10, 13, 14, 17, 20, 21),
    2: (1, 2, 3, 4, 6, 7, 8),
    4: (1, 2, 3, 4, 5),
    8: (1, 2),
}
