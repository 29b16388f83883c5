"""A folder and its twin: in S3, on a file system, and where there is none."""

import os
import threading
from pathlib import Path

import pytest

from orchestrator.errors import StorageError, UsageError
from orchestrator.spec.data import DataSpec
from orchestrator.store.data import with_local_root
from orchestrator.store.home import Home
from orchestrator.store.remote import Remote, local_folder, patiently


@pytest.fixture(params=["s3", "file", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of each kind: an object store, a file system, and one of fsspec's."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/some/home"
    return f"file://{tmp_path / 'there'}" if request.param == "file" else f"memory://{tmp_path.name}/home"


@pytest.fixture
def here(uri: str, tmp_path: Path) -> Remote:
    return Remote(uri, tmp_path / "here")


def test_a_file_gets_to_another_machine(here: Remote, uri: str, tmp_path: Path) -> None:
    other = Remote(f"{uri}/", tmp_path / "other")
    path = here.folder / "a" / "b.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(os.urandom(100_000))
    assert here.entry(path) is None
    here.push(path)
    there = other.folder / "a" / "b.bin"
    assert other.pull(there)
    assert there.read_bytes() == path.read_bytes()
    assert other.read(there) == path.read_bytes()
    assert other.is_as_here(there, other.entries(other.folder)[there])
    assert [p.name for p in other.folder.rglob("*") if p.is_file()] == ["b.bin"]


def test_a_file_that_comes_in_part_is_not_taken(here: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here.folder / "a.bin"
    here.write(path, b"0123456789")
    monkeypatch.setattr(Remote, "_chunks", lambda *_: iter([b"0123"]))
    with pytest.raises(StorageError, match=r"a.bin: 4 bytes came instead of 10"):
        here.pull(path)
    assert not list(here.folder.iterdir())


def test_an_empty_file_and_an_odd_name(here: Remote) -> None:
    path = here.folder / "a b" / "ü=1.txt"
    path.parent.mkdir(parents=True)
    path.touch()
    here.push(path)
    assert set(here.entries(here.folder)) == {path}
    assert here.read(path) == b""


def test_what_is_not_there(here: Remote) -> None:
    path = here.folder / "none"
    assert not here.pull(path)
    assert not here.fetch(path)
    assert here.read(path) is None
    assert here.entries(here.folder) == {}
    assert here.folders(here.folder) == []
    here.remove(path)
    here.remove_folder(path)
    assert not path.exists()


def test_files_are_listed_removed_and_renamed(here: Remote) -> None:
    names = ("x/journal", "x/trials/1/log", "x/trials/2/log", "y/journal")
    for name in names:
        here.write(here.folder / name, name.encode())
    assert set(here.entries(here.folder)) == {here.folder / name for name in names}
    assert set(here.folders(here.folder)) == {here.folder / "x", here.folder / "y"}
    here.remove_folder(here.folder / "x" / "trials" / "1")
    here.remove(here.folder / "y" / "journal")
    here.move_folder(here.folder / "x", here.folder / "z", "journal")
    assert set(here.entries(here.folder)) == {here.folder / "z/journal", here.folder / "z/trials/2/log"}
    assert here.read(here.folder / "z/trials/2/log") == b"x/trials/2/log"


def test_one_of_several_processes_brings_a_file(here: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here.folder / "weights"
    here.write(path, b"weights")
    pulled = []
    pull = here.pull
    monkeypatch.setattr(here, "pull", lambda path: pulled.append(path) or pull(path))
    threads = [threading.Thread(target=here.fetch, args=(path,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pulled == [path]
    assert path.read_bytes() == b"weights"


def test_a_write_that_is_cut_short_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Remote(f"file://{tmp_path / 'there'}", tmp_path / "here")
    path = here.folder / "journal"
    here.write(path, b"old")
    store = here._at(path)[0]

    class Cut:
        type_name = "local"

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def move(self, before: str, after: str) -> None:
            raise OSError("the connection was lost")

    monkeypatch.setattr(here, "_connected", (Cut(), here._connected[1]))
    with pytest.raises(StorageError, match="connection was lost"):
        here.write(path, b"new")
    assert here.read(path) == b"old"
    assert set(here.entries(here.folder)) == {path}


def test_a_name_that_leads_out_of_the_folder_is_left_out(s3: str, s3_server: str, tmp_path: Path) -> None:
    import urllib.request

    here = Remote(s3, tmp_path / "here")
    here.write(here.folder / "good", b"1")
    address = f"{s3_server}/{s3.removeprefix('s3://')}/a/..%2F..%2Fescaped"
    urllib.request.urlopen(urllib.request.Request(address, data=b"2", method="PUT"), timeout=10).close()
    assert set(here.entries(here.folder)) == {here.folder / "good"}


def test_a_file_that_changes_between_two_requests_is_read_again(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Remote(s3, tmp_path / "here")
    path = here.folder / "metrics"
    here.write(path, b"content")
    store, base = here._connected or (None, "")
    failures = [OSError("the answer was cut short")]

    class Changing:
        type_name = "s3"

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def open_input_file(self, name: str) -> object:
            if failures:
                raise failures.pop()
            return store.open_input_file(name)

    monkeypatch.setattr(here, "_connected", (Changing(), base))
    assert here.pull(path)
    assert path.read_bytes() == b"content"
    failures += [OSError("again"), OSError("and again")]
    with pytest.raises(StorageError, match="again"):
        here.read(path)
    here.remove(path)
    failures.append(OSError("it is gone"))
    assert here.read(path) is None


def test_a_missing_bucket_is_named_with_what_to_do(s3: str, tmp_path: Path) -> None:
    here = Remote("s3://no-such-bucket/home", tmp_path)
    with pytest.raises(StorageError) as raised:
        here.write(tmp_path / "x", b"")
    assert "s3://no-such-bucket/home/x" in raised.value.message
    assert "NO_SUCH_BUCKET" in raised.value.message
    assert "create the bucket" in str(raised.value.hint)
    assert "\n" not in raised.value.message
    assert not raised.value.passing


@pytest.mark.parametrize(
    "uri", ["s3://KEY:planted@bucket/x", "s3://bucket/x?secret_key=planted", "gs://planted@bucket/x"]
)
def test_credentials_in_a_uri_are_refused_and_not_told(uri: str) -> None:
    for refuse in (lambda: Home(uri), lambda: Remote(uri)):
        with pytest.raises(UsageError, match="holds no credentials") as raised:
            refuse()
        assert "planted" not in str(raised.value)


@pytest.mark.parametrize(("uri", "reason"), [("nonsense://bucket/x", "known are s3"), ("s3://", "names no place")])
def test_a_place_that_is_none(uri: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        Remote(uri, tmp_path).entries(tmp_path)


def test_patience_is_for_what_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    tries = []

    def fail(times: int, passing: bool) -> None:
        tries.append(times)
        if len(tries) <= times:
            raise StorageError("x", passing=passing)

    patiently(lambda: fail(3, True))
    assert len(tries) == 4
    tries.clear()
    with pytest.raises(StorageError):
        patiently(lambda: fail(3, False))
    assert len(tries) == 1


def test_the_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path))
    assert local_folder("s3://b/one").parent == tmp_path
    assert local_folder("s3://b/one") != local_folder("s3://b-one") != local_folder("s3://b/one?region=x")
    home = Home("s3://b/one/")
    assert home.path == local_folder("s3://b/one")
    assert str(home) == "s3://b/one"
    assert home.option == ["--home", "s3://b/one"]


def test_a_data_set_is_brought_once(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Remote(f"{s3}/images", tmp_path / "there")
    for name in ("train/a.png", "test/b.png"):
        there.write(there.folder / name, name.encode())
    given = DataSpec(dataset="image-folder", root=f"{s3}/images")
    root = Path(str(with_local_root(given, tmp_path / "node").root))
    assert {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()} == {"train/a.png", "test/b.png"}
    pulled = []
    monkeypatch.setattr(Remote, "pull", lambda self, path: pulled.append(path.name))
    with_local_root(given, tmp_path / "node")
    assert pulled == []
    there.write(there.folder / "test/b.png", b"another")
    with_local_root(given, tmp_path / "node")
    assert pulled == ["b.png"]


def test_a_data_set_in_one_file_keeps_its_name(s3: str, tmp_path: Path) -> None:
    there = Remote(s3, tmp_path / "there")
    there.write(there.folder / "images.npz", b"content")
    given = DataSpec(dataset="arrays", root=f"{s3}/images.npz")
    root = Path(str(with_local_root(given, tmp_path / "node").root))
    assert root.name == "images.npz"
    assert root.read_bytes() == b"content"
