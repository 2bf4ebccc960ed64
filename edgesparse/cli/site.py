"""The demo as a static site: a sparse model beside its dense one, and the curve over zeros.

    SITE/index.html ...   the page of every WebAssembly bundle, with its own models.mjs
    SITE/sparse, dense    bundles of the trained digits models
    SITE/zeros-90 ...     the dense one with its smallest weights zero, for the curve only

Nothing is loaded from elsewhere, so any server of files can serve it, GitHub Pages for one.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgesparse.files import temporary_folder, write_whole_text

if TYPE_CHECKING:
    import onnx

SPARSE, DENSE = "digits_mobilenet_v1", "digits_mobilenet_v1_dense"
CURVE = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
_MODELS = """\
/** What the page shows; written by `edgesparse demo --serve`. */
export {{ Session }} from "./sparse/index.mjs";

const at = (folder) => new URL(`./${{folder}}/`, import.meta.url);

export const models = {models}.map(([label, folder]) => ({{ label, folder: at(folder) }}));

export const curve = {curve}.map((folder) => ({{ folder: at(folder) }}));
"""


def write_site(site: pathlib.Path, progress: Callable[[str, float], None]) -> None:
    """Compile the models and write the page; what an older run wrote there is replaced.

    Args:
        site: Folder to write.
        progress: Told the stage and the finished fraction.

    Raises:
        OutputError: It cannot be written.
    """
    from edgesparse.compiler import compile
    from edgesparse.models import zoo

    bundles = {"sparse": zoo.path(SPARSE), "dense": zoo.path(DENSE)}
    with temporary_folder() as folder:
        for sparsity in CURVE:
            name = f"zeros-{round(100 * sparsity):02d}"
            bundles[name] = folder / f"{name}.onnx"
            write_pruned(zoo.path(DENSE), sparsity, bundles[name])
        for done, (name, model) in enumerate(bundles.items()):
            progress(f"compiling {name}", done / len(bundles))
            bundle = compile(model, target="wasm", output=site / name)
            # The page stands once, outside.
            _copy_page(bundle.path / "demo", site)
    curve = [name for name in bundles if name.startswith("zeros")]
    labels = [["sparse, 80 % zeros", "sparse"], ["dense", "dense"]]
    text = _MODELS.format(models=json.dumps(labels), curve=json.dumps(curve))
    write_whole_text(site / "models.mjs", text, "")


def _copy_page(source: pathlib.Path, site: pathlib.Path) -> None:
    for file in source.iterdir():
        write_whole_text(site / file.name, file.read_text(encoding="utf-8"), "")


def write_pruned(source: pathlib.Path, sparsity: float, output: pathlib.Path) -> None:
    """Write a model with the smallest weights of every 1x1 convolution and linear layer zero.

    Args:
        source: ONNX file.
        sparsity: Share of each weight's elements.
        output: ONNX file.
    """
    import numpy as np
    import onnx

    model = onnx.load(source)
    for initializer in model.graph.initializer:
        if _is_prunable(initializer):
            weight: Any = onnx.numpy_helper.to_array(initializer).copy()
            order = np.argsort(np.abs(weight), axis=None)
            weight.flat[order[: round(sparsity * weight.size)]] = 0
            initializer.CopyFrom(onnx.numpy_helper.from_array(weight, initializer.name))
    onnx.save(model, output)


def _is_prunable(initializer: onnx.TensorProto) -> bool:
    extents = list(initializer.dims)
    return len(extents) == 2 or (len(extents) == 4 and extents[2:] == [1, 1])
