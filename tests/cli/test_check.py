from __future__ import annotations

import json

import numpy as np
import pytest
import texts

from edgesparse.check import Accuracy, CheckResult, check, read_result
from edgesparse.differences import Tolerance, compare
from edgesparse.errors import AccuracyError, UsageError
from edgesparse.harness.devices import DEVICES
from edgesparse.model_files import model_digest

WANT = np.array([[1.0, 2.0, 3.0, 0.0], [4.0, 3.0, 2.0, 1e-9]], np.float32)


def difference(found, expected=WANT, **tolerance):
    return compare("y", "random", found, expected, Tolerance(**tolerance))


def test_equal_outputs() -> None:
    found = difference(WANT)
    assert (found.failing, found.max_abs, found.max_rel) == (0, 0.0, 0.0)
    assert found.cosine == pytest.approx(1.0)
    assert found.top1_agreement == 1.0


def test_differences_are_measured() -> None:
    got = WANT.copy()
    got[0, 2] += 0.03
    found = difference(got)
    assert found.failing == 1
    assert found.max_abs == pytest.approx(0.03, rel=1e-4)
    assert found.max_rel == pytest.approx(0.01, rel=1e-4)
    assert found.cosine < 1


def test_tiny_values_do_not_count_relatively() -> None:
    got = WANT.copy()
    got[1, 3] = 1e-7
    assert difference(got).max_rel == 0
    assert difference(got).failing == 0


def test_swapped_classes_disagree() -> None:
    assert difference(WANT[:, ::-1]).top1_agreement == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_fails(bad) -> None:
    got = WANT.copy()
    got[0, 0] = bad
    found = difference(got, rtol=1e9, atol=1e9)
    assert found.failing == 1
    assert found.max_abs == np.inf


def test_infinity_where_onnxruntime_has_it_is_right() -> None:
    want = np.array([[np.inf, np.nan, 1.0]])
    assert difference(want.copy(), want).failing == 0
    assert difference(np.array([[-np.inf, np.nan, 1.0]]), want).failing == 1


def test_what_is_not_finite_is_counted_and_agrees_with_nothing() -> None:
    want = WANT.copy()
    want[0] = np.nan
    found = difference(want.copy(), want)
    assert (found.failing, found.not_finite, found.top1_agreement) == (0, 4, 1.0)
    found = difference(np.full_like(want, np.nan), np.full_like(want, np.nan))
    assert (found.not_finite, found.top1_agreement) == (8, None)
    assert difference(WANT).not_finite == 0


def test_outputs_of_one_value_have_no_top1() -> None:
    assert difference(WANT[:, :1], WANT[:, :1]).top1_agreement is None


def test_all_zero_outputs() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert difference(zeros, zeros).cosine == 1.0
    assert difference(zeros + 1, zeros).cosine == 0.0


def result(bundle_percent: float, max_drop: float) -> CheckResult:
    accuracy = Accuracy("top1", 100, bundle_percent, 98.0)
    return CheckResult("b", "fake", "host", "host", Tolerance(max_drop=max_drop), (), accuracy)


def test_an_accuracy_drop_is_an_error() -> None:
    result(97.5, 0.5).raise_problems()
    with pytest.raises(AccuracyError, match=r"drops by 0\.60 points, 98\.00 % to 97\.40 %"):
        result(97.4, 0.5).raise_problems()


def test_a_gain_is_none() -> None:
    result(99.0, 0.0).raise_problems()


def test_a_document_of_before_there_were_hashes(tmp_path) -> None:
    document = json.loads(json.dumps(result(99.0, 0.5).to_json()))
    del document["manifest_sha256"]
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document))
    assert read_result(path) == document
    del document["accuracy"]
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="is not a result of `edgesparse check --json`"):
        read_result(path)


def test_random_inputs_depend_on_the_seed_only(make_bundle, model) -> None:
    bundle = make_bundle(mode="factor=2.5")
    found = [check(model, bundle, DEVICES["host"], seed=seed).outputs for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_a_model_with_other_weights_beside_it_is_another(make_bundle, tmp_path) -> None:
    path = texts.save_external(tmp_path / "m.onnx", np.eye(4, dtype=np.float32))
    bundle = make_bundle(model_sha256=model_digest(path))
    check(path, bundle, DEVICES["host"])
    texts.save_external(path, 2 * np.eye(4, dtype=np.float32))
    with pytest.raises(UsageError, match="was compiled from another model than"):
        check(path, bundle, DEVICES["host"])
    check(path, bundle, DEVICES["host"], force=True)


@pytest.mark.parametrize("samples", [10**13, 10**18, 10**20])
def test_more_samples_than_memory_holds(make_bundle, model, samples) -> None:
    with pytest.raises(UsageError, match=r"the samples do not fit into memory: .+") as caught:
        check(model, make_bundle(), DEVICES["host"], samples=samples)
    assert caught.value.hint == "compare fewer: `--samples N`, or a part of the data"


def test_outputs_that_memory_does_not_hold(make_bundle, model, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("edgesparse.check.compare", full)
    with pytest.raises(UsageError, match="do not fit into memory: there is none left"):
        check(model, make_bundle(), DEVICES["host"])


def test_fewer_samples_than_none(make_bundle, model) -> None:
    with pytest.raises(UsageError, match="expected 0 samples or more, found -1"):
        check(model, make_bundle(), DEVICES["host"], samples=-1)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"samples": 0}, "nothing to compare on"), ({"seed": -1}, "seed to be .*, found -1")],
)
def test_samples_that_there_cannot_be(make_bundle, model, given, message) -> None:
    """A comparison of nothing would be within any tolerance."""
    with pytest.raises(UsageError, match=message):
        check(model, make_bundle(), DEVICES["host"], **given)


@pytest.mark.parametrize("number", [np.nan, np.inf, -1])
@pytest.mark.parametrize("name", ["rtol", "atol", "max_drop"])
def test_a_tolerance_that_lets_everything_pass_is_none(name, number) -> None:
    with pytest.raises(UsageError, match=f"{name} to be a number of 0 to .*, found {number}"):
        Tolerance(**{name: number})


def test_unknown_metric(make_bundle, model) -> None:
    with pytest.raises(UsageError, match="unknown metric 'f1'"):
        check(model, make_bundle(), DEVICES["host"], metric="f1")


def test_labels_of_another_size_than_the_output(make_bundle, model, tmp_path) -> None:
    """They are refused before anything runs."""
    inputs = np.ones((3, 4), np.float32)
    np.savez(tmp_path / "d.npz", x=inputs, label=np.zeros((3, 2), np.int64))
    message = r"d\.npz: expected label to be \[1\] a sample, as the output is \[1, 4\], found \[2\]"
    with pytest.raises(UsageError, match=message):
        check(model, make_bundle(), DEVICES["host"], data=tmp_path / "d.npz", metric="token")


def test_missing_model(make_bundle, tmp_path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        check(tmp_path / "gone.onnx", make_bundle(), DEVICES["host"])
