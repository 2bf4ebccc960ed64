"""The YAML file: what it means, and a line for everything that is wrong with it."""

from __future__ import annotations

import pathlib

import pytest

from edgesparse.errors import UsageError
from edgesparse.farm.matrix import Model, Settings, read_matrix
from edgesparse.harness.bench import Limits


@pytest.fixture
def write(tmp_path: pathlib.Path):
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).touch()

    def write_one(text: str) -> pathlib.Path:
        path = tmp_path / "farm.yaml"
        path.write_text(text)
        return path

    return write_one


def test_the_least_a_file_needs(write, tmp_path) -> None:
    matrix = read_matrix(write("models: a.onnx\ntargets: host"))
    assert matrix.models == (Model(tmp_path / "a.onnx", "a", {}),)
    assert (matrix.targets, matrix.devices, matrix.threads) == (("host",), (), (1,))
    assert matrix.settings == Settings()
    assert (matrix.output, matrix.tag) == (tmp_path / "farm-out", "")


def test_all_a_file_can_say(write, tmp_path) -> None:
    matrix = read_matrix(
        write("""
models:
  - a.onnx
  - {path: b.onnx, name: detector, shapes: {image: [1, 3, 8, 8]}}
targets: [host, wasm]
devices: [host, 'ssh:pi@shelf', adb:X]
threads: [1, 2]
measure:
  {runs: 9, seconds: 2, warmup: 0, launches: 3, cooldown: 1.5, against_ort: yes, profile: true,
   cores: 0xF0}
output: out
tag: 1.5
""")
    )
    assert matrix.models[1] == Model(tmp_path / "b.onnx", "detector", {"image": (1, 3, 8, 8)})
    assert matrix.devices == ("host", "ssh:pi@shelf", "adb:X")
    assert matrix.threads == (1, 2)
    assert matrix.settings == Settings(9, 2.0, 0, 3, 1.5, True, True, "0xF0")
    assert matrix.settings.limits == Limits(9, 2.0, 0)
    assert (matrix.output, matrix.tag) == (tmp_path / "out", "1.5")


GOOD = "models: [a.onnx]\ntargets: [host]\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "expected the matrix to be a mapping, found nothing"),
        ("- a", 1, "expected the matrix to be a mapping, found a list"),
        ("targets: [host]", 1, "the matrix has no 'models'"),
        (GOOD + "device: host", 3, "unknown key 'device'; the matrix has models, targets, devices"),
        (GOOD + "tag: a\ntag: b", 4, "tag is given twice"),
        ("models: [a.onnx]\ntargets:\n  - host\n  - mips", 4, "unknown target 'mips'; there are"),
        ("models: [a.onnx]\ntargets: [host, host]", 2, "target host is given twice"),
        ("models: []\ntargets: [host]", 1, "the list of models is empty"),
        ("models:\n  - c.onnx\ntargets: host", 2, "there is no model"),
        ("models:\n - a.onnx\n - path: b.onnx\n   name: a\ntargets: host", 3, "two models are"),
        ("models: [{path: a.onnx, name: ../a}]\ntargets: host", 1, "cannot be the name of a"),
        ("models: [{path: a.onnx, shapes: {x: [1, -3]}}]\ntargets: host", 1, "1 or more, found"),
        ("models: [[a.onnx]]\ntargets: host", 1, "expected a model to be a mapping, found a list"),
        (GOOD + "threads: [1, 99]", 3, "expected at most 64 threads, found 99"),
        (GOOD + "threads: two", 3, "expected threads to be a whole number of 1 or more, found"),
        (GOOD + "measure: {seconds: -1}", 3, "expected seconds to be a number of 0.001 or more"),
        (GOOD + "measure: {runs: 1.5}", 3, "expected runs to be a whole number"),
        (GOOD + "measure: {profile: 3}", 3, "expected profile to be true or false, found '3'"),
        (GOOD + "measure: {cores: fast}", 3, "cores are big, little, all, or a mask"),
        (GOOD + "measure: [1]", 3, "expected measure to be a mapping, found a list"),
        (GOOD + "tag: [1]", 3, "expected tag to be a text, found a list"),
        (GOOD + "tag: {", 3, "no YAML"),
        (GOOD + "\ttag: x", 3, "no YAML"),
        (GOOD + "cooldown: .nan", 3, "unknown key 'cooldown'"),
        (GOOD + "measure:\n  cooldown: .nan", 4, "expected cooldown to be a number of 0 to 86400"),
        (
            GOOD + "measure: {cooldown: 1.0e+300}",
            3,
            "to be a number of 0 to 86400, found '1.0e+300'",
        ),
        (GOOD + "measure: {launches: 1001}", 3, "to be a whole number of 1 to 1000, found '1001'"),
        (GOOD + "measure: {warmup: 10000001}", 3, "to be a whole number of 0 to 10000000, found"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(write, text, line, message) -> None:
    with pytest.raises(UsageError) as caught:
        read_matrix(write(text))
    assert f"farm.yaml:{line}: " in caught.value.message
    assert message in caught.value.message


def test_all_problems_come_together_in_order(write) -> None:
    with pytest.raises(UsageError) as caught:
        read_matrix(write("tag: [a]\nmodels: c.onnx\ntargets: [mips]\nwhat: 3"))
    lines = [line.split(":")[1] for line in caught.value.message.splitlines()]
    assert lines == ["1", "2", "3", "4"]
    assert "are all a file needs" in caught.value.hint


def test_files_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_matrix(tmp_path / "gone.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(UsageError, match="is no text"):
        read_matrix(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").write_text("a: b\x07")
    with pytest.raises(UsageError, match="no YAML"):
        read_matrix(tmp_path / "c.yaml")


def test_yaml_runs_no_code(write) -> None:
    with pytest.raises(UsageError, match="tag to be a text"):
        read_matrix(write(GOOD + "tag: !!python/object/apply:os.getcwd []"))
