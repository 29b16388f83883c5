"""Requests reach the session that they were made to, once, and no other."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.spec import load_spec
from orchestrator.store.home import Home
from orchestrator.store.requests import Mailbox, Request, Wish

STOP = Request(Wish.STOP, ("kd-001",))
PAUSE = Request(Wish.PAUSE)


def test_requests_come_in_their_order_and_once(tmp_path: Path) -> None:
    mine, other = Mailbox(tmp_path / "requests"), Mailbox(tmp_path / "requests")
    with mine.opened():
        files = [other.put(request) for request in (STOP, PAUSE, Request(Wish.STOP, now=True))]
        assert all(file and file.exists() for file in files)
        assert mine.take() == [STOP, PAUSE, Request(Wish.STOP, now=True)]
        assert not any(file and file.exists() for file in files)
        assert mine.take() == []


def test_when_the_session_was_opened_is_known(tmp_path: Path) -> None:
    mine, other = Mailbox(tmp_path / "requests"), Mailbox(tmp_path / "requests")
    assert other.since() is None
    with mine.opened():
        other.put(STOP)
        assert other.since() == pytest.approx(time.time(), abs=5)
    assert other.since() is None


def test_without_a_session_nobody_is_asked(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "requests")
    assert mailbox.put(STOP) is None
    assert mailbox.take() == []
    with mailbox.opened():
        pass
    assert mailbox.put(STOP) is None
    assert not (tmp_path / "requests").exists()


def test_what_a_killed_session_was_asked_does_not_reach_the_next(tmp_path: Path) -> None:
    killed, asking, following = (Mailbox(tmp_path / "requests") for _ in range(3))
    session = killed.opened()
    session.__enter__()
    file = asking.put(STOP)
    assert file is not None
    with following.opened():
        assert following.take() == []
        assert not file.exists()
        # Whoever looked for the folder before, and writes now, finds it gone.
        with pytest.raises(FileNotFoundError):
            file.write_text("{}")
        assert asking.put(PAUSE) is not None
        assert following.take() == [PAUSE]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"wish": "dance", "trials": [], "now": false}', '{"wish": "stop"}']
)
def test_what_nobody_here_has_written_is_left_out(tmp_path: Path, content: str) -> None:
    mailbox = Mailbox(tmp_path / "requests")
    with mailbox.opened():
        file = mailbox.put(STOP)
        assert file is not None
        file.with_name("0.json").write_text(content)
        assert mailbox.take() == [STOP]


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox(tmp_path / "requests")

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    with mailbox.opened():
        monkeypatch.setattr(Path, "write_text", refuse)
        with pytest.raises(UsageError, match=r"cannot write to .*requests.*: Permission denied"):
            mailbox.put(STOP)


def test_an_experiment_takes_requests_as_long_as_it_is_held(tmp_path: Path) -> None:
    spec = load_spec(
        {
            "name": "tiny",
            "data": {"dataset": "digits"},
            "student": {"model": "resnet8"},
            "distillation": {"kd_weight": 0.0, "ce_weight": 1.0},
        }
    )
    home = Home(tmp_path)
    folder, seen_from_outside = home.experiment(spec), home.experiment(spec)
    with folder.opened(spec):
        assert seen_from_outside.mailbox.put(PAUSE) is not None
        assert folder.mailbox.take() == [PAUSE]
    assert seen_from_outside.mailbox.put(PAUSE) is None
