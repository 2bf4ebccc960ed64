"""How outputs are scored against labels, in numpy: the same score whoever computed the outputs.

Outputs come as (samples, *shape of the output). What a label is depends on the metric:

    top1      (samples,) integers, the class of each sample; or (samples, batch), where the output
              has a batch of its own
    token     (samples, tokens) integers, a class of every token; classes are on the last axis
    mean_iou  (samples, height, width) integers, a class of every pixel; classes before the plane
    ap50      (samples, boxes, 5) floats: class, left, top, right, bottom; class -1 where there is
              no further box; outputs are (4 + classes, cells), the box and then the scores
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse.errors import UsageError

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]

OVERLAP = 0.5  # of a box that counts as found, and of boxes of which one suppresses the other
_LEAST_SCORE = 0.02  # boxes below are not looked at


def top1(outputs: Array, labels: Array) -> float:
    """Return the share of samples whose largest output is their class."""
    guesses = outputs.reshape(*labels.shape, -1).argmax(axis=-1)
    return float(np.mean(guesses == labels))


def token(outputs: Array, labels: Array) -> float:
    """Return the share of tokens whose largest output is their class."""
    scores = outputs.reshape(*labels.shape, -1)
    counted = _is_class(labels, scores.shape[-1])
    return float(np.mean(scores.argmax(axis=-1)[counted] == labels[counted]))


def mean_iou(outputs: Array, labels: Array) -> float:
    """Return intersection over union of guessed and labelled pixels, mean over the classes.

    Source: Everingham et al. 2015, "The PASCAL Visual Object Classes Challenge: A Retrospective",
    section 4.1.3. Pixels of all samples count together; classes that occur nowhere do not count,
    nor does what was guessed where the label is no class.
    """
    samples, height, width = labels.shape
    planes = outputs.reshape(samples, -1, height, width)
    classes = planes.shape[1]
    counted = _is_class(labels, classes)
    pairs = labels[counted].astype(np.int64) * classes + planes.argmax(axis=1)[counted]
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    both = np.diag(confusion)
    either = confusion.sum(axis=0) + confusion.sum(axis=1) - both
    return float((both[either > 0] / either[either > 0]).mean())


def _is_class(labels: Array, classes: int) -> npt.NDArray[np.bool_]:
    """Return which labels are one of so many classes."""
    return (labels >= 0) & (labels < classes)


def ap50(outputs: Array, labels: Array) -> float:
    """Return the average precision of boxes at half overlap, mean over the classes.

    Source: Everingham et al. 2010, "The PASCAL Visual Object Classes (VOC) Challenge", section 4.2,
    with the area under the whole precision-recall curve (as since 2010). Per sample and class,
    greedy non-maximum suppression comes first.
    """
    found = outputs.reshape(len(labels), -1, outputs.shape[-1]).astype(np.float64)
    classes = found.shape[1] - 4
    precisions = [_class_precision(found, labels, number) for number in range(classes)]
    return float(np.mean([each for each in precisions if each is not None]))


def _class_precision(found: Float, labels: Array, number: int) -> float | None:
    """Return the average precision of one class; None where no sample has it."""
    total = int((labels[:, :, 0] == number).sum())
    if not total:
        return None
    scores: list[float] = []
    right: list[bool] = []
    for sample, boxes in zip(found, labels, strict=True):
        truth = boxes[boxes[:, 0] == number, 1:].astype(np.float64)
        kept = suppress(sample[:4].T, sample[4 + number])
        scores += sample[4 + number][kept].tolist()
        right += _matches(sample[:4].T[kept], truth)
    order = np.argsort(-np.array(scores), kind="stable")
    hits = np.array(right, bool)[order].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], hits / total])
    return float((np.diff(recall) * envelope).sum())


def suppress(boxes: Float, scores: Float) -> npt.NDArray[np.int64]:
    """Return which boxes are left when each suppresses those of less score that overlap it.

    Args:
        boxes: (boxes, 4), left, top, right, bottom.
        scores: (boxes,).
    """
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= _LEAST_SCORE]
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        order = order[overlaps(boxes[first], boxes[order]) <= OVERLAP]
    return np.array(kept, np.int64)


def overlaps(box: Float, boxes: Float) -> Float:
    """Return intersection over union of one box, (4,), with each of others, (boxes, 4)."""
    near, far = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = np.prod(np.clip(far - near, 0, None), axis=1)
    either = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - both
    shares: Float = both / np.maximum(either, 1e-12)
    return shares


def _matches(boxes: Float, truth: Float) -> list[bool]:
    """Return whether each box, best score first, finds one that none before it has found."""
    free = np.ones(len(truth), bool)
    right = []
    for box in boxes:
        shares = np.where(free, overlaps(box, truth), 0.0)
        best = int(shares.argmax()) if len(shares) else 0
        hit = bool(len(shares)) and bool(shares[best] >= OVERLAP)
        right.append(hit)
        if hit:
            free[best] = False
    return right


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "top1": top1,
    "token": token,
    "mean_iou": mean_iou,
    "ap50": ap50,
}
# Axes of the labels, and whether they are integers.
_LABELS = {
    "top1": ((1, 2), True, "one class index a sample, or as many as the output's batch"),
    "token": ((2,), True, "a class index for every token"),
    "mean_iou": ((3,), True, "a class index for every pixel"),
    "ap50": ((3,), False, "class, left, top, right, bottom for every box of a sample"),
}


def check_metric(metric: str) -> None:
    """Refuse a metric that does not exist.

    Raises:
        UsageError: It is none of `METRICS`.
    """
    if metric not in METRICS:
        raise UsageError(f"unknown metric {metric!r}: expected one of {', '.join(METRICS)}")


def check_labels(metric: str, labels: Array, samples: int, where: str) -> None:
    """Refuse labels that a metric cannot use.

    Raises:
        UsageError: Their shape or kind is another than the metric's.
    """
    axes, is_integer, hint = _LABELS[metric]
    kind: type[np.generic] = np.integer if is_integer else np.floating
    fits = labels.ndim in axes and len(labels) == samples and np.issubdtype(labels.dtype, kind)
    if metric == "ap50":
        fits = fits and labels.shape[2] == 5
    if not fits:
        name = "integers" if is_integer else "floats"
        more = ", ..." * (axes[0] - 1)
        expected = f"{name} [{samples}{more}]" if more else f"{samples} {name}"
        raise UsageError(
            f"{where}: expected label to be {expected}, found {labels.dtype} {list(labels.shape)}",
            hint=hint,
        )


def check_outputs(metric: str, labels: Array, shape: Sequence[int], where: str) -> None:
    """Refuse labels that do not belong to outputs of this shape.

    Args:
        metric: A key of `METRICS`.
        labels: Such as `check_labels` lets pass.
        shape: Of one sample's output.
        where: What holds the labels.

    Raises:
        UsageError: There are more or fewer a sample than the output has tokens or pixels, or no
            label is a class of the output.
    """
    hint = f"--metric {metric} takes {_LABELS[metric][2]}"
    found, expected = list(labels.shape[1:]), _label_shape(metric, shape)
    if expected is not None and found != expected:
        raise UsageError(
            f"{where}: expected label to be {expected} a sample, as the output is {list(shape)},"
            f" found {found}",
            hint=hint,
        )
    classes = _classes(metric, shape)
    if not _is_class(labels[:, :, 0] if metric == "ap50" else labels, classes).any():
        raise UsageError(
            f"{where}: expected label to hold classes below {classes}, as the output is"
            f" {list(shape)}, found none",
            hint=hint,
        )


def _label_shape(metric: str, shape: Sequence[int]) -> list[int] | None:
    """Return the shape of one sample's label; None where it does not depend on the output's."""
    if metric == "top1":
        batch = _batch(shape)
        return [batch] if batch > 1 else []
    if metric == "token":
        return [math.prod(shape[:-1])]
    return list(shape[-2:]) if metric == "mean_iou" else None


def _batch(shape: Sequence[int]) -> int:
    """Return how many classes are asked for a sample: its output's batch."""
    return math.prod(shape[:1]) if math.prod(shape[1:]) > 1 else 1


def _classes(metric: str, shape: Sequence[int]) -> int:
    """Return how many classes an output of this shape tells of."""
    if metric == "top1":
        return math.prod(shape) // _batch(shape)
    if metric == "token":
        return math.prod(shape[-1:])
    return math.prod(shape[:-2]) if metric == "mean_iou" else max(0, math.prod(shape[:-1]) - 4)
