"""Which kept results `edgesparse results compare` compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgesparse.harness.store import Store, StoredResult

# Earlier results, the last of which is shown, and a later one.
Step = tuple[list["StoredResult"], "StoredResult"]


def steps_of(
    store: Store,
    numbers: Sequence[int],
    before_tag: str | None,
    pool: int,
    days: float,
    wanted: Mapping[str, Any],
) -> list[Step]:
    """Return what is to be compared.

    Args:
        store: What is kept.
        numbers: One result or two that the user named, or none.
        before_tag: What the earlier results were saved as; None for those just before.
        pool: How many of those before are taken together.
        days: How long before the newest result a later one may have been measured; what the user
            named may be of any age.
        wanted: Columns of results and the value they must have.

    Raises:
        UsageError: Too much is named, or there are no such results.
    """
    from edgesparse.cli.output import say
    from edgesparse.errors import UsageError
    from edgesparse.harness.store import earliest_recent, in_series, latest_steps

    if len(numbers) > 2 or (numbers and before_tag):
        raise UsageError("expected at most two results", hint="compare them two by two")
    if pool > 1 and (numbers or before_tag):
        raise UsageError("--pool takes the results before the last one", hint="name none")
    if numbers:
        before = store.one(numbers[0])
        after = store.one(numbers[1]) if len(numbers) == 2 else _newest_like(store, before)
        return [([before], after)]
    found = store.find(**wanted if before_tag is None else {**wanted, "tag": before_tag})
    if not found:
        raise UsageError(
            f"{store.path} holds no such result",
            hint="`edgesparse results list` shows what is kept",
        )
    if before_tag is None:
        steps = latest_steps(found, pool)
    else:
        newest = [(series[-1], _newest_like(store, series[-1])) for series in in_series(found)]
        steps = [([before], after) for before, after in newest if before.id != after.id]
    if not steps:  # the first night of a nightly job is no failure
        say("note: there is nothing to compare yet: no network was measured twice on one device")
        return steps
    everything = found if before_tag is None else store.find(**{**wanted, "tag": None})
    return _recent(steps, earliest_recent(everything, days), days)


def _recent(steps: Sequence[Step], earliest: str, days: float) -> list[Step]:
    """Return the steps to results of the newest so many days; a retired series fails no job."""
    from edgesparse.cli.output import say

    recent = [step for step in steps if step[1].date >= earliest]
    if left := len(steps) - len(recent):
        say(
            f"note: {left} series, older than the newest result by more than {days:g} d, are left"
            " out; `--since DAYS` goes back further"
        )
    return recent


def _newest_like(store: Store, result: StoredResult) -> StoredResult:
    alike = store.find(
        name=result.name,
        target=result.target,
        device=result.device,
        cpu=result.cpu,
        threads=result.threads,
    )
    return alike[-1]
