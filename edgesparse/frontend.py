"""The front end: an ONNX file becomes one canonical, static graph.

What later floors may rely on after `load`:

* every value has a dtype and a static, non-empty shape; activations and weights are float32;
* constants are initializers; no graph input is an initializer;
* no functions, Identity (but for an output that is an input, a constant or another output),
  Dropout, unused nodes or foreign metadata;
* every node has a name of its own; graph inputs and outputs keep theirs.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pathlib
import types
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from onnxscript import rewriter
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter.rules import common as rules

from edgesparse.frontend_checks import (
    BROKEN_HINT,
    check_graph,
    check_initializers,
    check_outputs,
)
from edgesparse.frontend_functions import write_out_functions
from edgesparse.frontend_reading import (
    NEWEST_OPSET as NEWEST_OPSET,
)
from edgesparse.frontend_reading import (
    foreign_errors,
    operator_name,
    read_model,
    unsupported_operators,
)
from edgesparse.frontend_shapes import Shape, bind_shapes, infer_shapes
from edgesparse.frontend_trivial import leave_out_trivial

DECLINED_PREFIX = "edgesparse.declined."
NO_SHAPES: Mapping[str, Shape] = types.MappingProxyType({})

# Rules that hold in every opset and for every shape. onnxscript's default set also folds batch
# normalisations and clamps (passes do that, and record it) and writes operators of newer opsets.
_RULES = (
    *rules.add_0_rule.commute(),
    *rules.mul_by_1_rule.commute(),
    rules.sub_0_rule,
    rules.div_by_1_rule,
    rules.reshape_reshape_rule,
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
)
_ROUNDS = 4
_MAX_GROWN_ELEMENTS = 1 << 16
_NEVER_FOLDED = frozenset({"Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Loop", "Scan"})


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence numpy about constants that overflow, and the optimiser about what it skips."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@_quiet_libraries()
def load(path: str | os.PathLike[str], shapes: Mapping[str, Shape] = NO_SHAPES) -> ir.Model:
    """Return the canonical model of an ONNX file.

    Args:
        path: The file; external data is looked for beside it.
        shapes: Input name -> static shape, for inputs with symbolic dimensions.

    Raises:
        UsageError: The file cannot be read, or `shapes` contradicts the model.
        InvalidModelError: The file is not a valid ONNX model, or its weights hold NaN or Inf.
        UnsupportedModelError: Opset, operators, dtypes, size or dynamic shapes are not supported.
    """
    path = pathlib.Path(path)
    proto = read_model(path)
    with foreign_errors(f"{path} is corrupt"):
        model = ir.serde.deserialize_model(proto)
        common_passes.ClearMetadataAndDocStringPass()(model)
        common_passes.InlinePass()(model)
        common_passes.RemoveInitializersFromInputsPass()(model)
        check_initializers(model.graph)
        check_outputs(model.graph)
        _name_nodes(model.graph)
    bind_shapes(model.graph, shapes)
    with foreign_errors(f"{path} is inconsistent", hint=BROKEN_HINT):
        model = write_out_functions(model)
        canonicalise(model)
        infer_shapes(model)
    check_graph(model.graph)
    return model


def canonicalise(model: ir.Model) -> None:
    """Fold constants, drop what does nothing, lift constants to initializers; in place."""
    output_names = [str(output.name) for output in model.graph.outputs]
    for _ in range(_ROUNDS):
        if not _simplify(model):
            break
    _separate_outputs(model.graph, output_names)
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common_passes.DeduplicateInitializersPass()(model)
    common_passes.CommonSubexpressionEliminationPass()(model)
    common_passes.RemoveUnusedNodesPass()(model)
    common_passes.RemoveUnusedOpsetsPass()(model)
    common_passes.ClearMetadataAndDocStringPass()(model)
    _name_nodes(model.graph)


def _simplify(model: ir.Model) -> bool:
    """Run one round; return whether it changed anything."""
    folded = fold_constants(model, onnx_shape_inference=True, should_fold=_is_worth_folding)
    modified = [
        folded.modified,
        leave_out_trivial(model.graph),
        rewriter.RewritePass(_RULES)(model).modified,
        common_passes.IdentityEliminationPass()(model).modified,
        common_passes.RemoveUnusedNodesPass()(model).modified,
    ]
    return any(modified)


def _is_worth_folding(node: ir.Node) -> bool | None:
    """Return whether to compute a node of constants now: never if that makes the model larger.

    A pruning mask (weight * mask), a transposed weight and, from opset 19 on, a dequantised one are
    folded whatever their size; an Expand of a scalar into a plane is not.
    """
    if node.op_type in _NEVER_FOLDED:
        return False
    taken = sum(value.const_value.size for value in node.inputs if value and value.const_value)
    made = 0
    for value in node.outputs:
        if value.shape is None or not value.shape.is_static():
            return None
        made += math.prod(value.shape.numpy())
    return made <= max(taken, _MAX_GROWN_ELEMENTS)


def _separate_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Give every graph output a node of its own, by an Identity where it has none, and its name.

    Eliminating Identity renames values, so two outputs may have become one value of one name. An
    output that is a graph input keeps its name, and so does the input: two values, one name.
    """
    seen: set[ir.Value] = set()
    for index, (output, name) in enumerate(zip(tuple(graph.outputs), names, strict=True)):
        producer = output.producer()
        is_computed = producer is not None and producer.op_type != "Constant"
        if is_computed and output not in seen:
            output.name = name
        else:
            if not is_computed and not output.is_graph_input() and output.name == name:
                output.name = f"{name}__constant"
            graph.outputs[index] = _copy_output(graph, output, name)
        seen.add(output)


def _copy_output(graph: ir.Graph, output: ir.Value, name: str) -> ir.Value:
    node = ir.node("Identity", inputs=[output], name=f"{name}_copy")
    copy = node.outputs[0]
    copy.name, copy.type, copy.shape = name, output.type, output.shape
    graph.append(node)
    return copy


def _name_nodes(graph: ir.Graph) -> None:
    taken = {node.name for node in graph if node.name}
    seen: set[str] = set()
    for index, node in enumerate(graph):
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        name = f"{node.name or node.op_type}_{index}"
        while name in taken or name in seen:
            name += "_"
        node.name = name
        seen.add(name)


def check_coverage(model: ir.Model, supported: Collection[str]) -> None:
    """Check that every operator can be compiled.

    Args:
        model: A model after the passes.
        supported: `Relu` for ONNX's own operators, `edgesparse::Conv` for others.

    Raises:
        UnsupportedModelError: Lists all operators that cannot, with counts and the passes' reasons.
    """
    found: dict[str, list[str]] = {}
    reasons: dict[str, set[str]] = {}
    for node in model.graph:
        operator = operator_name(node.domain, node.op_type)
        if operator in supported:
            continue
        found.setdefault(operator, []).append(node.name or "")
        declined = (v for k, v in node.metadata_props.items() if k.startswith(DECLINED_PREFIX))
        reasons.setdefault(operator, set()).update(declined)
    if found:
        raise unsupported_operators(found, opset=model.opset_imports[""], reasons=reasons)
