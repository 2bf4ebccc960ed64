"""The emitted TIR of each linear kernel family, so that a change of code generation is seen."""

import pytest

from edgesparse.formats import all_patterns, full_pattern
from edgesparse.kernels.crop import Crop
from edgesparse.kernels.depthwise import Depthwise
from edgesparse.kernels.gemv import Gemv
from edgesparse.kernels.halo import Halo
from edgesparse.kernels.spmm import Spmm
from edgesparse.kernels.winograd import TilesIn, TilesOut
from edgesparse.tiling import Window, flat_blocks, window_blocks

STRIDED = Window(9, 10, (3, 3), (2, 2), pads=(1, 1, 1, 1), lanes=4)

KERNELS = {
    "spmm_unstructured_relu": Spmm(
        5, 2, all_patterns(2), 4, flat_blocks(20, 4, 3), 20, activation="Relu"
    ),
    "spmm_rolled": Spmm(4, 2, (1, 3), 4, flat_blocks(8, 4, 2), 8, rolled=True),
    "spmm_full_residual": Spmm(
        8, 4, full_pattern(4), 4, window_blocks(STRIDED, 4, 4), 28, residual=True
    ),
    "spmm_column_blocks": Spmm(
        8, 4, full_pattern(4), 4, flat_blocks(20, 4, 3), 20, k_blocks=2, chunks=2, by_lane=True
    ),
    "spmm_panel": Spmm(
        8, 4, full_pattern(4), 4, flat_blocks(20, 4, 3), 20, by_lane=True, panel=6, halves=True
    ),
    "spmm_dense": Spmm(
        8, 2, full_pattern(2), 4, flat_blocks(20, 4, 3), 20, k_blocks=2, shares_columns=True
    ),
    "spmm_dense_panel": Spmm(
        7,
        4,
        full_pattern(4),
        4,
        flat_blocks(20, 4, 3),
        20,
        panel=6,
        halves=True,
        shares_columns=True,
    ),
    "spmm_lone": Spmm(
        8, 4, (0b1111, 0b0101), 16, flat_blocks(17, 16, 1, lone=True), 32, residual=True
    ),
    "spmm_lone_alone": Spmm(8, 4, (0b1111, 0b0101), 4, flat_blocks(9, 4, 2, lone=True), 12),
    "depthwise_3x3s2": Depthwise(STRIDED, 6, 1, 1, 92, 28, 4, 2),
    "depthwise_3x3s2_rows": Depthwise(STRIDED, 6, 1, 1, 92, 28, 4, 5, streams=True),
    "depthwise_3x3s2_masked": Depthwise(STRIDED, 6, 1, 1, 92, 28, 4, 2, masked=True),
    "gemv": Gemv(16, 8, activation="Clip", alpha=0.0, beta=6.0),
    "gemv_row": Gemv(16, 1, residual=True, ahead=1024),
    "gemm": Gemv(16, 4, 2, flat_blocks(3, 1, 2), 13, 4, activation="Relu", residual=True),
    "halo_3x3s2": Halo(STRIDED, 6, 1, 92),
    "tiles_in_2x2": TilesIn(2, 3, 4, tuple(range(16)), 40, 2, 4),
    "tiles_out_4x4": TilesOut(4, 3, 4, 2, 4, 24),
    "crop_tiles": Crop(3, 1, 7, 6, 5, 0, 96, 44, 4, residual=True, tile=2, phase_stride=24),
}


@pytest.mark.parametrize("name", KERNELS)
def test_tir(name, golden):
    kernel = KERNELS[name]
    golden(f"tir/{name}.txt", kernel.emit(kernel.name).script() + "\n")


def test_equal_kernels_are_one():
    assert KERNELS["gemv"] == Gemv(16, 8, activation="Clip", alpha=0.0, beta=6.0)
    assert len(set(KERNELS.values())) == len(KERNELS)
