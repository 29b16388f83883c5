"""Sessions that are killed at any call to the store, and the next session, which makes good what is missing."""

import contextlib

import pytest
from tracking_stores import EXPERIMENT, MLflowStore, epochs, trial_info

from orchestrator import load_spec, names
from orchestrator.execution.driver import Driver
from orchestrator.execution.watcher import Watcher
from orchestrator.search.agenda import Agenda
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Phase, Record, Status, Trial, created, ended
from orchestrator.store.home import Home
from orchestrator.tracking.mlflow_store import KEY_TAG, STATUS_TAG

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Life:
    """Ends the thread that makes one call more than are left, in a way that nothing which catches errors stops."""

    def __init__(self, wrap_calls):
        self.left = None
        wrap_calls(before=self._before)

    def _before(self, *args, **kwargs):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise SystemExit


@pytest.fixture
def sessions(mlflow_store, wrap_calls):
    """Runs `before(store)`, `session(store)` and `check(store)`, each time in another MLflow experiment.

    The session is killed after 0, `step`, 2 `step`... calls until it survives; returns that many.
    """

    def run(session, check, before=lambda store: None, step=1):
        life = Life(wrap_calls)
        for calls in range(0, 100, step):
            store = MLflowStore(mlflow_store.uri, mlflow_store.folder, f"killed after {calls} calls")
            before(store)
            life.left = calls
            with contextlib.suppress(SystemExit):
                session(store)
            survived, life.left = life.left >= 0, None
            check(store)
            if survived:
                return calls
        raise AssertionError("the session never survived")

    return run


def opened(store):
    tracker = store.tracker()
    tracker.open(EXPERIMENT)
    return tracker


def check_experiment(store):
    """Of the one parent run, after another session has closed it."""
    seen = store.experiment()
    assert (seen.params, seen.status) == ({"seed": "0", "search.sampler": "optuna"}, "finished")
    assert seen.artifacts == EXPERIMENT.artifacts
    assert store.run(EXPERIMENT.key).info.status == "FINISHED"


def test_killed_while_it_opens(sessions):
    def check(store):
        assert opened(store).close(Status.FINISHED) == []
        check_experiment(store)

    assert sessions(opened, check) == 8


def test_killed_in_a_trials_first_session(sessions):
    """Whatever the store missed of a trial that has ended, the next session can see that and write it."""

    def session(store):
        tracker = opened(store)
        tracker.start(trial_info("a"), epochs(1, 3))
        tracker.end("a", Status.STOPPED, "weak")
        tracker.close(Status.FINISHED)

    def check(store):
        second = opened(store)
        if second.status("a") is not Status.STOPPED:
            second.start(trial_info("a"), epochs(1, 3))
            second.end("a", Status.STOPPED, "weak")
        assert second.close(Status.FINISHED) == []
        seen = store.trial("a")
        assert (seen.epochs, seen.status, seen.reason) == (epochs(1, 3), "stopped", "weak")
        assert seen.params == {"training.optimizer.lr": "0.1"}
        assert seen.artifacts == {"spec.yaml": "trial: a\n"}
        assert store.run("a").info.status == "FINISHED"
        check_experiment(store)

    assert sessions(session, check) > 12


def test_killed_while_a_trial_goes_on(sessions):
    def before(store):
        tracker = opened(store)
        tracker.start(trial_info("a"), epochs(1, 2))
        tracker.end("a", Status.INTERRUPTED, "Ctrl-C")
        tracker.close(Status.INTERRUPTED)

    def session(store):
        tracker = opened(store)
        tracker.start(trial_info("a"), epochs(1, 4))
        tracker.end("a", Status.FINISHED)
        tracker.close(Status.FINISHED)

    def check(store):
        third = opened(store)
        if third.status("a") is not Status.FINISHED:
            third.start(trial_info("a"), epochs(1, 4))
            third.end("a", Status.FINISHED)
        assert third.close(Status.FINISHED) == []
        seen = store.trial("a")
        assert (seen.epochs, seen.status, seen.reason) == (epochs(1, 4), "finished", None)
        assert store.run("a").info.status == "FINISHED"
        check_experiment(store)

    assert sessions(session, check, before) > 12


def test_a_trial_that_a_killed_session_left_and_no_later_one_takes_up_is_closed(mlflow_store, tracker):
    for key in ("left", "taken up", "done"):
        tracker.start(trial_info(key), epochs(1, 2))
    tracker.end("done", Status.FAILED, "diverged")
    tracker.close(Status.INTERRUPTED)
    second = opened(mlflow_store)
    assert second.status("left") is Status.RUNNING
    second.start(trial_info("taken up"), epochs(1, 2))
    second.end("taken up", Status.FINISHED)
    assert second.close(Status.FINISHED) == []

    def shown(key):
        run = mlflow_store.run(key)
        return run.info.status, run.data.tags[STATUS_TAG], bool(run.info.end_time)

    assert shown("left") == ("KILLED", "interrupted", True)
    assert shown("taken up") == ("FINISHED", "finished", True)
    assert shown("done") == ("FAILED", "failed", True)


SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet8"},
    "student": {"model": "resnet8"},
    "training": {"epochs": 4},
    "search": {"num_samples": 4, "space": {"training.optimizer.lr": {"type": "uniform", "low": 0.01, "high": 0.1}}},
}


class Knowing:
    """A sampler that draws nothing."""

    def suggest(self, trial_id):
        raise AssertionError("asked for a trial")

    def tell(self, trial_id, params, value):
        pass


@pytest.fixture
def experiment(tmp_path):
    """An experiment's plan and folder, whose journal has four students and their teacher."""
    spec = load_spec(SPEC)
    plan = make_plan(spec)
    home = Home(tmp_path / "home")
    home.create()
    folder = home.experiment(spec)
    folder.path.mkdir()
    (key,) = plan.teachers
    outcomes = [(Status.FINISHED, 4, None), (Status.STOPPED, 2, "weak"), (Status.FAILED, 0, "diverged")]
    outcomes.append((Status.INTERRUPTED, 1, None))
    students = [plan.search_trial(plan.arms[0], i, {"training.optimizer.lr": 0.02 + i / 100}) for i in range(4)]
    trials = [plan.teacher_trial(key), *students]
    for trial, (status, count, reason) in zip(trials, [(Status.FINISHED, 2, None), *outcomes], strict=True):
        folder.journal.append(created(trial))
        trial_folder = folder.trial(trial.id)
        trial_folder.path.mkdir(parents=True)
        for entry in epochs(1, count):
            values = {name: value for name, value in entry.items() if name != "epoch"}
            trial_folder.add_metrics(int(entry["epoch"]), values)
        folder.journal.append(ended(Record(trial, status, epochs=count, reason=reason)))
    return plan, home, folder


def drive(tracker, experiment):
    """A session's driver, as far as it deals with earlier sessions."""
    plan, home, folder = experiment
    agenda = Agenda(plan, lambda arm, drawn: Knowing(), folder.records(), plan.teachers, lambda: False)
    driver = Driver(agenda, home, folder, tracker, Watcher(), "{}")
    driver.reconcile()
    return driver


def test_what_the_journal_knows_and_the_store_missed_is_written(sessions, experiment):
    _, _, folder = experiment
    records = folder.records()
    stopped, failed, interrupted = (
        next(record.trial.id for record in records.values() if record.status is status)
        for status in (Status.STOPPED, Status.FAILED, Status.INTERRUPTED)
    )

    def session(store):
        # The trials that a session told the store of, when it was killed.
        tracker = opened(store)
        for key in (stopped, failed, interrupted):
            tracker.start(trial_info(key), epochs(1, 1))
        tracker.end(stopped, Status.STOPPED, "weak")
        tracker.end(interrupted, Status.INTERRUPTED)
        tracker.close(Status.INTERRUPTED)

    def check(store):
        tracker = opened(store)
        drive(tracker, experiment)
        assert tracker.close(Status.FINISHED) == []
        for record in records.values():
            if record.status.ended:
                seen = store.trial(record.trial.id)
                assert (seen.status, seen.reason) == (record.status, record.reason)
        runs = [run.data.tags.get(KEY_TAG) for run in store.runs() if names.PARENT_RUN_TAG in run.data.tags]
        assert len(runs) == len(set(runs)) >= 4
        # What ran to its end was never told of before.
        for status, count in ((Phase.TEACHER, 2), (Phase.SEARCH, 4)):
            (key,) = (r.trial.id for r in records.values() if r.trial.phase is status and r.status is Status.FINISHED)
            assert store.trial(key).epochs == epochs(1, count)
        if interrupted in runs:
            assert store.trial(interrupted).status == "interrupted"
            assert store.run(interrupted).info.status == "KILLED"
        check_experiment(store)

    assert sessions(session, check, step=4) > 20


def test_what_the_store_knows_is_not_written_again(mlflow_store, experiment, wrap_calls):
    first = opened(mlflow_store)
    drive(first, experiment)
    assert first.close(Status.INTERRUPTED) == []
    called = []
    wrap_calls(before=lambda name, *args, **kwargs: called.append(name))
    second = opened(mlflow_store)
    called.clear()
    drive(second, experiment)
    assert second.close(Status.FINISHED) == []
    assert called == ["set_terminated", "set_tag"]


def test_the_teachers_run_has_the_teachers_values_and_a_students_both(mlflow_store, experiment):
    tracker = opened(mlflow_store)
    drive(tracker, experiment)
    assert tracker.close(Status.FINISHED) == []
    records = [record.trial for record in experiment[2].records().values()]
    teacher: Trial = next(trial for trial in records if trial.phase is Phase.TEACHER)
    seen = mlflow_store.trial(teacher.id)
    assert {name.partition(".")[0] for name in seen.params} == {"seed", "data", "teacher"}
    assert "student" not in seen.artifacts["spec.yaml"]
    student = mlflow_store.trial(next(trial.id for trial in records if trial.params))
    assert student.params["training.optimizer.lr"] == "0.02"
    assert student.params["teacher.training.epochs"] == "4"
