import json
import pathlib

import pytest
from fake_bundle import write_fake_bundle

from edgesparse.errors import UsageError
from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import DEVICES
from edgesparse.harness.measure import measure
from edgesparse.harness.results import compare_document, find_baseline, read_document

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
        read_document(path)


def test_a_missing_baseline(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="No such file") as caught:
        read_document(tmp_path / "f.json")
    assert "edgesparse bench" in caught.value.hint
