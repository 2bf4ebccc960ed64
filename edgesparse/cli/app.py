"""The root command: its verbs are modules, found by name and imported when needed."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import click

# verb -> module, in the order of a day's work, which `--help` keeps.
VERBS = {
    "inspect": "inspect",
    "sparsify": "sparsify",
    "tune": "tune",
    "compile": "compile",
    "check": "check",
    "run": "run",
    "bench": "bench",
    "farm": "farm",
    "report": "report",
    "results": "results",
    "zoo": "zoo",
    "targets": "targets",
    "devices": "devices",
    "cache": "cache",
    "demo": "demo",
}


class ClosedPipeError(Exception):
    """Nobody reads the output any more."""


@contextlib.contextmanager
def _noticing_closed_pipes() -> Iterator[None]:
    """Raise ClosedPipeError where click and rich would exit with 1, as if a verb had failed."""
    try:
        yield
    except BrokenPipeError as error:
        raise ClosedPipeError from error
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):
            raise ClosedPipeError from left
        raise


class VerbGroup(click.Group):
    """A group whose commands live in `edgesparse.cli.<module>` as `command`."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse arguments; `--help` is printed here."""
        with _noticing_closed_pipes():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the verb."""
        with _noticing_closed_pipes():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in their order."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb's command, importing its module."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"edgesparse.cli.{VERBS[cmd_name]}")
        command: click.Command = module.command
        return command


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    import edgesparse

    click.echo(f"edgesparse {edgesparse.__version__}")
    ctx.exit()


# \b keeps click from wrapping the paragraph.
_HELP = """Compile pruned ONNX networks into sparse kernels, measure them, and check them.

\b
edgesparse inspect model.onnx                    which layers gain, and why
edgesparse compile model.onnx -o out             one bundle: code, weights, header
edgesparse check model.onnx out                  its outputs against onnxruntime's
edgesparse bench out --against-ort model.onnx    its latency beside onnxruntime's
"""


@click.group(
    cls=VerbGroup,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def app() -> None:
    """Compile pruned ONNX networks into sparse kernels, measure them, and check them."""
