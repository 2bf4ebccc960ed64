"""`edgesparse bench`: latency on a device, beside each other and beside onnxruntime."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from edgesparse.cli.modelled import MODEL_NAMES, show_modelled
from edgesparse.cli.options import (
    DeviceChoice,
    choose_device,
    cores_option,
    json_option,
    open_bundle,
    percent_callback,
)

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle
    from edgesparse.harness.devices import Device

_DEFAULT_MAX_REGRESSION = 0.05


@click.command("bench")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=pathlib.Path))
@click.option(
    "--device",
    type=DeviceChoice(),
    help="Where to run; by default what fits the bundle's target. adb is the phone that is"
    " connected, browser:PATH names a Chromium; qemu is refused: it emulates.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Threads of the bundles, and of onnxruntime, each bound to a CPU of its own.",
)
@cores_option
@click.option(
    "--runs",
    type=click.IntRange(1),
    help="Samples of each bundle.  [default: 100, at most 10 seconds]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="Measuring time of each bundle; with --runs, whichever ends first.",
)
@click.option(
    "--warmup",
    type=click.IntRange(0),
    help="Inferences of warm-up.  [default: until the time is stable]",
)
@click.option(
    "--against-ort",
    type=click.Path(path_type=pathlib.Path),
    metavar="MODEL.onnx",
    help="Time onnxruntime on this model too, in turns with the bundles.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=pathlib.Path),
    metavar="FILE.json",
    help="An earlier `bench --json`; exit with 5 when a bundle has become slower.",
)
@click.option(
    "--max-regression",
    callback=percent_callback,
    metavar="PERCENT",
    help="How much slower than the baseline is accepted.  [default: 5%]",
)
@click.option(
    "--model",
    type=click.Choice(MODEL_NAMES),
    help="Model the cycles of arm64 bundles on this core under qemu instead: nothing is measured.",
)
@click.option("--profile", is_flag=True, help="Time every layer, in runs of their own.")
@click.option("--top", type=click.IntRange(1), help="Show only the slowest layers.")
@json_option
def command(
    bundles: tuple[pathlib.Path, ...],
    device: str | None,
    threads: int,
    cores: str | None,
    runs: int | None,
    seconds: float | None,
    warmup: int | None,
    against_ort: pathlib.Path | None,
    baseline: pathlib.Path | None,
    max_regression: float | None,
    model: str | None,
    profile: bool,
    top: int | None,
    as_json: bool,
) -> None:
    """Measure the latency of bundles.

    Bundles take turns with each other and with onnxruntime, on the same CPUs, so that a machine
    that slows down for a while slows all of them. A ratio is the median over pairs of samples taken
    side by side; above 1 the bundle is faster.
    """
    from edgesparse.cli.output import emit_json, say
    from edgesparse.harness.bench import Limits
    from edgesparse.harness.devices import check_threads, refuse_emulated
    from edgesparse.harness.measure import measure
    from edgesparse.harness.profile import PROFILE_RUNS
    from edgesparse.harness.results import read_document

    _check_options(baseline, max_regression, profile, top)
    saved = None if baseline is None else read_document(baseline)
    opened = [(str(path), open_bundle(path)) for path in bundles]
    if model is not None:
        show_modelled(opened, model, profile=profile, top=top, as_json=as_json)
        return
    chosen = _one_device(device, opened)
    refuse_emulated(chosen)
    check_threads(threads)
    say(f"measuring on {chosen.name} ...")
    document = measure(
        opened,
        chosen,
        limits=Limits(runs, seconds, warmup),
        against=against_ort,
        profile_runs=PROFILE_RUNS if profile else 0,
        threads=threads,
        cores=cores,
    )
    limit = _DEFAULT_MAX_REGRESSION if max_regression is None else max_regression
    slower = [] if saved is None else _compare(document, saved, limit)
    if as_json:
        emit_json(document)
    else:
        _print_tables(document, top)
    _judge(document, slower)


def _check_options(
    baseline: pathlib.Path | None,
    max_regression: float | None,
    profile: bool,
    top: int | None,
) -> None:
    from edgesparse.errors import UsageError

    if max_regression is not None and baseline is None:
        raise UsageError(
            "--max-regression needs something to compare with",
            hint="add `--baseline FILE.json`, written by `edgesparse bench --json`",
        )
    if top is not None and not profile:
        raise UsageError("--top limits the layers of a profile", hint="add `--profile`")


def _one_device(name: str | None, bundles: list[tuple[str, Bundle]]) -> Device:
    """Return the device all bundles run on; times from two devices cannot be taken in turns."""
    from edgesparse.errors import UsageError

    devices = [choose_device(name, bundle) for _, bundle in bundles]
    if others := [d.name for d in devices if d.name != devices[0].name]:
        raise UsageError(
            f"the bundles run on different devices: {devices[0].name} and {others[0]}",
            hint="bench them one at a time",
        )
    return devices[0]


def _compare(document: dict[str, Any], saved: dict[str, Any], limit: float) -> list[str]:
    from edgesparse.cli.output import say
    from edgesparse.harness.results import compare_document

    before, now = saved.get("device", {}).get("cpu"), document["device"].get("cpu")
    if before != now:
        say(f"warning: the baseline was measured on {before}, this is {now}")
    before, now = saved.get("threads", 1), document["threads"]
    if before != now:
        say(f"warning: the baseline was measured with {before} threads, this with {now}")
    return compare_document(document, saved, limit)


def _judge(document: Mapping[str, Any], slower: list[str]) -> None:
    """Fail for regressions beyond noise; tell about the others.

    Raises:
        LatencyError: There are any.
    """
    from edgesparse.cli.output import say
    from edgesparse.errors import LatencyError

    if any(r.get("baseline", {}).get("is_regression") for r in document["results"]):
        raise LatencyError(
            "; ".join(slower),
            hint="`--profile` shows which layers; a slower machine would slow onnxruntime"
            " too, see `--against-ort`",
        )
    for sentence in slower:
        say(f"warning: {sentence}")


def _print_tables(document: Mapping[str, Any], top: int | None) -> None:
    from edgesparse.cli.output import print_table

    print_table(_latency_table(document))
    click.echo(_conditions(document))
    for result in document["results"]:
        if "layers" in result:
            click.echo(f"\n{_profile_heading(result)}")
            print_table(_profile_table(result, top))


def _latency_table(document: Mapping[str, Any]) -> Any:
    from edgesparse.cli.output import table
    from edgesparse.report import format_bytes, format_ms, format_ratio

    peer = document["against"]
    columns = ["Bundle", "Target", ">Median", ">Min", ">p90", ">First run", ">Samples", ">Size"]
    made = table(*columns, *([f">{peer['peer']} / bundle"] if peer else []))

    def times(entry: Mapping[str, Any]) -> list[str]:
        keys = ("median_ms", "min_ms", "p90_ms", "first_ms")
        return [*(format_ms(entry[key]) for key in keys), str(entry["runs"])]

    for result in document["results"]:
        size = format_bytes(result["shipped_bytes"])
        ratio = [format_ratio(result["ratio"])] if peer else []
        made.add_row(result["bundle"], result["target"], *times(result), size, *ratio)
    if peer:
        made.add_row(f"{peer['peer']} {peer['version']}", "", *times(peer), "", "")
    return made


def _conditions(document: Mapping[str, Any]) -> str:
    device, results = document["device"], document["results"]
    count = document["threads"]
    pinned = device["pinned_cpus"]
    warmups = ", ".join(str(result["warmup_runs"]) for result in results)
    return (
        f"{'one thread' if count == 1 else f'{count} threads'} on {device['cpu']}"
        + (f", CPU {', '.join(map(str, sorted(pinned)))}" if pinned else "")
        + (f", node {device['node']}" if "node" in device else "")
        + f"; warm-up {warmups} inferences"
    )


def _profile_heading(result: Mapping[str, Any]) -> str:
    from edgesparse.report import format_ms

    total_ms = sum(layer["median_us"] for layer in result["layers"]) / 1e3
    return (
        f"{result['bundle']}: the layers sum to {format_ms(total_ms)} when timed one by one,"
        f" {format_ms(result['median_ms'])} otherwise"
    )


def _profile_table(result: Mapping[str, Any], top: int | None) -> Any:
    from edgesparse.cli.output import table

    made = table("Layer", "Op", ">Median", ">Share", ">Useful GFLOP/s")
    layers = result["layers"]
    if top is not None:
        layers = sorted(layers, key=lambda layer: -layer["median_us"])[:top]
    for layer in layers:
        gflops = layer["useful_gflops"]
        made.add_row(
            layer["name"],
            layer["op"],
            f"{layer['median_us']:.1f} us",
            f"{100 * layer['share']:.1f}%",
            "" if gflops is None else f"{gflops:.1f}",
        )
    return made
