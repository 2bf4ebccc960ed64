"""An activation becomes an attribute of the convolution or linear layer in front of it."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from edgesparse.passes import editing

NAME = "fuse_activation"


class Fusable(NamedTuple):
    """Where the two parameters of an activation come from.

    Attributes:
        alpha: Attribute of the ONNX node and its default; ("", 0) for none.
        beta: Likewise.
    """

    alpha: tuple[str, float] = ("", 0.0)
    beta: tuple[str, float] = ("", 0.0)


FUSABLE = {
    "Relu": Fusable(),
    "LeakyRelu": Fusable(("alpha", 0.01)),
    "Sigmoid": Fusable(),
    "HardSigmoid": Fusable(("alpha", 0.2), ("beta", 0.5)),
    "HardSwish": Fusable(),
    "Silu": Fusable(),
    "Tanh": Fusable(),
    "Elu": Fusable(("alpha", 1.0)),
    "Softplus": Fusable(),
    "Mish": Fusable(),
    "Gelu": Fusable(),
    "Clip": Fusable(),
}


class FuseActivationPass(ir.passes.InPlacePass):
    """Fuse the activation that is the only consumer of an edgesparse::Conv or Linear."""

    def call(self, model: ir.Model) -> editing.Result:
        """Fuse at most one activation into each node."""
        modified = False
        for node in editing.linear_nodes(model.graph):
            if not node.attributes.get_string("activation"):
                modified |= _fuse(node)
        return editing.Result(model, modified)


def _fuse(node: ir.Node) -> bool:
    output = node.outputs[0]
    found = [user for user, _ in output.uses() if _is_activation(user)]
    if not found:
        return False
    follower = editing.sole_consumer(output)
    if follower is None:
        editing.decline(node, NAME, f"{found[0].op_type}: {editing.why_not_sole(output)}")
        return False
    parameters = _parameters(follower)
    if parameters is None:
        editing.decline(node, NAME, f"{follower.op_type}: its bounds are not constants")
        return False
    node.attributes.add(ir.AttrString("activation", editing.activation_of(follower)))
    node.attributes.add(ir.AttrFloat32("alpha", parameters[0]))
    node.attributes.add(ir.AttrFloat32("beta", parameters[1]))
    editing.absorb(node, follower)
    return True


def _is_activation(node: ir.Node) -> bool:
    return node.domain in ("", editing.DOMAIN) and node.op_type in FUSABLE


def _parameters(node: ir.Node) -> tuple[float, float] | None:
    if node.op_type == "Clip":
        low, high = map(editing.scalar, (*node.inputs[1:3], None, None)[:2])
        return None if low is None or high is None else (low, high)
    alpha, beta = (
        node.attributes.get_float(name, default) if name else default
        for name, default in FUSABLE[node.op_type]
    )
    return float(alpha or 0.0), float(beta or 0.0)
