"""`distillation.teacher_logits` and `data.views`: defaults, what is refused and why, and what they are part of."""

from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.search.plan import make_plan
from orchestrator.spec import load_spec

BASE: dict[str, Any] = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
}
FEATURES = [{"method": "attention_transfer", "weight": 10}]
MUTUAL = {"method": "mutual", "peers": [{"model": "resnet8"}]}
CHAIN = {"method": "teacher_assistants", "assistants": [{"model": "resnet8"}]}


def test_they_are_stored_where_it_is_worth_it_unless_told_otherwise() -> None:
    spec = load_spec(BASE)
    assert (spec.distillation.teacher_logits.keep, spec.distillation.teacher_logits.dtype) == ("auto", "float16")
    assert (spec.data.views, spec.resources.teacher_logits_gb) == (None, 20)


@pytest.mark.parametrize(
    ("values", "path", "reason"),
    [
        (
            {"distillation.teacher_logits.keep": "stored", "distillation.features": FEATURES},
            "distillation.teacher_logits.keep",
            "features are not stored",
        ),
        ({"distillation.teacher_logits.keep": "stored", "scheme": MUTUAL}, "scheme.method", "no finished teacher"),
        (
            {"distillation.teacher_logits": {"keep": "live", "dtype": "float32"}},
            "distillation.teacher_logits.dtype",
            "not stored",
        ),
        ({"data.views": 0}, "data.views", "must be >= 1"),
        ({"data.views": 4, "data.augmentation": "none"}, "data.views", "augmentation none"),
        ({"distillation.teacher_logits.keep": "always"}, "distillation.teacher_logits.keep", "must be 'auto'"),
    ],
)
def test_what_has_no_meaning_is_refused(values: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(BASE, values)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert reason in problem.rule


def keys(**values: Any) -> list[str]:
    return list(make_plan(load_spec(BASE, {name.replace("__", "."): v for name, v in values.items()})).teachers)


def test_a_teacher_is_the_same_whatever_becomes_of_its_logits() -> None:
    assert keys() == keys(data__views=3, distillation__teacher_logits={"dtype": "float32"})


def test_an_assistant_depends_on_the_views_it_learned_from() -> None:
    (teacher, assistant), (same, other) = keys(scheme=CHAIN), keys(scheme=CHAIN, data__views=3)
    assert teacher == same
    assert assistant != other


def test_where_they_come_from_is_part_of_the_results_and_the_room_for_them_is_not() -> None:
    plain = load_spec(BASE).hash
    assert load_spec(BASE, {"resources.teacher_logits_gb": 1}).hash == plain
    assert load_spec(BASE, {"distillation.teacher_logits.keep": "auto"}).hash == plain
    for path, value in {"teacher_logits.keep": "live", "teacher_logits.dtype": "float32"}.items():
        assert load_spec(BASE, {f"distillation.{path}": value}).hash != plain
    assert load_spec(BASE, {"data.views": 5}).hash != plain
