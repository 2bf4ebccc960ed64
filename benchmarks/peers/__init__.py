"""The engines a user would pick instead, each behind the runner's line protocol.

    session, version = open_peer("mnn-sparse", model, bundle.manifest, folder)

A peer is a process that speaks like a bundle's runner, so the harness's one loop can take turns
with it. A Python engine is one module here (`deepsparse_peer.py`), served by `serve.py` in an
environment of its own; a JavaScript engine is one in `web/`, served by `serve.mjs`. A peer that
cannot be had raises `DeviceError` with the reason.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from edgesparse.harness.browser import FILES, page_command
from edgesparse.harness.cpus import choose_cpus
from edgesparse.harness.local import relaxed_simd_flags
from edgesparse.harness.session import ProcessSession
from peers.environment import module_of, node_modules, run_quietly, venv_python
from peers.portable import write_portable

HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """One way to run an ONNX model with somebody else's engine.

    Attributes:
        name: As `--peers` spells it.
        module: Python module or JavaScript file, without its ending.
        on_wasm: It runs in node, not natively.
        is_dense: It multiplies by every zero.
        needs_portable: It is given the model in old and plain operators.
        converter: Python module whose `convert` writes the engine's own format, if it has one.
        suffix: Ending of that format.
        use_sparsity: What `convert` is told.
        note: For the page.
    """

    name: str
    module: str
    on_wasm: bool
    is_dense: bool
    needs_portable: bool = False
    converter: str | None = None
    suffix: str = ""
    use_sparsity: bool = False
    note: str = ""


_ALL = (
    Peer("onnxruntime", "ort_peer", False, True, note="dense"),
    Peer(
        "deepsparse",
        "deepsparse_peer",
        False,
        False,
        needs_portable=True,
        note="sparse, x86-64 only, end of life 2025",
    ),
    Peer("mnn", "mnn_peer", False, True, True, "mnn_peer", ".mnn", False, "dense"),
    Peer("mnn-sparse", "mnn_peer", False, False, True, "mnn_peer", ".mnn", True, "sparse option"),
    Peer("onnxruntime-web", "ortweb", True, True, note="dense, SIMD"),
    Peer("litertjs", "litertjs", True, True, True, "litert_peer", ".tflite", False, "XNNPACK"),
    Peer(
        "litertjs-sparse",
        "litertjs",
        True,
        False,
        True,
        "litert_peer",
        ".tflite",
        True,
        "XNNPACK, weights encoded sparse",
    ),
)
PEERS = {peer.name: peer for peer in _ALL}


def peers_for(target: str) -> list[str]:
    """Return the names of all peers that run beside a target on this machine."""
    return [peer.name for peer in _ALL if peer.on_wasm == target.startswith("wasm")]


def open_peer(
    name: str,
    model: pathlib.Path,
    manifest: Mapping[str, Any],
    folder: pathlib.Path,
    browser: str | None = None,
) -> tuple[ProcessSession, str]:
    """Return a session of a peer with the model opened, and the engine's version.

    Args:
        name: A key of `PEERS`.
        model: The ONNX file.
        manifest: Of the bundle it stands beside: inputs, outputs, target.
        folder: For converted models.
        browser: Path of the Chromium that JavaScript engines run in; in node by default.

    Raises:
        DeviceError: The engine cannot be installed, or cannot convert or open the model.
    """
    session = ProcessSession(
        command_of(PEERS[name], model, manifest, folder, browser),
        inputs=manifest["inputs"],
        outputs=manifest["outputs"],
        device=name,
    )
    return session, str(session.ready["version"])


def command_of(
    peer: Peer,
    model: pathlib.Path,
    manifest: Mapping[str, Any],
    folder: pathlib.Path,
    browser: str | None = None,
) -> list[str]:
    """Return the command that serves a model with a peer, everything it needs in place."""
    if peer.needs_portable:
        model = write_portable(model, folder / f"{model.stem}.portable.onnx")
    if peer.converter:
        model = _converted(peer, model, folder)
    shapes = {key: manifest[key] for key in ("inputs", "outputs")}
    if peer.on_wasm and browser:
        return _page_command(peer, model, shapes, browser)
    if peer.on_wasm:
        flags = relaxed_simd_flags() if manifest["target"]["name"] == "wasm-relaxed" else ()
        words = [peer.module, str(node_modules()), str(model), json.dumps(shapes)]
        return [shutil.which("node") or "node", *flags, str(HERE / "web/serve.mjs"), *words]
    cpu = next(iter(choose_cpus(1)), "-")
    words = [peer.module, str(cpu), str(model), json.dumps(shapes)]
    return [python_of(peer.module), str(HERE / "serve.py"), *words]


def _page_command(
    peer: Peer, model: pathlib.Path, shapes: Mapping[str, Any], browser: str
) -> list[str]:
    """The engines need inline scripts and eval, and find each other by name."""
    names = {"imports": {"@litertjs/wasm-utils": "/modules/@litertjs/wasm-utils/dist/index.js"}}
    return page_command(
        browser,
        "/peer/page.mjs",
        [peer.module, "/modules", f"/model/{model.name}", shapes, FILES],
        {
            "/model/": str(model.parent.resolve()),
            "/modules/": str(node_modules()),
            "/peer/": str(HERE / "web"),
        },
        policy="default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:",
        head=f'<script type="importmap">{json.dumps(names)}</script>',
    )


def python_of(module: str) -> str:
    """Return the interpreter that has a peer's packages; installs them when they are not there."""
    own = module_of(module)
    return str(venv_python(own)) if own.PACKAGES else sys.executable


def _converted(peer: Peer, model: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    assert peer.converter
    kind = ".sparse" if peer.use_sparsity else ".dense"
    output = folder / f"{model.stem}{kind}{peer.suffix}"
    if not output.exists():
        mode = "sparse" if peer.use_sparsity else "dense"
        words = [str(HERE / "serve.py"), "--convert", peer.converter, str(model), str(output), mode]
        run_quietly([python_of(peer.converter), *words], f"converting the model for {peer.name}")
    return output
