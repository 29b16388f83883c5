"""Specs from files, mappings and overrides: what is read, and what is refused before it is validated."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.errors import SpecError, UsageError
from orchestrator.spec import load_spec
from orchestrator.spec.experiment import assign
from orchestrator.spec.loading import parse_overrides, to_yaml

MINIMAL = """\
name: tiny
data: {dataset: digits}
teacher: {model: resnet14}
student: {model: resnet8}
"""
MAPPING = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
}


def test_a_minimal_spec_has_the_documented_defaults(load) -> None:
    spec = load(MINIMAL)
    assert (spec.name, spec.seed) == ("tiny", 0)
    assert (spec.data.dataset, spec.data.validation_fraction, spec.data.train_samples) == (
        "digits",
        0.1,
        None,
    )
    assert (spec.student.model, spec.student.width, spec.student.norm) == ("resnet8", 1.0, "batch")
    assert (spec.distillation.ce_weight, spec.distillation.kd_weight) == (0.1, 0.9)
    assert (spec.distillation.temperature.method, spec.distillation.temperature.base) == ("constant", 4.0)
    assert spec.distillation.adjustment.rule == "none"
    assert (spec.training.epochs, spec.training.batch_size) == (240, 64)
    assert (spec.training.optimizer.method, spec.training.schedule.method) == ("sgd", "step")
    assert (spec.search.metric, spec.search.mode, spec.search.final_seeds) == ("val/acc1", "max", 3)
    assert (spec.search.space, spec.search.variants) == ({}, {})
    assert spec.resources.max_concurrent_trials is None
    assert (spec.budget.time_s, spec.tracking.uri) == (None, None)


def test_a_mapping_is_read_like_a_file_and_left_as_it_is(load) -> None:
    spec = load_spec(MAPPING, {"training.epochs": 3})
    assert spec == load(MINIMAL, ["training.epochs=3"])
    assert MAPPING == {
        "name": "tiny",
        "data": {"dataset": "digits"},
        "teacher": {"model": "resnet14"},
        "student": {"model": "resnet8"},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5), ("5.", 5.0), ("+2", 2), ("3", 3), ("0.25", 0.25)],
)
def test_numbers_of_yaml_1_2(load, text: str, value: float) -> None:
    assert load(MINIMAL + f"training: {{optimizer: {{lr: {text}}}}}\n").training.optimizer.lr == value


@pytest.mark.parametrize("text", ["no", "yes", "on", "off", "n", "y"])
def test_words_are_text_and_not_booleans(problems, text: str) -> None:
    (problem,) = problems(MINIMAL + f"training:\n  optimizer: {{nesterov: {text}}}\n")
    assert (problem.path, problem.value, problem.line) == ("training.optimizer.nesterov", text, 6)
    assert problem.rule == "must be true or false"


def test_a_model_named_no_is_not_false(problems) -> None:
    (problem,) = problems(MINIMAL.replace("resnet8", "no"))
    assert (problem.path, problem.value) == ("student.model", "no")


@pytest.mark.parametrize("text", ["1e-3", "0x10", "0o17", "1_000", "2001-01-01", "12:30:45"])
def test_what_yaml_1_1_or_a_quote_would_make_of_it_is_no_number(problems, text: str) -> None:
    quoted = f"'{text}'" if text == "1e-3" else text
    (problem,) = problems(MINIMAL + f"training: {{optimizer: {{lr: {quoted}}}}}\n")
    assert (problem.path, problem.value, problem.rule) == ("training.optimizer.lr", text, "must be a number")


def test_a_key_given_twice_is_refused_with_the_second_line(problems) -> None:
    found = problems(MINIMAL + "training:\n  epochs: 3\n  optimizer: {lr: 1, lr: 2}\n  epochs: 4\n")
    assert [(p.path, p.line, p.rule) for p in found] == [
        ("training.optimizer.lr", 7, "is given twice"),
        ("training.epochs", 8, "is given twice"),
    ]


@pytest.mark.parametrize("key", ["1", "true", "null", "1.5", "[a, b]", "{a: b}"])
def test_keys_must_be_text(problems, key: str) -> None:
    (problem,) = problems(MINIMAL + f"training:\n  ? {key}\n  : 3\n")
    assert (problem.path, problem.line) == ("training", 6)
    assert "not text" in problem.rule


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just text\n", "3\n", "null\n"])
def test_a_file_that_is_no_mapping(problems, text: str) -> None:
    (problem,) = problems(text)
    assert problem.path == ""
    assert "must be a mapping" in problem.rule


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.yaml: 1 problem\n.*there is no such file"):
        load_spec(tmp_path / "absent.yaml")


def test_a_folder_and_a_binary_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"name: \xff\xfe\n")
    for path in (tmp_path, tmp_path / "binary"):
        with pytest.raises(SpecError, match="the file cannot be read"):
            load_spec(path)


@pytest.mark.parametrize(
    ("text", "line"),
    [("name: a\ndata: [1,\n", 3), ("name: a\n\tb: 1\n", 2), ("a: b: c\n", 1), ("a: 1\n---\nb: 2\n", 2)],
)
def test_invalid_yaml_names_the_line(problems, text: str, line: int) -> None:
    (problem,) = problems(text)
    assert problem.rule.startswith("is not valid YAML: ")
    assert problem.line == line


@pytest.mark.parametrize("value", ["!!int abc", "!!float abc", "!!bool maybe", "!!int [1]", "9" * 5000])
def test_scalars_that_are_not_what_they_say(problems, value: str) -> None:
    (problem,) = problems(MINIMAL + f"seed: {value}\n")
    assert problem.rule.startswith("is not valid YAML: ")
    assert problem.line == 5


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system [touch {file}]",
        "!!python/object/new:subprocess.Popen [[touch, {file}]]",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!timestamp 2001-01-01",
        "!!binary aGk=",
        "!!set {{a}}",
        "!env HOME",
    ],
)
def test_tags_are_refused_and_nothing_is_run(problems, tmp_path: Path, tag: str) -> None:
    proof = tmp_path / "was-run"
    (problem,) = problems(MINIMAL + "tracking: " + tag.format(file=proof) + "\n")
    assert problem.line == 5
    assert "could not determine a constructor for the tag" in problem.rule
    assert not proof.exists()
    with pytest.raises(UsageError, match="could not determine a constructor"):
        parse_overrides(["tracking=" + tag.format(file=proof)])
    assert not proof.exists()


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(SpecError, match="larger than 1000000 bytes"):
        load_spec(path)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: " + "[" * 20_000, "nested too deeply"),
        ("a: " + "{b: " * 5000 + "1" + "}" * 5000, "nested too deeply"),
        (BOMB, "more than 100000 values"),
        ("a: &a [*a]\n", "more than 100000 values"),
        ("a: &a {b: *a}\n", "more than 100000 values"),
    ],
)
def test_nesting_and_alias_bombs_end_in_an_error(problems, text: str, rule: str) -> None:
    (problem,) = problems(text)
    assert rule in problem.rule


@pytest.mark.timeout(20)
def test_bombs_in_overrides_end_in_an_error() -> None:
    with pytest.raises(UsageError, match="nested too deeply"):
        parse_overrides(["seed=" + "[" * 20_000])
    flow = "{" + BOMB.replace("\n", ", ") + "}"
    with pytest.raises(UsageError, match="more than 100000 values"):
        parse_overrides(["seed=" + flow])


def test_aliases_repeat_a_section(load) -> None:
    spec = load(MINIMAL.replace("{model: resnet14}", "{model: resnet14, training: &t {epochs: 7}}") + "training: *t\n")
    assert spec.teacher.training.epochs == spec.training.epochs == 7


# Overrides


def test_overrides_set_values_and_whole_sections(load) -> None:
    spec = load(
        MINIMAL + "distillation: {temperature: {method: flsw, gamma: 2}}\n",
        [
            "seed=7",
            "training.optimizer.lr=1e-3",
            "distillation.temperature={method: cwsm, beta: 3}",
            "training={epochs: 9, optimizer: {momentum: 0.5}}",
            "search.constraints=[]",
            "tracking.uri=sqlite:///a=b.db",
        ],
    )
    assert spec.seed == 7
    assert (spec.distillation.temperature.method, spec.distillation.temperature.beta) == ("cwsm", 3.0)
    # Sections before their fields, whatever the order on the line.
    assert (spec.training.epochs, spec.training.optimizer.lr, spec.training.optimizer.momentum) == (
        9,
        0.001,
        0.5,
    )
    assert spec.tracking.uri == "sqlite:///a=b.db"


def test_an_override_that_breaks_a_rule_has_no_line_of_the_file(problems) -> None:
    (problem,) = problems(MINIMAL + "training:\n  epochs: 3\n", ["training.epochs=0"])
    assert (problem.path, problem.value) == ("training.epochs", 0)
    assert problem.line is None
    (problem,) = problems(MINIMAL, ["student.modle=resnet8"])
    assert (problem.path, problem.hint, problem.line) == ("student.modle", "did you mean 'model'?", None)


@pytest.mark.parametrize("text", ["training.epochs", "=3", "", "training..epochs=3", "training.=3", ".seed=3", " =3"])
def test_overrides_of_another_form(text: str) -> None:
    with pytest.raises(UsageError, match="not of the form path=value"):
        parse_overrides([text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed=[1", "not valid YAML"),
        ("seed=1: 2: 3", "not valid YAML"),
        ("training={epochs: 1, epochs: 2}", "given twice"),
    ],
)
def test_overrides_with_a_bad_value(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_overrides([text])
    assert repr(text) in str(caught.value)


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@example("1e3")
@example({"a\x85b": ["\u2028", "x\u2029\n y"]})
@example({"0E0": None, "no": "yes", "k": "0x1F", "d": "2001-01-01"})
@given(JSON)
def test_written_yaml_is_read_back_as_it_was(value: object) -> None:
    read = parse_overrides(["x=" + to_yaml(value)])["x"]
    assert read == value
    assert type(read) is type(value)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), JSON)
def test_assigning_copies(tree: dict, value: object) -> None:
    before = repr(tree)
    changed = assign(tree, {"a.b.c": value, "a": {"b": {"d": 1}}})
    assert repr(tree) == before
    assert changed["a"] == {"b": {"d": 1, "c": value}}
    assert {key: tree[key] for key in tree if key != "a"} == {key: changed[key] for key in changed if key != "a"}
