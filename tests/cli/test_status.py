"""status and logs of experiments that run, told from their folders alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from experiments_on_disk import failed, plan_of, search, teacher, write

from orchestrator.cli import logs, main, status
from orchestrator.search.trials import Change, Status, changed, ended
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home


def stopped(plan: Any, variant: str, index: int) -> Any:
    record = search(plan, variant, index, Status.STOPPED, val_acc1=40.0)
    record.reason = "stopped by the scheduler after epoch 2"
    record.epochs = 2
    return record


@pytest.fixture
def running(home: Home) -> Iterator[ExperimentFolder]:
    """A session that began a minute ago: two trials have ended, two are under way, one of them since before."""
    plan = plan_of(search__num_samples=3)
    again = search(plan, "alone", 1, Status.INTERRUPTED, val_acc1=30.0)
    again.epochs = 1
    records = [teacher(plan, val_acc1=9.0), search(plan, "kd", 0, val_acc1=55.0), stopped(plan, "kd", 1), again]
    folder = write(home, plan, records)
    now = time.time()
    with folder.opened(plan.spec):
        (session,) = (folder.path / "requests").iterdir()
        session.rename(session.with_name(f"{now - 61}-x"))
        folder.journal.append({"event": "session", "started": now - 60, "epochs": 8, "at_once": 2})
        folder.journal.append({"event": "resumed", "id": "alone-001"})
        folder.journal.append({"event": "created", "trial": {**_plain(search(plan, "alone", 0))}})
        for id, epochs in (("alone-000", 4), ("alone-001", 3)):
            folder.trial(id).path.mkdir(parents=True)
            for epoch in range(1, epochs + 1):
                folder.trial(id).add_metrics(epoch, {"val/acc1": 10.0 * epoch, "train/loss": 1.0 / epoch})
        yield folder


def _plain(record: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(record.trial)


def test_what_runs_is_told_with_epoch_and_metric(run: Any, running: ExperimentFolder) -> None:
    code, out = run("status")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == f"{running.id}: running; 3 of 13 trials have ended"
    shown = "\n".join(lines[2:])
    assert "stage 1: search  3/13 trials, 2 running, 1 stopped, 1:0" in shown
    assert "stopped: 1 by the scheduler" in shown
    kd = next(line for line in lines if line.startswith("kd "))
    assert kd.split()[:3] == ["kd", "2/3", "55.00"]
    rows = [line.split() for line in lines if line.startswith("alone-0")]
    assert [row[0] for row in rows] == ["alone-001", "alone-000"]
    assert rows[0][-4:] == ["epoch", "3/5", "val/acc1", "30.00"]
    assert rows[1][-4:] == ["epoch", "4/5", "val/acc1", "40.00"]


def test_the_same_as_data(run: Any, running: ExperimentFolder) -> None:
    found = json.loads(run("status", "--format", "json")[1])
    assert (found["state"], found["ended"], found["planned"]) == ("running", 3, 13)
    assert found["trials"]["running"] == 2
    assert found["stages"] == ["stage 1: search"]
    assert found["seconds"] == pytest.approx(60, abs=5)
    assert [(row["trial"], row["epoch"], row["epochs"]) for row in found["running"]] == [
        ("alone-001", 3, 5),
        ("alone-000", 4, 5),
    ]
    assert found["running"][0]["metrics"] == {"val/acc1": 30.0, "train/loss": 1 / 3}
    assert found["stops"] == {"kd-001": "stopped by the scheduler after epoch 2"}
    kd = next(row for row in found["variants"] if row["name"] == "kd")
    assert (kd["ended"], kd["planned"], kd["best"], kd["best_trial"]) == (2, 3, 55.0, "kd-000")
    # Fourteen epochs, eight of them before: too few for a pace.
    assert found["epochs_per_minute"] is found["seconds_left"] is None


def test_the_pace_is_that_of_this_session(run: Any, running: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "ENOUGH", 6)
    begun = running.last_session()
    assert begun is not None
    assert begun.begun is not None
    monkeypatch.setattr(time, "time", lambda: begun.begun + 60)
    found = json.loads(run("status", "--format", "json")[1])
    assert found["epochs_per_minute"] == pytest.approx(6)
    # 60 epochs in all: 10 of trials that have ended, 7 of those that run.
    assert found["seconds_left"] == pytest.approx(43 * 10)


def test_what_was_asked_is_shown(run: Any, running: ExperimentFolder) -> None:
    running.journal.append({"event": "asked", "wish": "stop", "trials": ["alone-000"], "now": False})
    assert "asked by `orchestrator stop` --trial alone-000" in run("status")[1]


def test_until_a_resumed_session_begins_nothing_of_the_earlier_one_is_shown(
    run: Any, home: Home, running: ExperimentFolder
) -> None:
    running.journal.append({"event": "asked", "wish": "stop", "trials": ["alone-000"], "now": False})
    (session,) = (running.path / "requests").iterdir()
    session.rename(session.with_name(f"{time.time() - 5}-x"))
    found = json.loads(run("status", "--format", "json")[1])
    assert (found["state"], found["running"], found["trials"]["interrupted"]) == ("running", [], 2)
    assert found["seconds"] == pytest.approx(5, abs=4)
    assert found["epochs_per_minute"] is None
    assert "asked by" not in run("status")[1]


def test_the_best_of_open_trials_stands_for_a_variant_without_a_result(run: Any, running: ExperimentFolder) -> None:
    (line,) = (line for line in run("status")[1].splitlines() if line.startswith("alone "))
    assert line.split()[:4] == ["alone", "0/3", "40.00", "so"]
    kd, alone = reversed(json.loads(run("status", "--format", "json")[1])["variants"])
    assert (alone["best"], alone["so_far"]) == (None, {"value": 40.0, "trial": "alone-000", "epoch": 4})
    assert (kd["best"], kd["so_far"]) == (55.0, None)


def test_following_ends_with_the_experiment(run: Any, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "REFRESH_S", 0.05)
    plan = plan_of()
    folder = write(home, plan, [teacher(plan, val_acc1=9.0), search(plan, "kd", 0, Status.RUNNING)])
    begun = threading.Event()

    def work() -> None:
        with folder.opened(plan.spec):
            begun.set()
            time.sleep(0.5)
            folder.journal.append(ended(search(plan, "kd", 0, val_acc1=50.0)))
            time.sleep(0.5)

    worker = threading.Thread(target=work)
    worker.start()
    begun.wait()
    code, out = run("status", "--follow")
    worker.join()
    assert code == 0
    lines = [line for line in out.splitlines() if "trials," in line]
    assert ["1/11" in line for line in lines] == [True] + [False] * (len(lines) - 1)
    assert "2/11 trials, 0 running" in lines[-1]
    assert f"{folder.id}: not running; 2 of 11 trials have ended" in out


@pytest.mark.parametrize("words", [["status"], ["logs", "--trial", "kd-000"]])
def test_a_driver_on_another_machine_is_followed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    uri, plan = f"file://{tmp_path / 'there'}", plan_of()
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / "one"))
    folder = write(Home(uri), plan, [teacher(plan, val_acc1=9.0), search(plan, "kd", 0, Status.RUNNING)])
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / "two"))
    looks = 0
    with ExitStack() as driver:
        driver.enter_context(folder.opened(plan.spec))

        def sleep(_: float) -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                folder.journal.append(ended(search(plan, "kd", 0, val_acc1=50.0)))
                driver.close()

        clock = SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=sleep)
        monkeypatch.setattr({"status": status, "logs": logs}[words[0]], "time", clock)
        with pytest.raises(SystemExit):
            main([*words, "--follow", "--home", uri])
    out = capsys.readouterr().out
    assert looks >= 3
    assert ("not running; 2 of 11 trials have ended" if words == ["status"] else "finished") in out


def test_a_stopped_experiment_says_so_and_how_to_go_on(run: Any, home: Home) -> None:
    plan = plan_of()
    folder = write(home, plan, [teacher(plan, val_acc1=9.0), search(plan, "kd", 0, val_acc1=50.0)])
    folder.journal.append({"event": "session", "started": 1.0})
    folder.journal.append({"event": "asked", "wish": "stop", "trials": [], "now": False})
    out = run("status")[1]
    assert "  stopped by `orchestrator stop`\n" in out
    assert "continue with: orchestrator run" in out
    assert json.loads(run("status", "--format", "json")[1])["stopped"] is True


# logs


def test_the_log_of_an_experiment_is_printed(run: Any, home: Home) -> None:
    plan = plan_of()
    folder = write(home, plan, [])
    assert run("logs")[0] == 2
    folder.log.write_text("one\ntwo\n")
    assert run("logs") == (0, "one\ntwo\n")


def test_a_log_is_followed_as_long_as_its_experiment_runs(
    run: Any, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LOOK_EVERY_S", 0.02)
    plan = plan_of()
    folder = write(home, plan, [])
    folder.log.write_text("first\n")
    begun = threading.Event()

    def work() -> None:
        with folder.opened(plan.spec), folder.log.open("a") as log:
            begun.set()
            time.sleep(0.2)
            print("second", file=log, flush=True)
            time.sleep(0.1)
            print("last", file=log, flush=True)

    worker = threading.Thread(target=work)
    worker.start()
    begun.wait()
    assert run("logs", "--follow") == (0, "first\nsecond\nlast\n")
    worker.join()


def test_a_trials_log_has_its_epochs_and_why_it_failed(run: Any, home: Home) -> None:
    plan = plan_of()
    record = failed(search(plan, "kd", 0), "the loss is NaN")
    record.epochs = 2
    folder = write(home, plan, [record])
    trial = folder.trial("kd-000")
    trial.path.mkdir(parents=True)
    for epoch in (1, 2):
        trial.add_metrics(epoch, {"val/acc1": 10.0 * epoch, "train/loss": 2.5, "train/loss_kd": 9.0})
    trial.error.write_text("Traceback: ...\n")
    code, out = run("logs", "--trial", "kd-000")
    assert code == 0
    assert out.startswith("kd-000: search trial of kd, seed 0, lr 0.")
    assert out.splitlines()[1:] == [
        "epoch 1  train/loss 2.5  val/acc1 10",
        "epoch 2  train/loss 2.5  val/acc1 20",
        "failed: kd-000: the loss is NaN",
        "",
        "Traceback: ...",
    ]
    # Tried again, it has ended well.
    folder.journal.append(ended(search(plan, "kd", 0, val_acc1=20.0)))
    assert run("logs", "--trial", "kd-000")[1].splitlines()[3:] == [
        "finished",
        "",
        "an earlier attempt failed:",
        "Traceback: ...",
    ]
    code, out = run("logs", "--trial", "kd-00")
    assert code == 2
    assert "did you mean 'kd-000'?" in out


def test_a_trials_log_has_the_values_that_it_goes_on_with(run: Any, home: Home) -> None:
    plan = plan_of(search__scheduler={"method": "pbt", "perturbation_interval": 2}, training__epochs=6)
    record, other = search(plan, "kd", 0, Status.PAUSED, val_acc1=20.0), search(plan, "kd", 1, Status.PAUSED)
    record.epochs, record.rungs = 4, [10.0, 20.0]
    folder = write(home, plan, [record, other])
    changes = [
        Change(2, {"training.optimizer.lr": 0.5}, "kd-001"),
        Change(4, {"training.optimizer.lr": 0.25}, "kd-000"),
    ]
    for change in changes:
        folder.journal.append(changed(record, change))
        record.changes += (change,)
    trial = folder.trial("kd-000")
    trial.path.mkdir(parents=True)
    for epoch in range(1, 5):
        trial.add_metrics(epoch, {"val/acc1": 10.0 * epoch})
    assert run("logs", "--trial", "kd-000")[1].splitlines()[1:] == [
        "epoch 1  val/acc1 10",
        "epoch 2  val/acc1 20",
        "after epoch 2: lr 0.5, with the weights of kd-001",
        "epoch 3  val/acc1 30",
        "epoch 4  val/acc1 40",
        "after epoch 4: lr 0.25",
        "paused",
    ]
    content = json.loads(run("logs", "--trial", "kd-000", "--format", "json")[1])
    assert [step["params"]["training.optimizer.lr"] for step in content["schedule"][1:]] == [0.5, 0.25]
    assert [epoch["val/acc1"] for epoch in content["history"]] == [10.0, 20.0, 30.0, 40.0]
    assert (content["id"], content["status"], content["traceback"]) == ("kd-000", "paused", None)


def test_a_log_as_data(run: Any, home: Home) -> None:
    folder = write(home, plan_of(), [])
    folder.log.write_text("one\ntwo\n")
    assert json.loads(run("logs", "--format", "json")[1]) == {
        "id": folder.id,
        "log": str(folder.log),
        "lines": ["one", "two"],
    }
    code, out = run("logs", "--format", "json", "--follow")
    assert code == 2
    assert "status NAME --follow --format json" in json.loads(out[: out.rindex("}") + 1])["error"]["hint"]


def test_a_trial_is_followed_to_its_end(run: Any, running: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOOK_EVERY_S", 0.02)
    plan = plan_of(search__num_samples=3)

    def work() -> None:
        time.sleep(0.3)
        running.trial("alone-000").add_metrics(5, {"val/acc1": 61.0})
        running.journal.append(ended(search(plan, "alone", 0, val_acc1=61.0)))

    worker = threading.Thread(target=work)
    worker.start()
    out = run("logs", "--trial", "alone-000", "--follow")[1]
    worker.join()
    assert [line.split()[:2] for line in out.splitlines()[1:-1]] == [["epoch", str(n)] for n in range(1, 6)]
    assert out.splitlines()[-1] == "finished"
