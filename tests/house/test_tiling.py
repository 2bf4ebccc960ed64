"""Blocks cover every output pixel, and windows read what a convolution reads."""

import itertools

import numpy as np
import pytest

from edgesparse.layout import Layout
from edgesparse.tiling import (
    Run,
    Window,
    flat_blocks,
    leaves_one,
    pitched_blocks,
    row_starts,
    runs,
    window_blocks,
)


def offsets(block, base):
    """All (input, output) offsets of a block's vectors, in the order the kernel visits them."""
    for indices in itertools.product(*(range(count) for count, _, _ in block.loops)):
        read, write = base
        for i, (_, step_in, step_out) in zip(indices, block.loops, strict=True):
            read, write = read + i * step_in, write + i * step_out
        for vector_in, vector_out in block.vectors:
            yield read + vector_in, write + vector_out


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("pixels", [1, 3, 4, 15, 16, 17, 49, 196, 208])
@pytest.mark.parametrize("tile", [1, 3, 4, 6])
@pytest.mark.parametrize("lone", [False, True])
def test_flat_blocks_cover_the_padded_plane_exactly(pixels, lanes, tile, lone):
    lone = lone and leaves_one(pixels, lanes)
    seen = np.zeros(-(-pixels // lanes) * lanes, int)
    for block in flat_blocks(pixels, lanes, tile, lone=lone):
        assert len(block.vectors) <= tile
        for read, write in offsets(block, block.base):
            assert read == write
            seen[write : write + lanes] += 1
        if block.lone:
            assert block.lone == (pixels - 1, pixels - 1)
            seen[pixels - 1 :] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(
    ("height", "width"), [(7, 7), (1, 5), (5, 1), (13, 14), (9, 33), (4, 80), (2, 301), (1, 640)]
)
@pytest.mark.parametrize("tile", [1, 4, 6])
def test_window_blocks_leave_every_pixel_with_its_own_value(height, width, lanes, images, tile):
    """Replays the stores in order: overshoot may only hit what is written again later."""
    window = Window(height, width, (3, 3), pads=(1, 1, 1, 1), lanes=lanes)
    shape = (images, 1, window.out_height, window.out_width)
    layout = Layout.planes(shape, 1, lanes)
    owner = np.full(layout.elements + lanes, -1)
    for block in window_blocks(window, layout.lanes, tile, images):
        for read, write in offsets(block, block.base):
            owner[write : write + layout.lanes] = read + np.arange(layout.lanes)
    expected = [
        n * window.halo_stride + y * window.pitch + x
        for n in range(images)
        for y in range(height)
        for x in range(width)
    ]
    np.testing.assert_array_equal(owner[: len(expected)], expected)
    assert (owner[layout.elements :] == -1).all()


@pytest.mark.parametrize("lanes", [4, 16])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 0, 0, 0), (0, 2, 1, 3)])
@pytest.mark.parametrize(("size", "stride"), [((7, 7), 1), ((3, 9), 1), ((15, 13), 2)])
def test_pitched_blocks_cover_every_row_once_and_read_what_is_there(
    size, stride, pads, images, lanes
):
    strides = (stride, stride)
    window = Window(*size, (3, 3), strides, pads=pads, lanes=lanes, is_tight=True)
    image = -(-window.span // lanes) * lanes
    seen = np.zeros(images * image, int)
    reach = window.tap_offset(2, 2) + lanes
    for block in pitched_blocks(window, lanes, 3, images):
        for read, write in offsets(block, block.base):
            number, at = divmod(write, image)
            assert read == number * window.image_stride + at
            assert read + reach <= images * window.image_stride + lanes
            seen[write : write + lanes] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("width", [640, 16000, 16001])
@pytest.mark.parametrize("tile", [1, 6])
def test_tiles_of_wide_rows_are_a_loop(width, tile):
    """Each was code of its own: a convolution over a second of audio took minutes to compile."""
    window = Window(1, width, (1, 3), pads=(0, 1, 0, 1), lanes=4)
    blocks = window_blocks(window, 4, tile)
    assert len(blocks) <= 3
    assert sum(block.tiles * len(block.vectors) for block in blocks) == -(-width // 4)


@pytest.mark.parametrize("width", [28, 112, 223])
def test_tiles_of_single_pixels_are_a_loop(width):
    """Each was code of its own: half a megabyte of it, which took up to a minute to compile."""
    window = Window(9, width, (3, 3), pads=(1, 1, 1, 1), lanes=16)
    blocks = window_blocks(window, 1, 14)
    assert len(blocks) <= 2
    assert sum(block.tiles * len(block.vectors) for block in blocks) == 9 * width


@pytest.mark.parametrize("size", [(7, 7), (13, 14), (9, 33), (2, 301)])
@pytest.mark.parametrize("tile", [1, 4, 6])
def test_tiles_count_along_their_loops(size, tile):
    window = Window(*size, (3, 3), pads=(1, 1, 1, 1), lanes=4)
    for block in window_blocks(window, 4, tile, images=3):
        found = [block.offsets(i, divmod) for i in range(block.tiles)]
        first = block.vectors[0]
        expected = [(r - first[0], w - first[1]) for r, w in offsets(block, block.base)]
        assert found == expected[:: len(block.vectors)]


def test_pieces_that_are_alike_and_inside_become_one_run():
    pieces = [(0, 4), (4, 4), (8, 4), (12, 4), (16, 2)]
    found = runs(pieces, [False, True, True, True, True])
    assert found == [Run(0, 4), Run(4, 4, 3, 4), Run(16, 2)]
    assert runs(pieces[:3], [True, False, True]) == [Run(0, 4), Run(4, 4), Run(8, 4)]


def test_a_subsampled_plane_is_compact():
    window = Window(14, 15, (1, 1), (2, 2), lanes=4)
    assert window.is_subsampling
    assert (window.pitch, window.phase_rows) == (window.out_width, window.out_height) == (8, 7)


def test_rows_of_a_haloed_plane_start_with_a_vector_where_that_takes_no_room():
    def pitch(width, kernel=3):
        pad = kernel // 2
        return Window(9, width, (kernel, kernel), pads=(pad,) * 4, lanes=16).pitch

    assert [pitch(width) for width in (7, 14, 28, 56)] == [16, 16, 32, 64]
    assert pitch(112) == 114


def test_the_last_vector_of_a_row_overlaps_rather_than_overshoots():
    assert row_starts(56, 16) == (0, 16, 32, 40)
    assert row_starts(32, 16) == (0, 16)
    assert row_starts(7, 16) == (0,)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 2, 1, 3)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)])
def test_tap_offsets_find_the_padded_pixels(stride, dilation, pads, kernel):
    window = Window(11, 13, kernel, (stride, stride), (dilation, dilation), pads, lanes=4)
    image = np.arange(1, 11 * 13 + 1, dtype=float).reshape(11, 13)
    padded = np.pad(image, ((pads[0], pads[2]), (pads[1], pads[3])))
    halo = haloed(window, image)
    for ky, kx in itertools.product(range(kernel[0]), range(kernel[1])):
        for y, x in itertools.product(range(window.out_height), range(window.out_width)):
            expected = padded[y * stride + ky * dilation, x * stride + kx * dilation]
            found = halo[window.tap_offset(ky, kx) + y * window.pitch + x]
            assert found == expected


def haloed(window, image):
    """The haloed planes by definition: phase (r, c) holds padded[r::stride, c::stride]."""
    if window.is_plain:
        return image.reshape(-1)
    top, left, bottom, right = window.pads
    padded = np.pad(image, ((top, bottom), (left, right)))
    out = np.zeros(window.halo_stride)
    for phase in window.phases:
        part = padded[phase[0] :: window.strides[0], phase[1] :: window.strides[1]]
        for row, values in enumerate(part):
            start = window.phase_offset(phase) + row * window.pitch
            out[start : start + len(values)] = values
    return out


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("shape", [(1, 3, 7, 7), (2, 3, 5, 9), (1, 8, 1, 1), (1, 2, 14, 14)])
def test_planes_have_room_for_a_vector_in_their_last_row(shape, lanes):
    layout = Layout.planes(shape, 1, lanes)
    last_row = shape[0] * shape[2] * shape[3] - shape[3]
    assert layout.plane_stride >= last_row + layout.lanes or shape[3] >= layout.lanes
    assert layout.plane_stride % layout.lanes == 0


def test_planes_of_whole_vectors_are_flat():
    assert Layout.planes((1, 8, 4, 16), 1, 16).is_flat
    assert not Layout.planes((1, 8, 7, 7), 1, 16).is_flat
    assert Layout.planes((1, 8, 1, 1), 1, 16).is_flat
    assert not Layout.planes((1, 5, 8), -1, 4).is_flat
