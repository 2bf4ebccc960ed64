"""Comparing results with a baseline: which of them are slower than a limit allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from edgesparse.errors import UsageError
from edgesparse.harness.results import launches_of
from edgesparse.harness.statistics import (
    Comparison,
    compare_side_by_side,
    compare_with_baseline,
    summarize,
)


def compare_document(
    document: dict[str, Any], baseline: Mapping[str, Any], max_regression: float
) -> list[str]:
    """Add `baseline` to every result and return a sentence for each that is slower than allowed.

    Args:
        document: From `result_document`; changed in place.
        baseline: One of `read_documents`.
        max_regression: 0.05 allows five percent.

    Raises:
        UsageError: The baseline does not hold a result.
    """
    sentences = []
    for result in document["results"]:
        entry = find_baseline(baseline, result)
        found = compare_entries(result, entry, max_regression)
        _add_comparison(result, entry, found)
        if found.exceeds_limit:
            sentences.append(_regression_sentence(result, "baseline", max_regression))
    return sentences


def compare_with_first(document: dict[str, Any], max_regression: float) -> list[str]:
    """Do as `compare_document` with the document's own first result as the baseline.

    Samples were taken in turns, so this holds on a machine whose speed nobody knows.
    """
    sentences = []
    first, *others = document["results"]
    for result in others:
        pair = result["samples_ms"], first["samples_ms"]
        found = compare_side_by_side(*pair, max_regression, launches_of(first))
        _add_comparison(result, first, found)
        if found.exceeds_limit:
            sentences.append(_regression_sentence(result, first["bundle"], max_regression))
    return sentences


def _add_comparison(result: dict[str, Any], baseline: Mapping[str, Any], found: Comparison) -> None:
    result["baseline"] = {
        "median_ms": summarize(baseline["samples_ms"]).median_ms,
        **dataclasses.asdict(found),
        "is_regression": found.is_regression,
    }


def compare_entries(
    result: Mapping[str, Any], baseline: Mapping[str, Any], max_regression: float
) -> Comparison:
    """Return how an entry of a document's `results` compares with another one."""
    launches = launches_of(result), launches_of(baseline)
    pair = result["samples_ms"], baseline["samples_ms"]
    return compare_with_baseline(*pair, max_regression, launches)


def _regression_sentence(result: Mapping[str, Any], than: str, max_regression: float) -> str:
    baseline = result["baseline"]
    noise = "beyond" if baseline["exceeds_noise"] else "but within"
    return (
        f"{result['bundle']}: median {result['median_ms']:.4g} ms, {than}"
        f" {baseline['median_ms']:.4g} ms: {100 * baseline['change']:.1f} % slower, allowed are"
        f" {100 * max_regression:g} %, {noise} the noise of the samples"
    )


def baseline_of_device(
    baselines: Sequence[dict[str, Any]], document: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the document of the same device, or the only one there is.

    Raises:
        UsageError: There are several, of other devices.
    """
    name = document["device"]["name"]
    same = [b for b in baselines if b.get("device", {}).get("name") == name]
    if len(same) == 1 or len(baselines) == 1:
        return (same or baselines)[0]
    known = ", ".join(str(b.get("device", {}).get("name")) for b in baselines)
    raise UsageError(f"the baseline holds no result of {name}", hint=f"it holds {known}")


def find_baseline(baseline: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the baseline's entry for a result: the same path, else the same name and target.

    Raises:
        UsageError: There is none, or several could be meant.
    """
    entries: list[dict[str, Any]] = baseline["results"]
    for keys in (("bundle", "target"), ("name", "target")):
        same = [e for e in entries if all(e.get(key) == result[key] for key in keys)]
        if len(same) == 1:
            return same[0]
    known = ", ".join(f"{e.get('bundle')} ({e.get('target')})" for e in entries) or "nothing"
    raise UsageError(
        f"the baseline holds no single result for {result['bundle']} ({result['target']})",
        hint=f"it holds {known}",
    )
