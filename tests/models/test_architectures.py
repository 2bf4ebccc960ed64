"""Every architecture of the zoo, as a small twin: exported, rewritten, compiled, compared."""

from __future__ import annotations

import compiled
import numpy as np
import onnx
import oracle
import pass_spec
import pytest
from permutations import permute_all, prepared

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")
pytest.importorskip("onnxruntime")

from edgesparse import frontend, passes  # noqa: E402
from edgesparse.models import zoo  # noqa: E402
from edgesparse.target import WASM  # noqa: E402

SMALL = {"resolution": 64, "width": 0.25}
TWINS = {
    **dict.fromkeys(zoo.ZOO, SMALL),
    "densenet_121": {**SMALL, "depth": 0.17},
    "ds_cnn": {"width": 0.5, "depth": 0.5},
    "efficientnet_b0": {**SMALL, "depth": 0.5},
    "mlp_mixer": {**SMALL, "depth": 0.25},
    "shufflenet_v2": {**SMALL, "depth": 0.5},
    "vit_tiny": {**SMALL, "depth": 0.17},
    "yolo": {"resolution": 64, "width": 0.5, "depth": 0.5},
}
# Trainable parameters as published: torchvision's model pages; timm's for the last two.
PARAMETERS = {
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_small": 2_542_856,
    "mobilenet_v3_large": 5_483_032,
    "efficientnet_b0": 5_288_548,
    "resnet_18": 11_689_512,
    "resnet_50": 25_557_032,
    "shufflenet_v2": 2_278_604,
    "squeezenet_1_1": 1_235_496,
    "densenet_121": 7_978_856,
    "vit_tiny": 5_717_416,
    "mlp_mixer": 18_528_264,
}
HALF_ZEROS = {"sparsity": 0.5, "pattern": "unstructured", "seed": 0}


def build_twin(name: str, folder, **options):
    """Return the file and the card of a small twin."""
    path = folder / f"{name}.onnx"
    return path, zoo.build(name, output=path, **HALF_ZEROS, **TWINS[name], **options)


@pytest.fixture(scope="module", params=zoo.ZOO)
def twin(request, tmp_path_factory):
    """The name, the file and the card of a small twin of every architecture."""
    return request.param, *build_twin(request.param, tmp_path_factory.mktemp("twin"))


def test_graph_gives_what_torch_gives(twin):
    name, path, card = twin
    shape = tuple(card["input_shape"])
    recipe = zoo.ZOO[name]
    model = zoo.random_network(
        recipe,
        shape=shape,
        width=card["width"],
        depth=card["depth"] if "depth" in TWINS[name] else None,
        sparsity=0.5,
    )
    inputs = np.random.default_rng(0).standard_normal(shape, np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(inputs)).numpy()
    found = oracle.run(onnx.load(path), {recipe.input_name: inputs})
    assert list(found) == [recipe.output_name]
    found = found[recipe.output_name]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert 0.1 < found.std() < 8.0


def test_graph_is_static_small_and_pruned(twin):
    _, path, card = twin
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert card["size_bytes"] == path.stat().st_size < 16e6
    assert card["layers"]
    for row in card["layers"]:
        assert row["zeros"] == round(0.5 * np.prod(row["shape"]))


def test_passes_keep_the_outputs_and_settle(twin):
    _, path, _ = twin
    model = passes.run(frontend.load(path), WASM)
    pass_spec.check_final(model)
    inputs = oracle.random_inputs(model)
    (expected,) = oracle.run(onnx.load(path), inputs).values()
    (found,) = oracle.run_ir(model, inputs).values()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert [stage.name for stage in passes.PIPELINE if stage.build(WASM)(model).modified] == []


def test_any_permutation_of_its_channels_computes_the_same(twin):
    name, path, _ = twin
    # Fifty layers deep, rounding alone makes 1e-5.
    assert permute_all(prepared(onnx.load(path)), tolerance=5e-5) > 0, name


def check_compiled(path) -> None:
    """Compile for the host, run on hostile memory, compare with onnxruntime."""
    model = onnx.load(path)
    inputs = compiled.random_inputs(model)
    found = compiled.run_plan(compiled.plan_of(model), inputs)
    for name, expected in compiled.expected(model, inputs).items():
        atol = 1e-4 * np.abs(expected).max()  # sums of another order, through all layers
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=atol, err_msg=name)


def test_compiled_twin_equals_onnxruntime(twin):
    check_compiled(twin[1])


@pytest.mark.parametrize(
    ("name", "opset"),
    [("mobilenet_v3_small", 13), ("shufflenet_v2", 13), ("unet_bilinear", 15), ("vit_tiny", 17)],
)
def test_graphs_of_the_older_exporter(name, opset, tmp_path):
    path, card = build_twin(name, tmp_path, exporter="torchscript", opset=opset)
    model = onnx.load(path)
    assert model.opset_import[0].version == card["opset"] == opset
    assert model.producer_name == "pytorch"
    assert b"site-packages" not in path.read_bytes()
    check_compiled(path)


@pytest.mark.parametrize("name", ["densenet_121", "unet"])
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_graphs_with_batch_normalisation(name, exporter, tmp_path):
    path, card = build_twin(name, tmp_path, keep_batchnorm=True, exporter=exporter)
    convolutions = card["ops"]["Conv"] - (name == "unet")  # its last one has a bias and no norm
    assert card["ops"]["BatchNormalization"] == convolutions + (name == "densenet_121")
    check_compiled(path)


@pytest.mark.parametrize("name", PARAMETERS)
def test_full_size_has_the_published_parameters(name):
    model = zoo.ZOO[name].make()
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.ZOO)
def test_full_size_twin_equals_onnxruntime(name, tmp_path):
    path = tmp_path / "m.onnx"
    zoo.build(name, sparsity=0.9, pattern="unstructured", seed=0, output=path)
    check_compiled(path)


def test_a_wide_input_keeps_its_proportions():
    assert zoo.ZOO["ds_cnn"].scaled_shape(None) == (1, 1, 49, 10)
    assert zoo.ZOO["ds_cnn"].scaled_shape(98) == (1, 1, 98, 20)
