import json
import pathlib

import pytest
from fake_bundle import write_fake_bundle

from edgesparse.errors import UsageError
from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import DEVICES
from edgesparse.harness.documents import read_documents
from edgesparse.harness.measure import measure
from edgesparse.harness.regressions import baseline_of_device, compare_document, find_baseline

LIMITS = Limits(runs=20, warmup=1)


def test_document_of_two_bundles(tmp_path: pathlib.Path) -> None:
    fast = write_fake_bundle(tmp_path / "fast", mode="ms=1")
    slow = write_fake_bundle(tmp_path / "slow", mode="ms=2")
    document = measure(
        [("fast", fast), ("slow", slow)], DEVICES["host"], limits=LIMITS, profile_runs=3
    )
    assert document["schema"] == 1
    assert document["threads"] == 1
    assert document["device"]["name"] == "host"
    assert document["device"]["pinned_cpus"] == [document["device"]["pinned_cpu"]]
    assert not document["device"]["emulated"]
    assert document["against"] is None
    first, second = document["results"]
    assert (first["bundle"], second["bundle"]) == ("fast", "slow")
    assert first["median_ms"] == pytest.approx(1, abs=0.01)
    assert first["runs"] == len(first["samples_ms"]) == 20
    assert second["over_first"] == pytest.approx(0.5, abs=0.01)
    assert first["layers"][0]["median_us"] == pytest.approx(3)
    assert first["shipped_bytes"] == (tmp_path / "fast" / "weights.bin").stat().st_size
    json.dumps(document, allow_nan=False)


def test_bundles_are_opened_afresh_for_every_launch(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b")
    told: list[tuple[str, float]] = []
    document = measure(
        [("b", bundle)],
        DEVICES["host"],
        limits=Limits(runs=10, warmup=1),
        launches=3,
        profile_runs=2,
        progress=lambda stage, done: told.append((stage, done)),
    )
    (result,) = document["results"]
    assert result["launches"] == [3, 3, 4]
    assert len(result["samples_ms"]) == result["runs"] == 10
    assert len(result["layers"][0]["samples_us"]) == 2
    assert [done for stage, done in told if stage == "opening"] == [0, pytest.approx(1 / 3), 2 / 3]
    assert [stage for stage, _ in told].count("cooling down") == 1
    assert told == sorted(told, key=lambda pair: pair[1])
    assert document["conditions"]["before"].keys() >= {"governor", "khz", "temperatures_c", "load"}


def test_conditions_are_read_before_and_after(tmp_path: pathlib.Path) -> None:
    readings = iter([{"load": 2.5}, {"screen_on": True}])
    document = measure(
        [("b", write_fake_bundle(tmp_path / "b"))],
        DEVICES["host"],
        limits=LIMITS,
        launches=2,
        conditions=lambda: next(readings),
    )
    assert document["conditions"]["before"] == {"load": 2.5}
    assert document["conditions"]["after"] == {"screen_on": True}
    assert [sentence.partition(":")[0] for sentence in document["warnings"]] == [
        "other work was running before the measurement",
        "the screen was on",
    ]


def entry(bundle: str, ms: float) -> dict[str, object]:
    return {
        "bundle": bundle,
        "name": "fake",
        "target": "host",
        "samples_ms": [ms + 1e-4 * (i % 7) for i in range(40)],
        "median_ms": ms,
    }


def test_a_regression_is_told_with_both_medians() -> None:
    document = {"results": [entry("a", 1.2)]}
    (sentence,) = compare_document(document, {"results": [entry("a", 1.0)]}, 0.05)
    assert "median 1.2 ms, baseline 1" in sentence
    assert "allowed are 5 %, beyond the noise" in sentence
    assert document["results"][0]["baseline"]["is_regression"]


def test_the_baseline_is_found_by_path_then_by_name() -> None:
    entries = {"results": [entry("a", 1.0), entry("b", 2.0)]}
    assert find_baseline(entries, entry("b", 9.0))["samples_ms"][0] == 2.0
    assert find_baseline({"results": [entry("elsewhere/a", 1.0)]}, entry("a", 9.0))
    with pytest.raises(UsageError, match="holds no single result for c"):
        find_baseline(entries, entry("c", 1.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not JSON"),
        ("[]", "is not a result of `edgesparse bench --json`"),
        ('{"schema": 7, "results": []}', "expected result schema 1, found 7"),
        ('{"schema": 1, "results": [{}]}', "a result holds no samples"),
        ('{"schema": 1, "results": [{"samples_ms": [0]}]}', "a result holds no samples"),
    ],
)
def test_foreign_baselines(tmp_path: pathlib.Path, text: str, message: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_documents(path)


def on_device(name: str) -> dict[str, object]:
    results = [entry("a", 1.0)]
    return {"schema": 1, "device": {"name": name}, "results": results}


def test_documents_of_several_devices(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f.json"
    documents = [on_device("adb:X"), on_device("host")]
    path.write_text(json.dumps({"schema": 1, "documents": documents, "failures": []}))
    assert read_documents(path) == documents
    assert baseline_of_device(documents, on_device("host")) is documents[1]
    assert baseline_of_device(documents[:1], on_device("host")) is documents[0]
    with pytest.raises(UsageError, match="holds no result of node") as caught:
        baseline_of_device(documents, on_device("node"))
    assert caught.value.hint == "it holds adb:X, host"


def test_a_missing_baseline(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="No such file") as caught:
        read_documents(tmp_path / "f.json")
    assert "edgesparse bench" in caught.value.hint
