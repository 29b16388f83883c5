"""The journal survives a crash at any byte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import CheckpointError, OrchestratorError
from orchestrator.store.journal import Journal

EVENTS = [
    {"event": "created", "trial": {"id": "ä-000", "x": 0.1}},
    {"event": "ended", "id": "a\nb"},
    {"event": "session"},
]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    found = Journal(tmp_path / "journal.jsonl")
    for event in EVENTS:
        found.append(event)
    return found


def plain(events: list[dict]) -> list[dict]:
    return [{key: value for key, value in event.items() if key not in ("at", "version")} for event in events]


def test_what_is_appended_is_read_back_in_order_with_its_time(journal: Journal) -> None:
    events = journal.read()
    assert plain(events) == EVENTS
    assert [event.get("version") for event in events] == [1, None, None]
    assert sorted(event["at"] for event in events) == [event["at"] for event in events]
    assert Journal(journal.path).read() == events


def test_a_journal_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "none.jsonl")
    journal.repair()
    assert journal.read() == []
    assert not journal.path.exists()


def test_cut_at_every_byte_earlier_events_survive_and_appending_goes_on(journal: Journal) -> None:
    content = journal.path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == 10]
    for size in range(len(content) + 1):
        journal.path.write_bytes(content[:size])
        whole = sum(end <= size for end in ends)
        assert plain(journal.read()) == EVENTS[:whole]
        journal.repair()
        assert journal.path.read_bytes() == content[: ends[whole - 1] if whole else 0]
        journal.append({"event": "more"})
        events = journal.read()
        assert plain(events) == [*EVENTS[:whole], {"event": "more"}]
        assert events[0]["version"] == 1


@pytest.mark.parametrize("damage", [b'{"event": \n', b"\x00\x00\x00\n", b"3\n", b"[1]\n", b"\xff\xfe\n", b"\n"])
def test_a_damaged_line_is_named(journal: Journal, damage: bytes) -> None:
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"".join([lines[0], damage, *lines[1:]]))
    with pytest.raises(CheckpointError, match=r"journal\.jsonl, line 2: damaged") as caught:
        journal.read()
    assert "--fresh" in (caught.value.hint or "")


@pytest.mark.parametrize("first", ['{"event": "created", "version": 2}\n', '{"event": "created"}\n'])
def test_another_version_is_refused(tmp_path: Path, first: str) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.path.write_text(first)
    with pytest.raises(CheckpointError, match="another version"):
        journal.read()


def test_an_event_that_is_no_data_leaves_no_trace(journal: Journal) -> None:
    before = journal.path.read_bytes()
    with pytest.raises(TypeError):
        journal.append({"event": "x", "value": object()})
    assert journal.path.read_bytes() == before


def test_a_disk_that_fails_leaves_no_half_line(journal: Journal, monkeypatch) -> None:
    before = journal.path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OrchestratorError, match="No space left"):
        journal.append({"event": "lost"})
    assert journal.path.read_bytes() == before
    monkeypatch.undo()
    journal.append({"event": "kept"})
    assert plain(journal.read()) == [*EVENTS, {"event": "kept"}]


FILLED = """
import resource, sys
from pathlib import Path
from orchestrator.errors import OrchestratorError
from orchestrator.store.journal import Journal
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, resource.RLIM_INFINITY))
try:
    Journal(path).append({"event": "lost", "value": 12345})
except OrchestratorError:
    print("refused")
"""


def test_a_disk_that_takes_half_a_line_leaves_none_of_it(journal: Journal) -> None:
    before = journal.path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FILLED, journal.path], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    assert journal.path.read_bytes() == before


def test_each_event_is_on_disk_before_append_returns(tmp_path: Path, monkeypatch) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(journal.path.read_bytes()))
    journal.append({"event": "a"})
    journal.append({"event": "b"})
    assert [content.count(b"\n") for content in synced] == [1, 2]
