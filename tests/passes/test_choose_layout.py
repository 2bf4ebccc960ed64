"""The layout pass: no copy between a convolution and what surrounds it."""

import numpy as np
import onnx_ir as ir
import texts
from compiled import assert_same_as_onnxruntime
from linear_models import conv_model, model_of, sparse
from onnx import helper

from edgesparse import passes
from edgesparse.passes.choose_layout import LAYOUT_KEY, ChooseLayoutPass
from edgesparse.target import resolve_target


def test_images_become_planes_and_a_second_run_changes_nothing():
    model = conv_model([1, 4, 7, 7], sparse((6, 4, 3, 3), 0.5))
    optimised = passes.run(ir.from_proto(model), resolve_target("host"))
    conv = next(node for node in optimised.graph if node.op_type == "Conv")
    assert conv.inputs[0].metadata_props[LAYOUT_KEY] == "planes:1"
    assert conv.outputs[0].metadata_props[LAYOUT_KEY] == "planes:1"
    assert not ChooseLayoutPass()(optimised).modified


def test_elementwise_operators_pass_planes_on():
    """conv -> sigmoid -> (* second input) -> conv needs no copy but of the model's own arrays."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv0"),
        helper.make_node("Sin", ["r"], ["q"], "sin"),
        helper.make_node("Mul", ["a", "z"], ["b"], "mul"),
        helper.make_node("Conv", ["b", "w"], ["y"], "conv1"),
    ]
    shape = [1, 5, 7, 9]
    model = model_of(
        [n for n in nodes if n.op_type != "Sin"],
        {"x": shape, "z": shape},
        {"y": shape},
        {"w": sparse((5, 5, 1, 1), 0.5)},
    )
    plan = assert_same_as_onnxruntime(model)
    copies = [step for step in plan.steps if "copy" in step.symbol]
    assert len(copies) == len(plan.inputs) + len(plan.outputs)


def test_a_join_that_is_only_joined_again_is_made_of_planes():
    model = texts.proto(
        """(float[1, 4, 7, 9] x) => (float[1, 4, 7, 9] y) {
            a = Conv (x, v)
            b = Conv (a, w)
            ab = Concat <axis = 1> (a, b)
            c = Conv (b, w)
            abc = Concat <axis = 1> (ab, c)
            abcx = Concat <axis = 1> (abc, x)
            y = Conv (abcx, z)
        }""",
        v=texts.random(8, 4, 1, 1),
        w=texts.random(8, 8, 1, 1),
        z=texts.random(4, 28, 1, 1),
    )
    plan = assert_same_as_onnxruntime(model)
    copies = [step for step in plan.steps if "copy" in step.symbol]
    assert len(copies) == len(plan.inputs) + len(plan.outputs)


def test_tokens_become_planes_of_features():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "matmul")]
    weights = {"w": sparse((12, 8), 0.5)}
    model = model_of(nodes, {"x": [1, 7, 12]}, {"y": [1, 7, 8]}, weights)
    optimised = passes.run(ir.from_proto(model), resolve_target("host"))
    assert optimised.graph.outputs[0].metadata_props[LAYOUT_KEY] == "planes:2"
    assert np.all([not value.metadata_props for value in optimised.graph.initializers.values()])
