"""What only ARM has: the tiles that suit NEON's 32 registers of four floats.

The portable fp32 emitters already become `ldp q, q` and `fmla v.4s, v.4s, v.s[lane]` here, so this
package holds no emitter of its own; those for `sdot`, `i8mm` and fp16 will stand beside the table.
"""

from __future__ import annotations

# Rows of a group -> vectors of a tile worth trying. 4x6 holds 24 accumulators; one more vector of
# columns and LLVM spills (tests/linear/test_assembly.py reads the machine code).
TILES: dict[int, tuple[int, ...]] = {
    1: (1, 2, 4, 6, 7, 8, 10, 12),
    2: (1, 2, 3, 4, 6, 7, 8, 12),
    4: (1, 2, 3, 4, 5, 6),
    8: (1, 2),
}
