"""Which runs read the teacher's logits from the store, how much that is, and why others do not."""

import json
from typing import Any

import pytest
from small_spec import ALONE, small_spec

from orchestrator.errors import ResourceError
from orchestrator.search.logits import LogitPlan, plan_logits
from orchestrator.search.plan import Plan, make_plan
from orchestrator.search.trials import Trial
from orchestrator.spec import load_spec

SPEC = small_spec(
    {
        "data.dataset": "cifar100",
        "teacher.model": "resnet56",
        "student.model": "resnet20",
        "training.epochs": 10,
        "search.num_samples": 6,
        "search.final_seeds": 2,
        "search.variants": {
            "kd": {},
            "dtd": {"set": {"distillation.temperature": {"method": "flsw"}}},
            "alone": ALONE,
        },
    }
)
VIEW = 45_000 * 100 * 2
"""Bytes of one view of CIFAR-100 in float16."""


def planned(room: float = 1e12, decided: Any = None, **overrides: Any) -> tuple[Plan, LogitPlan]:
    plan = make_plan(load_spec(SPEC, {name.replace("__", "."): value for name, value in overrides.items()}))
    return plan, plan_logits(plan, room, decided)


def trials(plan: Plan, name: str) -> list[Trial]:
    arm = plan.by_name[name]
    return [plan.search_trial(arm, 0, {}), *(plan.final_trial(arm, n, {}) for n in range(2))]


def stored(plan: Plan, logits: LogitPlan, name: str) -> list[bool]:
    """Of a search trial and both final runs."""
    kept = [logits.of(trial, plan.run_of(trial)) for trial in trials(plan, name)]
    return [keeping is not None and keeping.stored for keeping in kept]


def test_runs_of_one_seed_share_and_others_do_not() -> None:
    plan, logits = planned()
    assert logits.to_dict() == {
        "stored_runs": 2 * (6 + 2),
        "stored_views": 3 * 10,
        "stored_bytes": 30 * VIEW,
        "live_runs": {},
    }
    assert stored(plan, logits, "kd") == stored(plan, logits, "dtd") == [True] * 3
    assert logits.lines() == ["Teacher logits: stored as float16 and shared by 16 runs, 30 views, 270 MB at most"]
    assert logits.of(trials(plan, "alone")[0], plan.run_of(trials(plan, "alone")[0])) is None


def test_a_run_that_no_other_is_like_is_live() -> None:
    plan, logits = planned(search__variants={"kd": {}})
    assert stored(plan, logits, "kd") == [True, False, False]
    assert logits.to_dict()["live_runs"] == {"no other run has the same augmentations": 2}
    _, logits = planned(search__variants={"kd": {}}, search__space={})
    assert logits.to_dict()["stored_runs"] == 0


def test_repeated_views_are_shared_by_all_seeds() -> None:
    plan, logits = planned(data__views=4)
    assert logits.to_dict()["stored_bytes"] == 4 * VIEW
    assert logits.to_dict()["stored_runs"] == 16
    assert stored(plan, logits, "kd") == [True] * 3
    _, logits = planned(data__views=400)
    assert logits.to_dict()["stored_views"] == 10


def test_images_that_never_change_have_one_view() -> None:
    _, logits = planned(data__augmentation="none")
    assert logits.to_dict()["stored_bytes"] == VIEW


def test_the_size_follows_subset_classes_and_dtype() -> None:
    _, logits = planned(
        data__augmentation="none",
        data__train_samples=1000,
        data__classes=list(range(20)),
        distillation__teacher_logits__dtype="float32",
    )
    assert logits.to_dict()["stored_bytes"] == 1000 * 20 * 4


def test_what_most_runs_share_is_stored_first() -> None:
    plan, logits = planned(resources__teacher_logits_gb=0.1)
    assert stored(plan, logits, "kd") == [True, False, False]
    (why,) = logits.to_dict()["live_runs"]
    assert why == "90 MB for 10 views, which resources.teacher_logits_gb does not allow"
    plan, logits = planned(room=0.1e9)
    (why,) = logits.to_dict()["live_runs"]
    assert "the disk" in why


def test_the_limit_of_zero_turns_it_off() -> None:
    _, logits = planned(resources__teacher_logits_gb=0)
    assert logits.to_dict()["stored_runs"] == 0


def test_a_size_that_is_not_known_is_told() -> None:
    _, logits = planned(data={"dataset": "image-folder", "root": "/data"})
    assert logits.stored_bytes is None
    assert logits.lines() == [
        "Teacher logits: stored as float16 and shared by 16 runs, 30 views, of a size that the data set will tell"
    ]


def test_what_the_spec_asks_for_is_done() -> None:
    plan, logits = planned(search__variants={"kd": {}}, distillation__teacher_logits__keep="stored")
    assert stored(plan, logits, "kd") == [True] * 3
    plan, logits = planned(search__variants={"kd": {}}, distillation__teacher_logits__keep="live")
    assert logits.to_dict()["live_runs"] == {"asked for": 8}
    with pytest.raises(ResourceError, match=r"teacher_logits\.keep is stored: 90 MB for 10 views"):
        planned(
            search__variants={"kd": {}},
            distillation__teacher_logits__keep="stored",
            resources__teacher_logits_gb=0.01,
        )


def test_other_augmentations_are_not_shared() -> None:
    plan, logits = planned(
        search__variants={"kd": {}, "cut": {"set": {"data.augmentation": {"cutout": 8}}}}, search__final_seeds=0
    )
    assert logits.to_dict()["stored_views"] == 2 * 10
    plan, logits = planned(
        search__variants={"kd": {"space": {"data.augmentation": {"type": "choice", "values": ["none", "standard"]}}}}
    )
    assert stored(plan, logits, "kd")[0] is False


def test_features_need_the_teacher_in_every_step() -> None:
    _, logits = planned(
        search__variants={"at": {"set": {"distillation.features": [{"method": "attention_transfer", "weight": 10}]}}}
    )
    assert logits.to_dict()["live_runs"] == {"feature losses run the teacher in every step": 8}


def test_assistants_read_the_store_with_students_of_their_teacher() -> None:
    chain = {"method": "teacher_assistants", "assistants": [{"model": "resnet32"}]}
    plan, logits = planned(
        search__variants={
            "kd": {"set": {"scheme": chain}},
            "dtd": {"set": {"scheme": chain, "distillation.temperature": {"method": "flsw"}}},
        }
    )
    assistants = [teacher for teacher in plan.teachers.values() if teacher.trains_student]
    assert len(assistants) == 2
    kept = [logits.of(plan.teacher_trial(teacher.key), teacher.run) for teacher in assistants]
    assert [keeping is not None and keeping.stored for keeping in kept] == [True, True]
    teacher = next(teacher for teacher in plan.teachers.values() if not teacher.trains_student)
    assert logits.of(plan.teacher_trial(teacher.key), teacher.run) is None


@pytest.mark.parametrize(("first", "later", "kept"), [(1e12, 2 * VIEW, True), (2 * VIEW, 1e12, False)])
def test_later_sessions_keep_to_what_the_first_one_decided(first: float, later: float, kept: bool) -> None:
    _, before = planned(first)
    decided = json.loads(json.dumps(before.decisions))
    for room, gb in ((later, 20), (first, later / 1e9)):
        plan, after = planned(room, decided, resources__teacher_logits_gb=gb)
        assert after.decisions == before.decisions
        assert after.to_dict() == before.to_dict()
        trial = trials(plan, "kd")[0]
        keeping = after.of(trial, plan.run_of(trial))
        assert keeping is not None
        assert keeping.stored == kept
        assert keeping.room == min(room, gb * 1e9)
    _, anew = planned(later)
    assert anew.decisions != before.decisions
    with pytest.raises(ResourceError):
        planned(2 * VIEW, decided, distillation__teacher_logits__keep="stored")
