"""The hash names the results: the same for what does not change them, another for everything that does."""

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.spec import load_spec
from orchestrator.spec.base import expand_environment, location
from orchestrator.spec.experiment import SPEC_VERSION, RunSpec, digest
from orchestrator.spec.loading import to_yaml

BASE = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "distillation": {"temperature": {"method": "flsw", "beta": 20}},
    "search": {
        "num_samples": 4,
        "space": {"training.optimizer.lr": {"type": "loguniform", "low": 0.01, "high": 0.2}},
        "variants": {"kd": {"set": {"distillation.temperature": {"method": "constant"}}}, "dtd": {}},
    },
}
HASH = load_spec(BASE).hash


def _reversed(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: _reversed(tree[key]) for key in reversed(tree)}
    return tree


def test_the_order_of_keys_does_not_matter() -> None:
    assert load_spec(_reversed(BASE)).hash == HASH


def test_defaults_may_be_written_out() -> None:
    assert load_spec(load_spec(BASE).model_dump()).hash == HASH
    assert load_spec(BASE, {"training.optimizer": {"method": "sgd", "lr": 0.05}}).hash == HASH
    assert load_spec(BASE, {"distillation.temperature.min": 1}).hash == HASH
    assert load_spec(BASE, {"search.scheduler": {}}).hash == HASH


def test_whole_and_broken_numbers_of_the_same_value_are_the_same() -> None:
    assert load_spec(BASE, {"distillation.temperature.beta": 20.0}).hash == HASH


WRITTEN = """\
name: tiny
data: {{dataset: digits}}
teacher: {{model: resnet14}}
student: {{model: resnet8}}
distillation: {{temperature: {{method: constant, base: {four}}}}}
training: {{optimizer: {{weight_decay: {tenth}}}}}
search:
  space:
    training.optimizer.lr: {{type: choice, values: [{tenth}, {four}]}}
    distillation.ce_weight: {{type: quniform, low: {four}, high: 8, q: {tenth}}}
  variants:
    a: {{set: {{distillation.temperature.base: {four}, distillation.kd_weight: {tenth}}}}}
    b: {{set: {{distillation: {{temperature: {{method: constant, base: {four}}}}}}}}}
"""


@pytest.mark.parametrize(("tenth", "four"), [("1e-1", "4.0"), (".1", "4e0"), ("+0.10", "+4."), ("0.1000", "0.4E1")])
def test_how_a_number_is_written_does_not_matter(load, tenth: str, four: str) -> None:
    assert load(WRITTEN.format(tenth=tenth, four=four)).hash == load(WRITTEN.format(tenth="0.1", four="4")).hash


@given(st.data())
def test_neither_order_nor_style_of_the_yaml_matters(data: st.DataObject) -> None:
    def shuffled(tree: object) -> object:
        if isinstance(tree, dict):
            return {key: shuffled(tree[key]) for key in data.draw(st.permutations(list(tree)))}
        return tree

    text = yaml.safe_dump(shuffled(BASE), sort_keys=False, default_flow_style=data.draw(st.booleans()))
    assert load_spec(yaml.safe_load(text)).hash == HASH


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "other"),
        ("description", "What is asked."),
        ("resources.cpus_per_worker", 2),
        ("resources.num_workers", 4),
        ("resources.num_workers", [1, 4]),
        ("resources.placement", "spread"),
        ("resources.max_concurrent_trials", 3),
        ("budget.time_s", 60),
        ("budget.max_failures", 2),
        ("budget.student_epochs", 100),
        ("budget.when_spent", "stop"),
        ("budget.failures", {"max_retries": 1, "max_restarts": 0, "stop_after_alike": None}),
        ("tracking.uri", "http://localhost:5000"),
        ("tracking.experiment", "other"),
    ],
)
def test_what_does_not_change_results_does_not_change_the_hash(path: str, value: object) -> None:
    changed = load_spec(BASE, {path: value})
    assert changed != load_spec(BASE)
    assert changed.hash == HASH


def test_where_a_store_is_does_not_change_the_hash() -> None:
    named = load_spec(BASE, {"search.warm_start": {"mlflow": "earlier"}})
    moved = load_spec(BASE, {"search.warm_start": {"mlflow": "earlier", "uri": "http://localhost:5000"}})
    other = load_spec(BASE, {"search.warm_start": {"mlflow": "another"}})
    assert moved != named
    assert moved.hash == named.hash
    assert len({other.hash, named.hash, HASH}) == 3


CHANGES = {
    "seed": 1,
    "data.dataset": "fashion-mnist",
    "data.validation_fraction": 0.2,
    "data.train_samples": 100,
    "data.augmentation": "none",
    "teacher.model": "resnet20",
    "teacher.width": 0.5,
    "teacher.training": {"epochs": 3},
    "teacher.train_samples": 50,
    "student.model": "resnet14",
    "student.norm": "group",
    "student.stem_stride": 2,
    "distillation.ce_weight": 0.2,
    "distillation.kd_weight": 0.8,
    "distillation.temperature.beta": 21,
    "distillation.temperature.divide_by_mean": True,
    "distillation.adjustment.rule": "probability_shift",
    "training.epochs": 5,
    "training.batch_size": 32,
    "training.optimizer.weight_decay": 0.1,
    "training.optimizer": {"method": "adamw"},
    "training.schedule.gamma": 0.2,
    "training.precision": "float32",
    "training.gradient_clip": 1.0,
    "search.num_samples": 5,
    "search.sampler": "random",
    "search.scheduler": {"method": "asha"},
    "search.final_seeds": 1,
    "search.constraints": ["training.optimizer.lr <= 0.1"],
    "search.variants.third": {},
    "search.variants.dtd.set": {"training.epochs": 5},
    "search.space": {"training.optimizer.lr": {"type": "loguniform", "low": 0.01, "high": 0.3}},
}


@pytest.mark.parametrize("path", CHANGES)
def test_what_changes_results_changes_the_hash(path: str) -> None:
    assert load_spec(BASE, {path: CHANGES[path]}).hash != HASH


def test_all_changes_give_different_hashes_and_ids() -> None:
    specs = [load_spec(BASE, {path: value}) for path, value in CHANGES.items()]
    assert len({spec.hash for spec in specs}) == len(CHANGES)
    assert all(spec.id == f"tiny-{spec.hash[:8]}" for spec in specs)


def test_a_number_and_the_text_of_it_differ() -> None:
    numbers, texts = ([1, 2], ["1", "2"])
    spaces = [{"search.space": {"distillation.kd_weight": {"type": "choice", "values": numbers}}}]
    assert load_spec(BASE, spaces[0]).hash != HASH
    with pytest.raises(Exception, match="must be a number"):
        load_spec(BASE, {"search.space": {"distillation.kd_weight": {"type": "choice", "values": texts}}})


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(CHANGES)), st.none(), max_size=6))
def test_what_is_written_to_disk_loads_to_the_same_hash(paths: dict[str, None]) -> None:
    spec = load_spec(BASE, {path: CHANGES[path] for path in paths if path != "search.variants.dtd.set"})
    for content in (spec.model_dump(exclude_unset=True), spec.model_dump()):
        again = load_spec(BASE | json.loads(json.dumps(content)))
        assert again.hash == spec.hash
        assert again == spec


def test_the_yaml_on_disk_loads_to_the_same_hash(tmp_path) -> None:
    path = tmp_path / "spec.yaml"
    for change in (
        {},
        CHANGES | {"data.root": "~/ünïcode", "training.optimizer": {"method": "adamw", "weight_decay": 1e-7}},
    ):
        spec = load_spec(BASE, change)
        path.write_text(to_yaml(spec.model_dump(exclude_unset=True)), encoding="utf-8")
        assert load_spec(path).hash == spec.hash
        assert load_spec(path).model_dump() == spec.model_dump()
        # The first variant is the first line of every table.
        assert list(load_spec(path).search.variants) == list(spec.search.variants)


# Environment variables


def test_the_environment_is_read_where_a_value_is_used_and_never_before(monkeypatch) -> None:
    monkeypatch.setenv("DATA_ROOT", "/secret")
    spec = load_spec(BASE, {"data.root": "${env:DATA_ROOT}/digits", "tracking.uri": "http://u:${env:DATA_ROOT}@h"})
    dumped = to_yaml(spec.model_dump())
    assert spec.data.root == "${env:DATA_ROOT}/digits"
    assert "secret" not in dumped
    assert "${env:DATA_ROOT}" in dumped
    before = spec.hash
    monkeypatch.setenv("DATA_ROOT", "/elsewhere")
    assert load_spec(spec.model_dump()).hash == before
    monkeypatch.delenv("DATA_ROOT")
    assert load_spec(spec.model_dump()).hash == before


def test_using_a_value_expands_it(monkeypatch) -> None:
    monkeypatch.setenv("A_ROOT", "/data")
    monkeypatch.setenv("B2", "x y")
    assert expand_environment("${env:A_ROOT}/${env:B2}/$HOME/${A_ROOT}", "f") == "/data/x y/$HOME/${A_ROOT}"
    assert str(location("${env:A_ROOT}/a", "data.root")) == "/data/a"
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(location("~/a", "data.root")) == "/home/someone/a"


def test_a_value_of_the_environment_is_not_expanded_again(monkeypatch) -> None:
    monkeypatch.setenv("OUTER", "${env:INNER}")
    monkeypatch.setenv("INNER", "x")
    assert expand_environment("${env:OUTER}", "f") == "${env:INNER}"


def test_an_unset_variable_names_the_field(monkeypatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(UsageError, match=r"data\.root uses \$\{env:NOT_SET\}, but that variable is not set"):
        location("${env:NOT_SET}/x", "data.root")


def test_a_changed_default_raises_the_version() -> None:
    """Where this fails: raise `SPEC_VERSION` if the same spec now gives other results, and then set the digest anew."""
    defaults = RunSpec.model_validate({key: BASE[key] for key in ("data", "teacher", "student")})
    assert (SPEC_VERSION, digest(defaults.model_dump())) == (2, "17d47e6c2996e006")
