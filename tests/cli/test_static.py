"""validate, plan, schema and help: what they print, where, and their exit codes."""

import json
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import orchestrator
from orchestrator.cli import main

SPEC = """\
name: tiny
data: {dataset: digits}
teacher: {model: resnet14}
student: {model: resnet8}
training: {epochs: 5}
search:
  sampler: random
  num_samples: 4
  space: {training.optimizer.lr: {type: loguniform, low: 0.01, high: 0.2}}
  variants:
    kd: {}
    dtd: {set: {distillation.temperature: {method: flsw}}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text(SPEC.replace("epochs", "epocs") + "seed: .nan\n")
    return path


@pytest.fixture
def run(capsys, monkeypatch) -> Any:
    """Runs a command in this process; gives its exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return run


def outside(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


# As a process


def test_a_good_spec_in_a_process_of_its_own(spec: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    done = outside("validate", spec, cwd=tmp_path)
    assert time.monotonic() - started < 5
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{spec}: valid; experiment tiny-")
    # Nothing is written by looking.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.yaml"]


def test_a_bad_spec_in_a_process_of_its_own(bad: Path) -> None:
    done = outside("validate", bad)
    assert (done.returncode, done.stdout) == (2, "")
    assert "training.epocs (line 5): unknown key; did you mean 'epochs'?" in done.stderr
    assert "seed (line 13): nan: must be a" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(bad: Path) -> None:
    done = outside("validate", bad, "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "SpecError" in done.stderr


def test_versions_are_told_without_loading_what_they_are_of() -> None:
    probe = (
        "import sys; from orchestrator.cli import main\n"
        "try: main(['--version'])\n"
        "finally: print(sorted({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    versions = {name: metadata.version(name) for name in ("torch", "ray", "mlflow")}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    assert (done.returncode, done.stdout) == (0, f"orchestrator {orchestrator.__version__} ({told})\n[]\n")
    assert orchestrator.__version__ == metadata.version("distillation-orchestrator")


# In this process


def test_validate_as_json(run, spec: Path, bad: Path, tmp_path: Path) -> None:
    code, out, err = run("validate", spec, "--format", "json")
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert data["valid"] is True
    assert data["name"] == "tiny"
    assert data["id"] == f"tiny-{data['hash'][:8]}"

    code, out, err = run("validate", bad, "--format", "json")
    assert (code, err) == (2, "")
    data = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert data["valid"] is False
    first, second = data["problems"]
    assert first == {
        "path": "training.epocs",
        "rule": "unknown key",
        "value": None,
        "has_value": False,
        "hint": "did you mean 'epochs'?",
        "line": 5,
    } | {"value": first["value"]}
    assert (second["path"], second["line"], second["value"]) == ("seed", 13, "nan")

    code, out, err = run("validate", tmp_path / "absent.yaml", "--format", "json")
    assert code == 2
    assert json.loads(out)["problems"][0]["rule"] == "there is no such file"


def test_overrides_reach_the_spec(run, spec: Path) -> None:
    _, plain, _ = run("validate", spec, "--format", "json")
    code, changed, _ = run("validate", spec, "--set", "seed=3", "--set", "name=other", "--format", "json")
    assert code == 0
    assert json.loads(changed)["name"] == "other"
    assert json.loads(changed)["hash"] != json.loads(plain)["hash"]
    code, out, err = run("validate", spec, "--set", "training.epochs=-1")
    assert (code, out) == (2, "")
    assert "training.epochs: -1: must be >= 1" in err.replace("\n", " ")


def test_a_plan_for_a_larger_machine_is_shown_and_refused_only_to_run(run, spec: Path) -> None:
    larger = ("--set", "resources.cpus_per_worker=4000")
    code, out, err = run("plan", spec, *larger)
    assert (code, err) == (0, "")
    assert "8 search trials" in out
    last = out[out.rindex("does not fit this machine: ") :]
    assert "a trial needs 4000 CPUs (resources.cpus_per_worker, gpus_per_worker)" in " ".join(last.split())
    code, out, _ = run("plan", spec, *larger, "--format", "json")
    data = json.loads(out)
    assert (code, data["concurrent_trials"], data["search_trials"]) == (0, None, 8)
    assert data["does_not_fit"].startswith("a trial needs 4000 CPUs")
    code, _, err = run("run", spec, *larger)
    assert code == 2
    assert "a trial needs 4000 CPUs" in " ".join(err.split())


def test_plan_as_json_and_as_a_table(run, spec: Path) -> None:
    code, out, err = run("plan", spec, "--format", "json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert (data["search_trials"], data["final_trials"], data["student_epochs"]) == (8, 6, 70)
    assert [variant["name"] for variant in data["variants"]] == ["kd", "dtd"]
    assert data["concurrent_trials"] >= 1
    assert data["does_not_fit"] is None

    code, out, err = run("plan", spec)
    assert (code, err) == (0, "")
    for text in (
        "tiny (tiny-",
        "teacher resnet14 will be trained for 5 epochs",
        "training.optimizer.lr",
        "loguniform 0.01 to 0.2",
        "8 search trials",
        "6 final runs",
        "70 student-epochs",
    ):
        assert text in out


def test_plan_says_what_is_uneven_and_what_is_not_installed(tmp_path: Path, run, monkeypatch) -> None:
    path, start = tmp_path / "grid.yaml", SPEC.partition("search:")[0]
    flsw = {"distillation.temperature": {"method": "flsw"}}
    arms = {
        "kd": {},
        "dtd": {"set": flsw, "space": {"distillation.temperature.max": {"type": "choice", "values": [6, 8, 10, 12]}}},
        "fixed": {"set": {"training.optimizer.lr": 0.1}},
    }
    search = {"sampler": "grid", "space": {"training.optimizer.lr": {"type": "choice", "values": [0.1, 0.2, 0.3]}}}
    path.write_text(f"{start}search: {json.dumps({**search, 'variants': arms})}")
    told = "Variants differ in search trials: 12 of dtd; 3 of kd; 1 of fixed."
    assert told in run("plan", path)[1]
    assert told in json.loads(run("plan", path, "--format", "json")[1])["notes"][-1]
    monkeypatch.setitem(sys.modules, "hyperopt", None)
    lr = {"training.optimizer.lr": {"type": "uniform", "low": 0.1, "high": 0.2}}
    path.write_text(f"{start}search: {json.dumps({'sampler': 'hyperopt', 'space': lr})}")
    out = run("plan", path)[1]
    assert "hyperopt is not installed: pip install" in out
    assert "Variants differ" not in out


def test_plan_tells_the_size_of_each_network(run, spec: Path) -> None:
    changes = ("--set", "data.dataset=fashion-mnist", "--set", "student.width=0.25", "--set", "student.stem_stride=2")
    code, out, _ = run("plan", spec, *changes)
    assert code == 0
    assert "Student resnet8 (width 0.25, stem_stride 2): 5.14 k parameters, 165 k multiply-adds an image\n" in out
    assert "Teacher resnet14: 175 k parameters, 20.2 M multiply-adds an image\n" in out
    _, out, _ = run("plan", spec, *changes, "--format", "json")
    data = json.loads(out)
    assert [variant["parameters"] for variant in data["variants"]] == [5142, 5142]
    assert data["teachers"][0]["multiply_adds"] == 20_183_936


def test_plan_is_silent_on_sizes_that_it_does_not_know(run, spec: Path) -> None:
    changes = ("--set", "student.width=0.3", "--set", "teacher={model: torchvision/resnet18, small_images: true}")
    code, out, _ = run("plan", spec, *changes)
    assert (code, "parameters" in out) == (0, False)
    _, out, _ = run("plan", spec, *changes, "--format", "json")
    data = json.loads(out)
    told = [(part["parameters"], part["multiply_adds"]) for part in (*data["variants"], *data["teachers"])]
    assert told == [(None, None)] * 3


def test_schema_is_a_json_schema_of_specs(run) -> None:
    code, out, err = run("schema")
    assert (code, err) == (0, "")
    schema = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {"name", "data", "student"} <= set(schema["required"])


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["validate", "--help"], ["plan", "-h"], ["run", "--help"]])
def test_help(run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert "Usage: orchestrator" in out


def test_help_begins_with_examples_and_lists_the_commands(run) -> None:
    _, out, _ = run("--help")
    for text in (
        "orchestrator run specs/quickstart.yaml",
        "validate",
        "plan",
        "run",
        "results",
        "status",
        "list",
        "schema",
    ):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validat"], "No such command 'validat'"),
        (["validate"], "Missing argument"),
        (["validate", "SPEC", "--sett", "a=1"], "No such option"),
        (["validate", "SPEC", "--quiet", "--verbose"], "--quiet and --verbose exclude each other"),
        (["--quiet", "validate", "SPEC", "-v"], "--quiet and --verbose exclude each other"),
        (["validate", "SPEC", "--format", "xml"], "'xml' is not one of 'table', 'json'"),
        (["validate", "SPEC", "extra"], "unexpected extra argument"),
        (["validate", "SPEC", "--set", "epochs"], "--set 'epochs' is not of the form path=value"),
        (["validate", "SPEC", "--set", "seed=[1"], "not valid YAML"),
        (["validate", "absent.yaml"], "there is no such file"),
        (["plan", "absent.yaml"], "there is no such file"),
        (["run", "absent.yaml"], "there is no such file"),
        (["run", "SPEC", "--resume", "--fresh"], "--resume and --fresh exclude each other"),
    ],
)
def test_wrong_use_is_exit_code_2_and_no_traceback(
    run, spec: Path, tmp_path: Path, monkeypatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*(str(spec) if argument == "SPEC" else argument for argument in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.yaml"]


def test_without_a_command_the_help_is_shown(run) -> None:
    code, out, err = run()
    assert code == 2
    assert "Usage: orchestrator" in out + err


@pytest.mark.parametrize("command", [["validate"], ["plan"], ["run"], ["submit", "--address", "http://127.0.0.1:9"]])
def test_a_password_is_refused_kept_nowhere_and_not_shown(run, spec: Path, tmp_path: Path, command: list[str]) -> None:
    uri = "postgresql://me:planted-secret@db/mlflow"
    home = tmp_path / "home"
    for form in ("table", "json"):
        words = [*command, spec, "--set", f"tracking.uri={uri}", "--format", form]
        code, out, err = run(*words, *([] if command == ["validate"] else ["--home", home]))
        assert code == 2
        assert "holds a password" in out + err
        assert "planted-secret" not in out + err
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (["plan", "absent.yaml"], "SpecError", "1 problem"),
        (["run", "absent.yaml"], "SpecError", "1 problem"),
        (["submit", "absent.yaml", "--address", "http://127.0.0.1:9"], "SpecError", "1 problem"),
        (["submit", "absent.yaml"], "UsageError", "--address"),
        (["results", "absent"], "UsageError", "there is no experiment 'absent'"),
        (["compare", "absent"], "UsageError", "there is no experiment 'absent'"),
        (["status", "absent"], "UsageError", "there is no experiment 'absent'"),
        (["logs", "absent"], "UsageError", "there is no experiment 'absent'"),
        (["stop", "absent"], "UsageError", "there is no experiment 'absent'"),
        (["pause", "absent"], "UsageError", "there is no experiment 'absent'"),
        (["extend", "absent", "--time", "+1h"], "UsageError", "there is no experiment 'absent'"),
        (["list", "--no-such-option"], "UsageError", "No such option"),
        (["doctor", "absent.yaml"], "SpecError", "1 problem"),
        (["ui"], "UsageError", "there is no MLflow store"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_errors_are_json_where_that_was_asked_for(
    run, tmp_path: Path, monkeypatch, arguments: list[str], kind: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    code, out, err = run(*arguments, "--format", "json")
    content = json.loads(out)
    assert (code, content["exit_code"], content["error"]["kind"]) == (2, 2, kind)
    assert said in content["error"]["message"]
    if kind == "SpecError":
        assert content["error"]["problems"][0]["rule"] == "there is no such file"
    # People who look at a program's output are told as well.
    assert "rror: " in err


def test_resume_of_what_never_ran(run, spec: Path, tmp_path: Path) -> None:
    code, _, err = run("run", spec, "--resume", "--home", tmp_path / "home")
    assert code == 2
    assert "there is nothing to continue: tiny-" in err


@pytest.mark.parametrize("command", ["results", "status"])
def test_there_are_no_experiments_yet(run, tmp_path: Path, command: str) -> None:
    code, out, err = run(command, "--home", tmp_path / "home")
    assert (code, out) == (2, "")
    assert "no experiment has run in" in err
    code, _, err = run(command, "tiny", "--home", tmp_path / "home")
    assert code == 2
    assert "there is no experiment 'tiny'" in err


def test_the_plan_shows_what_is_tried_first_and_who_waits(tmp_path: Path, capsys) -> None:
    path = tmp_path / "brackets.yaml"
    path.write_text(
        "name: a\ndata: {dataset: digits}\nteacher: {model: resnet8}\nstudent: {model: resnet8}\n"
        "training: {epochs: 9}\nsearch:\n  scheduler: {method: hyperband}\n  num_samples: 17\n"
        "  points: [{training.optimizer.lr: 0.05}]\n  warm_start: {experiment: b}\n"
        "  space: {training.optimizer.lr: {type: loguniform, low: 0.01, high: 0.2}}\n"
    )
    with pytest.raises(SystemExit):
        main(["plan", str(path)])
    text = " ".join(capsys.readouterr().out.split())
    assert "Samplers learn from b first" in text
    assert "default: 1 point of the spec before those that are drawn" in text
    assert "they wait: 9 (after 1, 3), 5 (after 3), 3 (never)" in text
