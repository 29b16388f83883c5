"""The views of a running experiment: what they say, and what they count."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from experiments_on_disk import ALONE_TOTAL, failed, plan_of, search, store_teacher, teacher, whole
from rich.console import Console

from orchestrator.cli.lines import JsonView, PlainView
from orchestrator.cli.progress import LOADING, ROWS, LiveView
from orchestrator.search.trials import Record, Status
from orchestrator.store.home import Home


@pytest.fixture
def plain(home: Home) -> PlainView:
    return PlainView(Console(file=io.StringIO(), width=200), home)


def lines(view: PlainView) -> list[str]:
    """What was printed, without the clock."""
    output = view.console.file
    assert isinstance(output, io.StringIO)
    return [line.partition("] ")[2] for line in output.getvalue().splitlines()]


def drawn(view: LiveView) -> str:
    with view.console.capture() as captured:
        view.console.print(view.draw())
    return captured.get()


def live(home: Home, width: int = 120) -> LiveView:
    return LiveView(Console(file=io.StringIO(), width=width), home)


def running(record: Record) -> Record:
    return replace(record, status=Status.RUNNING, epochs=0, metrics={})


def test_a_found_teacher_is_told_and_not_counted(home: Home, plain: PlainView) -> None:
    plan = plan_of()
    store_teacher(home, plan)
    plain.on_plan(plan, {}, 2)
    assert lines(plain) == [
        "Teacher found again: 71.20 % on validation images",
        f"{ALONE_TOTAL} trials, 2 at once",
    ]
    for record in whole(plan, with_teacher=False):
        plain.on_start(running(record))
        plain.on_end(record)
    assert lines(plain)[-1].startswith(f"{ALONE_TOTAL}/{ALONE_TOTAL} trials, 0 running; kd-final-3")

    view = live(home)
    view.on_plan(plan, {}, 2)
    assert "Teacher found again: 71.20 % on validation images" in drawn(view)
    assert f"0/{ALONE_TOTAL} trials" in drawn(view)


def test_a_teacher_that_is_trained_counts(home: Home, plain: PlainView) -> None:
    plan = plan_of()
    plain.on_plan(plan, {}, 2)
    assert lines(plain) == [f"{ALONE_TOTAL + 1} trials, 2 at once"]
    # Its weights appear with its end, and it goes on counting.
    plain.on_start(running(teacher(plan)))
    store_teacher(home, plan)
    plain.on_end(teacher(plan, val_acc1=90.0))
    assert lines(plain)[-1].startswith(f"1/{ALONE_TOTAL + 1} trials, 0 running; teacher-")


def test_a_precision_is_told_once_with_its_reason(home: Home, plain: PlainView) -> None:
    plan = plan_of()
    student, of_teacher = running(whole(plan, with_teacher=False)[0]), running(teacher(plan))
    view = live(home)
    for shown in (plain, view):
        shown.on_plan(plan, {}, 2)
        for record in (of_teacher, student, student):
            shown.on_describe(record, {"precision": "bf16", "precision.reason": "auto: it can"})
    told = ["precision of the teacher: bf16 (auto: it can)", "precision of the student: bf16 (auto: it can)"]
    assert lines(plain)[1:] == told
    assert all(line in drawn(view) for line in told)


def test_a_found_teacher_that_is_trained_after_all_counts(home: Home, plain: PlainView) -> None:
    plan = plan_of()
    weights = store_teacher(home, plan)
    plain.on_plan(plan, {}, 2)
    weights.unlink()
    plain.on_start(running(teacher(plan)))
    assert plain.total == ALONE_TOTAL + 1
    assert plain.found == []


def test_nothing_happens_at_first_because_the_workers_load(home: Home, plain: PlainView) -> None:
    plan = plan_of()
    first, second = search(plan, "alone", 0, val_acc1=50.0), search(plan, "alone", 1)
    plain.on_plan(plan, {}, 2)
    plain.on_start(running(first))
    plain.on_start(running(second))
    assert lines(plain).count(LOADING) == 1
    assert plain.now() == LOADING
    plain.on_epoch(first)
    plain.on_end(first)
    plain.on_start(running(second))
    assert lines(plain).count(LOADING) == 1
    assert plain.now() == "stage 1: search"
    plain.on_end(second)
    assert plain.now() == "finishing"


@pytest.mark.parametrize("ends", ["epoch", "failure"])
def test_the_live_view_shows_the_stage_once_something_was_heard(home: Home, ends: str) -> None:
    plan = plan_of()
    view = live(home)
    view.on_stage("starting Ray")
    assert "starting Ray" in drawn(view)
    view.on_plan(plan, {}, 2)
    view.on_start(running(search(plan, "alone", 0)))
    view.on_start(running(search(plan, "alone", 1)))
    assert LOADING in drawn(view)
    if ends == "epoch":
        view.on_epoch(running(search(plan, "alone", 0)))
    else:
        view.on_end(failed(search(plan, "alone", 0), "the loss is NaN"))
    assert LOADING not in drawn(view)
    assert "stage 1: search" in drawn(view)


def test_a_failure_names_its_trial_once(home: Home, plain: PlainView) -> None:
    plan = plan_of()
    record = failed(search(plan, "kd", 0), "the loss is NaN")
    plain.on_plan(plan, {}, 2)
    plain.on_end(record)
    assert lines(plain)[-1].endswith("; kd-000 epoch 5 failed: the loss is NaN")
    view = live(home)
    view.on_plan(plan, {}, 2)
    view.on_end(record)
    output = view.console.file
    assert isinstance(output, io.StringIO)
    assert output.getvalue() == "kd-000 failed: the loss is NaN\n"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_live_table_cuts_off_the_values_alone(home: Home, width: int) -> None:
    plan = plan_of(search__variants={"la-ps+dtd-flsw": {}, "kd": {}})
    view = live(home, width)
    records = whole(plan)
    view.on_plan(plan, {}, 2)
    for record in records[:-1]:
        view.on_end(record)
    last = replace(records[-1], status=Status.RUNNING)
    view.on_start(last)
    view.on_epoch(last)
    text = drawn(view)
    assert max(map(len, text.splitlines())) <= width
    row = next(line for line in text.splitlines() if line.startswith("la-ps+dtd-flsw"))
    assert row.split()[:6] == ["la-ps+dtd-flsw", "2/2", "91.00", "81.00", "±", "1.00"]
    assert "kd-final-3" in text


def test_trials_of_earlier_sessions_and_interrupted_ones_are_counted_once(home: Home, plain: PlainView) -> None:
    plan = plan_of()
    before = [search(plan, "kd", 0), failed(search(plan, "kd", 1), "NaN"), search(plan, "alone", 0)]
    before[2].status = Status.INTERRUPTED
    plain.on_plan(plan, {record.trial.id: record for record in before}, 2)
    total = ALONE_TOTAL + 1
    assert plain.counts() == f"2/{total} trials, 0 running, 1 failed"
    again = replace(before[2], status=Status.RUNNING)
    plain.on_start(again)
    plain.on_start(running(search(plan, "alone", 1)))
    assert plain.counts() == f"2/{total} trials, 2 running, 1 failed"
    again.status = Status.INTERRUPTED
    plain.on_end(again)
    assert plain.counts() == f"2/{total} trials, 1 running, 1 failed"
    again.status = Status.RUNNING
    plain.on_start(again)
    again.status = Status.FINISHED
    plain.on_end(again)
    assert plain.counts() == f"3/{total} trials, 1 running, 1 failed"


def test_final_runs_of_an_earlier_best_are_not_counted(home: Home, plain: PlainView) -> None:
    plan = plan_of()
    first, second = search(plan, "kd", 0, val_acc1=50.0), search(plan, "kd", 1, val_acc1=60.0)
    records = [record for record in whole(plan, with_teacher=False) if record.trial.variant == "alone"]
    for seed in range(3):
        trial = plan.final_trial(plan.by_name["kd"], seed, first.trial.params, repeats=first.trial)
        records.append(Record(trial, Status.FINISHED, {"test/acc1": 80.0}, epochs=5))
    records.append(first)
    store_teacher(home, plan)
    plain.on_plan(plan, {record.trial.id: record for record in records}, 2)
    assert plain.ended == 9
    plain.on_start(running(second))
    plain.on_end(second)
    assert plain.counts().startswith(f"7/{ALONE_TOTAL} trials")


def test_final_runs_of_an_earlier_best_leave_the_time_that_those_of_the_new_one_take(
    home: Home, plain: PlainView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an experiment was extended: three final runs do not count any more, so three are left."""
    plan = plan_of()
    store_teacher(home, plan)
    records = whole(plan, with_teacher=False)
    first, second = (record for record in records if record.trial.id in ("kd-000", "kd-001"))
    second.metrics["val/acc1"] = first.metrics["val/acc1"] + 1
    for n, record in enumerate(records):
        if record.trial.id.startswith("kd-final"):
            trial = plan.final_trial(plan.by_name["kd"], record.trial.index, {}, repeats=first.trial)
            records[n] = Record(trial, Status.FINISHED, {"test/acc1": 80.0}, epochs=5)
    plain.on_plan(plan, {record.trial.id: record for record in records}, 2)
    monkeypatch.setattr(plain, "pace", lambda: 2.0)
    assert plain.counts() == f"7/{ALONE_TOTAL} trials, 0 running"
    assert plain.seconds_left() == 3 * 5 * 2.0


class Interfering(Record):
    """A record; when it is looked at, another trial begins, as it may while the live table is drawn."""

    def __getattribute__(self, name: str) -> Any:
        if name == "status" and (begin := type(self).begin) is not None:
            begin()
        return super().__getattribute__(name)

    begin: Any = None


def test_trials_may_begin_while_the_table_is_drawn(home: Home) -> None:
    plan, view = plan_of(search__num_samples=50), live(home)
    view.on_plan(plan, {}, 2)
    others = iter([search(plan, name, n) for n in range(1, 50) for name in ("kd", "alone")])
    for name in ("kd", "alone"):
        record = running(search(plan, name, 0))
        view.on_start(Interfering(record.trial, Status.RUNNING, {"val/acc1": 5.0}, epochs=1))
    Interfering.begin = staticmethod(lambda: view.on_start(running(next(others))))
    try:
        text = drawn(view)
        view.seconds_left()
    finally:
        Interfering.begin = None
    assert "5.00 so far" in text
    assert len(view.records) > 4


def test_of_very_many_running_trials_the_first_are_shown(home: Home) -> None:
    plan = plan_of(search__num_samples=ROWS)
    view = live(home)
    view.on_plan(plan, {}, 2 * ROWS)
    for variant in ("alone", "kd"):
        for index in range(ROWS):
            view.on_start(running(search(plan, variant, index)))
    text = drawn(view)
    assert f"alone-{ROWS - 1:03d}" in text
    assert "kd-000" not in text
    assert f"and {ROWS} more" in text


# For programs


def told(view: JsonView) -> list[dict[str, Any]]:
    output = view.console.file
    assert isinstance(output, io.StringIO)
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_every_event_is_a_line_of_json(home: Home) -> None:
    plan = plan_of()
    store_teacher(home, plan)
    view = JsonView(Console(file=io.StringIO()), home)
    view.on_stage("starting Ray")
    view.on_plan(plan, {}, 2)
    record = running(search(plan, "kd", 0))
    view.on_start(record)
    record.epochs, record.metrics = 1, {"val/acc1": 12.5}
    view.on_epoch(record)
    view.on_end(failed(replace(record, seconds=2.0), "the loss is NaN"))
    lines = told(view)
    assert all(isinstance(line.pop("at"), float) for line in lines)
    about = {"trial": "kd-000", "phase": "search", "variant": "kd", "epochs": 5}
    assert lines == [
        {"event": "stage", "text": "starting Ray"},
        {"event": "note", "text": "Teacher found again: 71.20 % on validation images"},
        {
            "event": "plan",
            "trials": ALONE_TOTAL,
            "ended": 0,
            "at_once": 2,
            "variants": [{"name": name, "trials": 2, "epochs": 5} for name in ("alone", "kd")],
            "final_seeds": 3,
        },
        {"event": "start", **about, "epoch": 0, "seed": 0, "params": dict(record.trial.params)},
        {
            "event": "epoch",
            **about,
            "epoch": 1,
            "metrics": {"val/acc1": 12.5},
            "epochs_per_minute": None,
            "seconds_left": None,
        },
        {
            "event": "end",
            **about,
            "epoch": 1,
            "status": "failed",
            "reason": "kd-000: the loss is NaN",
            "seconds": 2.0,
            "metrics": {"val/acc1": 12.5},
            "best": None,
            "best_trial": None,
        },
    ]
    for number in (0, 1):
        view.on_end(search(plan, "alone", number, val_acc1=60.0 - number))
    assert [(line["best"], line["best_trial"]) for line in told(view)[-2:]] == [(60.0, "alone-000")] * 2


def test_the_pace_is_told_in_epochs_of_a_minute_or_an_hour(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    view = live(home)
    view.on_plan(plan_of(), {}, 2)
    assert view.timing() == ""
    monkeypatch.setattr(view, "pace", lambda: 0.5)
    assert view.timing() == ", 120 epochs/min, about 0:25 left"
    monkeypatch.setattr(view, "pace", lambda: 90.0)
    assert view.timing() == ", 40 epochs/h, about 1:15:00 left"
    monkeypatch.setattr(view, "pace", lambda: 11.0)
    assert view.timing() == ", 5.5 epochs/min, about 9:10 left"
