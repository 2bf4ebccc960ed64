"""What lowerings ask of a node: its inputs, constant ones among them, and a way to refuse it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.errors import UnsupportedModelError


def given(node: ir.Node, index: int) -> ir.Value | None:
    """Return an optional input, None when it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def required(node: ir.Node, index: int) -> ir.Value:
    """Return an input that the operator cannot do without."""
    value = given(node, index)
    if value is None:
        raise ValueError(f"input {index} of {node.op_type} {node.name!r} is absent")
    return value


def constant(node: ir.Node, index: int, name: str) -> npt.NDArray[Any] | None:
    """Return an optional input that has to be constant, None when absent.

    Raises:
        UnsupportedModelError: The input is the result of a computation.
    """
    value = given(node, index)
    if value is None:
        return None
    if value.const_value is None:
        raise unsupported(
            node,
            f"{name} that is the result {value.name!r} of a computation",
            "export the model with static shapes, so that it can be folded",
        )
    return np.asarray(value.const_value.numpy())


def constant_ints(
    node: ir.Node, index: int, name: str, default: Sequence[int] = ()
) -> tuple[int, ...]:
    """Return the integers of a constant input, `default` when absent."""
    array = constant(node, index, name)
    return tuple(default) if array is None else tuple(int(v) for v in array.reshape(-1))


def unsupported(node: ir.Node, what: str, hint: str) -> UnsupportedModelError:
    """Return the error that says what of a node is not supported."""
    return UnsupportedModelError(
        f"lowering {node.op_type} {node.name!r}: {what} is not supported", hint=hint
    )
