"""Options and arguments that several verbs share."""

from __future__ import annotations

import math
import pathlib
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle
    from edgesparse.harness.devices import Device

# Spelled here so that `--help` need not import targets and devices; a test compares them.
TARGET_NAMES = ("host", "arm64", "arm64-a55", "wasm", "wasm-relaxed")
DEVICE_NAMES = ("host", "qemu", "node", "browser")


# Followed by which one: a serial number, an address, a path.
DEVICE_KINDS = ("adb", "ssh", "browser")


class DeviceChoice(click.Choice[str]):
    """A device's name, or one with a serial number, an address or a path behind a colon."""

    def __init__(self) -> None:
        super().__init__((*DEVICE_NAMES, "adb"))

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return how `--help` spells the choices."""
        return f"[{'|'.join(DEVICE_NAMES)}|adb[:SERIAL]|ssh:USER@HOST]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name as it was given.

        Raises:
            click.BadParameter: There is no such device.
        """
        kind, _, rest = str(value).partition(":")
        if kind in DEVICE_KINDS and rest:
            return str(value)
        return super().convert(value, param, ctx)


class NumberRange(click.FloatRange):
    """A finite number within bounds: nothing exceeds nan, so a gate of nan would be open."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number.

        Raises:
            click.BadParameter: It is none, not finite, or out of bounds.
        """
        if not math.isfinite(click.FLOAT.convert(value, param, ctx)):
            self.fail(f"{value} is no finite number", param, ctx)
        number: float = super().convert(value, param, ctx)
        return number


def _cores(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    from edgesparse.harness.cpus import is_cores

    if text is not None and not is_cores(text):
        raise click.BadParameter(f"{text!r} is none of big, little, all, or a mask like 0xF0")
    return text


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of tables."
)
markdown_option = click.option(
    "--markdown", is_flag=True, help="Print tables in Markdown, e.g. for a pull request."
)
db_option = click.option(
    "--db",
    type=click.Path(path_type=pathlib.Path),
    metavar="FILE",
    help="Where results are kept.  [default: $EDGESPARSE_RESULTS, or the user's data folder]",
)
target_option = click.option(
    "--target",
    type=click.Choice(TARGET_NAMES),
    default="host",
    show_default=True,
    help="What to generate code for.",
)
device_option = click.option(
    "--device",
    type=DeviceChoice(),
    help="Where to run; by default what fits the bundle's target. adb is the phone that is"
    " connected, browser:PATH names a Chromium.",
)
cores_option = click.option(
    "--cores",
    callback=_cores,
    metavar="big|little|all|MASK",
    help="CPUs to measure on: a cluster of the device, all without binding, or a mask like 0xF0."
    "  [default: the fastest]",
)
no_tuned_option = click.option(
    "--no-tuned", is_flag=True, help="Decide by the cost model alone, whatever `tune` measured."
)
no_reorder_option = click.option(
    "--no-reorder", is_flag=True, help="Keep the order of all channels, to see what it is worth."
)
no_select_option = click.option(
    "--no-select",
    is_flag=True,
    help="Compute sparse layers one row at a time, to see what choosing a format is worth.",
)
model_argument = click.argument(
    "model", type=click.Path(path_type=pathlib.Path), metavar="MODEL.onnx"
)
bundle_argument = click.argument("bundle", type=click.Path(path_type=pathlib.Path))


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Return the name and the extents of `name:1,3,224,224`.

    Raises:
        click.BadParameter: It is spelled in another way.
    """
    name, _, extents = text.rpartition(":")
    numbers = [number.strip() for number in extents.split(",")]
    if not name or not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise click.BadParameter(f"{text!r} is no shape like x:1,3,224,224")
    return name, tuple(map(int, numbers))


def parse_percent(text: str) -> float:
    """Return the fraction that `5%` or `5` stands for.

    Raises:
        click.BadParameter: It is no percentage.
    """
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent < float("inf"):
        raise click.BadParameter(f"{text!r} is no percentage like 5%")
    return percent / 100


def _shapes(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    shapes = dict(map(parse_shape, texts))
    if len(shapes) != len(texts):
        raise click.BadParameter("an input is named twice")
    return shapes


def percent_callback(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """Return the fraction an option was given as, or None."""
    return None if text is None else parse_percent(text)


shape_option = click.option(
    "--shape",
    "shapes",
    multiple=True,
    callback=_shapes,
    metavar="NAME:N,N,...",
    help="Fix the shape of an input with symbolic dimensions; repeatable.",
)


def given_options() -> list[str]:
    """Return the names of the parameters of this command that were given, not left as they are."""
    context = click.get_current_context()
    given = click.core.ParameterSource.COMMANDLINE
    return [name for name in context.params if context.get_parameter_source(name) is given]


def spelling_of(name: str) -> str:
    """Return how a parameter of this command is spelled, e.g. `--json` for `as_json`."""
    command = click.get_current_context().command
    return next(p.opts[-1] for p in command.params if p.name == name)


def open_bundle(path: pathlib.Path) -> Bundle:
    """Return the bundle in a directory."""
    from edgesparse.bundle import Bundle

    return Bundle(path)


def choose_device(name: str | None, bundle: Bundle) -> Device:
    """Return the device to run a bundle on."""
    from edgesparse.harness.devices import resolve_device

    return resolve_device(name, bundle)
