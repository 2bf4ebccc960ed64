import http.client
import pathlib
import urllib.parse

import pytest

from edgesparse.errors import DeviceError
from edgesparse.harness.page_server import HEADERS, serving


def ask(url: str, path: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes, dict]:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, path, body=body)
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())
    finally:
        connection.close()


@pytest.fixture
def folders(tmp_path: pathlib.Path) -> dict[str, pathlib.Path]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.mjs").write_text(name)
    (tmp_path / "secret").write_text("secret")
    return {"/a/": tmp_path / "a", "/b/": tmp_path / "b"}


def test_pages_are_isolated_and_may_not_eval(folders: dict[str, pathlib.Path]) -> None:
    with serving(folders) as url:
        for path in ("/", "/a/x.mjs", "/none"):
            _, _, headers = ask(url, path)
            assert headers.items() >= HEADERS.items()
        assert "'unsafe-eval'" not in HEADERS["Content-Security-Policy"]
        assert "'unsafe-inline'" not in HEADERS["Content-Security-Policy"]


def test_files_are_served_with_their_type(folders: dict[str, pathlib.Path]) -> None:
    with serving(folders, head="<p>") as url:
        status, body, headers = ask(url, "/b/x.mjs?v=1")
        assert (status, body, headers["Content-Type"]) == (200, b"b", "text/javascript")
        assert ask(url, "/")[1].endswith(b"<p>")
        assert ask(url, "/c/x.mjs")[0] == 404


@pytest.mark.parametrize("path", ["/", "/?threads=2", "/index.html"])
def test_a_site_begins_with_its_index(tmp_path: pathlib.Path, path: str) -> None:
    (tmp_path / "index.html").write_text("<p>demo")
    with serving({"/": tmp_path}) as url:
        status, body, headers = ask(url, path)
    assert (status, body, headers["Content-Type"]) == (200, b"<p>demo", "text/html")


def test_without_an_index_a_page_is_empty(folders: dict[str, pathlib.Path]) -> None:
    (folders["/a/"] / "index.html").write_text("<p>a")
    for served in (folders, {"/": folders["/b/"]}):
        with serving(served, head="<p>") as url:
            assert ask(url, "/?v=1")[:2] == ask(url, "/")[:2]
            assert ask(url, "/")[1].endswith(b"<p>")


@pytest.mark.parametrize("path", ["/a/../secret", "/a/%2e%2e/secret", "/a//etc/passwd", "/a/"])
def test_nothing_else_is_served(folders: dict[str, pathlib.Path], path: str) -> None:
    with serving(folders) as url:
        assert ask(url, path)[0] == 404


def test_files_are_put_in_one_folder_only(folders: dict[str, pathlib.Path]) -> None:
    with serving(folders, "/a/") as url:
        assert ask(url, "/a/new", "PUT", b"1")[0] == 204
        assert ask(url, "/b/new", "PUT", b"1")[0] == 403
        assert ask(url, "/a/../b/new", "PUT", b"1")[0] == 403
    assert (folders["/a/"] / "new").read_bytes() == b"1"
    assert not (folders["/b/"] / "new").exists()
    with serving(folders) as url:
        assert ask(url, "/a/newer", "PUT", b"1")[0] == 403


def test_a_site_that_is_not_isolated(folders: dict[str, pathlib.Path]) -> None:
    with serving(folders, is_isolated=False) as url:
        _, _, headers = ask(url, "/a/x.mjs")
    assert not [name for name in headers if name.startswith("Cross-Origin")]
    assert headers["Content-Security-Policy"]


def test_a_port_that_is_taken(folders: dict[str, pathlib.Path]) -> None:
    with serving(folders) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(DeviceError, match=f"serving on port {port}") as caught:
            serving(folders, port=port).__enter__()
    assert "--port" in str(caught.value.hint)


def test_nobody_looks_for_an_icon(folders: dict[str, pathlib.Path]) -> None:
    with serving(folders) as url:
        assert ask(url, "/favicon.ico")[0] == 204
