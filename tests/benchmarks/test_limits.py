"""What a tile can reach: mixtures of columns, and the assembly that is timed."""

import collections
import re

import limits
import pytest
from peak.tile import Tile, tile_assembly

MULTIPLY_ADD = re.compile(r"vfmadd231ps %zmm(\d+), %zmm(\d+), %zmm(\d+)")


def test_a_mixture_weighs_numbers_of_rows_by_their_multiply_adds_and_their_time():
    assert limits.mixture([0.5, 0.8], 1.0) == pytest.approx(0.8)
    # Of four columns one is used by both rows, two by one: 2 of 4 multiply-adds each.
    assert limits.mixture([0.5, 0.8], 0.5) == pytest.approx(4 / (2 / 0.5 + 2 / 0.8))


def test_a_limit_is_of_the_best_tile_and_blocks_of_four_rows_use_whole_columns():
    shares = {(1, 12): [0.5], (4, 5): [0.2, 0.4, 0.6, 0.8], (8, 3): [0.1] * 7 + [0.9]}
    assert limits.best_limit(shares, 1.0, "unstructured")["tile"] == "8x3"
    assert limits.best_limit(shares, 0.01, "unstructured")["tile"] == "1x12"
    block = limits.best_limit(shares, 0.1, "block4")
    assert (block["tile"], block["of_peak"]) == ("4x5", 0.8)


def test_limits_are_measured_for_tiles_that_fit_the_registers():
    assert limits.wide_tiles("wasm-relaxed")[:2] == [(1, 6), (1, 7)]


@pytest.mark.parametrize("tile", [Tile(1, 12, 1), Tile(4, 5, 3), Tile(4, 6, 4), Tile(8, 3, 5)])
def test_rows_take_turns_and_all_registers_exist(tile):
    text = tile_assembly(tile, 16, turns=2)
    found = [tuple(map(int, numbers)) for numbers in MULTIPLY_ADD.findall(text)]
    sums = collections.Counter(accumulator for _, _, accumulator in found)
    assert sums == dict.fromkeys(range(tile.group * tile.vectors), tile.rows)
    assert max(max(numbers) for numbers in found) < 32
    columns = tile.group
    assert text.count("vmovaps") == columns * tile.vectors
    assert text.count("vbroadcastss") == columns * tile.rows
