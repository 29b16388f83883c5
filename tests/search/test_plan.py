"""The plan: what is run, how often, with which seeds and values, and what fits on a machine."""

import json
from typing import Any

import pytest
from fake_runs import ALONE, BASE, LR, THREE_ARMS, TWO_ARMS, plan_of

from orchestrator.errors import ResourceError
from orchestrator.machine import Machine
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Phase
from orchestrator.spec import load_spec


def test_a_variant_with_a_space_has_num_samples_trials_and_one_without_has_one() -> None:
    plan = plan_of(
        {
            "search.num_samples": 6,
            "search.final_seeds": 2,
            "search.variants": {"fixed": {}, "searched": {"space": {"training.optimizer.lr": LR}}},
        }
    )
    assert {arm.name: arm.count for arm in plan.arms} == {"fixed": 1, "searched": 6}
    assert (plan.search_trials, plan.final_trials, len(plan.teachers)) == (7, 4, 1)
    assert plan.total_trials == 12


def test_a_spec_without_search_is_one_run_and_its_finals() -> None:
    plan = plan_of({"search.final_seeds": 0})
    assert [arm.name for arm in plan.arms] == ["default"]
    assert (plan.search_trials, plan.final_trials) == (1, 0)
    assert plan.arms[0].points == ({},)


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_grid_counts_its_points_that_keep_the_constraints(repeats: int) -> None:
    plan = plan_of(
        {
            "search.sampler": "grid",
            "search.num_samples": repeats,
            "search.space": {
                "distillation.temperature.min": {"type": "choice", "values": [1, 2, 5]},
                "distillation.temperature.base": {"type": "randint", "low": 2, "high": 4},
                "student.norm": {"type": "choice", "values": ["batch", "group"]},
            },
            "search.constraints": ["distillation.temperature.min <= distillation.temperature.base"],
        }
    )
    (arm,) = plan.arms
    assert arm.count == 2 * 3 * 2 * repeats
    distinct = {tuple(point.values()) for point in arm.points}
    assert len(distinct) == 12
    assert all(low <= base for low, base, _ in distinct)
    trials = [plan.search_trial(arm, index, arm.points[index]) for index in range(arm.count)]
    seeds = {(trial.seed, tuple(trial.params.values())) for trial in trials}
    # Each repeat is the whole grid under another seed: a repeat with the same seed would be the same run.
    assert len(seeds) == 12 * repeats
    assert [trial.seed for trial in trials[:12]] == [0] * 12
    assert len({trial.seed for trial in trials}) == repeats
    finals = {plan.final_trial(arm, n, {}).seed for n in range(plan.spec.search.final_seeds)}
    assert not finals & {trial.seed for trial in trials}


def test_search_trials_share_the_seed_and_finals_have_fresh_ones_that_all_variants_share() -> None:
    plan = plan_of(TWO_ARMS | {"seed": 40})
    kd, dtd = plan.arms
    assert {plan.search_trial(arm, n, {}).seed for arm in plan.arms for n in range(4)} == {40}
    seeds = [plan.final_trial(kd, n, {}).seed for n in range(3)]
    assert len(set(seeds)) == 3
    assert 40 not in seeds
    assert seeds == [plan.final_trial(dtd, n, {}).seed for n in range(3)]


def test_the_largest_seed_leaves_room_for_repeats_and_finals() -> None:
    grid = {"search.sampler": "grid", "search.num_samples": 5000, "search.final_seeds": 1000}
    plan = plan_of(
        grid | {"seed": 1_999_999_999, "search.space": {"student.width": {"type": "choice", "values": [0.5, 1.0]}}}
    )
    (arm,) = plan.arms
    plan.run_of(plan.search_trial(arm, arm.count - 1, {"student.width": 0.5}))
    plan.run_of(plan.final_trial(arm, 999, {}))


def test_ids_are_unique_and_fit_for_folders() -> None:
    plan = plan_of(TWO_ARMS | {"search.num_samples": 1200})
    ids = [plan.search_trial(arm, n, {}).id for arm in plan.arms for n in range(1200)]
    ids += [plan.final_trial(arm, n, {}).id for arm in plan.arms for n in range(1000)]
    ids += [plan.teacher_trial(key).id for key in plan.teachers]
    assert len(set(ids)) == len(ids)
    assert not any(set(id) & set("/\\ :") for id in ids)


def test_random_points_are_reproducible_and_paired() -> None:
    first, again = plan_of(TWO_ARMS), plan_of(TWO_ARMS)
    assert [arm.points for arm in first.arms] == [arm.points for arm in again.arms]
    kd, dtd = (arm.points for arm in first.arms)
    rates = [point["training.optimizer.lr"] for point in kd]
    assert rates == [point["training.optimizer.lr"] for point in dtd]
    assert len(set(rates)) == 4
    assert all("distillation.temperature.max" in point for point in dtd)
    other = plan_of(TWO_ARMS | {"seed": 1})
    assert not set(rates) & {point["training.optimizer.lr"] for point in other.arms[0].points}
    # More samples continue the same draws.
    more = plan_of(TWO_ARMS | {"search.num_samples": 9})
    assert more.arms[0].points[:4] == kd


def test_adaptive_samplers_have_no_planned_points() -> None:
    plan = plan_of(TWO_ARMS | {"search.sampler": "optuna"})
    assert [(arm.points, arm.count) for arm in plan.arms] == [(None, 4), (None, 4)]
    assert plan_of({"search.sampler": "optuna"}).arms[0].points == ({},)


def test_student_epochs_count_searched_epochs_at_their_largest() -> None:
    assert plan_of(TWO_ARMS).student_epochs == 2 * 5 * (4 + 3)
    epochs = {"training.epochs": {"type": "randint", "low": 2, "high": 9}}
    plan = plan_of({"search.variants": {"fixed": {}, "searched": {"space": epochs}}})
    assert {arm.name: arm.max_epochs for arm in plan.arms} == {"fixed": 5, "searched": 9}
    assert plan.student_epochs == 5 * (1 + 3) + 9 * (4 + 3)
    choice = {"training.epochs": {"type": "choice", "values": [7, 3]}}
    assert plan_of({"search.space": choice}).arms[0].max_epochs == 7


def test_the_run_of_a_trial_has_its_values_and_seed() -> None:
    plan = plan_of(TWO_ARMS | {"seed": 3})
    kd, dtd = plan.arms
    trial = plan.final_trial(dtd, 1, {"training.optimizer.lr": 0.02, "distillation.temperature.max": 7.5})
    run = plan.run_of(trial)
    assert (run.seed, run.training.optimizer.lr) == (5, 0.02)
    assert (run.distillation.temperature.method, run.distillation.temperature.max) == ("flsw", 7.5)
    assert plan.run_of(plan.search_trial(kd, 0, {})).distillation.temperature.method == "constant"
    (key,) = plan.teachers
    teacher = plan.teacher_trial(key)
    assert (teacher.phase, teacher.seed, teacher.variant) == (Phase.TEACHER, 3, key)
    assert plan.run_of(teacher).teacher_training.epochs == 5


# What fits


@pytest.mark.parametrize(
    ("resources", "machine", "fit"),
    [
        ({}, Machine(4), 4),
        ({"max_concurrent_trials": 3}, Machine(4), 3),
        ({"max_concurrent_trials": 9}, Machine(4), 4),
        ({"cpus_per_worker": 3}, Machine(8), 2),
        ({"gpus_per_worker": 0.25}, Machine(16, 1), 4),
        ({"gpus_per_worker": 0.1}, Machine(16, 1), 10),
        ({"gpus_per_worker": 1.0}, Machine(16, 2), 2),
        ({"gpus_per_worker": 0.5}, Machine(3, 8), 3),
        ({"num_workers": 2}, Machine(5), 2),
        ({"num_workers": 2}, Machine.cluster([Machine(1), Machine(1), Machine(1)]), 1),
        ({"num_workers": 2, "cpus_per_worker": 2}, Machine.cluster([Machine(3), Machine(5)]), 1),
        ({"num_workers": [2, 4]}, Machine(9), 2),
        ({"num_workers": [2, 4]}, Machine(3), 1),
        ({"num_workers": 2, "max_concurrent_trials": 1}, Machine(8), 1),
        ({"share": 0.5}, Machine(8), 4),
        ({"share": 0.5, "num_workers": 2}, Machine.cluster([Machine(5), Machine(4)]), 2),
        ({"custom_resources": {"lab": 2}}, Machine(8), 8),
        ({"custom_resources": {"lab": 2}}, Machine.cluster([Machine(8, custom={"lab": 5}), Machine(8, custom={})]), 2),
    ],
)
def test_concurrency(resources: dict, machine: Machine, fit: int) -> None:
    assert plan_of({"resources": resources}).concurrency(machine) == fit


@pytest.mark.parametrize(
    ("resources", "machine", "message"),
    [
        ({"cpus_per_worker": 3}, Machine(2), "needs 3 CPUs .* there are only 2 CPUs"),
        ({"gpus_per_worker": 1.0}, Machine(2), "needs 1 CPU and 1 GPU .* there are only 2 CPUs"),
        (
            {"gpus_per_worker": 2.0},
            Machine(2, 1),
            "needs 1 CPU and 2 GPUs .* there are only 2 CPUs and 1 GPU",
        ),
        ({"num_workers": 3}, Machine(2), "needs 3 workers .* of 1 CPU each, but there are places for 2: 2 CPUs"),
        ({"num_workers": [3, 9]}, Machine(2), "needs 3 workers .* places for 2: 2 CPUs"),
        (
            {"custom_resources": {"lab": 2}},
            Machine.cluster([Machine(2, custom={"lab": 1})]),
            "needs 1 CPU and 2 lab .* there are only 2 CPUs and 1 lab",
        ),
        (
            {"num_workers": 2, "cpus_per_worker": 2},
            Machine.cluster([Machine(3), Machine(1)]),
            "needs 2 workers .* of 2 CPUs each, but there are places for 1: nodes of 3 CPUs, 1 CPU",
        ),
    ],
)
def test_a_trial_that_does_not_fit_says_how_much_is_missing(resources: dict, machine: Machine, message: str) -> None:
    with pytest.raises(ResourceError, match=message) as caught:
        plan_of({"resources": resources}).concurrency(machine)
    assert "resources.cpus_per_worker" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("resources", "machine", "message"),
    [
        ({"share": 0.25}, Machine(3), "share: 0.25 of the places for 3 workers is 0, but a trial takes up to 1"),
        ({"share": 0.5, "num_workers": [2, 4]}, Machine(6), "of the places for 6 workers is 3, .* up to 4"),
    ],
)
def test_a_trial_that_does_not_fit_the_share_says_so(resources: dict, machine: Machine, message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        plan_of({"resources": resources}).concurrency(machine)


def test_networks_whose_results_depend_on_the_number_of_workers_are_told() -> None:
    together = {"resources.num_workers": 2}
    assert plan_of({}).uneven == []
    assert plan_of(together).uneven == ["resnet14", "resnet8"]
    assert plan_of({**together, "student.norm": "group"}).uneven == ["resnet14"]
    assert plan_of({**together, "student.norm": "group", "teacher.norm": "sync_batch"}).uneven == []


def test_the_plan_as_data() -> None:
    plan = plan_of(THREE_ARMS)
    data = plan.to_dict(Machine(2))
    assert json.loads(json.dumps(data)) == data
    assert [variant["name"] for variant in data["variants"]] == ["kd", "dtd", "alone"]
    assert data["variants"][2]["set"] == ALONE
    assert data["variants"][1]["space"].keys() == {"training.optimizer.lr", "distillation.temperature.max"}
    assert len(data["variants"][0]["points"]) == data["variants"][0]["trials"] == 4
    assert (data["search_trials"], data["final_trials"], data["student_epochs"]) == (12, 9, 105)
    assert (data["concurrent_trials"], data["hash"]) == (2, plan.spec.hash)
    assert [teacher["model"] for teacher in data["teachers"]] == ["resnet14"]
    assert data["teachers"][0]["epochs"] == 5


def sizes_in(values: dict[str, Any]) -> tuple[int | None, int | None]:
    """Of the only arm's students, in the plan as data."""
    (variant,) = plan_of(values).to_dict(Machine(2))["variants"]
    return variant["parameters"], variant["multiply_adds"]


def test_the_plan_tells_how_large_the_networks_are() -> None:
    data = plan_of({"student.width": 0.25}).to_dict(Machine(2))
    (student,), (teacher,) = data["variants"], data["teachers"]
    # A stem, three blocks and a head of 4, 8 and 16 channels, with the norms, for digits of one channel.
    stem, head = 9 * 4 + 8, 17 * 10
    blocks = (2 * 9 * 4 * 4 + 16) + (9 * 4 * 8 + 9 * 8 * 8 + 4 * 8 + 48) + (9 * 8 * 16 + 9 * 16 * 16 + 8 * 16 + 96)
    assert student["parameters"] == stem + blocks + head
    assert teacher["parameters"] > 10 * student["parameters"]
    assert teacher["multiply_adds"] > 10 * student["multiply_adds"] > 0


@pytest.mark.parametrize(
    "values",
    [
        {"student.width": 0.3},
        {"student.stem_stride": 4},
        {"student": {"model": "torchvision/resnet18", "small_images": True}},
        {"search.space": {"student.width": {"type": "choice", "values": [0.25, 0.5]}}},
        {"search.space": {"student": {"type": "choice", "values": [{"model": "resnet8"}, {"model": "resnet14"}]}}},
    ],
)
def test_a_size_that_is_not_known_is_null(values: dict[str, Any]) -> None:
    assert sizes_in(values) == (None, None)


def test_a_searched_norm_leaves_the_size_as_it_is() -> None:
    norms = {"student.norm": {"type": "choice", "values": ["batch", "group"]}}
    assert sizes_in({"search.space": norms}) == sizes_in({}) != (None, None)


# Teachers


def key(values: dict[str, Any] | None = None) -> str:
    (only,) = make_plan(load_spec(BASE, values or {})).teachers
    return only


@pytest.mark.parametrize(
    "values",
    [
        {"data.root": "/elsewhere"},
        {"data.train_samples": 100},
        {"student.model": "resnet20"},
        {"student.width": 0.5},
        {"distillation": {"temperature": {"method": "cwsm"}, "ce_weight": 0.5}},
        {"search.num_samples": 9},
        {"resources.cpus_per_worker": 2},
        {"name": "other"},
        {"training.checkpoint_interval_s": 3.0},
        {"teacher.training": {"epochs": 5}},
        {"teacher.width": 1.0},
    ],
)
def test_a_teacher_is_the_same_for_what_does_not_make_it(values: dict) -> None:
    assert key(values) == key()


@pytest.mark.parametrize(
    "values",
    [
        {"teacher.model": "resnet20"},
        {"teacher.width": 0.5},
        {"teacher.norm": "group"},
        {"teacher.train_samples": 100},
        {"teacher.training": {"epochs": 6}},
        {"training.epochs": 6},
        {"training.optimizer.lr": 0.01},
        {"training.precision": "float32"},
        {"seed": 1},
        {"data.dataset": "fashion-mnist"},
        {"data.validation_fraction": 0.2},
        {"data.augmentation": "none"},
    ],
)
def test_a_teacher_is_another_for_what_makes_it(values: dict) -> None:
    assert key(values) != key()


def test_with_its_own_training_the_students_does_not_make_the_teacher() -> None:
    own = {"teacher.training": {"epochs": 3}}
    assert key(own) == key(own | {"training.epochs": 77})


def test_variants_share_a_teacher_unless_they_change_it() -> None:
    plan = plan_of(
        {
            "search.variants": {
                "kd": {"set": {"training.epochs": 3}},
                "big": {"set": {"teacher.model": "resnet20"}},
                "same": {"set": {"student.model": "resnet14"}},
                "alone": {"set": ALONE},
                "read": {"set": {"teacher.checkpoint": "t.safetensors"}},
            }
        }
    )
    keys = {arm.name: next(iter(arm.teacher_keys), None) for arm in plan.arms}
    assert keys["kd"] == keys["same"] != keys["big"]
    assert keys["alone"] is keys["read"] is None
    assert list(plan.teachers) == [keys["kd"], keys["big"]]
    assert [teacher.model for teacher in plan.teachers.values()] == ["resnet14", "resnet20"]
    assert len({plan.teacher_trial(key).id for key in plan.teachers}) == 2


def test_a_run_without_a_teacher_needs_no_stage_0() -> None:
    distillation = {"kd_weight": 0, "ce_weight": 1}
    spec = load_spec({key: value for key, value in BASE.items() if key != "teacher"}, {"distillation": distillation})
    assert make_plan(spec).teachers == {}
