"""Errors: what the user reads, the exit code, and their way between processes."""

import pickle

import pytest

from orchestrator import errors
from orchestrator.errors import DivergenceError, OrchestratorError, Problem, SpecError

EXAMPLES = [
    OrchestratorError("it broke", hint="mend it"),
    SpecError([Problem("seed", "must be >= 0", -1, has_value=True, line=3)], "a.yaml"),
    errors.UsageError("no such name", hint="known: a"),
    errors.RegistryError("there is no model 'x'"),
    errors.DataError("no files"),
    errors.CheckpointError("damaged"),
    errors.BuildError("the images are too small"),
    errors.TeacherError("damaged", hint="remove it"),
    errors.TrackingError("unreachable"),
    errors.StorageError("unreachable", hint="look", passing=True),
    errors.ResourceError("too large", hint="take less"),
    DivergenceError("the loss", epoch=2, step=7),
]


def test_every_error_is_covered() -> None:
    defined = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert defined == {type(error) for error in EXAMPLES}
    assert all(issubclass(error, OrchestratorError) for error in defined)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_travel_between_processes(error: OrchestratorError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_the_hint_is_on_its_own_line() -> None:
    assert str(OrchestratorError("it broke")) == "it broke"
    assert str(OrchestratorError("it broke", hint="mend it")) == "it broke\n  mend it"


def test_exit_codes() -> None:
    codes = {type(error).__name__: error.exit_code for error in EXAMPLES}
    before_anything_starts = {"SpecError", "UsageError", "RegistryError", "BuildError", "ResourceError"}
    assert codes == {name: 2 if name in before_anything_starts else 1 for name in codes}


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("", "there is no such file"), "spec: there is no such file"),
        (Problem("seed", "is required", line=3), "seed (line 3): is required"),
        (Problem("a.b", "must be > 0", 0, has_value=True), "a.b: 0: must be > 0"),
        (Problem("a", "unknown key", hint="did you mean 'b'?"), "a: unknown key; did you mean 'b'?"),
        (Problem("a", "must be text", None, has_value=True), "a: null: must be text"),
        (Problem("a", "must be text", True, has_value=True), "a: true: must be text"),
    ],
)
def test_a_problem_reads_as_path_line_value_rule_hint(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_a_spec_error_counts_its_problems() -> None:
    problem = Problem("a", "is required")
    assert str(SpecError([problem], "x.yaml")).splitlines() == ["x.yaml: 1 problem", "  a: is required"]
    assert str(SpecError([problem, problem])).splitlines()[0] == "spec: 2 problems"


def test_divergence_tells_where_and_what_to_try() -> None:
    error = DivergenceError("the loss", epoch=2, step=7)
    assert "the loss became NaN or infinite in epoch 2, step 7" in str(error)
    assert "training.optimizer.lr" in str(error)
    assert (error.epoch, error.step) == (2, 7)
