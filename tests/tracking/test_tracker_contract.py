"""What every tracker does."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tracking_stores import ENDED, EXPERIMENT, epoch, epochs, trial_info

from orchestrator.search.trials import Status


@pytest.fixture
def store(make_store):
    return make_store()


@pytest.fixture
def tracker(store):
    tracker = store.tracker()
    tracker.open(EXPERIMENT)
    return tracker


def test_a_trial_is_kept_as_it_was_told(store, tracker):
    tracker.start(trial_info("kd-000", **{"distillation.temperature.base": 4.0, "student.model": "resnet8"}))
    for entry in epochs(1, 3):
        tracker.log("kd-000", entry)
    tracker.end("kd-000", Status.FINISHED)
    assert tracker.close(Status.FINISHED) == []
    seen = store.trial("kd-000")
    assert seen.name == "kd-000"
    assert seen.params == {
        "training.optimizer.lr": "0.1",
        "distillation.temperature.base": "4.0",
        "student.model": "resnet8",
    }
    assert seen.tags.items() >= {"orchestrator.phase": "search"}.items()
    assert seen.artifacts == {"spec.yaml": "trial: kd-000\n"}
    assert seen.epochs == epochs(1, 3)
    assert (seen.status, seen.reason) == ("finished", None)


def test_the_experiment_is_kept_as_it_was_told(store, tracker):
    unwritten = tracker.close(
        Status.FINISHED,
        {"kd/test_acc1_mean": 97.5},
        note="**exp**: a table",
        artifacts={"results.json": "{}"},
    )
    assert unwritten == []
    seen = store.experiment()
    assert seen.name == "exp-1234"
    assert seen.params == {"seed": "0", "search.sampler": "optuna"}
    assert seen.tags.items() >= {"orchestrator.hash": "1234"}.items()
    assert seen.artifacts == {"spec.yaml": "name: exp\n", "results.json": "{}"}
    assert seen.status == "finished"
    assert store.summary() == {"kd/test_acc1_mean": 97.5}
    assert store.note() == "**exp**: a table"


@pytest.mark.parametrize("status", ENDED)
def test_outcomes_and_their_reasons_are_kept(store, tracker, status):
    tracker.start(trial_info("a"))
    tracker.end("a", status, "because of this")
    tracker.start(trial_info("b"))
    tracker.end("b", status)
    tracker.close(status)
    assert (store.trial("a").status, store.trial("a").reason) == (status, "because of this")
    assert (store.trial("b").status, store.trial("b").reason) == (status, None)
    assert store.experiment().status == status


def test_trials_that_run_at_once_do_not_mix(store, tracker):
    keys = ["a", "b", "c"]
    for key in keys:
        tracker.start(trial_info(key))
    for number in range(1, 6):
        for index, key in enumerate(keys):
            tracker.log(key, epoch(number, **{"optimizer/lr": index + number / 10}))
    for key in keys:
        tracker.end(key, Status.FINISHED)
    tracker.close(Status.FINISHED)
    assert store.trials() == keys
    for index, key in enumerate(keys):
        assert store.trial(key).epochs == [
            epoch(number, **{"optimizer/lr": index + number / 10}) for number in range(1, 6)
        ]


def test_an_epoch_that_comes_again_is_not_kept_twice(store, tracker):
    tracker.start(trial_info("a"))
    for number in (1, 2, 3, 2, 3, 4):
        tracker.log("a", epoch(number))
    tracker.end("a", Status.FINISHED)
    tracker.close(Status.FINISHED)
    assert store.trial("a").epochs == epochs(1, 4)


def test_close_takes_trials_that_were_not_ended(store, tracker):
    tracker.start(trial_info("a"))
    tracker.log("a", epoch(1))
    assert tracker.close(Status.FAILED) == []
    assert store.trial("a").epochs == epochs(1, 1)


def test_a_later_session_goes_on_with_the_same_run(store, tracker):
    tracker.start(trial_info("a"))
    for entry in epochs(1, 4):
        tracker.log("a", entry)
    tracker.end("a", Status.INTERRUPTED, "Ctrl-C")
    tracker.close(Status.INTERRUPTED)

    second = store.tracker()
    second.open(EXPERIMENT)
    # The checkpoint was of epoch 6: two epochs were trained that the store was never told.
    second.start(trial_info("a"), history=epochs(1, 6))
    for entry in epochs(7, 8):
        second.log("a", entry)
    second.end("a", Status.FINISHED)
    assert second.close(Status.FINISHED) == []
    seen = store.trial("a")
    assert store.trials() == ["a"]
    assert seen.epochs == epochs(1, 8)
    assert (seen.status, seen.reason) == ("finished", None)
    assert seen.params == {"training.optimizer.lr": "0.1"}
    assert store.experiment().status == "finished"


def test_a_later_session_is_told_what_the_store_knows(store, tracker):
    for key, status in zip("abcd", ENDED, strict=True):
        tracker.start(trial_info(key))
        assert tracker.status(key) is None
        tracker.end(key, status)
    tracker.start(trial_info("e"))
    tracker.close(Status.INTERRUPTED)
    assert tracker.status("a") is None

    second = store.tracker()
    second.open(EXPERIMENT)
    assert [second.status(key) for key in "abcdef"] == [*ENDED, Status.RUNNING, None]
    second.close(Status.FINISHED)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(
    sessions=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=4).map(list)
)
def test_any_history_of_interruptions_keeps_each_epoch_once(make_store, sessions):
    """Each session goes some epochs back, to its checkpoint, then some ahead, and is ended or just closed."""
    store, trained = make_store(), 0
    for back, ahead, is_ended in sessions:
        tracker = store.tracker()
        tracker.open(EXPERIMENT)
        checkpoint = max(0, trained - back)
        tracker.start(trial_info("a"), history=epochs(1, checkpoint))
        for entry in epochs(checkpoint + 1, checkpoint + ahead):
            tracker.log("a", entry)
        trained = max(trained, checkpoint + ahead)
        if is_ended:
            tracker.end("a", Status.INTERRUPTED)
        assert tracker.close(Status.INTERRUPTED) == []
    assert store.trial("a").epochs == epochs(1, trained)
