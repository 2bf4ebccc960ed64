"""The command line: one file a verb, imported when the verb is used.

Data goes to stdout, talk to stderr. What a user caused ends as `error:` and `hint:` with the exit
code of its class in `edgesparse.errors`; what is our bug keeps its traceback.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

import click

from edgesparse.cli.app import app
from edgesparse.errors import EdgeSparseError

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        try:
            return _run(arguments)
        except EdgeSparseError as error:
            _complain(error.message, error.hint)
            return error.exit_code
        except click.UsageError as error:
            _complain(_lower_first(error.format_message()), _usage_hint(error))
            return error.exit_code
        except click.ClickException as error:
            _complain(_lower_first(error.format_message()), "")
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            return _INTERRUPTED
        except BrokenPipeError:
            _silence_stdout()
            return _BROKEN_PIPE


def _run(arguments: Sequence[str] | None) -> int:
    status = app.main(
        None if arguments is None else list(arguments),
        prog_name="edgesparse",
        standalone_mode=False,
    )
    sys.stdout.flush()
    # Outside of its standalone mode click hands back what a verb returned, or ctx.exit's code.
    return status if isinstance(status, int) else 0


def _complain(message: str, hint: str) -> None:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")


def _usage_hint(error: click.UsageError) -> str:
    return f"`{error.ctx.command_path} --help` shows the usage" if error.ctx else ""


def _silence_stdout() -> None:
    """Let the interpreter's last flush of a closed pipe go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
