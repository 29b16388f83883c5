"""Downloads, from a server on this machine that breaks connections and forgets ranges."""

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from data_files import cifar10_parts, python2_pickle, write_tar

from orchestrator.data import download, fashion_mnist, load_dataset, published
from orchestrator.data.published import PUBLISHED, Archive
from orchestrator.errors import DataError

BODY = bytes(range(256)) * 2000


class Server:
    """Serves `body`; each request takes the next of `faults`, and none is left when all goes well."""

    def __init__(self) -> None:
        self.body = BODY
        self.faults: list[str] = []
        self.requests: list[str | None] = []
        """The Range of each request."""
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *args: object) -> None: ...

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.requests.append(asked)
        fault = self.faults.pop(0) if self.faults else ""
        if fault.isdigit():
            handler.send_error(int(fault))
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and fault != "no ranges" else 0
        if start >= len(self.body) and asked:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        rest = self.body[start:]
        handler.send_response(206 if start else 200)
        if start:
            shown = start + 1 if fault == "other range" else start
            handler.send_header("Content-Range", f"bytes {shown}-{len(self.body) - 1}/{len(self.body)}")
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        if fault.startswith("break"):
            rest = rest[: len(rest) // 3] if fault == "break" else b""
            handler.close_connection = True
        handler.wfile.write(rest)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    made = Server()
    publish(monkeypatch, made, "cifar10", "a.bin")
    yield made
    made.http.shutdown()
    made.http.server_close()


def publish(monkeypatch: pytest.MonkeyPatch, server: Server, name: str, *files: str) -> None:
    """Let a data set's archives be those that the server has."""
    md5 = hashlib.md5(server.body).hexdigest()
    archives = tuple(Archive(file, f"{server.url}/{file}", md5) for file in files)
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], archives=archives))


def fetched(folder: Path) -> bytes:
    download.fetch("cifar10", folder)
    assert not (folder / "a.bin.part").exists()
    return (folder / "a.bin").read_bytes()


def test_a_file_arrives_whole_and_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    assert fetched(tmp_path / "new" / "folder") == BODY
    assert fetched(tmp_path / "new" / "folder") == BODY
    assert server.requests == [None]


def test_a_broken_connection_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.faults = ["break", "break", "break nothing", "break"]
    assert fetched(tmp_path) == BODY
    third = len(BODY) // 3
    second = third + (len(BODY) - third) // 3
    assert server.requests[:4] == [None, f"bytes={third}-", f"bytes={second}-", f"bytes={second}-"]


def test_what_came_before_the_process_ended_is_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY[:1000])
    assert fetched(tmp_path) == BODY
    assert server.requests == ["bytes=1000-"]


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY)
    assert fetched(tmp_path) == BODY


def test_a_part_that_is_too_long_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY + b"more")
    assert fetched(tmp_path) == BODY
    assert server.requests == [f"bytes={len(BODY) + 4}-", None]


def test_a_server_without_ranges_starts_from_the_beginning(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"old" * 100)
    server.faults = ["no ranges"]
    assert fetched(tmp_path) == BODY


def test_a_server_that_sends_another_range_is_not_believed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY[:1000])
    server.faults = ["other range"]
    assert fetched(tmp_path) == BODY


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.faults = ["503", "500", "503"]
    assert fetched(tmp_path) == BODY


def test_a_server_that_never_gets_on_is_given_up_and_named(server: Server, tmp_path: Path) -> None:
    server.faults = ["break", *["break nothing"] * 50]
    with pytest.raises(DataError, match=r"cannot download http://127.*a.bin: the connection broke[\s\S]*is kept in"):
        download.fetch("cifar10", tmp_path)
    assert len(server.requests) == 1 + download.ATTEMPTS
    assert (tmp_path / "a.bin.part").stat().st_size == len(BODY) // 3
    assert not (tmp_path / "a.bin").exists()


def test_a_file_that_is_gone_is_not_asked_for_twice(server: Server, tmp_path: Path) -> None:
    server.faults = ["404"]
    with pytest.raises(DataError, match=r"cannot download .*404[\s\S]*yourself"):
        download.fetch("cifar10", tmp_path)
    assert len(server.requests) == 1


def test_other_content_is_refused_and_forgotten(server: Server, tmp_path: Path) -> None:
    server.body = b"something else"
    with pytest.raises(DataError, match=r"gave other content than is published \(its MD5 is"):
        download.fetch("cifar10", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_server_that_is_not_there_is_named(server: Server, tmp_path: Path) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DataError, match=r"cannot download http://127.0.0.1.*refused"):
        download.fetch("cifar10", tmp_path)


def test_a_folder_that_cannot_be_made_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=rf"cannot download a.bin into {tmp_path}/file/sub"):
        download.fetch("cifar10", tmp_path / "file" / "sub")


def test_threads_that_ask_at_once_fetch_once(server: Server, tmp_path: Path) -> None:
    threads = [threading.Thread(target=download.fetch, args=("cifar10", tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert server.requests == [None]


def test_a_set_without_archives_has_to_be_fetched_by_hand(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.download cannot fetch CINIC-10[\s\S]*datashare.ed.ac.uk"):
        download.fetch("cinic10", tmp_path)


# From the option to the images


@pytest.mark.parametrize("rooted", [True, False])
def test_cifar10_is_fetched_and_read(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rooted: bool
) -> None:
    made = tmp_path / "made.tar.gz"
    write_tar(made, {f"cifar-10-batches-py/{name}": python2_pickle(part) for name, part in cifar10_parts().items()})
    server.body = made.read_bytes()
    publish(monkeypatch, server, "cifar10", "cifar-10-python.tar.gz")
    root, kept = tmp_path / "root", tmp_path / "cache"
    for asked in (True, False):
        data = load_dataset("cifar10", root if rooted else None, verify=False, download=asked, cache=kept)
        assert len(data.train) == 20
    assert len(server.requests) == 1
    assert ((root if rooted else kept / "downloads") / "cifar-10-python.tar.gz").is_file()


def test_fashion_mnist_is_fetched_file_by_file(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "none")
    names = [archive.file for archive in published.PUBLISHED["fashion-mnist"].archives]
    assert sorted(names) == sorted(f"{name}.gz" for name in fashion_mnist._SHA256)
    publish(monkeypatch, server, "fashion-mnist", *names)
    with pytest.raises(DataError, match=r"ubyte.gz cannot be read"):
        load_dataset("fashion-mnist", download=True, cache=tmp_path)
    assert sorted(path.name for path in (tmp_path / "downloads" / "fashion-mnist").glob("*.gz")) == sorted(names)


def test_nothing_is_fetched_unasked(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"set data.download to true"):
        load_dataset("cifar10", tmp_path)
    assert server.requests == []


def test_the_table_of_publications_is_whole() -> None:
    for name, entry in PUBLISHED.items():
        assert entry.page.startswith("http"), name
        for archive in entry.archives:
            assert archive.url.endswith(f"/{archive.file}")
            assert re.fullmatch("[0-9a-f]{32}", archive.md5)
