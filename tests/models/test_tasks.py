"""Tasks: the same data each time, learnable in a few steps, scored as the metric says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")
pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'edgesparse[models]'")

from edgesparse import metrics  # noqa: E402
from edgesparse.errors import UsageError  # noqa: E402
from edgesparse.models import tasks  # noqa: E402
from edgesparse.models.recipes import runs  # noqa: E402
from edgesparse.models.tasks import boxes, drawing, keywords, shapes, sorting  # noqa: E402
from edgesparse.models.tasks.task import Split  # noqa: E402

MAKERS = {"keywords": keywords, "sorting": sorting, "shapes": shapes, "boxes": boxes}


@pytest.fixture(params=tasks.TASKS)
def small(request):
    """A task with a few samples and short trainings."""
    task = tasks.load(request.param)
    if task.name in MAKERS:
        make = MAKERS[task.name].make
        train, held = make(48, seed=1), make(16, seed=2)
    else:
        train, held = (Split(s.inputs[:48], s.labels[:48]) for s in task.splits())
    schedule = dataclasses.replace(task.schedule, batch=8, dense_steps=3, prune_steps=8)
    return dataclasses.replace(task, splits=lambda: (train, held), schedule=schedule)


def test_networks_fit_their_task(small):
    train, held = small.splits()
    assert train.inputs.dtype == np.float32
    assert train.inputs.shape[1:] == small.shape[1:]
    metrics.check_labels(small.metric, held.labels, len(held), small.name)
    assert abs(float(train.inputs.mean())) < 2
    dense = runs.train_dense(small, seed=0)
    pruned = runs.train_on(small, dense, recipe="gradual", pattern="block4", sparsity=0.75, seed=0)
    assert 0 <= small.evaluate(pruned, held) <= 1
    assert runs.weights_left(dense, dense) == 1.0
    assert runs.weights_left(pruned, dense) == pytest.approx(0.25, abs=0.02)
    again = runs.train_on(small, dense, recipe="gradual", pattern="block4", sparsity=0.75, seed=0)
    for one, other in zip(pruned.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", MAKERS)
def test_data_come_from_the_seed(name):
    make = MAKERS[name].make
    one, same, other = make(5, seed=3), make(5, seed=3), make(5, seed=4)
    np.testing.assert_array_equal(one.inputs, same.inputs)
    np.testing.assert_array_equal(one.labels, same.labels)
    assert not np.array_equal(one.inputs, other.inputs)


def test_heldout_digits_are_noisy_copies_nobody_trains_on():
    train, held = tasks.load("digits").splits()
    assert len(held) == 2 * 599
    assert held.inputs.std() > train.inputs.std() + 0.1
    assert not np.array_equal(held.inputs[:599], held.inputs[599:])
    np.testing.assert_array_equal(held.labels[:599], held.labels[599:])


def test_sorted_labels_are_the_sorted_tokens():
    data = sorting.make(20, seed=0)
    tokens = data.inputs.argmax(axis=2)  # the noise is rarely larger than the one
    assert (np.sort(tokens, axis=1) == data.labels).mean() > 0.95


def test_a_loud_sine_is_in_its_band():
    time = np.arange(keywords.RATE) / keywords.RATE
    bands = [
        keywords.features(np.sin(2 * np.pi * f * time)[None])[0, 0].mean(axis=0).argmax()
        for f in (250, 700, 1600)
    ]
    assert bands == sorted(set(bands))


def test_shapes_fill_their_boxes():
    box = {"size": 32, "left": 4.0, "top": 6.0, "extent": 16.0}
    areas = [drawing.draw_shape(kind, **box).mean() * 4 for kind in range(3)]
    assert areas == pytest.approx([np.pi / 4, 1, 0.5], abs=0.04)
    for kind in range(3):
        rows, columns = drawing.draw_shape(kind, **box).nonzero()
        assert (columns.min(), columns.max()) == (4, 19)
        assert rows.max() == 21


def perfect(labels):
    """Detections that say in each box's cell what is there, and nothing elsewhere."""
    outputs = torch.zeros(len(labels), 4 + 3, 84)
    for output, rows in zip(outputs, torch.from_numpy(labels), strict=True):
        rows = rows[rows[:, 0] >= 0]
        cell = boxes.cell_of(rows[:, 1:])
        output[:4, cell] = rows[:, 1:].T
        output[4 + rows[:, 0].long(), cell] = 1.0
    return outputs


def test_boxes_of_the_right_cells_lose_nothing_and_score_one():
    data = boxes.make(30, seed=5)
    outputs = perfect(data.labels)
    assert metrics.ap50(outputs.numpy(), data.labels) > 0.98
    assert float(boxes.loss(outputs, torch.from_numpy(data.labels))) < 0.02
    outputs[:, :4] += 0.1
    assert float(boxes.loss(outputs, torch.from_numpy(data.labels))) > 1


def test_unknown_task():
    with pytest.raises(UsageError, match="task 'chess' is unknown") as caught:
        tasks.load("chess")
    assert "digits, keywords" in caught.value.hint
