"""What several passes need to read and edit the graph: constants, single consumers, records.

Node metadata written here and read by `inspect`:

* `edgesparse.spelled`: what the model calls the operator, where that is not what it became;
* `edgesparse.own_zeros`: why most of its weights are zero though nobody pruned them;
* `edgesparse.fused`: operators computed by the node after its own, in order, `Add,Relu`;
* `edgesparse.fused_before`: operators folded into it from its input, `Pad,Mul`;
* `edgesparse.declined.<pass>`: why a fusion that looks possible was not done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.frontend import DECLINED_PREFIX
from edgesparse.geometry import constant as constant
from edgesparse.geometry import residual_of

DOMAIN = "edgesparse"
SPELLED = "edgesparse.spelled"
OWN_ZEROS = "edgesparse.own_zeros"
FUSED = "edgesparse.fused"
FUSED_BEFORE = "edgesparse.fused_before"

Array = npt.NDArray[np.float32]
Result = ir.passes.PassResult


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Return whether a node is one of ONNX's own operators."""
    return node is not None and node.domain == "" and node.op_type in op_types


def is_linear(node: ir.Node | None) -> bool:
    """Return whether a node is a canonical `edgesparse::Conv` or `edgesparse::Linear`."""
    return node is not None and node.domain == DOMAIN and node.op_type in ("Conv", "Linear")


def linear_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Return the canonical convolutions and linear layers; safe while the graph is edited."""
    return (node for node in tuple(graph) if is_linear(node) and node.graph is graph)


def is_bare(node: ir.Node) -> bool:
    """Return whether a canonical node has neither residual nor activation yet."""
    return not node.attributes.get_string("activation") and residual_of(node) is None


def taken(node: ir.Node, index: int) -> ir.Value:
    """Return an input that the operator cannot do without."""
    value = node.inputs[index]
    if value is None:
        raise ValueError(f"{node.op_type} {node.name} lacks input {index}")
    return value


def float_constant(value: ir.Value | None) -> Array | None:
    """Return the data of a float32 initializer; None for everything else."""
    array = constant(value)
    return None if array is None or array.dtype != np.float32 else array.astype(np.float32)


def taken_constant(value: ir.Value) -> npt.NDArray[np.generic]:
    """Return the data of a value that must be an initializer."""
    array = constant(value)
    if array is None:
        raise ValueError(f"value {value.name} is not a constant")
    return array


def read_inputs(node: ir.Node) -> npt.NDArray[np.bool_]:
    """Return (input channels of a group,) which of them a canonical node's weight reads."""
    weight = taken_constant(taken(node, 1))
    return np.asarray(weight.reshape(*weight.shape[:2], -1).any(axis=(0, 2)))


def scalar(value: ir.Value | None) -> float | None:
    """Return the only element of an initializer; None for everything else."""
    array = constant(value)
    return None if array is None or array.size != 1 else float(array.reshape(-1)[0])


def ints(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the elements of an integer initializer; None for everything else."""
    array = constant(value)
    return None if array is None else tuple(int(element) for element in array.reshape(-1))


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Return the static shape; the front end guarantees it."""
    if value.shape is None:
        raise ValueError(f"value {value.name} has no shape")
    return value.shape.numpy()


def int_list(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """Return an attribute of integers; an empty one counts as absent."""
    attribute = node.attributes.get(name)
    return tuple(attribute.as_ints() if attribute is not None else ()) or tuple(default)


def opset(node: ir.Node) -> int:
    """Return the version of ONNX's operator set."""
    if not isinstance(node.graph, ir.Graph):
        raise ValueError(f"{node.op_type} {node.name} is not in a graph")
    return node.graph.opset_imports[""]


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """Return the only node that uses `value`, once; None if the value is a graph output too."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    return next(iter(uses))[0]


def is_dead(node: ir.Node) -> bool:
    """Return whether nothing uses any of the node's outputs."""
    return not any(value.uses() or value.is_graph_output() for value in node.outputs)


def why_not_sole(value: ir.Value) -> str:
    """Return why `sole_consumer` returned None."""
    if value.is_graph_output():
        return f"{value.name} is a graph output"
    return f"{value.name} has {len(value.uses())} consumers"


def add_constant(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """Add an initializer whose name starts with `name`."""
    unique, number = name, 1
    while unique in graph.initializers:
        unique, number = f"{name}_{number}", number + 1
    tensor = ir.tensor(np.asarray(array, order="C"), name=unique)
    value = ir.Value(
        name=unique,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def set_constant(node: ir.Node, index: int, array: npt.NDArray[np.generic]) -> None:
    """Give `node` another constant input; who shares the old one keeps it."""
    old = taken(node, index)
    if not isinstance(node.graph, ir.Graph):
        raise ValueError(f"{node.op_type} {node.name} is not in a graph")
    new = add_constant(node.graph, str(old.name), array)
    node.replace_input_with(index, new)
    if not old.uses() and not old.is_graph_output():
        name = str(old.name)
        del node.graph.initializers[name]
        new.name = name


def make_like(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    old: ir.Node,
    *,
    attributes: dict[str, ir.Attr | int | float | str | Sequence[int]] | None = None,
    domain: str = "",
) -> ir.Node:
    """Replace `old` by a new node of the same name, output, metadata and place; return it."""
    if not isinstance(old.graph, ir.Graph):
        raise ValueError(f"{old.op_type} {old.name} is not in a graph")
    graph, name = old.graph, old.name
    new = ir.node(op_type, inputs, attributes or {}, domain=domain, name=name)
    new.metadata_props.update(old.metadata_props)
    graph.insert_before(old, new)
    _take_over(new.outputs[0], old.outputs[0])
    graph.remove(old, safe=True)
    if domain:
        graph.opset_imports.setdefault(domain, 1)
    return new


def take_place(value: ir.Value, old: ir.Node) -> None:
    """Let `value`, which a new node makes, take the place of all that `old` made; `old` goes."""
    _take_over(value, old.outputs[0])
    if old.graph is not None:
        old.graph.remove(old, safe=True)


def insert_before(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value],
    *,
    name: str,
    shape: Sequence[int],
    attributes: Mapping[str, int | float | str | Sequence[int]] | None = None,
    domain: str = "",
) -> ir.Value:
    """Insert an operator before `node` and return its output, of the first input's dtype."""
    if not isinstance(node.graph, ir.Graph):
        raise ValueError(f"{node.op_type} {node.name} is not in a graph")
    new = ir.node(op_type, inputs, attributes or {}, domain=domain, name=name)
    output = new.outputs[0]
    output.name, output.type, output.shape = name, inputs[0].type, ir.Shape(shape)
    node.graph.insert_before(node, new)
    if domain:
        node.graph.opset_imports.setdefault(domain, 1)
    return output


def absorb(node: ir.Node, follower: ir.Node) -> None:
    """Remove `follower`, whose work `node` now does; its output's name passes to `node`."""
    _take_over(node.outputs[0], follower.outputs[0])
    if follower.graph is not None:
        follower.graph.remove(follower, safe=True)
    record(node, follower.op_type)


def _take_over(new: ir.Value, old: ir.Value) -> None:
    new.name, new.type, new.shape = old.name, old.type, old.shape
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def record(node: ir.Node, op_type: str) -> None:
    """Append an operator to those the node computes after its own."""
    earlier = node.metadata_props.get(FUSED)
    node.metadata_props[FUSED] = f"{earlier},{op_type}" if earlier else op_type


def record_before(node: ir.Node, op_type: str) -> None:
    """Prepend an operator to those folded into the node from its input."""
    later = node.metadata_props.get(FUSED_BEFORE)
    node.metadata_props[FUSED_BEFORE] = f"{op_type},{later}" if later else op_type


def rewrite_all(
    model: ir.Model,
    op_type: str,
    pass_name: str,
    why_not: Callable[[ir.Node], str],
    rewrite: Callable[[ir.Graph, ir.Node], None],
) -> Result:
    """Rewrite all nodes of one of ONNX's operators but those that there is a reason to decline."""
    modified = False
    for node in tuple(model.graph):
        if not is_op(node, op_type):
            continue
        if reason := why_not(node):
            decline(node, pass_name, reason)
        else:
            rewrite(model.graph, node)
            modified = True
    return Result(model, modified)


def decline(node: ir.Node, pass_name: str, reason: str) -> None:
    """Record why a pass left a node alone although it looked like its business."""
    node.metadata_props[DECLINED_PREFIX + pass_name] = reason


def activation_of(node: ir.Node) -> str:
    """Return what an activation is called where it is fused: Gelu by tanh has its own name."""
    if node.op_type == "Gelu" and node.attributes.get_string("approximate", "none") == "tanh":
        return "GeluTanh"
    return node.op_type
