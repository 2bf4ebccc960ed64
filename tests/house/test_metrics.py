"""Scores of outputs: against small cases that can be worked out by hand."""

import numpy as np
import pytest

from edgesparse import metrics
from edgesparse.errors import UsageError


def test_top1_and_token():
    outputs = np.array([[[0.1, 0.9], [0.8, 0.2]], [[0.3, 0.7], [0.4, 0.6]]])
    assert metrics.token(outputs[:, None], np.array([[1, 0], [0, 1]])) == 0.75
    assert metrics.top1(outputs[:, 0], np.array([1, 0])) == 0.5


@pytest.mark.parametrize("shape", [(4, 10), (4, 10, 1, 1)])
def test_top1_of_outputs_with_a_batch_of_their_own(shape):
    outputs = np.random.default_rng(0).random((16, *shape))
    labels = outputs.reshape(16, 4, 10).argmax(axis=-1)
    metrics.check_labels("top1", labels, 16, "d.npz")
    metrics.check_outputs("top1", labels, shape, "d.npz")
    assert metrics.top1(outputs, labels) == 1.0
    labels[::2, 1] = (labels[::2, 1] + 1) % 10
    assert metrics.top1(outputs, labels) == 1 - 8 / 64
    with pytest.raises(UsageError, match=r"expected label to be \[4\] a sample, .* found \[\]"):
        metrics.check_outputs("top1", labels[:, 0], shape, "d.npz")


@pytest.mark.parametrize("shape", [(10,), (1, 10), (1, 10, 1, 1)])
def test_top1_of_one_output_a_sample(shape):
    labels = np.arange(10)
    metrics.check_outputs("top1", labels, shape, "d.npz")
    assert metrics.top1(np.eye(10).reshape(10, *shape), labels) == 1.0
    with pytest.raises(UsageError, match=r"expected label to be \[\] a sample"):
        metrics.check_outputs("top1", np.zeros((10, 4), int), shape, "d.npz")


def test_mean_iou_counts_pixels_of_all_samples_together():
    labels = np.array([[[0, 0], [1, 1]], [[0, 0], [0, 0]]])
    guesses = np.array([[[0, 1], [1, 1]], [[0, 0], [0, 0]]])
    planes = np.stack([guesses == 0, guesses == 1, guesses == 2], axis=1).astype(np.float32)
    # Class 0: 5 of 6 in the union, class 1: 2 of 3; class 2 is nowhere.
    assert metrics.mean_iou(planes[:, None], labels) == pytest.approx((5 / 6 + 2 / 3) / 2)


@pytest.mark.parametrize("nothing", [-1, 255])
def test_pixels_and_tokens_of_no_class_do_not_count(nothing):
    kind = np.int64 if nothing < 0 else np.uint8
    pixels = np.array([[[0, 0], [1, nothing]]], kind)
    guesses = np.array([[[0, 1], [1, 0]]])
    planes = np.stack([guesses == 0, guesses == 1], axis=1).astype(np.float32)
    # Of the three that count, class 0 has 1 of 2 in the union, and class 1 too.
    assert metrics.mean_iou(planes, pixels) == 0.5
    scores = np.array([[[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]]])
    assert metrics.token(scores, np.array([[1, nothing, 1]], kind)) == 0.5


def boxes_of(*rows):
    """Outputs (1, 4 + 1, cells) from rows of left, top, right, bottom, score."""
    return np.array(rows, np.float64).T[None]


TRUTH = np.array([[[0, 0.0, 0.0, 0.4, 0.4], [0, 0.5, 0.5, 0.9, 0.9], [-1, 0, 0, 0, 0]]], np.float32)


def test_ap50_of_perfect_boxes_is_one():
    found = boxes_of((0, 0, 0.4, 0.4, 0.9), (0.5, 0.5, 0.9, 0.9, 0.8), (0.5, 0.5, 0.88, 0.9, 0.7))
    assert metrics.ap50(found, TRUTH) == 1.0  # the third is suppressed


def test_ap50_is_the_area_under_the_curve():
    found = boxes_of((0, 0, 0.4, 0.4, 0.9), (0.6, 0, 0.9, 0.3, 0.8), (0.5, 0.5, 0.9, 0.9, 0.7))
    # Right, wrong, right: precision 1 up to recall 1/2, then 2/3.
    assert metrics.ap50(found, TRUTH) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_ap50_finds_each_box_once_and_wants_half_overlap():
    twice = boxes_of((0, 0, 0.4, 0.4, 0.9), (0.0, 0.14, 0.4, 0.54, 0.8))
    assert metrics.ap50(twice, TRUTH) == 0.5
    beside = boxes_of((0.2, 0, 0.6, 0.4, 0.9))
    assert metrics.ap50(beside, TRUTH) == 0.0


def test_classes_without_boxes_do_not_count():
    found = np.concatenate([boxes_of((0, 0, 0.4, 0.4, 0.9)), np.full((1, 1, 1), 0.9)], axis=1)
    assert metrics.ap50(found, TRUTH[:, :1]) == 1.0


@pytest.mark.parametrize(
    ("metric", "labels"),
    [
        ("top1", np.zeros((3, 2, 2), np.int64)),
        ("top1", np.zeros((2, 2), np.int64)),
        ("top1", np.zeros(3)),
        ("token", np.zeros((2, 2), np.int64)),
        ("mean_iou", np.zeros((3, 2, 2))),
        ("ap50", np.zeros((3, 2, 4), np.float32)),
    ],
)
def test_labels_that_do_not_fit_are_refused(metric, labels):
    with pytest.raises(UsageError, match=r"d\.npz: expected label to be (3 )?(integers|floats)"):
        metrics.check_labels(metric, labels, 3, "d.npz")


@pytest.mark.parametrize(
    ("metric", "shape", "label", "expected", "found"),
    [
        ("token", (1, 8, 4), (4,), [8], [4]),
        ("token", (4,), (2,), [1], [2]),
        ("mean_iou", (1, 3, 4, 4), (8, 2), [4, 4], [8, 2]),
        ("mean_iou", (4,), (2, 2), [4], [2, 2]),
    ],
)
def test_labels_of_another_size_than_the_output(metric, shape, label, expected, found):
    with pytest.raises(UsageError) as refused:
        metrics.check_outputs(metric, np.zeros((2, *label), np.int64), shape, "d.npz")
    assert refused.value.message == (
        f"d.npz: expected label to be {expected} a sample, as the output is {list(shape)},"
        f" found {found}"
    )


@pytest.mark.parametrize(
    ("metric", "shape", "labels", "classes"),
    [
        ("top1", (1, 10), np.full(2, 10), 10),
        ("token", (1, 8, 4), np.full((2, 8), -1), 4),
        ("mean_iou", (1, 3, 4, 4), np.full((2, 4, 4), 255, np.uint8), 3),
        ("ap50", (1, 6, 9), np.full((2, 3, 5), -1.0), 2),
        ("ap50", (9,), np.zeros((2, 3, 5)), 0),
    ],
)
def test_labels_none_of_which_is_a_class(metric, shape, labels, classes):
    with pytest.raises(UsageError, match=f"to hold classes below {classes}, .* found none"):
        metrics.check_outputs(metric, labels, shape, "d.npz")
    if classes:
        labels.flat[0] = classes - 1
        metrics.check_outputs(metric, labels, shape, "d.npz")


def test_unknown_metric():
    with pytest.raises(UsageError, match="unknown metric 'top5': expected one of top1, token"):
        metrics.check_metric("top5")
