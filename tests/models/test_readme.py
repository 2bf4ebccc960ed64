"""The README's example of pruning while training, run as it stands there, then compiled."""

from __future__ import annotations

import pathlib
import textwrap

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")

from edgesparse.models.export import quiet_exporter  # noqa: E402

README = pathlib.Path(__file__).parents[2] / "README.md"
HEADING = "## Train it sparse"


def example() -> str:
    """Return the section's first code block."""
    section = README.read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    lines = section.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("    "))
    end = next(i for i in range(start, len(lines)) if lines[i] and not lines[i].startswith("    "))
    return textwrap.dedent("\n".join(lines[start:end]))


def test_example_prunes_a_users_model_and_it_compiles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(32 * 3 * 3, 10),
    )
    names = {
        "torch": torch,
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters()),
        "loss": torch.nn.functional.cross_entropy,
        "batches": [(torch.randn(4, 3, 8, 8), torch.randint(10, (4,))) for _ in range(30)],
    }
    with quiet_exporter():
        exec(compile(example(), str(README), "exec"), names)
    stem, *pruned = [layer for layer in model if hasattr(layer, "weight")]
    assert int((stem.weight == 0).sum()) == 0
    for layer in pruned:
        assert float((layer.weight == 0).float().mean()) == pytest.approx(0.9, abs=0.02)

    import edgesparse

    bundle = edgesparse.compile("sparse.onnx", output="out")
    inputs = bundle.manifest["inputs"]
    image = np.random.default_rng(0).standard_normal(inputs[0]["shape"]).astype(np.float32)
    (found,) = bundle.run({inputs[0]["name"]: image}).values()
    with torch.no_grad():
        expected = model(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
