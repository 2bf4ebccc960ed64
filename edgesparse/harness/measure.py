"""Measure bundles beside each other and a peer: opens sessions, runs the loop, writes the document.

measure([("out", bundle)], device, against="model.onnx") -> result document
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgesparse.errors import UsageError
from edgesparse.harness.bench import Limits, bench_sessions, pinned
from edgesparse.harness.devices import Device, open_session, refuse_emulated
from edgesparse.harness.ort import OrtSession
from edgesparse.harness.profile import profile_layers
from edgesparse.harness.results import BundleResult, PeerResult, result_document
from edgesparse.harness.session import Session

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle


def measure(
    bundles: Sequence[tuple[str, Bundle]],
    device: Device,
    *,
    limits: Limits | None = None,
    against: str | os.PathLike[str] | None = None,
    profile_runs: int = 0,
    threads: int = 1,
    cores: str | None = None,
) -> dict[str, Any]:
    """Return the result document of bundles measured in turns, all on the same CPUs.

    Args:
        bundles: Labels and bundles.
        device: Where they run; onnxruntime always runs on this machine.
        limits: When to stop.
        against: ONNX file to run under onnxruntime beside them.
        profile_runs: Instrumented inferences of each bundle after the others; 0 for no profile.
        threads: Threads of every bundle and of the peer, each bound to a CPU of its own.
        cores: Which ones: `big`, `little`, `all` or a mask like `0xF0`; None for the fastest.

    Raises:
        UsageError: The peer's model has other inputs than a bundle, or the device has not so
            many threads.
        DeviceError: The device is emulated, missing, or failed.
    """
    refuse_emulated(device)
    if device.is_remote and against is not None:
        raise UsageError(
            f"onnxruntime runs on this machine, the bundle on {device.name}: no ratio would mean"
            " anything",
            hint="leave `--against-ort` out, or measure both here with `--device host`",
        )
    cpus = device.choose_cpus(threads, cores)
    with contextlib.ExitStack() as stack:
        sessions: list[Session] = [
            stack.enter_context(open_session(device, bundle, threads)) for _, bundle in bundles
        ]
        opened = list(sessions)
        if against is not None:
            sessions.append(_open_peer(against, [bundle for _, bundle in bundles], threads))
        with pinned(sessions, cpus):
            timings = bench_sessions(sessions, limits)
            results = [
                BundleResult(
                    label=label,
                    bundle=bundle,
                    timing=timing,
                    ready=session.ready,
                    layers=profile_layers(session, bundle.manifest["layers"], profile_runs)
                    if profile_runs
                    else None,
                )
                for (label, bundle), session, timing in zip(bundles, opened, timings, strict=False)
            ]
    peer = None
    if against is not None:
        peer = PeerResult("onnxruntime", OrtSession.version(), str(against), timings[-1])
    return result_document(device, results, peer=peer, pinned_cpus=cpus, threads=threads)


def _open_peer(
    model: str | os.PathLike[str], bundles: Sequence[Bundle], threads: int
) -> OrtSession:
    inputs = bundles[0].manifest["inputs"]
    for bundle in bundles[1:]:
        if bundle.manifest["inputs"] != inputs:
            raise UsageError(
                f"{bundle.path} and {bundles[0].path} have different inputs, so one model cannot"
                " be timed against both",
                hint="bench them one at a time",
            )
    return OrtSession(model, inputs, threads)
