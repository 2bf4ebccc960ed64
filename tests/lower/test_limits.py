"""Numbers near the end of int32: what cannot be counted is refused, and nothing wraps."""

from __future__ import annotations

import pytest
from compiled import plan_of
from linear_models import conv_model, sparse

from edgesparse.errors import UnsupportedModelError


@pytest.mark.parametrize("target", ["host", "arm64", "arm64-a55", "wasm"])
def test_haloed_planes_of_more_elements_than_int32_counts(target: str) -> None:
    far = 20000
    weight = sparse((8, 4, 3, 3), 1.0)
    model = conv_model((1, 4, 64, 64), weight, dilations=[far] * 2, pads=[far] * 4)
    with pytest.raises(UnsupportedModelError, match="conv: its halo takes 6") as found:
        plan_of(model, target)
    assert "expected at most 2147483647" in found.value.message
    assert "pads and dilations" in found.value.hint
