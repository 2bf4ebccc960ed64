"""`python -m edgesparse.models.train`: files and a card that agree, on a task made small."""

from __future__ import annotations

import dataclasses
import shlex

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")
pytest.importorskip("onnxruntime")

from edgesparse.models import tasks, train  # noqa: E402
from edgesparse.models.tasks import sorting  # noqa: E402


@pytest.fixture
def small_sorting(monkeypatch):
    data = sorting.make(64, seed=1), sorting.make(10, seed=2)
    schedule = dataclasses.replace(sorting.TASK.schedule, batch=16, dense_steps=4, prune_steps=10)
    task = dataclasses.replace(sorting.TASK, splits=lambda: data, schedule=schedule)
    monkeypatch.setattr(tasks, "load", lambda name: task)


def test_files_and_card(small_sorting, tmp_path, capsys):
    options = ["sorting", "--recipe", "sr-ste", "--pattern", "1:4", "--seed", "3"]
    assert train.main([*options, "--output", str(tmp_path)]) == 0
    names = ["sorting_heldout.npz", "sorting_transformer.md", "sorting_transformer.onnx"]
    names.append("sorting_transformer_dense.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert sorted(capsys.readouterr().out.split()) == [str(tmp_path / name) for name in names]
    card = (tmp_path / "sorting_transformer.md").read_text()
    assert "train sorting --recipe sr-ste --pattern 1:4 --sparsity 0.75 --seed 3 --output" in card
    assert "| layer1.mlp.body.mlp.expand | 288x72 | 15552 | 0.7500 |" in card
    with np.load(tmp_path / "sorting_heldout.npz") as data:
        assert data["tokens"].shape == (10, 10, 16)
        assert data["label"].shape == (10, 10)
    graph = onnx.load(tmp_path / "sorting_transformer.onnx").graph
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    assert sum(weight.size - np.count_nonzero(weight) for weight in weights) >= 4 * 15552


def test_the_card_of_other_names_tells_the_command_that_makes_them(small_sorting, tmp_path):
    options = ["sorting", "--name", "my net", "--seed", "3"]
    assert train.main([*options, "--output", str(tmp_path)]) == 0
    card = (tmp_path / "my net.md").read_text()
    (command,) = (line for line in card.splitlines() if "models.train " in line)
    assert shlex.split(command)[3:] == [
        *("sorting", "--recipe", "gradual", "--pattern", "unstructured", "--sparsity", "0.75"),
        *("--seed", "3", "--name", "my net", "--output", "FOLDER"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "magic"], "error: recipe 'magic' is unknown"),
        (["--pattern", "magic"], "error: pruning pattern 'magic' is unknown"),
        (["--recipe", "low-rank", "--sparsity", "1"], "error: sparsity is 1.0"),
        (["--sparsity", "80"], "error: sparsity is 80.0"),
        (["--pattern", "2:4", "--sparsity", "0.9"], "error: 2:4 means a sparsity of 0.5, but 0.9"),
    ],
)
def test_wrong_options_exit_with_a_hint(options, message, tmp_path, capsys):
    assert train.main(["sorting", *options, "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert "hint:" in error
    assert list(tmp_path.iterdir()) == []
