from __future__ import annotations

import itertools
from typing import Any

import pytest

from edgesparse.harness.steadiness import ConditionLog, condition_warnings, sample_warnings

CALM: dict[str, Any] = {
    "governor": ["performance"],
    "khz": {0: 1_800_000, 4: 2_400_000},
    "temperatures_c": {"cpu": 40.0, "battery": 30.0},
    "load": 0.1,
    "screen_on": False,
}


def readings(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [CALM, *({**CALM, **change} for change in changes)]


def test_a_calm_device_needs_no_warning() -> None:
    assert condition_warnings(readings({}, {}, {})) == []


def test_a_device_that_tells_nothing_needs_none() -> None:
    silent = {"governor": [], "khz": {}, "temperatures_c": {}, "load": None, "screen_on": None}
    assert condition_warnings([silent] * 3) == condition_warnings([{}, {}]) == []


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ({"governor": ["schedutil", "performance"]}, "governed by schedutil, so it may follow"),
        ({"load": 1.94}, "load 1.9"),
        ({"screen_on": True}, "the screen was on"),
    ],
)
def test_what_was_so_before(before: dict[str, Any], message: str) -> None:
    (sentence,) = condition_warnings([{**CALM, **before}, CALM])
    assert message in sentence


def test_throttling_is_seen_in_the_clock_of_a_cpu_that_computed() -> None:
    slower = readings({}, {"khz": {0: 1_800_000, 4: 1_600_000}})
    (sentence,) = condition_warnings(slower)
    assert "CPU 4 was throttled: its clock fell from 2400 to 1600 MHz" in sentence
    assert "--cooldown" in sentence
    assert condition_warnings(slower, cpus=[4]) == [sentence]
    assert condition_warnings(slower, cpus=[0]) == []


def test_an_idle_clock_before_is_no_throttling() -> None:
    idle = {**CALM, "khz": {"0": 600_000, "4": 600_000}}
    assert condition_warnings([idle, CALM, CALM]) == []
    wander = readings({}, {"khz": {0: 1_800_000, 4: 2_300_000}})
    assert condition_warnings(wander) == []


def test_heat_while_measuring() -> None:
    (sentence,) = condition_warnings(readings({"temperatures_c": {"cpu": 58.0}}, {}))
    assert "cpu went from 40 to 58 degrees" in sentence
    assert condition_warnings(readings({"temperatures_c": {"cpu": 54.0}})) == []
    hot = {**CALM, "temperatures_c": {"cpu": 83.0}}
    assert "from 83 to 83" in condition_warnings([hot, hot])[0]


def test_what_android_says_of_its_heat() -> None:
    (sentence,) = condition_warnings(readings({"thermal_status": 0}, {"thermal_status": 3}))
    assert sentence.endswith("thermal status 3 (severe)")


def test_samples_that_drift() -> None:
    steady = [1.0, 1.01] * 20
    assert sample_warnings("a", steady) == []
    (slower,) = sample_warnings("a", [*steady, *[1.2] * 20])
    assert slower.startswith("a: the last samples are 20 % slower")
    (faster,) = sample_warnings("a", [*[1.2] * 20, *steady])
    assert "faster" in faster
    assert sample_warnings("a", [1.0, 9.0]) == []


def test_samples_with_many_outliers() -> None:
    samples = [1.0] * 9 + [1.5]
    (sentence,) = sample_warnings("a", samples * 10)
    assert "10 % of the samples are far out" in sentence


def test_a_log_reads_before_during_and_after_but_not_too_often() -> None:
    now, numbers = [0.0], itertools.count()
    log = ConditionLog(lambda: {"load": next(numbers)}, clock=lambda: now[0])
    for now[0] in (0.0, 0.1, 0.9, 1.1, 1.2, 2.0, 2.2):
        log.sample()
    log.close()
    assert log.summary() == {
        "before": {"load": 0},
        "during": [{"load": 1}, {"load": 2}],
        "after": {"load": 3},
    }
