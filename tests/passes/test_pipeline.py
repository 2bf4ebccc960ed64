import graphs
import numpy as np
import onnx
import oracle
import pass_spec
import pytest

from edgesparse import frontend, passes
from edgesparse.models import zoo
from edgesparse.target import WASM

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def load(proto: onnx.ModelProto, folder):
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return frontend.load(path)


@pytest.mark.parametrize("name", graphs.GRAPHS)
def test_every_stage_keeps_the_outputs(name, tmp_path):
    proto = graphs.GRAPHS[name]()
    model = load(proto, tmp_path)
    inputs = oracle.random_inputs(model)
    expected = oracle.run(proto, inputs)
    pass_spec.check(model)
    for stage in passes.PIPELINE:
        stage.build(WASM)(model)
        pass_spec.check(model)
        found = oracle.run_ir(model, inputs)
        assert list(found) == list(expected)
        for output, array in expected.items():
            np.testing.assert_allclose(found[output], array, **TOLERANCE, err_msg=stage.name)
    pass_spec.check_final(model)


@pytest.mark.parametrize("name", graphs.GRAPHS)
def test_second_run_changes_nothing(name, tmp_path):
    model = passes.run(load(graphs.GRAPHS[name](), tmp_path), WASM)
    assert [stage.name for stage in passes.PIPELINE if stage.build(WASM)(model).modified] == []


@pytest.mark.parametrize("name", graphs.GRAPHS)
def test_is_deterministic(name, tmp_path):
    def compiled() -> bytes:
        model = passes.run(load(graphs.GRAPHS[name](), tmp_path), WASM)
        return oracle.expand(model).SerializeToString(deterministic=True)

    assert compiled() == compiled()


@pytest.mark.parametrize("opset", [13, 14, 17, 18, 20, 21])
def test_opsets(opset, tmp_path):
    for build in (graphs.transformer_block, graphs.mobile_block, graphs.keyword_spotter):
        proto = build(opset)
        model = passes.run(load(proto, tmp_path), WASM)
        inputs = oracle.random_inputs(model)
        for found, expected in zip(
            oracle.run_ir(model, inputs).values(), oracle.run(proto, inputs).values(), strict=True
        ):
            np.testing.assert_allclose(found, expected, **TOLERANCE)


def test_residual_and_activation_are_fused_in_order(tmp_path):
    model = passes.run(load(graphs.resnet_block(), tmp_path), WASM)
    fused = [node.metadata_props.get("edgesparse.fused", "") for node in model.graph]
    assert fused.count("BatchNormalization,Add,Relu") == 2
    assert "edgesparse::Linear" in pass_spec.ops(model)


def test_only_runs_the_named_passes(tmp_path):
    model = load(graphs.resnet_block(), tmp_path)
    passes.run(model, WASM, only={"CanonicaliseConvPass"})
    assert {"edgesparse::Conv", "BatchNormalization", "Gemm"} <= set(pass_spec.ops(model))


def test_every_stage_has_a_reason_and_a_name():
    assert all(stage.why and stage.name.endswith("Pass") for stage in passes.PIPELINE)
    names = [stage.name for stage in passes.PIPELINE]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", zoo.TRAINED)
def test_trained_models(name):
    path = zoo.path(name)
    model = passes.run(frontend.load(path), WASM)
    pass_spec.check_final(model)
    inputs = oracle.random_inputs(model)
    (expected,) = oracle.run(onnx.load(path), inputs).values()
    (found,) = oracle.run_ir(model, inputs).values()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("keep_batchnorm", [False, True])
@pytest.mark.parametrize("name", zoo.ZOO)
def test_full_size_networks(name, keep_batchnorm, tmp_path):
    pytest.importorskip("torch", reason="the zoo is built with torch")
    path = tmp_path / "model.onnx"
    zoo.build(
        name,
        sparsity=0.8,
        pattern="unstructured",
        seed=0,
        output=path,
        resolution=64,
        keep_batchnorm=keep_batchnorm,
    )
    model = passes.run(frontend.load(path), WASM)
    pass_spec.check_final(model)
    # A mixer adds its token branch behind a Transpose, where no layer can take the sum.
    declined = [
        key
        for node in model.graph
        for key in node.metadata_props
        if key.startswith("edgesparse.declined")
    ]
    assert declined == [] or name == "mlp_mixer"
    inputs = oracle.random_inputs(model)
    (expected,) = oracle.run(onnx.load(path), inputs).values()
    (found,) = oracle.run_ir(model, inputs).values()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
