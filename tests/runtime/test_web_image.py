"""The image helper of a session: RGBA pixels become normalised planes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle.fixtures import MODEL_SHA256
from bundle.parallel import parallel_plan
from web_scripts import evaluate, refused

from edgesparse import codegen
from edgesparse.bundle import Bundle, write_bundle
from edgesparse.kernels.image import ImagePlanes, image_planes
from edgesparse.plan import TensorSpec
from edgesparse.target import WASM

pytestmark = pytest.mark.isa("wasm")


def planes_script(channels: int, height: int, width: int, options: str) -> str:
    return f"""
        const [height, width] = [{height}, {width}];
        const data = new Uint8ClampedArray(4 * height * width).map((_, i) => (i * 37) % 256);
        const s = await Session.load(folder);
        print([...s.planes({{ data, width, height }}, {options})]);
    """


def image_bundle(output: Path, shape: tuple[int, ...]) -> Bundle:
    plan = parallel_plan()
    plan.inputs = (TensorSpec("x", shape),)
    code = codegen.build_object(plan, WASM)
    return write_bundle(plan, WASM, code, output, MODEL_SHA256)


@pytest.mark.parametrize("size", [(26, 20), (5, 104), (13, 39), (1, 521)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_becomes_planes(tmp_path: Path, channels: int, size: tuple[int, int]) -> None:
    made = image_bundle(tmp_path / "toy", (1, channels, *size))
    mean, std = [0.485, 0.456, 0.406][:channels], [0.229, 0.224, 0.225][:channels]
    options = json.dumps({"mean": mean, "std": std})
    found = evaluate(made.path, planes_script(channels, *size, options))
    pixels = (np.arange(4 * size[0] * size[1]) * 37 % 256).reshape(-1, 4)[:, :3] / 255
    if channels == 1:
        pixels = pixels @ [[0.299], [0.587], [0.114]]
    expected = ((pixels - mean) / std).T
    np.testing.assert_allclose(np.reshape(found, expected.shape), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        ("{ data: new Uint8Array(80), width: 5, height: 4 }", "{}", "expected 4x5, RGBA, found"),
        ("{ data: new Uint8Array(79), width: 4, height: 5 }", "{}", "found 4x5 with 79 bytes"),
        ("{ data: [1, 2], width: 4, height: 5 }", "{}", "image: expected an ArrayBuffer"),
        ("{ data: new Uint8Array(80), width: 4, height: 5 }", "{ std: 0 }", "finite numbers"),
        ("{ data: new Uint8Array(80), width: 4, height: 5 }", "{ mean: [0, 1] }", "finite"),
        ("{ data: new Uint8Array(80), width: 4, height: 5 }", "{ std: [1, 1, 1, 1] }", "finite"),
    ],
)
def test_an_image_that_does_not_fit(
    tmp_path_factory: pytest.TempPathFactory, image: str, options: str, message: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "image-4x5"
    if not folder.exists():
        image_bundle(folder, (1, 3, 5, 4))
    action = f"async () => (await Session.load(folder)).planes({image}, {options})"
    code, found = refused(folder, action)
    assert code == "input"
    assert message in found


def test_the_luma_of_three_means(tmp_path: Path) -> None:
    """None of the three is its own."""
    image_bundle(tmp_path / "toy", (1, 1, 5, 4))
    image = "{ data: new Uint8Array(80), width: 4, height: 5 }"
    action = f"async () => (await Session.load(folder)).planes({image}, {{ mean: [1, 2, 3] }})"
    code, found = refused(tmp_path / "toy", action)
    assert (code, "expected 1 finite" in found) == ("input", True)


def test_a_model_without_an_image(wasm_bundle: Bundle) -> None:
    action = """async () => {
        const s = await Session.load(folder);
        s.planes({ data: new Uint8Array(4), width: 1, height: 1 });
    }"""
    code, message = refused(wasm_bundle.path, action)
    assert (code, "is no image" in message) == ("input", True)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((1, 3, 5, 4), "float32", ImagePlanes(20, 3)),
        ((1, 1, 5, 4), "float32", ImagePlanes(20, 1)),
        ((1, 2, 5, 4), "float32", None),
        ((2, 3, 5, 4), "float32", None),
        ((3, 5, 4), "float32", None),
        ((1, 3, 5, 4), "uint8", None),
    ],
)
def test_which_inputs_are_images(shape: Any, dtype: str, expected: ImagePlanes | None) -> None:
    assert image_planes([TensorSpec("x", shape, dtype)]) == expected
