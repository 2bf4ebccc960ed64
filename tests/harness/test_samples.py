import pathlib

import numpy as np
import pytest

from edgesparse.errors import OutputError, UsageError
from edgesparse.harness.samples import (
    read_labels,
    read_npz,
    read_samples,
    unstack_outputs,
    write_npz,
)

IMAGE = {"name": "image", "shape": [1, 2, 3], "dtype": "float32"}
TABLE = {"name": "table", "shape": [5, 3], "dtype": "float32"}


def save(path: pathlib.Path, **arrays: np.ndarray) -> pathlib.Path:
    np.savez(path, **arrays)
    return path


def test_samples_take_the_place_of_the_batch(tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "x.npz", image=np.zeros((7, 2, 3), np.float32))
    assert read_samples(path, [IMAGE])["image"].shape == (7, 1, 2, 3)


def test_inputs_without_a_batch_are_stacked(tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "x.npz", table=np.zeros((7, 5, 3), np.float32))
    assert read_samples(path, [TABLE])["table"].shape == (7, 5, 3)


def test_an_array_of_exactly_the_shape_is_one_sample(tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "x.npz", table=np.zeros((5, 3), np.float32))
    assert read_samples(path, [TABLE])["table"].shape == (1, 5, 3)


def test_all_misfits_are_listed(tmp_path: pathlib.Path) -> None:
    path = save(tmp_path / "x.npz", image=np.zeros((7, 3, 3), np.float32))
    with pytest.raises(UsageError) as caught:
        read_samples(path, [IMAGE, TABLE])
    assert "image: expected [samples, 2, 3], found [7, 3, 3]" in caught.value.message
    assert "no array called 'table'" in caught.value.message
    assert caught.value.hint == "it holds image [7, 3, 3]"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((7, 2, 3)), "image: expected float32, found float64$"),
        (np.zeros((7, 2, 3), np.uint8), "image: expected float32, found uint8$"),
        (np.zeros((7, 2, 3), ">f4"), "image: expected float32, found >f4$"),
        (np.zeros((0, 2, 3), np.float32), "image: expected one sample or more, found none$"),
    ],
)
def test_samples_of_another_kind_and_none(
    tmp_path: pathlib.Path, image: np.ndarray, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_samples(save(tmp_path / "x.npz", image=image, label=np.zeros(0, np.int64)), [IMAGE])


@pytest.mark.parametrize("contents", [b"", b"not a zip", b"PK\x03\x04truncated"])
def test_files_that_are_no_npz(tmp_path: pathlib.Path, contents: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(contents)
    with pytest.raises(UsageError, match=r"x\.npz"):
        read_npz(tmp_path / "x.npz")


def test_a_bare_array_is_no_npz(tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(UsageError, match="not a readable npz file: it holds one array"):
        read_npz(tmp_path / "x.npy")


def test_a_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_npz(tmp_path / "x.npz")


def test_labels(tmp_path: pathlib.Path) -> None:
    inputs = {"image": np.zeros((3, 1, 2, 3), np.float32)}
    assert read_labels(save(tmp_path / "a.npz", image=inputs["image"]), inputs) is None
    labelled = save(tmp_path / "b.npz", label=np.array([1, 2, 3]))
    np.testing.assert_array_equal(read_labels(labelled, inputs), [1, 2, 3])
    with pytest.raises(UsageError, match="expected label to be 3 integers, found float64"):
        read_labels(save(tmp_path / "c.npz", label=np.zeros(3)), inputs)
    planes = save(tmp_path / "d.npz", label=np.ones((3, 2, 3), np.int64))
    assert read_labels(planes, inputs, "mean_iou").shape == (3, 2, 3)
    with pytest.raises(UsageError, match=r"integers \[3, \.\.\.\], found int64 \[3, 2, 3\]"):
        read_labels(planes, inputs, "token")


def test_outputs_are_written_as_inputs_are_read(tmp_path: pathlib.Path) -> None:
    """Any name may be an output's, also the names of numpy.savez's own parameters."""
    tensors = [{**IMAGE, "name": "file"}, TABLE]
    stacked = {"file": np.ones((4, 1, 2, 3), np.float32), "table": np.ones((4, 5, 3), np.float32)}
    write_npz(tmp_path / "y.npz", unstack_outputs(stacked, tensors), "")
    read = read_samples(tmp_path / "y.npz", tensors)
    np.testing.assert_array_equal(read["file"], stacked["file"])
    np.testing.assert_array_equal(read["table"], stacked["table"])


def test_an_unwritable_file_leaves_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "y.npz").mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        write_npz(tmp_path / "y.npz", {"y": np.zeros(3)}, "")
    assert [path.name for path in tmp_path.iterdir()] == ["y.npz"]
