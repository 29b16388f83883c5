"""Decoded once, kept in a file, mapped by every process; damage is noticed and mended."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch
from data_files import write_images

from orchestrator.data import cache, decode, load_dataset
from orchestrator.data.bundle import Bundle
from orchestrator.data.cache import cached


def bundle(value: int = 7) -> Bundle:
    return Bundle(
        {
            "images": torch.full((3, 1, 5, 5), value, dtype=torch.uint8),
            "labels": torch.tensor([2, 0, -1]),
            "none": torch.empty(0, 4, dtype=torch.uint8),
        },
        {"mean": [0.25], "names": ["ä"]},
    )


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Bundle:
        self.calls += 1
        return bundle()


def same(one: Bundle, other: Bundle) -> bool:
    return one.info == other.info and all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


def only_file(folder: Path) -> Path:
    (path,) = (folder / "images").glob("*.bin")
    return path


def test_it_is_made_once_and_read_after(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(3):
        assert same(cached(tmp_path, "a", [1, "x"], make), bundle())
    assert make.calls == 1
    cached(tmp_path, "a", [1, "y"], make)
    cached(tmp_path, "b", [1, "x"], make)
    assert make.calls == 3
    assert not list((tmp_path / "images").glob("*.tmp"))


def test_without_a_folder_it_is_made_each_time(tmp_path: Path) -> None:
    make = Maker()
    assert same(cached(None, "a", 1, make), cached(None, "a", 1, make))
    assert make.calls == 2


def test_what_one_process_writes_into_its_tensors_stays_there(tmp_path: Path) -> None:
    first = cached(tmp_path, "a", 1, Maker())
    first.tensors["images"].zero_()
    assert same(cached(tmp_path, "a", 1, Maker()), bundle())


def test_tensors_are_mapped_from_the_file(tmp_path: Path) -> None:
    found = cached(tmp_path, "a", 1, Maker())
    assert str(only_file(tmp_path)) in Path("/proc/self/maps").read_text()
    assert found.tensors["images"].data_ptr() % 64 == 0


def test_damage_anywhere_is_noticed_and_mended(tmp_path: Path) -> None:
    make = Maker()
    cached(tmp_path, "a", 1, make)
    path = only_file(tmp_path)
    whole = path.read_bytes()
    changes = [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(0, len(whole), 7)]
    changes += [b"", whole[:3], whole[:-1], whole[: len(whole) // 2], whole + b"\0", b"\xff" * len(whole)]
    for done, content in enumerate(changes):
        path.write_bytes(content)
        assert same(cached(tmp_path, "a", 1, make), bundle())
        assert make.calls == done + 2
        assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    make = Maker()
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert same(cached(blocked, "a", 1, make), bundle())


def test_a_full_disk_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert same(cached(tmp_path, "a", 1, Maker()), bundle())
    assert not list((tmp_path / "images").glob(".*.tmp"))


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Bundle:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cached(tmp_path, "a", 1, fail)
    make = Maker()
    assert same(cached(tmp_path, "a", 1, make), bundle())
    assert make.calls == 1


def make_slowly(folder: str, log: str) -> None:
    def make() -> Bundle:
        with open(log, "a") as file:
            file.write("made\n")
        time.sleep(0.3)
        return bundle()

    if not same(cached(Path(folder), "a", 1, make), bundle()):
        raise SystemExit(1)


def test_processes_that_ask_at_once_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=make_slowly, args=(str(tmp_path / "cache"), str(tmp_path / "log"))) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert (tmp_path / "log").read_text() == "made\n"


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose pixels were read."""
    read: list[str] = []
    plain = decode._Reader._pixels

    def pixels(self: decode._Reader, name: str) -> torch.Tensor:
        read.append(name)
        return plain(self, name)

    monkeypatch.setattr(decode._Reader, "_pixels", pixels)
    return read


def test_images_are_decoded_once_until_a_file_or_an_option_changes(tmp_path: Path, decodings: list[str]) -> None:
    root, kept = tmp_path / "data", tmp_path / "cache"
    write_images(root, "train", {"a": 2, "b": 2})
    write_images(root, "test", {"a": 1, "b": 1})
    first = load_dataset("image-folder", root, cache=kept)
    assert len(decodings) == 6
    again = load_dataset("image-folder", root, cache=kept)
    assert len(decodings) == 6
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.test.labels, again.test.labels)
    assert (first.mean, first.std) == (again.mean, again.std)
    load_dataset("image-folder", root, cache=kept, image_size=8)
    assert len(decodings) == 12
    write_images(root, "train", {"a": 3, "b": 2})
    assert len(load_dataset("image-folder", root, cache=kept).train) == 5
    assert len(decodings) == 19
    os.utime(root / "test" / "a" / "0.png", ns=(1, 1))
    load_dataset("image-folder", root, cache=kept)
    assert len(decodings) == 26


def test_another_version_of_the_code_decodes_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    cached(tmp_path, "a", 1, make)
    monkeypatch.setattr(cache, "_VERSION", 999)
    cached(tmp_path, "a", 1, make)
    assert make.calls == 2
