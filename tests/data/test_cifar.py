"""CIFAR-10 and CIFAR-100 from files in the published format."""

import bz2
import gzip
import hashlib
import lzma
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import cifar10_parts, cifar100_parts, pixels, python2_pickle, write_parts, write_tar

from orchestrator.data import cifar, load_dataset
from orchestrator.errors import DataError

CIFAR10, CIFAR100 = "cifar-10-batches-py", "cifar-100-python"


def test_cifar10_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    parts = cifar10_parts()
    write_parts(tmp_path / CIFAR10, parts)
    data = load_dataset("cifar10", tmp_path, verify=False)
    expected = np.concatenate([parts[f"data_batch_{k}"][b"data"] for k in range(1, 6)])
    assert data.train.images.shape == (20, 3, 32, 32)
    assert np.array_equal(data.train.images.flatten(1).numpy(), expected)
    # The first 1024 values are the red channel, its first 32 the top row.
    assert data.train.images[0, 1, 0, 0] == expected[0, 1024]
    assert data.train.images[0, 0, 1, 0] == expected[0, 32]
    assert data.train.labels.tolist() == [index % 10 for index in range(20)]
    assert len(data.test) == 10
    assert data.classes[3] == "cat"
    assert (data.flip, data.crop_padding) == (True, 4)
    assert data.std == (0.2470, 0.2435, 0.2616)


def test_cifar100_has_its_fine_labels(tmp_path: Path) -> None:
    write_parts(tmp_path / CIFAR100, cifar100_parts())
    data = load_dataset("cifar100", tmp_path, verify=False)
    assert (len(data.train), len(data.test), len(data.classes)) == (200, 100, 100)
    assert data.train.labels.tolist() == [index % 100 for index in range(200)]
    assert data.classes[42] == "fine_42"


def test_the_archive_is_read_in_place(tmp_path: Path) -> None:
    parts = cifar10_parts()
    members = {f"{CIFAR10}/readme.html": b"", "/etc/../../evil": b"x", f"{CIFAR10}/../out": b"y"}
    write_tar(
        tmp_path / "cifar-10-python.tar.gz",
        members | {f"{CIFAR10}/{name}": python2_pickle(part) for name, part in parts.items()},
    )
    archived = load_dataset("cifar10", tmp_path, verify=False)
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-python.tar.gz"]
    write_parts(tmp_path / CIFAR10, parts)
    assert torch.equal(load_dataset("cifar10", tmp_path, verify=False).train.images, archived.train.images)


def test_root_may_be_the_folder_itself(tmp_path: Path) -> None:
    write_parts(tmp_path, cifar10_parts())
    assert len(load_dataset("cifar10", tmp_path, verify=False).train) == 20


def test_files_that_python_3_wrote_do_with_verify_off(tmp_path: Path) -> None:
    parts = {
        name: pickle.dumps({key.decode(): value for key, value in part.items()}, 4)
        for name, part in cifar10_parts().items()
    }
    write_parts(tmp_path / CIFAR10, parts)
    assert load_dataset("cifar10", tmp_path, verify=False).classes[0] == "airplane"
    with pytest.raises(DataError, match=r"data_batch_1 .*checksum[\s\S]*data.verify"):
        load_dataset("cifar10", tmp_path)


def test_the_published_checksums_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parts(tmp_path / CIFAR10, cifar10_parts())
    layout = cifar._CIFAR10
    for group in (layout.train, layout.test, layout.meta):
        for name in group:
            monkeypatch.setitem(group, name, hashlib.md5((tmp_path / CIFAR10 / name).read_bytes()).hexdigest())
    assert len(load_dataset("cifar10", tmp_path).train) == 20
    with (tmp_path / CIFAR10 / "batches.meta").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DataError, match=r"batches.meta does not hold the content that is published"):
        load_dataset("cifar10", tmp_path)


def test_missing_files_say_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset("cifar100", tmp_path)
    for text in (
        str(tmp_path / CIFAR100),
        str(tmp_path / "cifar-100-python.tar.gz"),
        "data.root",
        "data.download",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
    ):
        assert text in str(caught.value)
    with pytest.raises(DataError, match=r"CIFAR-10 needs data.root[\s\S]*cifar-10-batches-py"):
        load_dataset("cifar10")
    parts = cifar10_parts()
    del parts["data_batch_3"]
    write_parts(tmp_path / CIFAR10, parts)
    with pytest.raises(DataError, match=r"files data_batch_3 are in none of: .*cifar-10-batches-py"):
        load_dataset("cifar10", tmp_path)


def changed(name: str, **values: Any) -> dict[str, Any]:
    parts = cifar10_parts()
    parts[name] = {**parts[name], **{key.encode(): value for key, value in values.items()}}
    return parts


@pytest.mark.parametrize(
    ("parts", "file", "message"),
    [
        (changed("data_batch_2", labels=[0, 1, 10, 2]), "data_batch_2", "has the label 10; they are 0 to 9"),
        (changed("data_batch_2", labels=[0, 1, -1, 2]), "data_batch_2", "has the label -1"),
        (changed("data_batch_2", labels=[0, 1, 2]), "data_batch_2", "has 4 images and 3 labels"),
        (changed("data_batch_2", labels=b"0123"), "data_batch_2", "must have a list of whole numbers"),
        (changed("data_batch_2", labels=[0, 1, True, 2]), "data_batch_2", "must have a list of whole numbers"),
        (changed("test_batch", data=pixels(10, 3071)), "test_batch", r"uint8 \[N, 3072\] .* not \[10, 3071\]"),
        (changed("test_batch", data=b"x"), "test_batch", r"uint8 \[N, 3072\] .* not bytes"),
        (changed("batches.meta", label_names=[b"a"]), "batches.meta", "must have 10 names under 'label_names'"),
        (changed("batches.meta", label_names=[*range(10)]), "batches.meta", "has a key or name that is not text"),
        (cifar10_parts() | {"data_batch_4": b"\x80\x02}"}, "data_batch_4", "cannot be read"),
        (cifar10_parts() | {"data_batch_4": b"cos\nsystem\n(S'true'\ntR."}, "data_batch_4", "asks for os.system"),
        (cifar10_parts(each=1), "cifar10", "the class 'dog' has no training image"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, parts: dict, file: str, message: str) -> None:
    write_parts(tmp_path / CIFAR10, parts)
    with pytest.raises(DataError, match=f"{file}.*{message}"):
        load_dataset("cifar10", tmp_path, verify=False)


def archive_of(parts: dict[str, Any]) -> dict[str, bytes]:
    return {f"{CIFAR10}/{name}": python2_pickle(part) for name, part in parts.items()}


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    write_tar(path, archive_of(cifar10_parts()))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"no archive", b"", whole[:5000] + bytes(100) + whole[5100:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cifar-10-python.tar.gz"):
            load_dataset("cifar10", tmp_path, verify=False)
    for squeeze in (lzma.compress, bz2.compress):
        path.write_bytes(squeeze(gzip.decompress(whole))[:-9])
        with pytest.raises(DataError, match=r"cifar-10-python.tar.gz cannot be read: not a gzip file"):
            load_dataset("cifar10", tmp_path, verify=False)
    members = archive_of(cifar10_parts())
    del members[f"{CIFAR10}/data_batch_5"]
    write_tar(path, members)
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz does not hold cifar-10-batches-py/data_batch_5"):
        load_dataset("cifar10", tmp_path, verify=False)


def test_a_member_that_is_a_link_or_there_twice_is_refused(tmp_path: Path) -> None:
    import io
    import tarfile

    path = tmp_path / "cifar-10-python.tar.gz"
    name = f"{CIFAR10}/data_batch_1"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(DataError, match="data_batch_1 must be an ordinary file"):
        load_dataset("cifar10", tmp_path, verify=False)
    with tarfile.open(path, "w:gz") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(DataError, match="data_batch_1 is in the archive twice"):
        load_dataset("cifar10", tmp_path, verify=False)
