"""The writer's patience with a store that is away."""

import itertools
import time

from orchestrator.tracking import writer
from orchestrator.tracking.writer import Writer


def make_writer(patience_s=60.0):
    made = Writer(
        idle=lambda: None,
        idle_every_s=1.0,
        may_pass=lambda error: True,
        describe=str,
        patience_s=patience_s,
    )
    made.start()
    return made


def test_the_longer_a_store_is_away_the_less_often_it_is_asked(monkeypatch):
    monkeypatch.setattr(writer, "RETRY_PAUSE_S", 0.01)
    monkeypatch.setattr(writer, "LONGEST_PAUSE_S", 0.16)
    asked = []

    def call():
        asked.append(time.monotonic())
        if len(asked) < 8:
            raise ConnectionError

    made = make_writer()
    made.put(lambda: made.persist("a call", call))
    while len(asked) < 8:
        time.sleep(0.01)
    assert made.close(lambda: None) == []
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    for pause, least in zip(pauses, (0.01, 0.02, 0.04, 0.08, 0.16, 0.16, 0.16), strict=True):
        assert pause >= least


def test_closing_does_not_wait_for_the_end_of_a_pause(monkeypatch):
    monkeypatch.setattr(writer, "RETRY_PAUSE_S", 60.0)
    asked = []

    def call():
        asked.append(1)
        if len(asked) == 1:
            raise ConnectionError

    made = make_writer()
    made.put(lambda: made.persist("a call", call))
    while not asked:
        time.sleep(0.01)
    started = time.monotonic()
    assert made.close(lambda: None) == []
    assert len(asked) == 2
    assert time.monotonic() - started < 30
