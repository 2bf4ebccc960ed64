from __future__ import annotations

import copy
import pickle
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from bundle.fixtures import MODEL_SHA256, write_toy
from bundle.toy import W, assert_same, toy_inputs, toy_object, toy_outputs, toy_plan

from edgesparse import bundle as bundle_module
from edgesparse.bundle import Bundle, write_bundle
from edgesparse.errors import BundleError, UsageError
from edgesparse.target import Target


def test_run_computes_the_model(host_bundle: Bundle) -> None:
    for seed in range(3):
        inputs = toy_inputs(seed)
        assert_same(host_bundle.run(inputs), toy_outputs(inputs))


def test_outputs_are_the_callers_own(host_bundle: Bundle) -> None:
    first = host_bundle.run(toy_inputs(0))
    kept = first["y"].copy()
    host_bundle.run(toy_inputs(1))
    np.testing.assert_array_equal(first["y"], kept)


def test_inputs_need_not_be_contiguous(host_bundle: Bundle) -> None:
    inputs = toy_inputs()
    expected = toy_outputs(inputs)
    strided = np.asfortranarray(inputs["x"])
    assert_same(host_bundle.run(inputs | {"x": strided}), expected)


def test_threads_do_not_share_an_arena(host_bundle: Bundle) -> None:
    samples = [toy_inputs(seed) for seed in range(64)]
    with ThreadPoolExecutor(4) as pool:
        for inputs, found in zip(samples, pool.map(host_bundle.run, samples), strict=True):
            assert_same(found, toy_outputs(inputs))


def test_a_bundle_that_has_run_is_sent_and_copied(host_bundle: Bundle) -> None:
    expected = toy_outputs(toy_inputs())
    assert_same(host_bundle.run(toy_inputs()), expected)
    for other in (pickle.loads(pickle.dumps(host_bundle)), copy.deepcopy(host_bundle)):
        assert_same(other.run(toy_inputs()), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, 3))}, r"input x expected float32 \[2, 3\], found float64 \[2, 3\]"),
        ({"x": np.zeros((6,), np.float32)}, r"expected float32 \[2, 3\], found float32 \[6\]"),
        ({"x": np.zeros((2, 3), ">f4")}, "found >f4"),
        ({"x": [[1.0, 2.0], [3.0]]}, r"x expected float32 \[2, 3\], found what is no array: "),
        ({"1": np.zeros((), np.int32)}, r"input 1 expected int64 \[\], found int32 \[\]"),
        ({"z": np.zeros(1)}, r"expected inputs \['x', '1'\], found \['x', '1', 'z'\]"),
    ],
)
def test_wrong_inputs_are_refused(
    host_bundle: Bundle, change: dict[str, npt.ArrayLike], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        host_bundle.run(toy_inputs() | change)
    assert caught.value.hint


def test_missing_input_is_refused(host_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"found \['x'\]"):
        host_bundle.run({"x": np.zeros((2, 3), np.float32)})


def test_two_bundles_do_not_clash(host: Target, host_bundle: Bundle, tmp_path: Path) -> None:
    other = write_bundle(
        toy_plan(w=W + 100), host, toy_object(host), tmp_path / "other", model_sha256=MODEL_SHA256
    )
    inputs = toy_inputs()
    before = host_bundle.run(inputs)["y"]
    np.testing.assert_allclose(other.run(inputs)["y"], before + 100, rtol=1e-5)
    np.testing.assert_array_equal(host_bundle.run(inputs)["y"], before)


def test_a_replaced_bundle_runs_its_new_code(host: Target, tmp_path: Path) -> None:
    path, inputs = tmp_path / "toy", toy_inputs()
    found = []
    for offset in (0, 100, 200):
        plan = toy_plan(w=W + offset)
        fresh = write_bundle(plan, host, toy_object(host), path, model_sha256=MODEL_SHA256)
        found.append(fresh.run(inputs)["y"] - offset)
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)
    np.testing.assert_allclose(found[2], found[0], atol=1e-4)


def test_another_architecture_is_refused(wasm_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="compiled for wasm32") as caught:
        wasm_bundle.run(toy_inputs())
    assert "--device node" in caught.value.hint


def test_missing_cpu_flags_are_refused(
    copied_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "missing_cpu_flags", lambda required: ("avx9",))
    with pytest.raises(BundleError, match="lacks avx9"):
        Bundle(copied_bundle).run(toy_inputs())


def test_corrupt_weights_are_found_when_running(copied_bundle: Path) -> None:
    weights = copied_bundle / "weights.bin"
    contents = bytearray(weights.read_bytes())
    contents[-1] ^= 1
    weights.write_bytes(contents)
    with pytest.raises(BundleError, match="corrupt"):
        Bundle(copied_bundle).run(toy_inputs())


def test_a_library_of_another_model_is_refused(host: Target, tmp_path: Path) -> None:
    one = write_toy(host, tmp_path / "one")
    other = write_bundle(
        toy_plan(w=W + 1), host, toy_object(host), tmp_path / "other", model_sha256=MODEL_SHA256
    )
    shutil.copy(other.path / "libmodel.so", one.path / "libmodel.so")
    with pytest.raises(BundleError, match="belong to another model"):
        one.run(toy_inputs())


def test_a_library_that_does_not_load_is_refused(copied_bundle: Path) -> None:
    library = copied_bundle / "libmodel.so"
    library.write_bytes(b"\0" * library.stat().st_size)
    with pytest.raises(BundleError, match=r"loading .*libmodel\.so"):
        Bundle(copied_bundle).run(toy_inputs())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="arm64 bundles run here")
def test_arm64_bundle_names_qemu(arm_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="compiled for aarch64") as caught:
        arm_bundle.run(toy_inputs())
    assert "--device qemu" in caught.value.hint
