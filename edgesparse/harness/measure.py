"""Measure bundles beside each other and a peer: opens sessions, runs the loop, writes the document.

measure([("out", bundle)], device, against="model.onnx") -> result document
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgesparse.errors import UsageError
from edgesparse.harness.bench import Limits, bench_sessions, pinned
from edgesparse.harness.devices import Device, open_session, refuse_emulated
from edgesparse.harness.ort import OrtSession
from edgesparse.harness.profile import LayerTime, profile_layers
from edgesparse.harness.results import BundleResult, PeerResult, result_document
from edgesparse.harness.session import Session
from edgesparse.harness.steadiness import ConditionLog, Reading

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
    cooldown_seconds: float = 0.0,
    conditions: Callable[[], Reading] | None = None,
    progress: Callable[[str, float], None] = lambda stage, done: None,
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
        cooldown_seconds: Pause between opening the bundles and their first inference.
        conditions: Reads clock, temperature and load of the device; None for no readings.
        progress: Told the stage and the part of the measuring that is done, 0 to 1.

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
    progress("opening", 0.0)
    with contextlib.ExitStack() as stack:
        sessions: list[Session] = [
            stack.enter_context(open_session(device, bundle, threads)) for _, bundle in bundles
        ]
        opened = list(sessions)
        if against is not None:
            sessions.append(_open_peer(against, [bundle for _, bundle in bundles], threads))
        progress("cooling down", 0.0)
        time.sleep(cooldown_seconds)
        log = ConditionLog(conditions) if conditions else None
        with pinned(sessions, cpus):
            progress("warming up", 0.0)
            timings = bench_sessions(sessions, limits, _watcher(log, progress))
            if log:
                log.close()
            progress("profiling", 1.0)
            profiles = [_profile(*pair, profile_runs) for pair in zip(opened, bundles, strict=True)]
    results = [
        BundleResult(label, bundle, timing, session.ready, layers)
        for (label, bundle), session, timing, layers in zip(
            bundles, opened, timings, profiles, strict=False
        )
    ]
    peer = None
    if against is not None:
        peer = PeerResult("onnxruntime", OrtSession.version(), str(against), timings[-1])
    return result_document(device, results, peer=peer, pinned_cpus=cpus, threads=threads, log=log)


def _watcher(
    log: ConditionLog | None, progress: Callable[[str, float], None]
) -> Callable[[float], None]:
    def watch(done: float) -> None:
        if log:
            log.sample()
        progress("measuring", done)

    return watch


def _profile(session: Session, labelled: tuple[str, Bundle], runs: int) -> list[LayerTime] | None:
    return profile_layers(session, labelled[1].manifest["layers"], runs) if runs else None


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
