"""status, list and plan on experiments in a home folder: their state, their totals, and how to go on."""

from __future__ import annotations

import errno
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiments_on_disk import (
    ALONE_TOTAL,
    SPEC,
    failed,
    final,
    plan_of,
    search,
    store_teacher,
    teacher,
    whole,
    write,
)

from orchestrator.experiment import Experiment
from orchestrator.search.standing import State
from orchestrator.search.trials import Status
from orchestrator.store.home import Home


def status_of(run: Any) -> dict[str, Any]:
    code, out = run("status", "--format", "json")
    assert code == 0
    return dict(json.loads(out))


# A teacher that is found again


def test_a_complete_experiment_counts_its_own_teacher(run: Any, home: Home) -> None:
    plan = plan_of()
    write(home, plan, whole(plan))
    found = status_of(run)
    assert (found["state"], found["ended"], found["planned"]) == ("complete", ALONE_TOTAL + 1, ALONE_TOTAL + 1)


@pytest.mark.parametrize("kept", [True, False], ids=["still there", "deleted since"])
def test_a_teacher_that_was_found_counts_for_nothing(run: Any, home: Home, kept: bool) -> None:
    plan = plan_of()
    if kept:
        store_teacher(home, plan)
    write(home, plan, whole(plan, with_teacher=False))
    found = status_of(run)
    assert (found["state"], found["ended"], found["planned"]) == ("complete", ALONE_TOTAL, ALONE_TOTAL)
    _, out = run("status")
    assert f"complete; {ALONE_TOTAL} of {ALONE_TOTAL} trials have ended" in out
    assert "continue" not in out


def test_a_teacher_that_is_not_there_yet_counts(run: Any, home: Home) -> None:
    plan = plan_of()
    write(home, plan, [search(plan, "alone", 0, val_acc1=1.0)])
    assert status_of(run)["planned"] == ALONE_TOTAL + 1


def test_the_comparison_says_how_good_the_found_teacher_is(run: Any, home: Home) -> None:
    plan = plan_of()
    write(home, plan, whole(plan, with_teacher=False))
    assert "Teacher found again.\n" in run("results")[1]
    store_teacher(home, plan)
    assert "Teacher found again: 71.20 % on validation images.\n" in run("results")[1]
    store_teacher(home, plan, accuracy=None)
    assert "Teacher found again.\n" in run("results")[1]


def test_plan_looks_for_the_teacher(run: Any, home: Home, tmp_path: Path) -> None:
    spec = tmp_path / "tiny.yaml"
    spec.write_text(yaml.safe_dump(SPEC))
    plan = plan_of()
    (key,) = plan.teachers
    assert (
        f"teacher resnet14 will be trained for 5 epochs on the training split (key {key[:8]})" in run("plan", spec)[1]
    )
    data = json.loads(run("plan", spec, "--format", "json")[1])
    assert (data["total_trials"], data["teachers"][0]["found"]) == (ALONE_TOTAL + 1, False)
    # Looking makes no folder.
    assert not home.path.exists()

    store_teacher(home, plan)
    assert f"teacher resnet14 is found in {home.path} (key {key[:8]})" in run("plan", spec)[1]
    data = json.loads(run("plan", spec, "--format", "json")[1])
    assert (data["total_trials"], data["teachers"][0]["found"]) == (ALONE_TOTAL, True)

    write(home, plan, [teacher(plan, val_acc1=90.0)])
    assert f"teacher resnet14 was trained by this experiment before (key {key[:8]})" in run("plan", spec)[1]
    assert json.loads(run("plan", spec, "--format", "json")[1])["total_trials"] == ALONE_TOTAL + 1


# States


def test_an_interrupted_experiment_says_how_to_continue(run: Any, home: Home) -> None:
    plan = plan_of()
    write(home, plan, [teacher(plan, val_acc1=9.0), search(plan, "kd", 0, Status.INTERRUPTED)])
    found = status_of(run)
    assert (found["state"], found["trials"]["interrupted"], found["ended"]) == ("not running", 1, 1)
    out = run("status")[1]
    assert f"continue with: orchestrator run {home.experiment(plan.spec).path}/spec.yaml --home {home.path}" in out


def test_a_killed_experiments_trials_do_not_run_for_ever(run: Any, home: Home) -> None:
    plan = plan_of()
    write(home, plan, [search(plan, "kd", 0, Status.RUNNING)])
    found = status_of(run)
    assert (found["trials"]["running"], found["trials"]["interrupted"]) == (0, 1)
    assert [trial["status"] for trial in json.loads(run("results", "--format", "json")[1])["trials"]] == ["interrupted"]


def test_a_running_experiment(run: Any, home: Home) -> None:
    plan = plan_of()
    folder = write(home, plan, [teacher(plan, val_acc1=9.0)])
    with folder.opened(plan.spec):
        assert status_of(run)["state"] == "running"
        assert "continue" not in run("status")[1]
        assert "experiment is still running" in run("results")[1]


def all_failed(home: Home) -> None:
    plan = plan_of()
    records = [failed(search(plan, name, n), "the loss is NaN") for name in ("alone", "kd") for n in range(2)]
    write(home, plan, [teacher(plan, val_acc1=9.0), *records])


def test_an_experiment_whose_trials_all_failed_is_over(run: Any, home: Home) -> None:
    all_failed(home)
    found = status_of(run)
    assert (found["state"], found["ended"]) == ("ended with failures", 5)
    out = run("status")[1]
    assert "continue with" not in out
    assert "change the spec, or start over with: orchestrator run" in out
    assert "--fresh" in out
    # One reason, once, without the names of trials in it.
    assert out.count("the loss is NaN") == 1
    assert "4 trials failed (alone-000, alone-001, kd-000, ...): the loss is NaN\n" in out


def test_results_of_failed_variants_say_so(run: Any, home: Home) -> None:
    all_failed(home)
    out = run("results")[1]
    assert out.count("all trials failed") == 2
    assert "none searched" not in out


def test_a_failed_teacher_ends_what_needs_it(run: Any, home: Home) -> None:
    plan = plan_of()
    alone = [record for record in whole(plan) if record.trial.variant == "alone"]
    write(home, plan, [failed(teacher(plan), "the loss is NaN"), *alone])
    assert status_of(run)["state"] == "ended with failures"
    # Another experiment has made it since: there is something to run again.
    store_teacher(home, plan)
    assert status_of(run)["state"] == "not running"


def test_one_failed_trial_of_many_spoils_nothing(run: Any, home: Home) -> None:
    plan = plan_of()
    records = whole(plan)
    failed(records[1], "the loss is NaN")
    write(home, plan, records)
    assert status_of(run)["state"] == "complete"
    out = run("results")[1]
    assert f"{records[1].trial.id} failed: the loss is NaN" in out


def test_a_spent_time_budget_ends_the_search(run: Any, home: Home) -> None:
    plan = plan_of(budget__time_s=60)
    some = [
        teacher(plan, val_acc1=99.0),
        *(search(plan, name, 0, val_acc1=90.0) for name in ("alone", "kd")),
        *(final(plan, name, n, test_acc1=90.0, val_acc1=90.0) for name in ("alone", "kd") for n in range(3)),
    ]
    folder = write(home, plan, some)
    assert status_of(run)["state"] == "not running"
    folder.journal.append({"event": "session", "started": time.time() - 100})
    folder.journal.append({"event": "other"})
    assert status_of(run)["state"] == "complete"
    assert "the others were not run: the budget was spent" in run("status")[1]


def test_a_budget_that_leaves_a_variant_without_a_result_is_named(run: Any, home: Home) -> None:
    plan = plan_of(budget__time_s=60)
    alone = [record for record in whole(plan) if record.trial.variant == "alone"]
    folder = write(home, plan, [teacher(plan, val_acc1=99.0), *alone])
    folder.journal.append({"event": "session", "started": time.time() - 100})
    folder.journal.append({"event": "other"})
    found = status_of(run)
    assert (found["state"], found["spent"]) == ("budget spent", "budget.time_s")
    out = run("status")[1]
    assert f"{folder.id}: budget spent; 6 of 11" in out
    assert "budget.time_s was spent before every variant had a result" in out
    assert "raise budget.time_s, and run it again: orchestrator run" in out
    assert "--fresh" not in out
    assert "budget.time_s was spent before every variant had a result." in run("results")[1]
    assert "budget.time_s was spent before every variant had a result." in Experiment.load(home=home.path).report("md")


def test_a_variant_whose_trials_have_all_failed_is_not_the_budgets_fault(run: Any, home: Home) -> None:
    plan = plan_of(budget__time_s=60)
    records = [r for r in whole(plan) if r.trial.variant == "alone"]
    records += [failed(search(plan, "kd", n), "the loss is NaN") for n in range(2)]
    folder = write(home, plan, [teacher(plan, val_acc1=99.0), *records])
    folder.journal.append({"event": "session", "started": time.time() - 100})
    folder.journal.append({"event": "other"})
    assert status_of(run)["state"] == "ended with failures"


def test_an_experiment_that_was_set_aside_cannot_be_continued(run: Any, home: Home) -> None:
    plan = plan_of()
    folder = write(home, plan, [teacher(plan, Status.INTERRUPTED)])
    folder.set_aside()
    assert "continue" not in run("status")[1]


def test_someone_elses_experiment_can_be_looked_at(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of()
    folder = write(home, plan, whole(plan))

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert Experiment.read(folder, home).state is State.COMPLETE


# list


def test_list_tells_what_to_do_where_nothing_has_run(run: Any, home: Home) -> None:
    code, out = run("list")
    assert code == 0
    assert f"No experiment has run in {home.path} yet; start one with: orchestrator run SPEC\n" in out
    assert json.loads(run("list", "--format", "json")[1]) == []


def test_list_has_every_experiment_the_latest_first(run: Any, home: Home) -> None:
    old, new = plan_of(), plan_of(name="newer", search__final_seeds=0)
    write(home, old, whole(old, tests={"alone": [50.0, 51.0, 52.0], "kd": [60.0, 62.0, 64.0]}))
    time.sleep(0.02)
    write(home, new, [search(new, "kd", 0, Status.INTERRUPTED)], owner="ada")
    broken = home.path / "experiments" / "broken-01234567"
    broken.mkdir()
    (broken / "journal.jsonl").write_text("no journal\n")

    code, out = run("list", "--format", "json")
    rows = json.loads(out)
    assert code == 0
    assert [row["name"] for row in rows] == ["broken", "newer", "tiny"]
    assert [row["state"] for row in rows] == ["unreadable", "not running", "complete"]
    assert [(row["ended"], row["planned"]) for row in rows] == [(None, None), (0, 5), (11, 11)]
    assert rows[2]["best"] == {"name": "kd", "test/acc1": 62.0, "n": 3}
    assert rows[0]["best"] is rows[1]["best"] is None
    assert all(time.strptime(row["last_run"], "%Y-%m-%dT%H:%M:%S%z") for row in rows)
    assert [row["owner"] for row in rows] == [None, "ada", None]

    lines = run("list")[1].splitlines()
    assert [line.split()[0] for line in lines[1:4]] == [row["id"] for row in rows]
    assert lines[3].split()[1] == "complete"
    assert lines[2].split()[-3] == "ada"
    assert lines[3].rstrip().endswith("11/11  kd: 62.00 %")
    assert "orchestrator status ID tells why" in lines[4]
