"""Numbers near the end of int32: what cannot be counted is refused, and nothing wraps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import Fenced, load_symbol, plan_of
from linear_models import conv_model, sparse

from edgesparse import codegen
from edgesparse.errors import UnsupportedModelError
from edgesparse.kernels import tir
from edgesparse.plan import Arg, Layer, Plan, Step, TensorSpec
from edgesparse.target import resolve_target


@pytest.mark.parametrize("target", ["host", "arm64", "arm64-a55", "wasm"])
def test_haloed_planes_of_more_elements_than_int32_counts(target: str) -> None:
    far = 20000
    weight = sparse((8, 4, 3, 3), 1.0)
    model = conv_model((1, 4, 64, 64), weight, dilations=[far] * 2, pads=[far] * 4)
    with pytest.raises(UnsupportedModelError, match="conv: its halo takes 6") as found:
        plan_of(model, target)
    assert "expected at most 2147483647" in found.value.message
    assert "pads and dilations" in found.value.hint


@dataclasses.dataclass(frozen=True)
class Range:
    """y = the parts that a call is given."""

    parts: int
    name: str = "range"

    def emit(self, symbol: str) -> Any:
        return tir.function(symbol, {"y": "int32"}, self._body, ranged=True)

    def _body(self, first: Any, last: Any, y: Any) -> None:
        tir.store(y, 0, first)
        tir.store(y, 1, last)


@pytest.mark.parametrize("parts", [(1 << 25) - 1, 36_000_000, 125_000_000])
def test_parts_whose_product_with_threads_is_beyond_int32(parts: int, tmp_path: Path) -> None:
    kernel, y = Range(parts), TensorSpec("y", (2,), "int32")
    step = Step("toy_k0", (Arg("output", 0, 8, "w", index=0),), 0, parts)
    layer = Layer("all", "Toy", (2,), 0, 0, {"reason": "a toy"})
    plan = Plan("toy", (), (y,), {"toy_k0": kernel}, (step,), (layer,), bytes(64), 64, 0)
    code = codegen.build_object(plan, resolve_target("host"))
    main = load_symbol(code, "toy_main", tmp_path)
    for threads in (1, 2, 17, 18, 60, 63, 64):
        for thread in range(threads):
            found = Fenced(8)
            assert main(None, None, found.pointer, 0, 1, thread, threads, None) == 0
            expected = [parts * k // threads for k in (thread, thread + 1)]
            assert found.bytes.view(np.int32).tolist() == expected
