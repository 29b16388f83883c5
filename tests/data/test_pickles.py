"""The restricted reader of pickles: what the real files hold is read, everything else is refused and not run."""

import copyreg
import io
import os
import pickle
import pickletools
import resource
from pathlib import Path

import numpy as np
import pytest
from data_files import python2_pickle
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.data.pickles import PickledArray, read_pickle
from orchestrator.errors import DataError

CONTENT = {
    b"data": np.arange(12, dtype=np.uint8).reshape(3, 4),
    b"labels": [2, 0, 1],
    b"names": [b"a", "ü".encode(), b"x" * 300],
}


def test_what_python_2_wrote_is_read() -> None:
    content = python2_pickle(CONTENT)
    assert {op.name for op, _, _ in pickletools.genops(content)} >= {"SHORT_BINSTRING", "BINSTRING", "GLOBAL"}
    found = read_pickle(content, "a")
    assert isinstance(found["data"], PickledArray)
    assert found["data"].tensor().tolist() == CONTENT[b"data"].tolist()
    assert (found["labels"], found["names"]) == (CONTENT[b"labels"], CONTENT[b"names"])


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_what_python_3_writes_is_read(protocol: int) -> None:
    found = read_pickle(pickle.dumps(CONTENT, protocol), "a")
    assert found["data"].tensor().tolist() == CONTENT[b"data"].tolist()
    assert found["names"] == CONTENT[b"names"]


class Calls:
    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("deep", [False, True])
def test_a_pickle_that_runs_a_command_is_refused_and_not_run(tmp_path, protocol: int, deep: bool) -> None:
    witness = tmp_path / "was-run"
    evil = Calls(os.system, f"touch {witness}")
    content = pickle.dumps({b"labels": [evil]} if deep else evil, protocol)
    with pytest.raises(DataError, match=r"data_batch_1 asks for posix.system.* it was not run"):
        read_pickle(content, "data_batch_1")
    assert not witness.exists()
    pickle.loads(content)
    assert witness.exists()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (eval, ("1 + 1",)),
        (getattr, ({}, "clear")),
        (__import__, ("os",)),
        (np.load, ("a",)),
        (np.frombuffer, (b"a",)),
        (bytearray, (10,)),
        (io.BytesIO, ()),
    ],
)
def test_every_other_name_is_refused(function, arguments) -> None:
    with pytest.raises(DataError, match="asks for"):
        read_pickle(pickle.dumps(Calls(function, *arguments), 2), "a")


def test_a_name_behind_an_extension_code_is_refused() -> None:
    copyreg.add_extension("posix", "system", 200)
    try:
        content = pickle.dumps(Calls(os.system, "true"), 2)
        assert b"\x82" in content
        with pytest.raises(DataError, match=r"asks for posix\.system"):
            read_pickle(content, "a")
    finally:
        copyreg.remove_extension("posix", "system", 200)


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\nndarray\n}b.",
        b"cnumpy\nndarray\n}U\x01aK\x01sb.",
        b"cnumpy.core.multiarray\n_reconstruct\nN}U\x07__new__NsN\x86b.",
        b"c_codecs\nencode\n(N}U\x07__new__K\x01stb.",
        b"cnumpy\nndarray\n)R.",
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R.",
        b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
        b"c_codecs\nencode\nK\x01X\x06\x00\x00\x00latin1\x86R.",
        b"K\x01Q.",
    ],
)
def test_the_allowed_names_do_nothing_else(content: bytes) -> None:
    with pytest.raises(DataError):
        read_pickle(content, "a")
    assert read_pickle(python2_pickle(CONTENT), "a")["labels"] == [2, 0, 1]
    assert read_pickle(pickle.dumps(CONTENT, 2), "a")["labels"] == [2, 0, 1]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, dtype=np.int64), "i8"),
        (np.zeros(3, dtype=np.float32), "f4"),
        (np.array([None]), "O8"),
        (np.zeros((2, 3), dtype=np.uint8, order="F"), "C order"),
    ],
)
def test_arrays_of_another_kind_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pickle(pickle.dumps({b"data": array}, 2), "a")


def test_an_array_whose_shape_is_not_its_size_is_refused() -> None:
    content = python2_pickle({b"data": np.zeros((2, 3), dtype=np.uint8)})
    with pytest.raises(DataError, match="6 values"):
        read_pickle(content.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"), "a")
    with pytest.raises(DataError, match="6 values"):
        read_pickle(content.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\xffJ\xfa\xff\xff\xff\x86"), "a")


def test_an_empty_array_is_read() -> None:
    found = read_pickle(python2_pickle({b"data": np.zeros((0, 4), dtype=np.uint8)}), "a")
    assert found["data"].tensor().shape == (0, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"not a pickle", "cannot be read"),
        (python2_pickle(CONTENT)[:-20], "cannot be read"),
        (python2_pickle([1]), "must hold a dictionary, not list"),
        (pickle.dumps({b"data": 1, "data": 2}, 2), "has the key 'data' twice"),
        (pickle.dumps({7: 1}, 2), "has a key or name that is not text but int"),
        (pickle.dumps({10**5000: 1}, 2), "cannot be read: it holds a number of more than 64 bits"),
        (pickle.dumps({b"a": -(10**5000)}, 2), "cannot be read: it holds a number of more than 64 bits"),
        (b"}S'a'\nL1" + b"0" * 5000 + b"L\ns.", "cannot be read: Exceeds the limit"),
    ],
)
def test_a_damaged_pickle_is_named(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^/some/file {message}"):
        read_pickle(content, "/some/file")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x02}p2147483647\n.",
        b"\x80\x05\x96" + (2**34).to_bytes(8, "little") + b".",
        b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b".",
    ],
)
def test_a_small_pickle_cannot_ask_for_much_memory(content: bytes) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be read: [^:]*(place 2147483647|bytes)"):
            read_pickle(content, "a")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


WHOLE = python2_pickle(CONTENT)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_damage_anywhere_is_a_data_error_or_plain_data(changes: list[tuple[int, int]]) -> None:
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    try:
        found = read_pickle(bytes(content), "a")
    except DataError:
        return
    assert all(isinstance(value, (list, bytes, str, int, PickledArray, dict, type(None))) for value in found.values())
