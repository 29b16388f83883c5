"""The sentences below a comparison: each is there where it is true, and nowhere else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from orchestrator import load_spec
from orchestrator.analysis.notes import MAX_NOTE, failures, notes, run_note, teacher_found, verdicts
from orchestrator.analysis.results import Results
from orchestrator.search.plan import make_plan
from orchestrator.search.standing import State
from orchestrator.search.trials import Phase, Record, Status, Trial

KEY = "0123456789abcdef"
SPEC: dict[str, Any] = {
    "name": "exp",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "search": {
        "variants": {"alone": {"set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}}}, "kd": {}, "dtd": {}},
        "final_seeds": 3,
    },
}
NEAR = {"alone": [80.0, 83.0, 82.0], "kd": [81.0, 82.0, 83.0], "dtd": [80.5, 82.5, 82.0]}
FAR = {"alone": [50.0, 50.2, 50.2], "kd": [90.0, 90.1, 90.2], "dtd": [89.9, 90.3, 90.2]}


def record(
    id: str,
    variant: str,
    phase: Phase = Phase.SEARCH,
    status: Status = Status.FINISHED,
    seed: int = 0,
    **metrics: float,
) -> Any:
    named = {name.replace("_", "/", 1): value for name, value in metrics.items()}
    return Record(Trial(id, phase, variant, seed, seed), status, named, epochs=4)


def finals(tests: dict[str, list[float]], val: float = 80.0) -> list[Record]:
    return [
        record(f"{name}-final-{n}", name, Phase.FINAL, seed=n, test_acc1=value, val_acc1=val)
        for name, values in tests.items()
        for n, value in enumerate(values)
    ]


def results(*records: Record, **changes: Any) -> Results:
    overrides = {path.replace("__", "."): value for path, value in changes.items()}
    return Results(load_spec(SPEC, overrides), {record.trial.id: record for record in records})


def said(found: Results, state: State = State.COMPLETE, teachers: dict[str, float | None] | None = None) -> str:
    return "\n".join([*verdicts(found, teachers or {}), *notes(found, teachers or {}, state)])


# Differences


def test_what_is_not_shown_is_said_and_what_could_have_been() -> None:
    text = said(results(*finals(NEAR)))
    assert "No difference shown: no variant differs from kd by more than chance after Holm's correction for 2" in text
    assert "80 % of such experiments would show a true difference of" in text
    assert "better" not in text


def test_a_difference_that_is_shown_is_named_with_its_interval() -> None:
    lines = said(results(*finals(FAR))).splitlines()
    assert re.fullmatch(r"alone is worse than kd by 39.97 points \(39.8\d to 40.1\d; p <0.001\)\.", lines[0])
    assert lines[1] == "No difference from kd is shown for dtd."
    assert "would show a true difference of" in lines[2]
    assert "No difference shown" not in "\n".join(lines)


def test_another_reference_may_be_asked_for() -> None:
    records = finals(FAR)
    found = Results(load_spec(SPEC), {record.trial.id: record for record in records}, "alone")
    text = said(found)
    assert "kd is better than alone by 39.97 points" in text
    assert "dtd is better than alone by 40.00 points" in text
    # Nothing is left to be found.
    assert "would show" not in text


def test_only_the_variants_that_have_the_seeds_are_tested() -> None:
    text = said(results(*finals({**NEAR, "dtd": [99.0]})))
    assert "No difference shown: alone does not differ from kd by more than chance (smallest p " in text
    assert "Not tested: dtd (1 seed in common with kd); a test takes 3." in text
    assert "Holm" not in text


def test_a_failed_final_run_leaves_its_seed_out() -> None:
    records = finals({name: [*values, 90.0] for name, values in NEAR.items()})
    for failed in records[3::8]:  # the last of alone, and of dtd
        failed.status = Status.FAILED
    assert [c.difference and c.difference.count for c in results(*records).comparisons] == [3, 3]


def test_without_a_result_of_the_reference_nothing_is_compared() -> None:
    text = said(results(*finals({"alone": NEAR["alone"], "dtd": NEAR["dtd"]})))
    assert "Nothing is compared with kd, which has no final run with a result; --reference takes another" in text
    assert "difference" not in text


def test_equal_differences_are_no_proof() -> None:
    text = said(results(*finals({"kd": [80.0, 81.0, 83.0], "dtd": [80.5, 81.5, 83.5]})))
    assert "dtd and kd differ by the same 0.50 points with every seed: without any spread there is no test." in text
    assert "better" not in text


@pytest.mark.parametrize("tests", [{}, {"kd": NEAR["kd"]}, {"kd": [1.0, 2.0], "dtd": [3.0, 4.0]}])
def test_without_three_seeds_of_two_nothing_is_said_of_differences(tests: dict[str, list[float]]) -> None:
    text = said(results(*finals(tests)))
    assert "difference" not in text
    assert ("Not tested: dtd (2 seeds in common with kd); a test takes 3." in text) == ("dtd" in tests)


def test_variants_with_more_trials_than_others_are_named() -> None:
    trials = [record(f"kd-{n}", "kd", val_acc1=80.0) for n in range(3)]
    even = [record(f"{name}-{n}", name, val_acc1=80.0) for name in ("alone", "dtd") for n in range(2)]
    assert "search trials" not in said(results(*trials, *even))
    more = [record("kd-3", "kd", status=Status.FAILED), record("dtd-2", "dtd", status=Status.RUNNING)]
    told = "Variants differ in search trials that ended: 4 of kd; 2 of alone, dtd."
    found = results(*trials, *even, *more)
    assert told in said(found)
    assert told in run_note(found, {}, State.COMPLETE, {"python": "3.11"})


def test_a_precision_that_machines_chose_otherwise_is_told_where_nothing_else_explains_it() -> None:
    trials = [record(f"{name}-{n}", name, val_acc1=80.0) for name in ("alone", "kd", "dtd") for n in range(2)]
    for trial in trials:
        trial.described = {"precision": "bf16" if trial.trial.variant == "dtd" else "float32"}
    told = "auto means float32 (alone-0, alone-1, kd-0, ...) and bf16 (dtd-0, dtd-1)"
    assert told in said(results(*trials))
    assert "auto means" not in said(results(*trials, training__precision="float32"))
    other = {"search.variants": {**SPEC["search"]["variants"], "dtd": {"set": {"student.model": "resnet20"}}}}
    assert "auto means" not in said(Results(load_spec(SPEC, other), {t.trial.id: t for t in trials}))


# Seeds


def test_no_final_runs() -> None:
    text = said(results(record("a", "kd", val_acc1=90.0), search__final_seeds=0))
    assert "No final runs: search.final_seeds is 0." in text
    assert "fresh seed" not in text


def test_one_seed_has_no_spread() -> None:
    text = said(results(*finals({"kd": [90.0]}), search__final_seeds=1))
    assert "one fresh seed" in text
    assert "no spread is known" in text
    assert "standard deviation" not in text


def test_two_seeds_have_no_interval() -> None:
    assert "An interval takes 3 seeds." in said(results(*finals({"kd": [90.0, 91.0]}), search__final_seeds=2))


def test_five_seeds() -> None:
    text = said(results(*finals({name: [90.0] * 5 for name in NEAR}), search__final_seeds=5))
    assert "mean ± standard deviation over 5 fresh seeds of the configuration that was best by val/acc1" in text
    assert "so far" not in text


@pytest.mark.parametrize(
    ("state", "words"),
    [(State.RUNNING, "the experiment is still running."), (State.INTERRUPTED, "the experiment was interrupted.")],
)
def test_in_the_middle_the_seeds_so_far_are_told(state: State, words: str) -> None:
    same = {name: [90.0, 91.0, 92.0] for name in NEAR}
    assert f"3 of 5 seeds so far; {words}" in said(results(*finals(same), search__final_seeds=5), state)
    assert f"0 to 3 of 5 seeds so far; {words}" in said(
        results(*finals({"kd": [1.0] * 3}), search__final_seeds=5), state
    )
    assert words.capitalize() in said(results(search__final_seeds=0), state)
    assert "no final run has a result" in said(results(), state).lower()


# Teachers


def teacher(accuracy: float, key: str = KEY) -> Record:
    return record(f"teacher-{key[:8]}", key, Phase.TEACHER, val_acc1=accuracy)


def test_a_trained_teacher_and_one_that_was_found() -> None:
    assert "Teacher: 94.10 % on validation images." in said(results(teacher(94.1)))
    assert "Teacher found again: 71.20 % on validation images." in said(results(), teachers={KEY: 71.2})
    assert "Teacher found again." in said(results(), teachers={KEY: None})
    assert teacher_found(KEY, 71.2) == "Teacher found again: 71.20 % on validation images"


def test_several_teachers_are_told_apart() -> None:
    text = said(results(teacher(94.1)), teachers={"fedcba9876543210": 71.2})
    assert "Teacher 01234567: 94.10 %" in text
    assert "Teacher fedcba98 found again: 71.20 %" in text


def test_a_teacher_that_knows_no_more_than_the_student_alone() -> None:
    alone = finals({"alone": NEAR["alone"]}, val=85.0)
    better = finals({"kd": NEAR["kd"]}, val=97.0)
    warning = "no better on validation images (85.00 %) than the students of alone (85.00 %)"
    assert warning in said(results(*alone, *better, teacher(85.0)))
    assert warning in said(results(*alone, *better), teachers={KEY: 85.0})
    assert "distillation has little to give" in said(results(*alone, *better, teacher(85.0)))
    # Distilled students that pass their teacher are no reason to doubt it.
    assert "little to give" not in said(results(*alone, *better, teacher(85.1)))
    assert "little to give" not in said(results(*alone, *better), teachers={KEY: None})


def test_where_no_student_learns_alone_the_best_is_what_the_teacher_has_to_pass() -> None:
    both = [*finals({"kd": NEAR["kd"]}, val=90.0), *finals({"dtd": NEAR["dtd"]}, val=92.0)]
    assert "(91.00 %) than the students of dtd (92.00 %)" in said(results(*both, teacher(91.0)))
    assert "little to give" not in said(results(*both, teacher(93.0)))


CHAIN = {"method": "teacher_assistants", "assistants": [{"model": "resnet8", "width": 2.0}]}
PEERS = {"method": "mutual", "peers": [{"model": "resnet8"}]}
SCHEMES = {"kd": {}, "takd": {"set": {"scheme": CHAIN}}, "mutual": {"set": {"scheme": PEERS}}}


def stage_0(val: float, assistant: float) -> list[Record]:
    runs = make_plan(load_spec(SPEC, {"search.variants": SCHEMES})).teachers
    return [
        record(f"stage-0-{key[:8]}", key, Phase.TEACHER, val_acc1=assistant if run.trains_student else val)
        for key, run in runs.items()
    ]


def test_neither_assistants_nor_peers_say_that_a_teacher_is_weak() -> None:
    students = [*finals({"kd": NEAR["kd"], "takd": NEAR["dtd"]}, val=90.0), *finals({"mutual": FAR["kd"]}, val=99.0)]
    text = said(results(*students, *stage_0(95.0, assistant=80.0), search__variants=SCHEMES))
    assert "little to give" not in text
    assert text.count("95.00 % on validation images") == text.count("80.00 % on validation images") == 1
    assert "Assistant " in text
    text = said(results(*students, *stage_0(85.0, assistant=80.0), search__variants=SCHEMES))
    assert text.count("little to give") == 1


def test_mistakes_are_told_for_each_scheme() -> None:
    wrong = [record(name, name, adjustment_wrong=float(n)) for n, name in enumerate(SCHEMES, start=1)]
    text = said(results(*wrong, data__train_samples=60, search__variants=SCHEMES))
    assert "  takd: 2 of 60 training images (3.3 %)" in text
    assert "  mutual: 3 of 60" in text


def test_without_final_runs_the_best_of_the_search_stands_for_the_students() -> None:
    found = results(record("a", "alone", val_acc1=95.0), teacher(94.0), search__final_seeds=0)
    assert "(94.00 %) than the students of alone (95.00 %)" in said(found)
    assert "little to give" not in said(results(teacher(1.0)))


# What the teacher gets wrong


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (60, "wrong on 15 of 60 training images (25.0 %) in an epoch"),
        (None, "wrong on 15 training images in an epoch"),
    ],
)
def test_mistakes_have_a_denominator_where_it_is_known(images: int | None, words: str) -> None:
    assert words in said(results(record("a", "kd", adjustment_wrong=15.0), data__train_samples=images))


def test_a_variants_own_number_of_images_counts() -> None:
    variants = {"kd": {}, "few": {"set": {"data.train_samples": 30}}}
    found = results(record("a", "few", adjustment_wrong=15.0), data__train_samples=60, search__variants=variants)
    assert "15 of 30 training images (50.0 %)" in said(found)


def test_a_teacher_that_makes_no_mistake() -> None:
    assert "right on every training image" in said(results(record("a", "kd", adjustment_wrong=0.0)))
    assert "training image" not in said(results(record("a", "kd")))


# Failures


def broken(id: str, reason: str) -> Record:
    made = record(id, "kd", status=Status.FAILED)
    made.reason = reason
    return made


def test_a_reason_names_its_trial_once() -> None:
    assert failures([broken("kd-000", "kd-000: the loss is NaN")]) == ["kd-000 failed: the loss is NaN"]
    assert failures([broken("kd-000", "its process died")]) == ["kd-000 failed: its process died"]


def test_trials_with_one_reason_are_counted() -> None:
    two = [broken(f"kd-{n}", f"kd-{n}: the loss is NaN") for n in range(2)]
    assert failures(two) == ["2 trials failed (kd-0, kd-1): the loss is NaN"]
    five = [broken(f"kd-{n}", f"kd-{n}: the loss is NaN") for n in range(5)]
    assert failures([*five, broken("kd-9", "killed")]) == [
        "5 trials failed (kd-0, kd-1, kd-2, ...): the loss is NaN",
        "kd-9 failed: killed",
    ]


def test_of_many_reasons_the_first_are_shown() -> None:
    lines = failures([broken(f"kd-{n}", f"reason {n}") for n in range(7)])
    assert len(lines) == 4
    assert lines[-1] == "4 more failed; `orchestrator results` gives all reasons."


def test_only_failures_are_failures() -> None:
    stopped = record("a", "kd", status=Status.STOPPED)
    stopped.reason = "stopped by the scheduler after epoch 3"
    assert failures([stopped]) == []


# The note of the experiment's own run


ENVIRONMENT = {"python": "3.11.7", "torch": "2.15.0", "optuna": "not installed", "git_commit": "abcdef"}


def test_a_note_has_the_variants_how_to_repeat_it_and_how_it_came_about() -> None:
    note = run_note(results(*finals(FAR)), {KEY: 71.2}, State.COMPLETE, ENVIRONMENT)
    assert "| kd | 3 | 90.10 ± 0.10 |" in note
    assert "\n    orchestrator run spec.yaml\n" in note
    assert "python 3.11.7, torch 2.15.0, at commit `abcdef`." in note
    assert "\n- Teacher found again: 71.20 % on validation images." in note
    assert note.index("| kd |") < note.index("### To repeat it") < note.index("### How the figures came about")


def test_what_makes_a_note_too_long_is_left_out_from_its_end() -> None:
    failed = [record(f"kd-{n:03d}", "kd", status=Status.FAILED) for n in range(3)]
    for number, one in enumerate(failed):
        one.reason = f"{one.trial.id}: {'x' * MAX_NOTE}{number}"
    note = run_note(results(*finals(FAR), *failed), {}, State.COMPLETE, ENVIRONMENT)
    assert len(note) < MAX_NOTE
    assert "orchestrator run spec.yaml" in note
    assert "came about" not in note
