"""Peers: the model they are given computes the same; what they serve is the runner's protocol."""

import hashlib
import io
import json

import numpy as np
import onnx
import pytest
from peers import PEERS, open_peer, peers_for
from peers.environment import module_of, run_quietly, stamp_of
from peers.portable import portable

from edgesparse.errors import DeviceError

ort = pytest.importorskip("onnxruntime")

CLASSIFIER = """
    <ir_version: 9, opset_import: ["": 20]>
    classifier (float[1,3,8,8] image) => (float[1,5] logits)
    <float[4,3,1,1] w, float[4] b, int64[2] axes = {2, 3}, int64[2] shape = {1, 4},
     float[5,4] v, float[5] c> {
        conv = Conv <kernel_shape = [1, 1]> (image, w, b)
        relu = Relu (conv)
        mean = ReduceMean <keepdims = 1> (relu, axes)
        flat = Reshape (mean, shape)
        logits = Gemm <transB = 1> (flat, v, c)
    }
"""
MANIFEST = {
    "inputs": [{"name": "image", "shape": [1, 3, 8, 8], "dtype": "float32"}],
    "outputs": [{"name": "logits", "shape": [1, 5], "dtype": "float32"}],
    "target": {"name": "host"},
}


def classifier() -> onnx.ModelProto:
    model = onnx.parser.parse_model(CLASSIFIER)
    random = np.random.default_rng(0)
    shapes = {"w": (4, 3, 1, 1), "b": (4,), "v": (5, 4), "c": (5,)}
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in shapes]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for name, shape in shapes.items():
        array = random.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def test_portable_model_computes_the_same():
    image = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    rewritten = portable(classifier())
    onnx.checker.check_model(rewritten)
    assert [n.op_type for n in rewritten.graph.node][2:4] == ["GlobalAveragePool", "Flatten"]
    np.testing.assert_allclose(run(rewritten, image), run(classifier(), image), rtol=1e-5)


def test_portable_model_holds_no_constant_that_nobody_reads():
    assert {t.name for t in portable(classifier()).graph.initializer} == {"w", "b", "v", "c"}


def test_an_operator_without_portable_form_is_named():
    model = classifier()
    model.graph.node[1].op_type = "HardSwish"
    with pytest.raises(DeviceError, match="HardSwish"):
        portable(model)


def with_pooling(**attributes) -> onnx.ModelProto:
    """Return the classifier with a normalisation and a pool, as exporters of today write them."""
    model = classifier()
    ones = onnx.numpy_helper.from_array(np.ones(4, np.float32), "ones")
    model.graph.initializer.append(ones)
    norm = onnx.helper.make_node(
        "BatchNormalization", ["conv", *["ones"] * 4], ["norm"], "norm", training_mode=0
    )
    pool = onnx.helper.make_node(
        "AveragePool", ["norm"], ["pool"], kernel_shape=[2, 2], **attributes
    )
    model.graph.node.insert(1, norm)
    model.graph.node.insert(2, pool)
    model.graph.node[3].input[0] = "pool"
    return model


def test_attributes_of_newer_operators_are_left_out_where_they_say_nothing():
    image = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    model = with_pooling(dilations=[1, 1])
    rewritten = portable(model)
    onnx.checker.check_model(rewritten)
    np.testing.assert_allclose(run(rewritten, image), run(model, image), rtol=1e-5)


def test_attributes_that_the_portable_form_lacks_are_named():
    with pytest.raises(DeviceError, match="dilations of AveragePool"):
        portable(with_pooling(dilations=[2, 2]))


def test_reduce_mean_over_other_axes_is_refused():
    model = classifier()
    axes = next(t for t in model.graph.initializer if t.name == "axes")
    axes.CopyFrom(onnx.numpy_helper.from_array(np.array([1], np.int64), "axes"))
    with pytest.raises(DeviceError, match="ReduceMean"):
        portable(model)


def test_onnxruntime_peer_runs_and_is_timed(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(classifier(), path)
    image = np.random.default_rng(2).standard_normal((2, 1, 3, 8, 8)).astype(np.float32)
    session, version = open_peer("onnxruntime", path, MANIFEST, tmp_path)
    try:
        found = session.run({"image": image})["logits"]
        samples = session.bench(3, 2)
    finally:
        session.close()
    assert version == ort.__version__
    assert len(samples) == 3 and min(samples) > 0
    expected = np.stack([run(classifier(), one) for one in image])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_peer_that_cannot_open_the_model_says_why(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(DeviceError, match="onnxruntime"):
        open_peer("onnxruntime", path, MANIFEST, tmp_path)


def test_peers_stand_beside_what_they_can_be_compared_with():
    native, wasm = peers_for("host"), peers_for("wasm-relaxed")
    assert "deepsparse" in native and "litertjs-sparse" in wasm
    assert sorted(native + wasm) == sorted(PEERS)
    assert not any(PEERS[name].on_wasm for name in native)


@pytest.mark.parametrize("peer", [p for p in PEERS.values() if not p.on_wasm], ids=lambda p: p.name)
def test_packages_of_a_peer_are_pinned(peer):
    packages = module_of(peer.module).PACKAGES
    assert not packages or "==" in packages[0]


def test_deepsparse_is_told_not_to_report_its_use():
    assert module_of("deepsparse_peer").ENVIRONMENT["NM_DISABLE_ANALYTICS"] == "True"


def test_other_packages_are_another_environment():
    assert stamp_of(("a==1",)) != stamp_of(("a==2",))
    assert stamp_of(("a==1",)) == hashlib.sha256(b"a==1").hexdigest()[:16]


def test_a_failed_installation_is_quoted():
    import sys

    with pytest.raises(DeviceError, match=r"installing x failed with status 3: no such wheel"):
        program = "import sys; print('no such wheel', file=sys.stderr); sys.exit(3)"
        run_quietly([sys.executable, "-c", program], "installing x")


def test_a_wrong_command_is_answered_not_fatal():
    from peers.serve import _Server

    class Engine:
        version = "1"

        def __init__(self, *_):
            pass

        def prepare(self, arrays):
            return arrays

        def run(self, arrays):
            return arrays

    module = type("module", (), {"open_model": Engine})
    protocol = io.StringIO()
    server = _Server(module, "model", MANIFEST, protocol)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO("jump\nbench 2\nquit\nbench 1\n"))
        server.serve()
    answers = [json.loads(line) for line in protocol.getvalue().splitlines()]
    assert answers[0]["ready"] and "error" in answers[1]
    assert len(answers[2]["samples_ns"]) == 2 and len(answers) == 3
