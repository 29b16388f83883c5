"""What a wrong spec is told: dotted path, value, rule, hint and line, every problem at once."""

import math
from typing import Literal

import pytest
from pydantic import ValidationError

from orchestrator.catalog import DATASETS, TEMPERATURES
from orchestrator.errors import Problem, SpecError
from orchestrator.spec import load_spec
from orchestrator.spec.base import Section
from orchestrator.spec.problems import problems_of

HEAD = """\
name: tiny
data: {dataset: digits}
teacher: {model: resnet14}
student: {model: resnet8}
"""


@pytest.mark.parametrize(
    ("text", "path", "line", "rule", "hint"),
    [
        # Unknown keys, with the nearest name or all there are.
        ("trainig: {epochs: 3}\n", "trainig", 5, "unknown key", "did you mean 'training'?"),
        (
            "training:\n  epochs: 3\n  batchsize: 4\n",
            "training.batchsize",
            7,
            "unknown key",
            "did you mean 'batch_size'?",
        ),
        (
            "resources:\n  colour: red\n",
            "resources.colour",
            6,
            "unknown key",
            "known: cpus_per_worker, custom_resources, gpus_per_worker, max_concurrent_trials, num_workers, placement, "
            "share, teacher_logits_gb",
        ),
        # A section's form decides which keys it may have.
        (
            "distillation:\n  temperature:\n    method: constant\n    gamma: 2\n",
            "distillation.temperature.gamma",
            8,
            "unknown key",
            "known: base, method",
        ),
        (
            "distillation:\n  temperature:\n    method: flsw\n    gama: 2\n",
            "distillation.temperature.gama",
            8,
            "unknown key",
            "did you mean 'gamma'?",
        ),
        (
            "training:\n  optimizer:\n    momentun: 0\n",
            "training.optimizer.momentun",
            7,
            "unknown key",
            "did you mean 'momentum'?",
        ),
        (
            "training:\n  optimizer: {method: adamw,\n    momentum: 0}\n",
            "training.optimizer.momentum",
            7,
            "unknown key",
            "known: lr, method, weight_decay",
        ),
        # Names of forms.
        (
            "training:\n  optimizer:\n    method: sdg\n",
            "training.optimizer.method",
            7,
            "must be one of 'sgd', 'adamw'",
            "did you mean 'sgd'?",
        ),
        (
            "search:\n  scheduler:\n    method: ashaa\n",
            "search.scheduler.method",
            7,
            "must be one of 'none', 'asha', 'median', 'hyperband', 'bohb', 'pbt', 'pb2'",
            "did you mean 'asha'?",
        ),
        (
            "search:\n  space:\n    training.epochs:\n      type: unifrom\n      low: 1\n      high: 2\n",
            "search.space.training.epochs.type",
            8,
            "must be one of 'uniform', 'loguniform', 'quniform', 'randint', 'qrandint', 'lograndint', 'choice'",
            "did you mean 'uniform'?",
        ),
        (
            "search:\n  space:\n    training.epochs: {low: 1, high: 2}\n",
            "search.space.training.epochs.type",
            7,
            "needs the key 'type'",
            None,
        ),
        # Names of methods, models and data sets.
        (
            "distillation: {temperature: {method: flws}}\n",
            "distillation.temperature.method",
            5,
            "is not a known temperature; did you mean 'flsw'? known: constant, cwsm, flsw",
            None,
        ),
        (
            "distillation: {adjustment: {rule: shift}}\n",
            "distillation.adjustment.rule",
            5,
            "is not a known adjustment; known: label_smoothing, none, probability_shift",
            None,
        ),
        # Where a form is not known, neither are its keys.
        (
            "distillation:\n  temperature: {method: flws, base: 3, beta: 20, gama: 1}\n",
            "distillation.temperature.method",
            6,
            "is not a known temperature; did you mean 'flsw'? known: constant, cwsm, flsw",
            None,
        ),
        (
            "distillation:\n  adjustment: {rule: label_smooting, epsilon: 0.1}\n",
            "distillation.adjustment.rule",
            6,
            "is not a known adjustment; did you mean 'label_smoothing'? "
            "known: label_smoothing, none, probability_shift",
            None,
        ),
        (
            "search:\n  scheduler: {method: foo, grace_period: 3}\n",
            "search.scheduler.method",
            6,
            "must be one of 'none', 'asha', 'median', 'hyperband', 'bohb', 'pbt', 'pb2'",
            None,
        ),
    ],
)
def test_one_problem(problems, text: str, path: str, line: int, rule: str, hint: str | None) -> None:
    (problem,) = problems(HEAD + text)
    assert (problem.path, problem.line, problem.rule, problem.hint) == (path, line, rule, hint)


@pytest.mark.parametrize(
    ("text", "path", "line", "rule"),
    [
        ("name: tiny\nstudent: {model: resnet8}\nteacher: {model: resnet8}\n", "data", None, "is required"),
        (
            "data:\n  root: x\nname: a\nstudent: {model: resnet8}\nteacher: {model: resnet8}\n",
            "data.dataset",
            1,
            "is required",
        ),
        (HEAD.replace("name: tiny\n", ""), "name", None, "is required"),
        (
            HEAD.replace("teacher: {model: resnet14}\n", ""),
            "teacher",
            None,
            "is needed where distillation.kd_weight is above 0 or there are features",
        ),
        (
            HEAD.replace("name: tiny", "name: a/b"),
            "name",
            1,
            "must begin with a letter (a to z) or digit and go on with letters, digits, . _ or -",
        ),
        (HEAD.replace("name: tiny", "name: " + "x" * 61), "name", 1, "must have at most 60 characters"),
        (
            HEAD.replace("resnet14}", "resnet14, checkpoint: x.safetensors, train_samples: 5}"),
            "teacher.train_samples",
            3,
            "has no effect with teacher.checkpoint; remove one",
        ),
        (
            HEAD.replace("digits", "digit"),
            "data.dataset",
            2,
            f"is not a known dataset; did you mean 'digits'? known: {', '.join(DATASETS)}",
        ),
    ],
)
def test_one_problem_of_the_head(problems, text: str, path: str, line: int | None, rule: str) -> None:
    (problem,) = problems(text)
    assert (problem.path, problem.line, problem.rule) == (path, line, rule)


def test_an_unknown_model_lists_the_known_ones(problems) -> None:
    (problem,) = problems(HEAD.replace("resnet8", "resnet21"))
    assert (problem.path, problem.line, problem.value) == ("student.model", 4, "resnet21")
    assert "did you mean 'resnet20'?" in problem.rule
    assert "resnet8" in problem.rule
    assert "resnet110" in problem.rule


def test_the_value_is_told(problems) -> None:
    (problem,) = problems(HEAD + "training: {optimizer: {lr: -0.5}}\n")
    assert problem.has_value
    assert problem.value == -0.5
    assert str(problem) == "training.optimizer.lr (line 5): -0.5: must be > 0.0"
    (problem,) = problems(HEAD + "training: {optimizer: {lr: .nan}}\n")
    assert math.isnan(problem.value)


def test_all_problems_are_told_together_in_the_order_of_the_file(problems) -> None:
    found = problems(
        "name: a b\n"
        "seed: -3\n"
        "data:\n"
        "  dataset: digit\n"
        "  sead: 1\n"
        "student: {model: resnet8, width: 0}\n"
        "teacher:\n"
        "  model: resnet14\n"
        "  training: {epochs: x}\n"
        "distillation:\n"
        "  temperature: {method: flsw, gamma: -1, beta: .inf}\n"
        "search:\n"
        "  num_samples: 0\n"
    )
    assert [(problem.path, problem.line) for problem in found] == [
        ("name", 1),
        ("seed", 2),
        ("data.dataset", 4),
        ("data.sead", 5),
        ("student.width", 6),
        ("teacher.training.epochs", 9),
        ("distillation.temperature.beta", 11),
        ("distillation.temperature.gamma", 11),
        ("search.num_samples", 13),
    ]


def test_the_message_has_the_source_and_one_line_a_problem(tmp_path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(HEAD + "seed: x\ntrainin: {}\n")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert str(caught.value).splitlines() == [
        f"{path}: 2 problems",
        "  seed (line 5): 'x': must be a whole number",
        "  trainin (line 6): unknown key; did you mean 'training'?",
    ]


def test_an_unknown_form_hides_its_own_keys_and_nothing_else(problems) -> None:
    found = problems(
        HEAD + "distillation:\n  temperature: {method: flws, bsae: 3}\n  kd_wieght: 1\ntraining: {epocs: 3}\n"
    )
    assert [problem.path for problem in found] == [
        "distillation.temperature.method",
        "distillation.kd_wieght",
        "training.epocs",
    ]
    # A model is no form: its section has the keys that it has.
    found = problems(HEAD.replace("resnet8}", "resnet9, widht: 1}"))
    assert [problem.path for problem in found] == ["student.model", "student.widht"]


def test_the_keys_of_a_plugin_are_its_own(problems, monkeypatch) -> None:
    monkeypatch.setitem(TEMPERATURES._entries, "mine", "math:tau")
    (problem,) = problems(HEAD + "distillation:\n  temperature: {method: mine, base: 3}\n")
    assert (problem.path, problem.hint) == ("distillation.temperature.base", "known: method, options")


def test_a_rule_about_what_is_absent_shows_no_value(problems) -> None:
    (problem,) = problems(HEAD.replace("teacher: {model: resnet14}\n", ""))
    assert str(problem).startswith("teacher: is needed where distillation.kd_weight is above 0")


class _Part(Section):
    method: Literal["part"]
    size: int = 1


class _Whole(Section):
    parts: list[_Part]


def test_keys_in_a_list_of_sections_are_told_with_their_place() -> None:
    raw = {"parts": [{"method": "part"}, {"method": "part", "sise": 2}]}
    with pytest.raises(ValidationError) as caught:
        _Whole.model_validate(raw)
    (problem,) = problems_of(caught.value, _Whole, raw)
    assert (problem.path, problem.hint) == ("parts.1.sise", "did you mean 'size'?")


def test_a_mapping_has_no_lines() -> None:
    with pytest.raises(SpecError) as caught:
        load_spec({"name": "a", "data": {"dataset": "digits"}, "student": {"model": "resnet8"}, "sed": 1})
    assert [(problem.path, problem.line) for problem in caught.value.problems] == [("sed", None)]
    assert str(caught.value).startswith("spec: 1 problem\n")


@pytest.mark.parametrize("kind", [(1, 2), {1: 2}, object(), b"x", 1 + 2j])
def test_a_mapping_of_other_things_than_data_is_refused(kind: object) -> None:
    with pytest.raises(SpecError):
        load_spec({"name": "a", "data": {"dataset": "digits"}, "student": {"model": "resnet8"}, "training": kind})


def test_long_values_are_shortened() -> None:
    text = str(Problem("a", "must be short", "x" * 1000, has_value=True))
    assert len(text) < 120
    assert "..." in text
