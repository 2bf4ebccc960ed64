"""Bars on a terminal: names stand there as they are, whatever they look like."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgesparse.cli import farm, output
from edgesparse.farm.running import Plan
from edgesparse.harness.jobs import Job

# Torch calls a layer so; for rich the rest would be a tag that closes nothing.
LAYER = "features[/0/conv] [bold]"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    made = Console(file=written, force_terminal=True, width=100, color_system=None, markup=False)
    monkeypatch.setattr(output, "console", lambda stderr=False: made)
    return written


def test_a_layer_that_looks_like_markup(terminal: io.StringIO) -> None:
    with output.progress_rows(["host"]) as update:
        update("host", LAYER, 0.5)
    assert f"host: {LAYER}" in terminal.getvalue()


def test_a_job_that_looks_like_markup(terminal: io.StringIO) -> None:
    job = Job("key", LAYER, print)
    with farm._display(Plan((job,), (), {"key": "host"}, ())) as notify:
        notify(job, None)
    assert f"host: {LAYER}" in terminal.getvalue()
