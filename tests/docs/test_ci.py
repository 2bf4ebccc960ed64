"""The examples of docs/ci.md: YAML that parses, commands and options that exist."""

from __future__ import annotations

import pathlib
import re
import shlex

import click
import pytest
import yaml

from edgesparse.cli.app import app
from edgesparse.farm import read_matrix

TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "ci.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
WORKFLOWS = [block for block in BLOCKS if "jobs" in block]


def commands() -> list[str]:
    lines = [
        line.strip()
        for workflow in WORKFLOWS
        for job in workflow["jobs"].values()
        for step in job["steps"]
        for line in step.get("run", "").splitlines()
    ]
    shown = re.findall(r"`((?:bench|results|farm|report) [^`]*)`", TEXT)
    return [line for line in lines if line.startswith("edgesparse")] + [
        f"edgesparse {text}" for text in shown
    ]


def test_workflows_have_what_github_asks_for() -> None:
    assert len(WORKFLOWS) == 2
    for workflow in WORKFLOWS:
        assert workflow["name"] and (workflow.get("on") or workflow.get(True))
        for job in workflow["jobs"].values():
            assert job["runs-on"]
            assert all("uses" in step or "run" in step for step in job["steps"])


@pytest.mark.parametrize("line", commands())
def test_commands_exist(line: str) -> None:
    line = re.sub(r"\$\{\{.*?\}\}", "X", line).split(">")[0]
    _, *words = shlex.split(line)
    context = click.Context(app)
    command: click.Command | None = app
    while isinstance(command, click.Group):
        context = click.Context(command, parent=context)
        command = command.get_command(context, words.pop(0))
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_enough_commands_were_found() -> None:
    assert len(commands()) >= 10


def test_the_matrix_can_be_read(tmp_path: pathlib.Path) -> None:
    (block,) = [block for block in BLOCKS if "models" in block]
    for name in ("mobilenet.onnx", "detector.onnx"):
        (tmp_path / name).touch()
    path = tmp_path / "latency.yaml"
    path.write_text(yaml.safe_dump(block))
    matrix = read_matrix(path)
    assert matrix.devices == ("host", "node", "adb:all", "ssh:pi@shelf")
    assert matrix.settings.cooldown == 30
