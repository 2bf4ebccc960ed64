"""What only WebAssembly has: the tiles that an engine with 16 SIMD registers can hold.

The portable emitters become `v128.load32_splat` with `f32x4.mul` and `f32x4.add`, or
`f32x4.relaxed_madd` with relaxed SIMD. Registers are the engine's to give: V8 on x86-64 has
sixteen, keeps a whole column of activations and its weights in them, and spills from 1x8, 2x6 and a
fully used 4x3 on; 3x3 fills fifteen. 4x3 stays in the table: at 30 to 60 % zeros most buckets use
fewer rows.
"""

from __future__ import annotations

# Rows of a group -> vectors of a tile worth trying; measured in node 20 on eight shapes.
TILES: dict[int, tuple[int, ...]] = {
    1: (1, 2, 3, 4, 5, 6, 7),
    2: (1, 2, 3, 4, 5),
    3: (1, 2, 3),
    4: (1, 2, 3),
    8: (1,),
}
