"""Overrides: where each value belongs, and those that no run would notice."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Problem, SpecError, UsageError
from orchestrator.spec import ExperimentSpec, load_spec

LR = "training.optimizer.lr"
TEMPERATURE = "distillation.temperature"
SPEC: dict[str, Any] = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14", "training": {"epochs": 5}},
    "student": {"model": "resnet8"},
    "distillation": {"temperature": {"method": "flsw", "base": 4}},
    "search": {
        "sampler": "random",
        "space": {LR: {"type": "loguniform", "low": 0.01, "high": 0.2}},
        "variants": {
            "kd": {"set": {TEMPERATURE: {"method": "constant", "base": 3}, "training.epochs": 4}},
            "v1.5": {"space": {f"{TEMPERATURE}.max": {"type": "uniform", "low": 5, "high": 16}}},
        },
    },
}
ONLY = {**SPEC, "search": {"space": SPEC["search"]["space"]}}


def refused(spec: dict[str, Any], *overrides: str) -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        load_spec(spec, overrides)
    return caught.value.problems


# Where a value belongs


def arms(spec: ExperimentSpec) -> dict[str, Any]:
    return {name: arm.model_dump(exclude_unset=True) for name, arm in spec.search.variants.items()}


def test_paths_into_the_space_know_its_dotted_keys() -> None:
    spec = load_spec(
        SPEC,
        [
            f"search.space.{LR}.low=0.05",
            "search.space.training.optimizer.momentum={type: choice, values: [0.5, 0.9]}",
            "search.space.training.optimizer.momentum.values=[0.8]",
        ],
    )
    assert (spec.search.space[LR].low, spec.search.space[LR].high) == (0.05, 0.2)
    assert spec.search.space["training.optimizer.momentum"].values == [0.8]
    assert arms(spec) == SPEC["search"]["variants"]


def test_paths_into_a_variant_know_its_name_and_its_dotted_keys() -> None:
    spec = load_spec(
        SPEC,
        [
            "search.variants.kd.set.training.epochs=7",
            "search.variants.kd.set.training.batch_size=8",
            f"search.variants.kd.set.{TEMPERATURE}.base=2",
            f"search.variants.v1.5.space.{TEMPERATURE}.max.high=9",
            "search.variants.v1.5.set.training.epochs=6",
            "search.variants.new={set: {}}",
            "search.variants.new.set.training.epochs=3",
        ],
    )
    assert arms(spec) == {
        "kd": {
            "set": {
                TEMPERATURE: {"method": "constant", "base": 2},
                "training.epochs": 7,
                "training.batch_size": 8,
            }
        },
        "v1.5": {
            "space": {f"{TEMPERATURE}.max": {"type": "uniform", "low": 5, "high": 9}},
            "set": {"training.epochs": 6},
        },
        "new": {"set": {"training.epochs": 3}},
    }


def test_the_longest_known_key_is_meant() -> None:
    section = {"type": "choice", "values": [{"method": "flsw"}]}
    base = {"type": "uniform", "low": 3, "high": 5}
    spec = ONLY | {"search": {"space": {TEMPERATURE: section, f"{TEMPERATURE}.base": base}}}
    space = load_spec(spec, [f"search.space.{TEMPERATURE}.base.low=2"]).search.space
    assert space[f"{TEMPERATURE}.base"].low == 2
    assert space[TEMPERATURE].values == section["values"]


def test_a_mistyped_variant_is_not_a_new_one() -> None:
    for part in ("set.training.epochs=3", "set={}", "space.training.epochs.low=3"):
        with pytest.raises(UsageError, match="there is no variant 'kdd'; did you mean 'kd'") as caught:
            load_spec(SPEC, [f"search.variants.kdd.{part}"])
        assert "search.variants.kdd={set: {...}}" in str(caught.value)


def test_a_value_that_an_alias_repeats_is_set_in_one_place(load) -> None:
    text = (
        "name: a\ndata: {dataset: digits}\nstudent: {model: resnet8}\n"
        "teacher: {model: resnet14, training: &t {epochs: 7}}\ntraining: *t\n"
    )
    spec = load(text, ["training.epochs=3"])
    assert (spec.training.epochs, spec.teacher.training.epochs) == (3, 7)


# Nothing after the equals sign


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("training.epochs=", "must be a whole number"),
        ("name= ", "must be text"),
        ("data=", "must be a mapping"),
        (f"{TEMPERATURE}=", "must be a mapping"),
        (f"search.space.{LR}.low=", "must be a number"),
        ("search.variants.kd.set.training.epochs=", "must be a whole number"),
    ],
)
def test_an_empty_value_where_one_is_needed(text: str, rule: str) -> None:
    (problem,) = refused(SPEC, text)
    assert str(problem) == f"{text.partition('=')[0]}: nothing was given after '='; {rule}"


def test_an_empty_value_is_null_where_null_may_be() -> None:
    assert load_spec(SPEC, ["data.train_samples="]).data.train_samples is None
    (problem,) = refused(SPEC, "training.epochs=null")
    assert str(problem) == "training.epochs: null: must be a whole number"


# Values that reach no run


def test_a_searched_value_cannot_be_set_beside_its_domain() -> None:
    (problem,) = refused(ONLY, f"{LR}=0.1")
    assert (problem.path, problem.rule) == (LR, "has no effect: it is searched")
    (problem,) = refused(SPEC, f"{LR}=0.1")
    assert problem.rule == "has no effect: it is searched in every variant"
    assert problem.hint == (f"set search.space.{LR} instead, to {{type: choice, values: [0.1]}} for this value alone")
    spec = load_spec(SPEC, [f"search.space.{LR}={{type: choice, values: [0.1]}}"])
    assert spec.search.space[LR].values == [0.1]


def test_a_mapping_of_overrides_is_held_to_the_same() -> None:
    with pytest.raises(SpecError, match="has no effect: it is searched in every variant"):
        load_spec(SPEC, {LR: 0.1})


def test_a_searched_value_in_the_file_is_the_default_and_fine() -> None:
    assert load_spec(SPEC | {"training": {"optimizer": {"lr": 0.1}}}).training.optimizer.lr == 0.1


def test_a_value_that_every_variant_sets() -> None:
    spec = SPEC | {"search": {"variants": {n: {"set": {"training.epochs": e}} for n, e in (("a", 3), ("b", 4))}}}
    (problem,) = refused(spec, "training.epochs=9")
    assert problem.rule == "has no effect: it is set in every variant"
    assert problem.hint == "set search.variants.a.set.training.epochs, search.variants.b.set.training.epochs instead"


def test_a_field_of_a_section_that_every_variant_replaces_or_searches() -> None:
    (problem,) = refused(SPEC, f"{TEMPERATURE}.max=13")
    assert problem.rule == "has no effect: it is searched or set in every variant"
    assert problem.hint == f"set search.variants.v1.5.space.{TEMPERATURE}.max instead"


def test_the_fields_of_a_section_that_is_set_are_looked_at_one_by_one(caplog) -> None:
    (problem,) = refused(SPEC, "training={batch_size: 8, optimizer: {lr: 0.3}}")
    assert problem.path == LR
    assert not refused(SPEC, f"{LR}=0.1", "training.optimizer={lr: 0.2}")[1:]
    load_spec(SPEC, ["training={batch_size: 8, optimizer: {momentum: 0.3}}"])
    assert not caplog.records


@pytest.mark.parametrize(
    "text",
    ["training.batch_size=8", "teacher.training.epochs=9", "seed=3", "search.num_samples=3", "data.verify=false"],
)
def test_values_that_reach_every_run_are_taken_in_silence(caplog, text: str) -> None:
    load_spec(SPEC, [text])
    assert not caplog.records


def test_a_value_that_some_variants_have_of_their_own_is_a_warning(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert load_spec(SPEC, ["training.epochs=9"]).training.epochs == 9
    assert caplog.messages == [
        "warning: training.epochs: has no effect in kd: it is set there; "
        "set search.variants.kd.set.training.epochs instead"
    ]


def test_a_value_that_only_the_teacher_takes_is_a_warning(caplog) -> None:
    alike = SPEC | {"teacher": {"model": "resnet14"}}
    load_spec(alike, [f"{LR}=0.1"])
    (message,) = caplog.messages
    assert f"{LR}: has an effect on the teacher's training alone: it is searched in every variant" in message
    load_spec(alike | {"search": {"variants": {"a": {"set": {"training": {"epochs": 3}}}}}}, ["training={}"])
    assert "training: has an effect on the teacher's training alone" in caplog.messages[1]
    # Where no variant has a teacher that learns, nothing takes it.
    assert refused(SPEC | {"teacher": {"model": "resnet14", "checkpoint": "x.safetensors"}}, f"{LR}=0.1")
    assert refused(alike | {"distillation": {"ce_weight": 1, "kd_weight": 0}, "search": ONLY["search"]}, f"{LR}=0.1")


def test_the_command_line_warns_on_stderr_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "name: a\ndata: {dataset: digits}\nteacher: {model: resnet14}\nstudent: {model: resnet8}\n"
        "search: {variants: {a: {set: {training.epochs: 3}}, b: {}}}\n"
    )
    command = [sys.executable, "-m", "orchestrator", "validate", str(path), "--set", "training.epochs=9"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == (
        "warning: training.epochs: has no effect in a: it is set there; "
        "set search.variants.a.set.training.epochs instead\n"
    )
    assert done.stdout.startswith(f"{path}: valid")
