"""An experiment that is interrupted anywhere runs the same trials as one that is not, each once."""

import itertools
import json
from collections import Counter
from typing import Any

import pytest
from fake_runs import THREE_ARMS, TWO_ARMS, CrashError, FakeRunner, finished, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.search.plan import Plan
from orchestrator.search.trials import Phase, Record, Status, Trial, created, ended, replay


def through_json(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [json.loads(json.dumps({**event, "at": 1.0})) for event in events]


def ran(events: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Every trial with its seed, values and outcome."""
    return {
        id: (record.trial.seed, dict(record.trial.params), record.status, record.metrics)
        for id, record in replay(through_json(events)).items()
    }


def some_fail(trial: Trial) -> Record:
    if trial.phase is Phase.SEARCH and trial.index == 1:
        return Record(trial, Status.FAILED, {}, epochs=1, reason="NaN")
    if trial.phase is Phase.SEARCH and trial.index == 2:
        return Record(trial, Status.STOPPED, {"val/acc1": 99.0}, epochs=1)
    return finished(trial)


PLANS = {
    "three": THREE_ARMS,
    "grid": {
        "search.sampler": "grid",
        "search.num_samples": 2,
        "search.variants": {
            "a": {"space": {"student.norm": {"type": "choice", "values": ["batch", "group"]}}},
            "b": {"set": {"teacher.model": "resnet20"}},
        },
    },
}


@pytest.mark.parametrize("outcome", [finished, some_fail])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", PLANS)
def test_cut_anywhere_the_rest_is_the_same(name: str, workers: int, outcome: Any) -> None:
    plan = plan_of(PLANS[name])
    whole = FakeRunner(plan, workers=workers, outcome=outcome).run().events
    expected = ran(whole)
    assert len(expected) == plan.total_trials
    for cut in range(len(whole) + 1):
        check_continued(plan, whole[:cut], expected, workers, outcome)


def check_continued(plan: Plan, events: list[dict], expected: dict, workers: int, outcome: Any) -> None:
    before = replay(through_json(events))
    again = FakeRunner(plan, through_json(events), workers=workers, outcome=outcome, seed=len(events)).run()
    assert ran(again.events) == expected
    # None is repeated: what had ended is not started, and nothing is created or started twice.
    started = Counter(t.id for t in again.started)
    assert max(started.values(), default=1) == 1
    assert not started.keys() & {id for id, record in before.items() if record.status.ended}
    assert started.keys() | before.keys() == expected.keys()
    assert max(Counter(e["trial"]["id"] for e in again.events if e["event"] == "created").values()) == 1
    assert max(Counter(e["id"] for e in again.events if e["event"] == "ended").values()) == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), max_size=8), st.integers(1, 4), st.integers(0, 5))
def test_interrupted_again_and_again_it_still_ends_the_same(crashes: list[int], workers: int, seed: int) -> None:
    plan = plan_of(TWO_ARMS)
    expected = ran(FakeRunner(plan, workers=workers).run().events)
    events: list[dict[str, Any]] = []
    for more in crashes:
        runner = FakeRunner(plan, through_json(events), workers=workers, seed=seed)
        try:
            runner.run(crash_after=len(events) + more)
        except CrashError:
            events = runner.events
    final = FakeRunner(plan, through_json(events), workers=workers, seed=seed).run()
    assert ran(final.events) == expected


def test_a_polite_interruption_continues_the_same_trials() -> None:
    plan = plan_of(TWO_ARMS)
    expected = ran(FakeRunner(plan).run().events)
    first = FakeRunner(plan, workers=3, ready=plan.teachers)
    for _ in range(3):
        first.start_one()
    for trial in list(first.running):
        first.events.append(ended(Record(trial, Status.INTERRUPTED, {"val/acc1": 10.0}, epochs=1)))
    again = FakeRunner(plan, through_json(first.events), ready=plan.teachers)
    again.run()
    assert [t.id for t in again.started[:3]] == [t.id for t in first.started]
    assert [t.params for t in again.started[:3]] == [t.params for t in first.started]
    assert ran(again.events) == {id: what for id, what in expected.items() if not id.startswith("teacher")}


# Replay


TEXT = st.text(max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TRIALS = st.builds(
    Trial,
    st.sampled_from(["a-000", "b-001", "teacher-12345678"]),
    st.sampled_from(list(Phase)),
    TEXT,
    st.integers(0, 9999),
    st.integers(0, 2**31),
    st.dictionaries(TEXT, NUMBERS | st.integers() | TEXT | st.none() | st.booleans() | st.lists(NUMBERS), max_size=3),
)
RECORDS = st.builds(
    Record,
    TRIALS,
    st.sampled_from(list(Status)),
    st.dictionaries(TEXT, NUMBERS),
    st.integers(0, 99),
    NUMBERS,
    TEXT,
)


@settings(deadline=None)
@given(st.lists(RECORDS, unique_by=lambda record: record.trial.id))
def test_replay_gives_back_what_was_written(records: list[Record]) -> None:
    events = [created(record.trial) for record in records] + [ended(record) for record in reversed(records)]
    found = replay(through_json(events))
    assert list(found) == [record.trial.id for record in records]
    assert list(found.values()) == records


def test_replay_keeps_the_last_word_and_skips_other_events() -> None:
    trial = Trial("a-000", Phase.SEARCH, "a", 0, 0, {"x": 1})
    events = [
        {"event": "experiment", "key": "k", "version": 1},
        created(trial),
        {"event": "session", "started": 1.0},
        ended(Record(trial, Status.INTERRUPTED, {"val/acc1": 1.0}, 1, 2.0)),
        created(trial),
        ended(Record(trial, Status.FINISHED, {"val/acc1": 5.0}, 5, 9.0)),
    ]
    (record,) = replay(through_json(events)).values()
    assert record == Record(trial, Status.FINISHED, {"val/acc1": 5.0}, 5, 9.0)
    (running,) = replay(through_json(events[:3])).values()
    assert running.status is Status.RUNNING
    (again,) = replay(through_json(events[:5])).values()
    assert (again.status, again.epochs) == (Status.INTERRUPTED, 1)


def test_an_end_without_a_beginning_is_left_out() -> None:
    lost = Trial("a-000", Phase.SEARCH, "a", 0, 0)
    assert replay(through_json([ended(Record(lost, Status.INTERRUPTED))])) == {}


def test_the_words_of_the_journal_are_those_of_the_enums() -> None:
    assert {status: (status.ended, status.has_result) for status in Status} == {
        Status.RUNNING: (False, False),
        Status.PAUSED: (False, False),
        Status.INTERRUPTED: (False, False),
        Status.FINISHED: (True, True),
        Status.STOPPED: (True, True),
        Status.FAILED: (True, False),
    }
    assert list(itertools.chain(Phase, Status)) == [
        *("teacher", "search", "final"),
        *("running", "paused", "interrupted", "finished", "stopped", "failed"),
    ]
