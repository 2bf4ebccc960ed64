"""What the taps of a window's row see of an input row, against indexing."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from kernel_runner import TARGETS, nan, run_kernel

from edgesparse.kernels import tir
from edgesparse.kernels.taps import RowTaps, masked_loads

ROWS = 2


@dataclasses.dataclass(frozen=True)
class Seen:
    """A kernel that stores, for each of a few input rows, what every tap sees of it."""

    taps: RowTaps

    def emit(self, symbol: str) -> tir.PrimFunc:
        taps, lanes = self.taps, self.taps.lanes

        def body(x: tir.Buffer, y: tir.Buffer) -> None:
            with masked_loads(lanes if taps.is_masked else 1), tir.loop(ROWS) as row:
                for tap, value in taps.emit(x, row * taps.width):
                    tir.store(y, (row * taps.count + tap) * lanes, value, lanes)

        return tir.function(symbol, {"x": "float32", "y": "float32"}, body)


def row_taps(first, count, stride, dilation, outputs, width, lanes, is_masked=False) -> RowTaps:
    return RowTaps(first, count, stride, dilation, outputs, width, lanes, is_masked)


# Outputs begin at each of the columns in turn, so that windows lose taps on either side.
WINDOWS = {
    "3": {"count": 3, "stride": 1, "dilation": 1},
    "3 by 2": {"count": 3, "stride": 2, "dilation": 1},
    "7 by 2": {"count": 7, "stride": 2, "dilation": 1},
    "5 by 3": {"count": 5, "stride": 3, "dilation": 1},
    "2 by 2": {"count": 2, "stride": 2, "dilation": 1},
    "5 by 2 dilated by 2": {"count": 5, "stride": 2, "dilation": 2},
    "3 by 2 dilated by 3": {"count": 3, "stride": 2, "dilation": 3},
}


def check(taps: RowTaps, target: str = "host") -> None:
    x = np.random.default_rng(0).standard_normal((ROWS, taps.width)).astype(np.float32)
    _, y = run_kernel(Seen(taps), x, nan(ROWS, taps.count, taps.lanes), target=target)
    columns = (
        taps.first
        + taps.dilation * np.arange(taps.count)[:, None]
        + taps.stride * np.arange(taps.outputs)
    )
    inside = (columns >= 0) & (columns < taps.width)
    want = np.where(inside, x[:, np.where(inside, columns, 0)], 0)
    is_seen = inside.any(axis=1)
    np.testing.assert_array_equal(y[:, is_seen, : taps.outputs], want[:, is_seen])
    assert np.isnan(y[:, ~is_seen]).all()


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("lanes", "outputs"), [(1, 1), (4, 4), (4, 3), (8, 8)])
def test_every_tap_sees_its_columns(lanes, outputs, window, is_masked):
    if is_masked and lanes == 1:
        pytest.skip("one lane is never masked")
    for first in (-8, -1, 0, 4):
        for width in (1, 6, 21):
            check(
                row_taps(
                    first,
                    outputs=outputs,
                    width=width,
                    lanes=lanes,
                    is_masked=is_masked,
                    **WINDOWS[window],
                )
            )


@pytest.mark.parametrize("target", TARGETS)
def test_targets(target):
    for first in (-1, 0):
        check(row_taps(first, 5, 2, 1, outputs=4, width=9, lanes=4), target)


@pytest.mark.parametrize(("first", "loads"), [(7, 3), (-1, 2)])
def test_taps_an_output_apart_share_loads(first, loads):
    """In the middle of a row, and at its left edge, where the zero outside is what enters."""
    text = str(Seen(row_taps(first, 3, 2, 1, outputs=4, width=100, lanes=4)).emit("seen"))
    assert len(set(re.findall(r"buffer\[T\.Ramp\([^)]*\)\]", text))) == loads, text
