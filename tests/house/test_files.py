"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import pathlib
import threading

import pytest

from edgesparse.errors import OutputError
from edgesparse.files import check_writable, hinting, temporary_folder, whole_file, write_whole_text


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path, "") as partial:
        partial.write_text("ne")
        raise KeyboardInterrupt
    with pytest.raises(UnicodeEncodeError):
        write_whole_text(path, "new \ud800", "")
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["page.html"])
    write_whole_text(path, "new", "")
    assert (path.read_text(), os.listdir(tmp_path)) == ("new", ["page.html"])


@pytest.mark.parametrize("name", [".", "gone/page.html"])
def test_what_cannot_be_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=f"cannot write {name}: ") as caught:
        write_whole_text(pathlib.Path(name), "new", "choose another file")
    assert caught.value.hint == "choose another file"


def test_what_can_be_written_is_known_early(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "new" / "page.html", "")
    with pytest.raises(OutputError, match="expected a file, found a folder"):
        check_writable(tmp_path, "")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match=f"{tmp_path} is no writable folder") as caught:
        check_writable(tmp_path / "new" / "page.html", "choose another file")
    assert caught.value.hint == "choose another file"
    check_writable(pathlib.Path(os.devnull), "")


def test_a_name_that_the_system_refuses_is_no_traceback(tmp_path: pathlib.Path) -> None:
    """A folder that others may not look into is refused as a name that is too long is."""
    check_writable(tmp_path / ("n" * 300) / "page.html", "")
    with pytest.raises(OutputError, match="File name too long"):
        write_whole_text(tmp_path / ("n" * 300) / "page.html", "new", "")


def test_where_the_current_folder_is_gone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OutputError, match=r"cannot write y\.npz: No such file or directory"):
        check_writable(pathlib.Path("y.npz"), "")


def test_without_a_place_for_temporary_files(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    refused = pytest.raises(OutputError, match="cannot make a folder")
    with refused as caught, hinting("choose another file"), temporary_folder():
        pass
    assert "TMPDIR" in caught.value.hint


def test_a_pipe_is_written_to_and_stays(tmp_path: pathlib.Path) -> None:
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()), daemon=True)
    reader.start()
    write_whole_text(pipe, "new", "")
    reader.join(timeout=10)
    assert (found, pipe.is_fifo()) == (["new"], True)
