import pathlib
import sys

import numpy as np
import pytest
from fake_bundle import FAKE_RUNNER

from edgesparse.errors import BundleError, DeviceError, UsageError
from edgesparse.harness.session import ProcessSession

X = {"name": "x", "shape": [1, 4], "dtype": "float32"}
Y = {"name": "y", "shape": [1, 4], "dtype": "float32"}


def open_fake(mode: str, **options: float) -> ProcessSession:
    command = [sys.executable, "-I", str(FAKE_RUNNER), mode]
    return ProcessSession(command, inputs=[X], outputs=[Y], device="host", **options)


def samples(count: int = 3) -> dict[str, np.ndarray]:
    return {"x": np.arange(4 * count, dtype=np.float32).reshape(count, 1, 4)}


def test_run_doubles_every_sample() -> None:
    with open_fake("good") as session:
        outputs = session.run(samples())
    np.testing.assert_array_equal(outputs["y"], 2 * samples()["x"])


def test_run_takes_arrays_in_any_memory_order() -> None:
    x = np.asfortranarray(samples()["x"])
    with open_fake("good") as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)


def test_several_tensors_are_interleaved_by_sample() -> None:
    """The fake doubles the bytes it is given, so two inputs come back as two outputs."""
    inputs = [X, {"name": "z", "shape": [2], "dtype": "float32"}]
    outputs = [{**inputs[0], "name": "a"}, {**inputs[1], "name": "b"}]
    command = [sys.executable, "-I", str(FAKE_RUNNER), "good"]
    given = {**samples(2), "z": np.array([[7, 8], [9, 10]], np.float32)}
    with ProcessSession(command, inputs=inputs, outputs=outputs, device="host") as session:
        found = session.run(given)
    np.testing.assert_array_equal(found["a"], 2 * given["x"])
    np.testing.assert_array_equal(found["b"], 2 * given["z"])


def test_scratch_folder_with_a_space(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = tmp_path / "a folder"
    spaced.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spaced))
    with open_fake("good") as session:
        session.run(samples())
    assert not list(spaced.iterdir())


def test_bench_and_profile_are_in_ms() -> None:
    with open_fake("good") as session:
        assert session.bench(2) == [1.0, 1.001]
        assert session.profile(2) == [[0.001, 0.002, 0.005]] * 2
        assert session.ready["open_ms"] == 1.5


def test_load_checks_one_sample() -> None:
    with open_fake("good") as session:
        session.load({"x": np.zeros((1, 4), np.float32)})
        with pytest.raises(UsageError, match=r"expected \[1, 4\], found \[3, 1, 4\]"):
            session.load(samples())


def test_wrong_inputs_are_all_listed() -> None:
    with open_fake("good") as session, pytest.raises(UsageError) as caught:
        session.run({"y": np.zeros(3)})
    assert "x: missing; y: no such input" in caught.value.message
    assert caught.value.hint == "the model takes x float32 [1, 4]"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 1, 4), np.float64), "x: expected float32, found float64"),
        (np.zeros((3, 4), np.float32), r"x: expected samples x \[1, 4\], found \[3, 4\]"),
        (np.zeros((0, 1, 4), np.float32), "inputs hold no samples"),
        (np.float32(1), r"x: expected samples x \[1, 4\], found \[\]"),
    ],
)
def test_wrong_dtype_and_shape(array: np.ndarray, message: str) -> None:
    with open_fake("good") as session, pytest.raises(UsageError, match=message):
        session.run({"x": array})


def test_a_runner_that_dies_is_quoted() -> None:
    with open_fake("die") as session, pytest.raises(DeviceError) as caught:
        session.bench(1)
    assert "ended with status 1" in caught.value.message
    assert "fake runner: out of memory" in caught.value.message


def test_a_dead_runner_stays_dead() -> None:
    with open_fake("die") as session:
        for _ in range(2):
            with pytest.raises(DeviceError):
                session.bench(1)


def test_a_runner_that_prints_garbage() -> None:
    with open_fake("garbage") as session, pytest.raises(DeviceError, match="segmentation fault"):
        session.bench(1)


def test_a_runner_that_hangs_is_given_up() -> None:
    with (
        open_fake("hang", timeout_seconds=0.3) as session,
        pytest.raises(DeviceError, match=r"did not answer within 0\.3 s"),
    ):
        session.bench(1)


def test_a_runner_that_never_gets_ready() -> None:
    with pytest.raises(DeviceError, match="did not answer"):
        open_fake("mute", open_timeout_seconds=0.3)


def test_a_runner_that_cannot_open_the_bundle() -> None:
    with pytest.raises(BundleError, match=r"bundle: weights\.bin: wrong hash") as found:
        open_fake("unopened")
    assert found.value.hint.startswith("compile the bundle again")


def test_a_bundle_that_takes_more_memory_than_there_is_would_do_so_again() -> None:
    with pytest.raises(DeviceError, match="cannot open the bundle: no memory") as found:
        open_fake("large")
    assert found.value.hint.startswith("compile the model for smaller inputs with `--shape`")


def test_a_command_that_fails_leaves_the_session_usable() -> None:
    with open_fake("refuse") as session:
        for _ in range(2):
            with pytest.raises(DeviceError, match="`bench` failed: no such thing"):
                session.bench(1)


def test_outputs_that_are_too_short() -> None:
    with open_fake("short") as session, pytest.raises(DeviceError, match="incomplete answer"):
        session.run(samples())


def test_a_command_that_does_not_exist() -> None:
    with pytest.raises(DeviceError, match="cannot start /nowhere/runner: No such file"):
        ProcessSession(["/nowhere/runner"], inputs=[X], outputs=[Y], device="host")


def test_close_twice() -> None:
    session = open_fake("good")
    session.close()
    session.close()
