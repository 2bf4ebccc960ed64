"""The command line: one file a verb, imported when the verb is used.

Data goes to stdout, talk to stderr. What a user caused ends as `error:` and `hint:` with the exit
code of its class in `edgesparse.errors`; what is our bug keeps its traceback.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

import click

from edgesparse.cli.app import ClosedPipeError, app
from edgesparse.errors import EdgeSparseError
from edgesparse.leaving import leaving_tidily

_STDERR = 2
_INTERRUPTED = 130
_BROKEN_PIPE = 141
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# What click 8.2 and newer raise for a group without a verb; its message is the help.
_ASKED_FOR_HELP: tuple[type[click.UsageError], ...] = (
    (click.exceptions.NoArgsIsHelpError,) if hasattr(click.exceptions, "NoArgsIsHelpError") else ()
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _prepare_streams()
    with warnings.catch_warnings(), leaving_tidily():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        try:
            return _run(arguments)
        except EdgeSparseError as error:
            _complain(error.message, error.hint)
            return error.exit_code
        except _ASKED_FOR_HELP as error:
            click.echo(error.format_message(), err=True)
            return error.exit_code
        except click.UsageError as error:
            _complain(_lower_first(error.format_message()), _usage_hint(error))
            return error.exit_code
        except click.ClickException as error:
            _complain(_lower_first(error.format_message()), "")
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            return _INTERRUPTED
        except (BrokenPipeError, ClosedPipeError):
            _silence_stdout()
            return _BROKEN_PIPE
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            what = error.filename or "the output"
            _complain(f"cannot write {what}: {error.strerror}", "make room, or write elsewhere")
            _finish_stdout()
            return EdgeSparseError.exit_code


def _prepare_streams() -> None:
    """Make sure that all three standard streams are there, and that no name breaks off a table."""
    # The lowest number is taken first: else a file that is opened later, maybe a bundle's, would
    # have that of a closed stderr, and get what is said.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = _prepared(sys.stdout)
    sys.stderr = _prepared(sys.stderr)


def _prepared(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")
    return stream


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
    with contextlib.suppress(OSError):  # where nothing can be said, the exit code still tells
        click.echo(f"error: {message}", err=True)
        if hint:
            click.echo(f"hint: {hint}", err=True)


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")


def _usage_hint(error: click.UsageError) -> str:
    return f"`{error.ctx.command_path} --help` shows the usage" if error.ctx else ""


def _finish_stdout() -> None:
    """Write what is left, or drop it when there is no room for it."""
    try:
        sys.stdout.flush()
    except OSError:
        _silence_stdout()


def _silence_stdout() -> None:
    """Let the interpreter's last flush of a closed pipe go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
