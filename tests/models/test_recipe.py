"""The training recipe, run for one epoch on a few images; its quality is the card's business."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")
pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'edgesparse[models]'")
pytest.importorskip("onnxruntime")

from edgesparse.models import digits, training  # noqa: E402


@pytest.fixture
def few_digits(monkeypatch):
    train, held = digits.load_splits()
    few = (
        digits.Split(train.image[:256], train.label[:256]),
        digits.Split(held.image[:20], held.label[:20]),
    )
    monkeypatch.setattr(digits, "load_splits", lambda: few)


def test_recipe_writes_four_consistent_files(few_digits, tmp_path, capsys):
    options = ["--seed", "3", "--epochs", "1", "--prune-epochs", "3", "--pattern", "block2"]
    assert digits.main([*options, "--output", str(tmp_path)]) == 0
    names = ["digits_heldout.npz", "digits_mobilenet_v1.md", "digits_mobilenet_v1.onnx"]
    names.append("digits_mobilenet_v1_dense.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    printed = capsys.readouterr()
    assert sorted(printed.out.split()) == [str(tmp_path / name) for name in names]
    assert "loss" in printed.err
    card = (tmp_path / "digits_mobilenet_v1.md").read_text()
    assert "--seed 3 --sparsity 0.8 --pattern block2 --epochs 1 --prune-epochs 3" in card
    assert "| block7.pointwise.conv | 256x256x1x1 | 52428 | 0.8000 |" in card
    with np.load(tmp_path / "digits_heldout.npz") as data:
        assert data["image"].shape == (20, 1, 32, 32)


def test_shift_moves_but_does_not_change_pixels():
    torch.manual_seed(0)
    images = torch.zeros(8, 1, 32, 32)
    images[:, :, 16, 16] = 1.0
    moved = training.shift(images)
    assert moved.shape == images.shape
    assert moved.flatten(1).sum(1).tolist() == [1.0] * 8
    assert not torch.equal(moved, images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sparsity", "80"], "error: sparsity is 80.0"),
        (["--pattern", "blocks"], "error: pruning pattern 'blocks' is unknown"),
        (["--epochs", "0"], "error: epochs are 0 and 16, expected 1 or more"),
        (["--prune-epochs", "0"], "error: epochs are 12 and 0, expected 1 or more"),
    ],
)
def test_wrong_options_exit_with_a_hint(few_digits, options, message, tmp_path, capsys):
    assert digits.main([*options, "--output", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert "hint:" in err
    assert list(tmp_path.iterdir()) == []
