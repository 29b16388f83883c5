"""The JSON Schema that editors check specs with agrees with the loader."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.errors import SpecError
from orchestrator.spec import ExperimentSpec, load_spec
from orchestrator.spec.experiment import assign

SPECS = sorted((Path(__file__).parents[2] / "specs").rglob("*.yaml"))
BASE = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(json.dumps(ExperimentSpec.model_json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_field_of_every_section_is_described() -> None:
    schema = ExperimentSpec.model_json_schema()
    sections = {"ExperimentSpec": schema, **schema["$defs"]}

    def described(field: dict) -> bool:
        section = sections.get(field.get("$ref", "").rpartition("/")[2], {})
        return len(field.get("description") or section.get("description", "")) > 10

    lacking = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, field in section.get("properties", {}).items()
        if not described(field)
    ]
    assert {"Mutual", "Contrastive", "DKDLoss", "AugmentationSpec", "LabelNoiseSpec"} <= set(sections)
    assert lacking == []


def test_a_method_is_described_by_what_its_section_is() -> None:
    methods = {
        name: section["properties"]["method"]["description"]
        for name, section in ExperimentSpec.model_json_schema()["$defs"].items()
        if name in ("BornAgain", "DISTLoss")
    }
    assert methods["BornAgain"].startswith("Students of one architecture")
    assert "Correlations" in methods["DISTLoss"]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_example_specs_are_valid(validator, path: Path) -> None:
    content = json.loads(json.dumps(load_spec(path).model_dump(exclude_unset=True)))
    validator.validate(content)
    validator.validate(json.loads(json.dumps(load_spec(path).model_dump())))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"distillation.temperature": {}},
        {"distillation.temperature": {"base": 3}},
        {"distillation.temperature": {"method": "constant"}},
        {"distillation.temperature": {"method": "flsw", "gamma": 2}},
        {"distillation.temperature": {"method": "cwsm"}},
        {"distillation.adjustment": {"rule": "none"}},
        {"distillation.adjustment": {"rule": "label_smoothing", "epsilon": 0.2}},
        {"training.optimizer": {"method": "adamw"}},
        {"training.schedule": {"method": "cosine", "min_factor": 0.1}},
        {"training.schedule": {"warmup_epochs": 2}},
        {"search.scheduler": {"method": "asha"}},
        {"search.variants": {"a": {"set": {"training.epochs": 3}}}},
        {"search.space": {"training.epochs": {"type": "randint", "low": 1, "high": 3}}},
    ],
)
def test_both_accept(validator, values: dict) -> None:
    content = assign(BASE, values)
    load_spec(copy.deepcopy(content))
    validator.validate(content)


@pytest.mark.parametrize(
    "values",
    [
        {"trainig": {}},
        {"student.modle": "resnet8"},
        {"distillation.temperature": {"method": "flsw", "gama": 2}},
        {"distillation.temperature": {"method": "constant", "gamma": 2}},
        {"distillation.adjustment": {"rule": "none", "epsilon": 0.1}},
        {"training.epochs": 0},
        {"training.epochs": "3"},
        {"training.optimizer": {"lr": -1}},
        {"training.optimizer": {"method": "sdg"}},
        {"search.space": {"training.epochs": {"type": "randit", "low": 1, "high": 3}}},
        {"search.sampler": "bogo"},
        {"name": "a/b"},
        {"resources.num_workers": 0},
        {"resources.num_workers": [1, 2, 3]},
        {"search.variants": {"a/b": {}}},
        {"search.variants": {"-a": {}}},
        {"search.variants": {"x" * 41: {}}},
    ],
)
def test_both_refuse(validator, values: dict) -> None:
    content = assign(BASE, values)
    with pytest.raises(SpecError):
        load_spec(copy.deepcopy(content))
    assert not validator.is_valid(content)


def test_a_typo_in_an_example_is_refused(validator) -> None:
    content = yaml.safe_load(SPECS[0].read_text())
    content["studnet"] = content.pop("student")
    assert not validator.is_valid(content)


def test_every_field_is_described() -> None:
    schema = ExperimentSpec.model_json_schema()
    for name, model in {"ExperimentSpec": schema, **schema["$defs"]}.items():
        assert name == "JsonValue" or model.get("description"), name
        for field, content in model.get("properties", {}).items():
            plain = field not in ("method", "rule", "type", "options", "low", "high")
            assert not plain or "$ref" in content or content.get("description"), f"{name}.{field}"
