"""Stored teachers, as they are looked at without loading their weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from orchestrator.store.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "home")
    found.create()
    return found


WEIGHTS = save({"weight": np.zeros((4, 4), np.float32)}, {"trial": "teacher-0", "val_acc1": "71.20"})
LONG = (2**62).to_bytes(8, "little") + b"{}"


def test_the_accuracy_is_read_from_the_file(home: Home) -> None:
    assert not home.has_teacher("k")
    assert home.teacher_accuracy("k") is None
    home.teacher("k").write_bytes(WEIGHTS)
    assert home.has_teacher("k")
    assert home.teacher_accuracy("k") == 71.2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        WEIGHTS[:40],
        LONG,
        b"\x02\0\0\0\0\0\0\0{}",
        b"\x02\0\0\0\0\0\0\0[]",
        save({"weight": np.zeros(2)}),
        save({"weight": np.zeros(2)}, {"val_acc1": "good"}),
        save({"weight": np.zeros(2)}, {"val_acc1": "nan"}),
    ],
    ids=["empty", "short", "cut", "long", "no tensors", "no header", "no words", "no number", "not finite"],
)
def test_a_file_that_does_not_tell_is_no_error(home: Home, content: bytes) -> None:
    home.teacher("k").write_bytes(content)
    assert home.teacher_accuracy("k") is None


def test_a_file_cut_short_anywhere_is_no_teacher(home: Home) -> None:
    for size in range(len(WEIGHTS)):
        home.teacher("k").write_bytes(WEIGHTS[:size])
        assert not home.has_teacher("k"), size
    home.teacher("k").write_bytes(WEIGHTS)
    assert home.has_teacher("k")


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS + b"\0",
        LONG,
        b"\0" * len(WEIGHTS),
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x07\0\0\0\0\0\0\0" + b'{"a":1}',
        b"\x17\0\0\0\0\0\0\0" + b'{"a":{"data_offsets":0}}'[:23],
        b"\x18\0\0\0\0\0\0\0" + b'{"a":{"data_offsets":0}}',
        b"\x19\0\0\0\0\0\0\0" + b'{"a":{"data_offsets":[]}}',
    ],
    ids=range(8),
)
def test_a_file_that_is_no_safetensors_file_is_no_teacher(home: Home, content: bytes) -> None:
    home.teacher("k").write_bytes(content)
    assert not home.has_teacher("k")


def test_a_folder_is_no_teacher(home: Home) -> None:
    home.teacher("k").mkdir()
    assert not home.has_teacher("k")


def test_tensors_of_every_size_and_none_at_all_are_whole(home: Home) -> None:
    tensors = {
        "a": np.zeros((3, 5), np.float32),
        "count": np.array(7),
        "empty": np.zeros((0, 4)),
        "z": np.ones(1, np.int8),
    }
    for content in (save(tensors), save(tensors, {"val_acc1": "1"}), save({}), save({"empty": np.zeros(0)})):
        home.teacher("k").write_bytes(content)
        assert home.has_teacher("k")


def test_looking_loads_neither_torch_nor_numpy(home: Home) -> None:
    home.teacher("k").write_bytes(WEIGHTS)
    probe = (
        "import json, sys; from orchestrator.store.home import Home\n"
        f"print(json.dumps([Home({str(home.path)!r}).teacher_accuracy('k'), 'torch' in sys.modules, "
        "'numpy' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [71.2, False, False]
