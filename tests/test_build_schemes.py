"""Schemes: chains, generations, several teachers and peers, as real small trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrator import build, load_spec, names
from orchestrator.data import load_dataset
from orchestrator.execution.cache import Cache
from orchestrator.execution.job import Job
from orchestrator.execution.session import Session
from orchestrator.models.average import AveragedTeacher
from orchestrator.search.plan import Plan, make_plan

SPEC: dict[str, Any] = {
    "name": "schemes",
    "data": {"dataset": "digits", "train_samples": 60},
    "teacher": {"model": "resnet14", "width": 0.25, "training": {"epochs": 1}},
    "student": {"model": "resnet8", "width": 0.125},
    "distillation": {"temperature": {"method": "flsw"}, "adjustment": {"rule": "probability_shift"}},
    "training": {"epochs": 2, "batch_size": 30},
}


def plan_of(scheme: dict[str, Any], **values: Any) -> Plan:
    return make_plan(load_spec({**SPEC, "scheme": scheme}, {k.replace("__", "."): v for k, v in values.items()}))


class Constant(nn.Module):
    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor([logits])

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


def test_averages_of_logits_and_of_probabilities() -> None:
    networks = [Constant([2.0, 0.0, 0.0]), Constant([0.0, 4.0, 1.0])]
    images = torch.zeros(2, 1, 1, 1)
    assert torch.equal(AveragedTeacher(networks, "logits")(images), torch.tensor([[1.0, 2.0, 0.5]] * 2))
    mean = torch.stack([network.logits[0].softmax(0) for network in networks]).mean(0)
    probabilities = AveragedTeacher(networks, "probabilities")(images).softmax(1)
    torch.testing.assert_close(probabilities, mean.expand(2, -1))


def test_each_assistant_waits_for_the_one_before_it_and_the_student_for_the_last() -> None:
    plan = plan_of({"method": "teacher_assistants", "assistants": [{"model": "resnet14"}, {"model": "resnet8"}]})
    teacher, first, second = plan.teachers.values()
    assert (teacher.after, first.after, second.after) == ([], [teacher.key], [first.key])
    assert [run.trains_student for run in (teacher, first, second)] == [False, True, True]
    (arm,) = plan.arms
    assert arm.teacher_keys == [second.key]
    assert (first.model, first.training.epochs) == ("resnet14", 2)


def test_generations_have_the_students_architecture_and_seeds_of_their_own() -> None:
    plan = plan_of({"method": "born_again", "generations": 2})
    teacher, first, second = plan.teachers.values()
    assert [run.run.student.width for run in (first, second)] == [0.125, 0.125]
    assert len({teacher.run.seed, first.run.seed, second.run.seed}) == 3
    assert plan.total_trials == 3 + plan.search_trials + plan.final_trials


def test_stage_0_is_shared_by_variants_that_need_the_same() -> None:
    chain = {"method": "teacher_assistants", "assistants": [{"model": "resnet8"}]}
    variants = {"takd": {"set": {"scheme": chain}}, "kd": {}, "alone": {"set": {"distillation": {"kd_weight": 0.0}}}}
    plan = plan_of({"method": "single"}, search={"variants": variants})
    assert len(plan.teachers) == 2
    keys = {arm.name: arm.teacher_keys for arm in plan.arms}
    assert keys["alone"] == []
    assert plan.teachers[keys["takd"][0]].after == keys["kd"]


def test_what_an_assistant_that_is_there_learnt_from_is_not_wanted() -> None:
    plan = plan_of({"method": "teacher_assistants", "assistants": [{"model": "resnet8"}]})
    teacher, assistant = plan.teachers
    assert plan.teachers_wanting(plan.arms, lambda key: False) == [teacher, assistant]
    assert plan.teachers_wanting(plan.arms, lambda key: key == teacher) == [assistant]
    assert plan.teachers_wanting(plan.arms, lambda key: key == assistant) == []
    assert plan.finding({}, lambda key: key == assistant).found == {teacher, assistant}


@pytest.mark.parametrize(
    "changes",
    [
        {"student__width": 0.25},
        {"training__epochs": 3},
        {"distillation__adjustment": {"rule": "none"}},
        {"data__train_samples": 50},
        {"teacher__width": 0.5},
        {"seed": 1},
    ],
)
def test_an_assistant_is_another_for_what_makes_it(changes: dict[str, Any]) -> None:
    scheme = {"method": "born_again", "generations": 1}
    *_, made = plan_of(scheme).teachers
    *_, other = plan_of(scheme, **changes).teachers
    assert made != other


@pytest.mark.parametrize(
    ("scheme", "values", "words"),
    [
        ("mutual", {"distillation__kd_weight": 0.0}, "kd_weight, which is 0"),
        ("mutual", {"distillation__features": [{"method": "sp", "weight": 1}]}, "remove distillation.features"),
        ("ensemble", {"distillation__features": [{"method": "sp", "weight": 1}]}, "features cannot be averaged"),
    ],
)
def test_what_has_no_meaning_is_refused_with_the_reason(scheme: str, values: dict[str, Any], words: str) -> None:
    networks = {"mutual": {"peers": [{"model": "resnet8"}]}, "ensemble": {"teachers": [{"model": "resnet8"}]}}
    with pytest.raises(Exception, match=words):
        plan_of({"method": scheme, **networks[scheme]}, **values)


def run_stage_0(plan: Plan, folder: Path) -> dict[str, Path]:
    """Train all of stage 0 in order; weights by key."""
    made: dict[str, Path] = {}
    for key, teacher in plan.teachers.items():
        made[key] = folder / f"{key}.safetensors"
        sources = [
            {"model": s.model.model_dump(exclude_unset=True), "weights": str(made[str(s.key)])} for s in teacher.sources
        ]
        content = teacher.run.model_dump(exclude_unset=True)
        job = Job(key, "teacher", content, 0, str(folder / key), sources, str(made[key]), teacher.trains_student)
        session = Session(Job.from_json(job.to_json()), Cache())
        while not session.done:
            metrics = session.train_epoch()
        assert (names.TRAIN_AGREEMENT in metrics) is teacher.trains_student
    return made


@pytest.mark.parametrize(
    "scheme",
    [
        {"method": "teacher_assistants", "assistants": [{"model": "resnet8", "width": 0.25}]},
        {"method": "born_again", "generations": 2},
        {"method": "ensemble", "teachers": [{"model": "resnet14", "width": 0.25}, {"model": "resnet8"}]},
    ],
    ids=lambda scheme: scheme["method"],
)
def test_a_student_learns_from_what_stage_0_made(scheme: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(scheme)
    made = run_stage_0(plan, tmp_path)
    assert len({path.read_bytes() for path in made.values()}) == len(made)
    (arm,) = plan.arms
    sources = [{"model": s.model.model_dump(exclude_unset=True), "weights": str(made[str(s.key)])} for s in arm.sources]
    assert len(sources) == (3 if scheme["method"] == "ensemble" else 1)
    content = arm.variant.run.model_dump(exclude_unset=True)
    session = Session(Job("s", "search", content, 0, str(tmp_path / "s"), sources), Cache())
    metrics = session.train_epoch()
    assert metrics[names.TEMPERATURE_MEAN] > 0
    assert metrics[names.ADJUSTMENT_ADJUSTED] == metrics[names.ADJUSTMENT_WRONG] > 0


def test_peers_learn_from_each_other_and_go_on_from_a_checkpoint() -> None:
    peers = [{"model": "resnet8", "width": 0.125}, {"model": "resnet8", "width": 0.25}]
    run = plan_of({"method": "mutual", "peers": peers}).arms[0].variant.run
    splits = build.build_splits(run, load_dataset("digits"), 0)

    def start() -> Any:
        return build.build_student_run(run, splits, None)

    whole = start()
    before = [parameter.clone() for parameter in whole._peers.parameters()]
    first = whole.train_epoch()
    assert all(not torch.equal(a, b) for a, b in zip(before, whole._peers.parameters(), strict=True))
    assert first[names.TRAIN_LOSS_KD] > 0
    assert first[names.ADJUSTMENT_WRONG] > 0
    again = start()
    again.restore(whole.state())
    times = (names.EPOCH_TIME, names.THROUGHPUT)
    expected = {name: value for name, value in whole.train_epoch().items() if name not in times}
    assert {name: value for name, value in again.train_epoch().items() if name not in times} == expected


def test_peers_of_one_kind_do_not_start_as_one_network() -> None:
    run = plan_of({"method": "mutual", "peers": [{"model": "resnet8", "width": 0.125}]}).arms[0].variant.run
    made = build.build_student_run(run, build.build_splits(run, load_dataset("digits"), 0), None)
    pairs = zip(made.student.parameters(), made._peers[0].parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
