"""Lower single nodes and compare with onnxruntime.

Many cases become one model, with inputs and an output for each, because linking takes longer than
compiling. Lowering sees the nodes as they are: no pass runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from kernel_runner import run_plan
from onnx import helper, numpy_helper

from edgesparse.lower import lower
from edgesparse.plan import Plan
from edgesparse.target import resolve_target


@dataclasses.dataclass(eq=False)
class Case:
    """One node.

    Attributes:
        op: Operator.
        inputs: Arrays for the node's inputs; None for one left out.
        attributes: Of the node.
        constants: Positions of the inputs that are initializers.
        layouts: Position of an input, or "y" for the output -> `edgesparse.layout`.
        tolerance: Relative and absolute; 0 means equal.
    """

    op: str
    inputs: Sequence[np.ndarray | None]
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    constants: Sequence[int] = ()
    layouts: Mapping[int | str, str] = dataclasses.field(default_factory=dict)
    tolerance: float = 2e-6

    def __str__(self) -> str:
        shapes = [None if a is None else (*a.shape, str(a.dtype)) for a in self.inputs]
        return f"{self.op}{shapes} {dict(self.attributes)} {dict(self.layouts)}"


def check(*cases: Case, opset: int = 20) -> None:
    """Compare every case with onnxruntime."""
    proto, feeds = _model(cases, opset)
    expected = _onnxruntime(proto, feeds)
    plan = lower_model(_with_layouts(proto, cases))
    results = run_plan(plan, *feeds.values())
    for case, have, want in zip(cases, results, expected, strict=True):
        assert have.dtype == want.dtype and have.shape == want.shape, str(case)
        np.testing.assert_allclose(
            have, want, rtol=case.tolerance, atol=case.tolerance, err_msg=str(case)
        )


def lower_case(case: Case, opset: int = 20) -> Plan:
    """Return the plan of one case."""
    return lower_model(model_of([case], opset))


def model_of(cases: Sequence[Case], opset: int = 20) -> ir.Model:
    """Return the model of some cases, with their layouts."""
    return _with_layouts(_model(cases, opset)[0], cases)


def lower_model(model: ir.Model) -> Plan:
    """Return the plan of a model for the host."""
    return lower(model, resolve_target("host"), "m")


def _model(cases: Sequence[Case], opset: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    nodes, initializers, feeds, outputs = [], [], {}, []
    for i, case in enumerate(cases):
        names = []
        for j, array in enumerate(case.inputs):
            names.append("" if array is None else f"x{i}_{j}")
            if array is None:
                continue
            if j in case.constants:
                initializers.append(numpy_helper.from_array(array, names[-1]))
            else:
                feeds[names[-1]] = array
        nodes.append(
            helper.make_node(case.op, names, [f"y{i}"], name=f"{case.op}_{i}", **case.attributes)
        )
        outputs.append(onnx.ValueInfoProto(name=f"y{i}"))
    graph = helper.make_graph(
        nodes,
        "nodes",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in feeds.items()
        ],
        outputs,
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True), feeds


def _with_layouts(proto: onnx.ModelProto, cases: Sequence[Case]) -> ir.Model:
    model = ir.from_proto(proto)
    for node, case in zip(model.graph, cases, strict=True):
        if node.outputs[0].shape is None:  # GroupNormalization has no shape inference
            node.outputs[0].shape, node.outputs[0].type = node.inputs[0].shape, node.inputs[0].type
        for position, layout in case.layouts.items():
            value = node.outputs[0] if position == "y" else node.inputs[int(position)]
            assert value is not None
            value.metadata_props["edgesparse.layout"] = layout
    return model


def _onnxruntime(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(feeds))
