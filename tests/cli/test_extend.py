"""extend: more of an experiment that is there, and the same experiment from then on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiments_on_disk import SPEC, plan_of, whole, write

from orchestrator.experiment import Experiment
from orchestrator.search.plan import Plan
from orchestrator.search.standing import State
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home


def finish(home: Home, **changes: Any) -> tuple[Plan, ExperimentFolder]:
    plan = plan_of(**changes)
    return plan, write(home, plan, whole(plan))


def test_an_experiment_grows_in_its_folder_and_goes_on(run: Any, home: Home) -> None:
    plan, folder = finish(home)
    assert Experiment.load("tiny", home.path).state is State.COMPLETE
    code, out = run("extend", "tiny", "--num-samples", "+3", "--final-seeds", "5")
    assert code == 0
    assert f"{folder.id}: search.num_samples 2 -> 5, search.final_seeds 3 -> 5" in out
    assert "11 of now 21 trials have ended, 10 are left" in out
    assert f"continue with: orchestrator run {folder.path}/spec.yaml" in out
    after = Experiment.load("tiny", home.path)
    assert (after.id, after.state) == (plan.spec.id, State.INTERRUPTED)
    assert (after.spec.search.num_samples, after.spec.search.final_seeds) == (5, 5)
    assert json.loads(run("results", "--format", "json")[1])["id"] == plan.spec.id
    assert run("extend", "tiny", "--num-samples", "9")[0] == 0
    assert Experiment.load("tiny", home.path).spec.search.num_samples == 9


def test_programs_are_told_what_was_changed(run: Any, home: Home) -> None:
    _, folder = finish(home)
    content = json.loads(run("extend", "tiny", "--num-samples", "+3", "--format", "json")[1])
    assert content["changes"] == [{"path": "search.num_samples", "old": 2, "new": 5}]
    assert {name: content[name] for name in ("id", "state", "ended", "planned", "left")} == {
        "id": folder.id,
        "state": "not running",
        "ended": 11,
        "planned": 17,
        "left": 6,
    }


def test_one_that_comes_in_between_is_not_overwritten(run: Any, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = finish(home)
    opened = ExperimentFolder.opened

    def opened_late(self: ExperimentFolder, *given: Any, **named: Any) -> Any:
        monkeypatch.undo()
        assert run("extend", "tiny", "--num-samples", "5")[0] == 0
        return opened(self, *given, **named)

    monkeypatch.setattr(ExperimentFolder, "opened", opened_late)
    code, out = run("extend", "tiny", "--num-samples", "7")
    assert code == 2
    assert "was changed by another process just now: search.num_samples 2 -> 5" in out
    assert folder.spec().search.num_samples == 5


def test_where_it_was_submitted_it_is_submitted_again(run: Any, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(home)
    monkeypatch.setenv("ORCHESTRATOR_AGAIN", "orchestrator submit SPEC --address http://head:8265")
    out = run("extend", "tiny", "--num-samples", "+3")[1]
    assert "continue with: orchestrator submit SPEC --address http://head:8265\n" in out


def test_on_a_cluster_it_runs_there_with_its_file(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr("orchestrator.cli.extend.ask_there", lambda *given: sent.append(given) or 0)
    file = tmp_path / "more.yaml"
    file.write_text("late: {set: {seed: 1}}\n")
    at = ("--address", "http://head:8265")
    assert run("extend", "tiny", "--num-samples", "+3", "--variants", file, *at)[0] == 0
    (address, command, name, words, _, text) = sent[0]
    assert (address, command, name) == ("http://head:8265", "extend", ["tiny"])
    assert words == ["--num-samples", "+3", "--variants", "spec.yaml"]
    assert yaml.safe_load(text) == {"late": {"set": {"seed": 1}}}
    code, out = run("extend", "tiny", *at)
    assert code == 2
    assert "nothing was given to extend it by" in out


def test_the_first_spec_and_the_extended_one_are_that_experiment(run: Any, home: Home, tmp_path: Path) -> None:
    plan, folder = finish(home)
    first, copy = tmp_path / "first.yaml", tmp_path / "copy.yaml"
    first.write_text(yaml.safe_dump(SPEC))
    run("extend", "tiny", "--num-samples", "+3")
    copy.write_text((folder.path / "spec.yaml").read_text())
    out = run("plan", first)[1]
    assert f"tiny ({plan.spec.id})" in out
    assert f"{plan.spec.id} goes on as it was extended: search.num_samples 2 -> 5" in out
    assert "10 search trials" in out
    for path in (first, copy):
        planned = json.loads(run("plan", path, "--format", "json")[1])
        assert (planned["id"], planned["search_trials"]) == (plan.spec.id, 10)


def test_a_spec_that_was_edited_is_told_to_extend_before_anything_runs(run: Any, home: Home, tmp_path: Path) -> None:
    plan, _ = finish(home)
    edited = tmp_path / "edited.yaml"
    edited.write_text(yaml.safe_dump(SPEC))
    out = run("plan", edited, "--set", "search.num_samples=4")[1]
    assert f"{plan.spec.id} is extended: search.num_samples 2 -> 4" in out
    code, out = run("run", edited, "--resume", "--set", "training.epochs=7")
    assert code == 2
    assert f"it differs from {plan.spec.id} in training.epochs 7 instead of 5" in out
    out = run("plan", edited, "--set", "training.epochs=7")[1]
    assert f"this is a new experiment: it differs from {plan.spec.id} in training.epochs 7 instead of 5" in out


def test_variants_are_added_from_a_file(run: Any, home: Home, tmp_path: Path) -> None:
    finish(home)
    file = tmp_path / "more.yaml"
    file.write_text("la+dtd:\n  set: {distillation.adjustment.rule: probability_shift}\nsecond: {}\n")
    code, out = run("extend", "tiny", "--variants", file)
    assert code == 0
    assert "search.variants.la+dtd is new, search.variants.second is new" in out
    after = Experiment.load("tiny", home.path)
    assert list(after.spec.search.variants) == ["alone", "kd", "la+dtd", "second"]
    assert after.plan.total_trials - after.ended == 2 * (2 + 3)


@pytest.mark.parametrize(("given", "seconds"), [("+1h", 5400), ("+90m", 7200), ("30d", 2592000), ("3600", 3600)])
def test_time_is_added_to_what_there_was(run: Any, home: Home, tmp_path: Path, given: str, seconds: float) -> None:
    finish(home, budget__time_s=1800)
    code, out = run("extend", "tiny", "--time", given)
    assert code == 0
    assert f"budget.time_s 1800 -> {seconds:.0f}" in out
    assert Experiment.load("tiny", home.path).spec.budget.time_s == seconds
    # Also where it goes on from the file that it began with.
    first = tmp_path / "first.yaml"
    first.write_text(yaml.safe_dump({**SPEC, "budget": {"time_s": 1800}}))
    assert f"budget.time_s 1800 -> {seconds:.0f}" in run("plan", first)[1]


def test_more_samples_than_the_time_allows_are_told(run: Any, home: Home) -> None:
    _, folder = finish(home, budget__time_s=1)
    folder.journal.append({"event": "session", "started": time.time() - 60})
    folder.journal.append({"event": "logits", "decided": {}})
    code, out = run("extend", "tiny", "--num-samples", "+3")
    assert code == 0
    assert "none of them can run: the budget is spent" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nothing was given to extend it by"),
        (("--num-samples", "2"), "is to be more than what it has, 2"),
        (("--num-samples", "many"), "must be a number such as 44, or +20"),
        (("--num-samples", "+1h"), "must be a number such as 44, or +20"),
        (("--final-seeds", "+0"), "is to be more than what it has, 3"),
        (("--final-seeds", "2.5"), "must be a number"),
        (("--time", "+1h"), "has no budget.time_s"),
        (("--time", "soon"), "must be a time such as 3h, or +90m"),
    ],
)
def test_what_is_no_extension_is_refused(run: Any, home: Home, words: tuple[str, ...], told: str) -> None:
    _, folder = finish(home)
    before = folder.journal.path.read_text()
    code, out = run("extend", "tiny", *words)
    assert code == 2
    assert told in out
    assert folder.journal.path.read_text() == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kd: {}\n", "there is a variant 'kd' already"),
        ("late: 3\n", "'late' must be a mapping with set, space or points"),
        ("late: {sett: {}}\n", "search.variants.late.sett"),
        ("late: {set: {student.model: resnet9}}\n", "search.variants.late.set.student.model"),
        ("- late\n", "must be a mapping"),
    ],
)
def test_wrong_variants_are_refused(run: Any, home: Home, tmp_path: Path, text: str, told: str) -> None:
    finish(home)
    file = tmp_path / "more.yaml"
    file.write_text(text)
    code, out = run("extend", "tiny", "--variants", file)
    assert code == 2
    assert told in out


def test_brackets_that_would_change_are_refused(run: Any, home: Home) -> None:
    finish(home, training__epochs=9, search__scheduler={"method": "hyperband"}, search__num_samples=4)
    code, out = run("extend", "tiny", "--num-samples", "+5")
    assert code == 2
    assert "scheduler hyperband compares the trials of a bracket with each other" in out


def test_what_runs_or_was_started_over_is_not_extended(run: Any, home: Home) -> None:
    plan, folder = finish(home)
    with folder.opened(plan.spec):
        code, out = run("extend", "tiny", "--num-samples", "+1")
    assert code == 2
    assert f"orchestrator pause {folder.id}" in out
    folder.set_aside()
    code, out = run("extend", "tiny", "--num-samples", "+1")
    assert code == 2
    assert "was started over" in out
