"""`edgesparse bench --model`: modelled cycles of arm64 bundles, labelled as modelled everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle
    from edgesparse.harness.modelled import Core, Counters, Modelled, ModelledLayer

MODEL_NAMES = ("a55", "a76")

# What `--model` heeds of the parameters of `bench`.
_HEEDED = {"bundles", "model", "profile", "top", "as_json"}


def refuse_measuring() -> None:
    """Refuse options of this command that only a measurement heeds, a gate above all.

    Raises:
        UsageError: There is one.
    """
    from edgesparse.cli.options import given_options, spelling_of
    from edgesparse.errors import UsageError

    if others := [spelling_of(name) for name in given_options() if name not in _HEEDED]:
        raise UsageError(
            "--model measures nothing: expected at most --profile, --top and --json beside it,"
            f" found {', '.join(others)}",
            hint="leave out `--model` to measure on a device; `--json` gives the modelled cycles",
        )


def show_modelled(
    bundles: Sequence[tuple[str, Bundle]],
    name: str,
    *,
    profile: bool,
    top: int | None,
    as_json: bool,
) -> None:
    """Model every bundle and print what came out.

    Args:
        bundles: Labels and bundles.
        name: One of `MODEL_NAMES`.
        profile: Print the layers too.
        top: Only the slowest of them.
        as_json: Print JSON, always with all layers.

    Raises:
        UsageError: A bundle is not for arm64.
        DeviceError: qemu-user is missing.
    """
    from edgesparse.cli.output import emit_json, print_table, say
    from edgesparse.harness.modelled import CORES, model_bundle

    core = CORES[name]
    _check_architecture(bundles)
    found = []
    for label, bundle in bundles:
        say(f"executing {label} under qemu, {core.label} ...")
        found.append((label, model_bundle(bundle)))
    if as_json:
        emit_json(_document(found, core))
        return
    print_table(_summary(found, core))
    click.echo(f"{core.label}, one thread, {core.clock_ghz:g} GHz: no device was measured")
    for label, modelled in found if profile else ():
        click.echo(f"\n{label}, {core.label}")
        print_table(_layer_table(modelled, core, top))


def _check_architecture(bundles: Sequence[tuple[str, Bundle]]) -> None:
    from edgesparse.errors import UsageError

    for label, bundle in bundles:
        target = bundle.manifest["target"]
        if not target["triple"].startswith("aarch64"):
            raise UsageError(
                f"{label}: --model models arm64 cores, and this bundle is for {target['name']}",
                hint="compile it with `--target arm64` or `--target arm64-a55`",
            )


def _per_useful(counters: Counters, useful: float, core: Core) -> float | None:
    return counters.cycles[core.name] / useful if useful else None


def _useful(modelled: Modelled) -> float:
    return sum(layer.useful for layer in modelled.layers)


def _summary(found: Sequence[tuple[str, Modelled]], core: Core) -> Any:
    from edgesparse.cli.output import table
    from edgesparse.report import format_ms

    columns = ("Bundle", ">Modelled", ">Mcycles", ">Instructions", ">Cycles / useful vector FMA")
    made = table(*columns)
    for label, modelled in found:
        total = modelled.total
        cycles = total.cycles[core.name]
        per = _per_useful(total, _useful(modelled), core)
        made.add_row(
            label,
            format_ms(core.milliseconds(cycles)),
            f"{cycles / 1e6:.2f}",
            f"{total.instructions / 1e6:.2f} M",
            "" if per is None else f"{per:.2f} (least: {core.ideal:g}; less by Winograd)",
        )
    return made


def _layer_table(modelled: Modelled, core: Core, top: int | None) -> Any:
    from edgesparse.cli.output import table

    made = table("Layer", "Op", "Format", ">Modelled", ">Share", ">Cycles / useful vector FMA")
    total = modelled.total.cycles[core.name] or 1

    def cycles(layer: ModelledLayer) -> int:
        return layer.counters.cycles[core.name]

    layers: Sequence[ModelledLayer] = modelled.layers
    if top is not None:
        layers = sorted(layers, key=cycles, reverse=True)[:top]
    for layer in layers:
        per = _per_useful(layer.counters, layer.useful, core)
        made.add_row(
            layer.name,
            layer.op,
            layer.format,
            f"{1e3 * core.milliseconds(cycles(layer)):.1f} us",
            f"{100 * cycles(layer) / total:.1f}%",
            "" if per is None else f"{per:.2f}",
        )
    return made


def _document(found: Sequence[tuple[str, Modelled]], core: Core) -> dict[str, Any]:
    return {
        "schema": 1,
        "label": core.label,
        "core": core.name,
        "clock_ghz": core.clock_ghz,
        "modelled": [
            {
                "bundle": label,
                **_entry(modelled.total, _useful(modelled), core),
                "layers": [
                    {
                        "name": layer.name,
                        "op": layer.op,
                        "format": layer.format,
                        **_entry(layer.counters, layer.useful, core),
                    }
                    for layer in modelled.layers
                ],
            }
            for label, modelled in found
        ],
    }


def _entry(counters: Counters, useful: float, core: Core) -> dict[str, Any]:
    cycles = counters.cycles[core.name]
    return {
        "cycles": cycles,
        "modelled_ms": core.milliseconds(cycles),
        "instructions": counters.instructions,
        "mispredicted": counters.mispredicted,
        "useful_vector_fma": useful,
        "cycles_per_useful_vector_fma": _per_useful(counters, useful, core),
    }
