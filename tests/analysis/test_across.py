"""Experiments beside each other: differences of specs, pairs, tests, and what makes a comparison unfair."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import load_spec
from orchestrator.analysis.across import ABSENT, Across, Entry
from orchestrator.analysis.results import Results
from orchestrator.errors import UsageError
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Record, Status

SPEC: dict[str, Any] = {
    "name": "first",
    "data": {"dataset": "digits", "train_samples": 100},
    "teacher": {"model": "resnet14", "training": {"epochs": 5}},
    "student": {"model": "resnet8"},
    "training": {"epochs": 5},
    "search": {
        "sampler": "random",
        "num_samples": 2,
        "space": {"training.optimizer.lr": {"type": "uniform", "low": 0.01, "high": 0.2}},
        "variants": {"kd": {}, "dtd": {}},
    },
}
TESTS = {"kd": [80.0, 81.0, 83.0, 82.0], "dtd": [80.5, 81.2, 83.9, 82.4]}


def entry(
    gain: float = 0.0, environment: dict[str, Any] | None = None, seeds: int = 4, epochs: int = 5, **changes: Any
) -> Entry:
    spec = load_spec(SPEC, {path.replace("__", "."): value for path, value in changes.items()})
    plan = make_plan(spec)
    records = {}
    for arm in plan.arms:
        for n in range(arm.count):
            trial = plan.search_trial(arm, n, {})
            records[trial.id] = Record(trial, Status.FINISHED, {"val/acc1": 80.0 + n}, epochs)
        for n in range(seeds):
            trial = plan.final_trial(arm, n, {})
            value = TESTS.get(arm.name, TESTS["kd"])[n] + gain + 0.01 * n
            described = {"student.parameters": 10.0 + gain}
            records[trial.id] = Record(trial, Status.FINISHED, {"test/acc1": value}, 5, described=described)
    return Entry(spec.id, plan, Results(spec, records), [environment] if environment else [])


def warned(*entries: Entry, **options: Any) -> dict[str, tuple[str, str]]:
    return {w.about: (w.value, w.reference_value) for w in Across(entries, **options).warnings}


def test_specs_differ_where_they_do_and_nowhere_else() -> None:
    found = Across(
        [
            entry(),
            entry(name="second", training__optimizer__momentum=0.8, distillation__temperature={"method": "flsw"}),
            entry(name="third", search__variants={"kd": {}}, search__num_samples=3),
        ]
    )
    assert found.labels == ["first", "second", "third"]
    differences = found.spec_differences
    assert differences["training.optimizer.momentum"] == [0.9, 0.8, 0.9]
    assert differences["search.num_samples"] == [2, 2, 3]
    assert differences["distillation.temperature.method"] == ["constant", "flsw", "constant"]
    assert differences["distillation.temperature.beta"][::2] == [ABSENT, ABSENT]
    assert differences["search.variants.dtd"][2] == ABSENT
    assert not any(path.startswith(("name", "data", "student", "search.variants.kd")) for path in differences)
    assert Across([entry(), entry(name="second")]).spec_differences == {}


def test_a_variant_is_beside_its_namesake_or_the_first_ones_reference() -> None:
    second = entry(name="second", search__variants={"dtd": {}, "la": {}})
    assert Across([entry(), second]).references == {"second/dtd": "first/dtd", "second/la": "first/kd"}
    assert Across([entry(), second], "second/la").references == {
        "first/kd": "second/la",
        "first/dtd": "second/la",
        "second/dtd": "second/la",
    }
    assert Across([entry(), second], f"{second.id}/la").references == Across([entry(), second], "second/la").references
    with pytest.raises(UsageError, match="no 'second/ld' to compare with; did you mean 'second/la'"):
        Across([entry(), second], "second/ld")


def test_experiments_of_one_name_go_by_their_ids() -> None:
    entries = [entry(), entry(training__epochs=6)]
    assert Across(entries).labels == [e.id for e in entries]


def test_runs_of_the_same_splits_are_compared_by_seed() -> None:
    found = Across([entry(), entry(0.5, name="second", training__epochs=6)])
    for comparison in found.comparisons:
        assert comparison.is_paired
        assert comparison.difference is not None
        assert (comparison.difference.count, comparison.together) == (4, 1 if comparison.p_holm is None else 2)
        assert comparison.difference.mean == pytest.approx(0.5)


@pytest.mark.parametrize(
    "changes", [{"seed": 7}, {"data__validation_fraction": 0.2}, {"data__train_samples": 90}], ids=str
)
def test_other_splits_are_compared_by_welchs_test(changes: dict[str, Any]) -> None:
    (kd, _) = Across([entry(), entry(20.0, name="second", **changes)]).comparisons
    assert not kd.is_paired
    assert kd.difference is not None
    assert 3 <= kd.difference.freedom <= 6
    assert kd.shown


def test_folders_of_images_are_paired_where_they_are_one_folder() -> None:
    def folder(name: str, root: str, **changes: Any) -> Entry:
        return entry(name=name, data={"dataset": "image-folder", "root": root, "image_size": 32, **changes})

    for other in (folder("b", "/a"), folder("c", "/a", augmentation="none")):
        assert all(comparison.is_paired for comparison in Across([folder("first", "/a"), other]).comparisons)
    across = Across([folder("first", "/a"), folder("other", "/b")])
    assert not any(comparison.is_paired for comparison in across.comparisons)
    assert [w.about for w in across.warnings] == ["data", "teacher"]
    # What is published is the same wherever it lies, unless nobody looks.
    cifar = [entry(name=name, data={"dataset": "cifar10", "root": f"/{name}"}) for name in "ab"]
    assert all(comparison.is_paired for comparison in Across(cifar).comparisons)
    own = [entry(name=n, data={"dataset": "cifar10", "root": f"/{n}", "verify": False}) for n in "ab"]
    assert not any(comparison.is_paired for comparison in Across(own).comparisons)


@pytest.mark.parametrize(
    ("changes", "about", "values"),
    [
        ({"data__classes": [0, 1, 2]}, "data", ("digits, classes [0, 1, 2]", "digits")),
        ({"data__label_noise": {"fraction": 0.1}}, "data", ("digits, label_noise.fraction 0.1", "digits")),
        ({"seed": 3}, "split", ("seed 3, validation fraction 0.1", "seed 0, validation fraction 0.1")),
        ({"seed": 3}, "final seeds", ("4 to 7", "1 to 4")),
        ({"data__train_samples": 90}, "training images", ("90", "100")),
        ({"data__train_samples": None}, "training images", ("all", "100")),
        ({"search__num_samples": 3}, "search trials", ("3", "2")),
        ({"training__epochs": 6}, "epochs", ("6", "5")),
        (
            {"search__scheduler": {"method": "asha", "grace_period": 4}},
            "early stopping",
            ("asha (grace_period 4, reduction_factor 3)", "none"),
        ),
        ({"search__sampler": "optuna"}, "sampler", ("optuna (algorithm tpe)", "random")),
        ({"epochs": 4}, "search epochs", ("8", "10")),
        ({"search__metric": "val/loss", "search__mode": "min"}, "chosen by", ("val/loss", "val/acc1")),
        ({"seeds": 3}, "final seeds", ("1 to 3", "1 to 4")),
    ],
)
def test_what_makes_it_unfair_is_told(changes: dict[str, Any], about: str, values: tuple[str, str]) -> None:
    found = warned(entry(), entry(name="second", **changes))
    assert found[about] == values
    if about == "epochs":
        # The teacher's own training is the same.
        assert [*found] == ["epochs"]


def test_another_teacher_is_told_and_none_at_all_is_not() -> None:
    assert "teacher" in warned(entry(), entry(name="second", teacher__model="resnet20"))
    alone = {"kd": {"set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}}}}
    assert warned(entry(), entry(name="second", search__variants=alone)) == {}


def test_another_precision_of_the_machine_is_told() -> None:
    first, second = entry(), entry(name="second")
    for found, precision in ((first, "bf16"), (second, "float32")):
        for record in found.results.records:
            record.described["precision"] = precision
    assert warned(first, second) == {"precision": ("float32", "bf16")}
    assert warned(first, entry(name="third")) == {}


def test_other_code_is_told_where_it_was_recorded() -> None:
    old = {"distillation-orchestrator": "0.1.0", "git_commit": "aaa", "torch": "2.14"}
    new = {"distillation-orchestrator": "0.1.0", "git_commit": "bbb", "torch": "2.14"}
    assert warned(entry(environment=old), entry(name="second", environment=new)) == {"code": ("0.1.0 bbb", "0.1.0 aaa")}
    assert warned(entry(environment=old), entry(name="second", environment=old)) == {}
    assert warned(entry(environment=old), entry(name="second")) == {}


def test_what_changes_no_fairness_is_not_told() -> None:
    assert warned(entry(), entry(name="second", training__optimizer__momentum=0.8, budget__time_s=60)) == {}


def test_a_warning_names_who_shares_it() -> None:
    warnings = Across([entry(), entry(name="second", search__num_samples=3)]).warnings
    assert [*map(str, warnings)] == [
        "not the same search trials: 3 for second/kd, second/dtd; 2 for the reference",
        "not the same search epochs: 15 for second/kd, second/dtd; 10 for the reference",
    ]


def test_everything_is_data_too() -> None:
    content = Across([entry(), entry(0.5, name="second", search__num_samples=3)]).to_dict(
        "test/acc1,student.parameters"
    )
    assert [*content["experiments"]] == ["first", "second"]
    assert content["spec_differences"] == {"search.num_samples": {"first": 2, "second": 3}}
    assert [v["name"] for v in content["variants"]] == ["first/kd", "first/dtd", "second/kd", "second/dtd"]
    assert [c["reference"] for c in content["comparisons"]] == ["first/kd", "first/dtd"]
    assert content["warnings"][0]["about"] == "search trials"
    assert [c["on_front"] for c in content["pareto"]["candidates"]] == ["no", "yes", "no", "yes"]


def test_sections_that_others_lack_are_told_shortly() -> None:
    variants = {"kd": {}, "dtd": {}, "la": {"set": {"distillation.adjustment": {"rule": "probability_shift"}}}}
    header, rows = Across([entry(), entry(name="second", search__variants=variants)]).differences_table()
    assert header == ["field", "first", "second"]
    assert rows == [["search.variants.la", "-", "given"]]
