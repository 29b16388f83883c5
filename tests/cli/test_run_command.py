"""run, with an experiment's folder written in place of training: what stands at its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiments_on_disk import SPEC, failed, plan_of, search, store_teacher, whole, write

from orchestrator.analysis.results import Results
from orchestrator.cli import main
from orchestrator.errors import CheckpointError, OrchestratorError
from orchestrator.search.trials import Record
from orchestrator.store.home import Home


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs an experiment that leaves these records, and students of these trials; gives exit code and output.

    Without records it is left alone what running one does.
    """
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(SPEC))
    home = Home("home")

    def run(
        records: list[Record] | None, students: tuple[str, ...] = (), words: tuple[str, ...] = ()
    ) -> tuple[int, str]:
        def leave(spec: Any, *args: Any, **options: Any) -> Results:
            folder = write(home, plan_of(), records or [])
            for trial in students:
                folder.trial(trial).path.mkdir(parents=True)
                folder.trial(trial).weights.touch()
            return Results(spec, folder.records())

        if records is not None:
            monkeypatch.setattr("orchestrator.execution.runner.run_experiment", leave)
        with pytest.raises(SystemExit) as caught:
            main(["run", "tiny.yaml", "--home", "home", *words])
        return int(caught.value.code or 0), capfd.readouterr().out

    return run


def test_a_run_ends_with_the_comparison_and_where_its_students_are(run: Any) -> None:
    plan = plan_of()
    store_teacher(Home("home"), plan)
    code, out = run(whole(plan, with_teacher=False), ("kd-final-1", "alone-final-3"))
    assert code == 0
    assert "Teacher found again: 71.20 % on validation images." in out
    line = next(line for line in out.splitlines() if line.startswith("Trained students: "))
    pattern = line.removeprefix("Trained students: ")
    assert pattern.startswith(f"home/experiments/{plan.spec.id}/")
    assert sorted(path.parent.name for path in Path().glob(pattern)) == ["alone-final-3", "kd-final-1"]
    assert "To go on" not in out


def test_without_students_there_is_no_path(run: Any) -> None:
    _, out = run(whole(plan_of()))
    assert "Trained students" not in out


def test_a_run_whose_trials_all_failed_says_how_to_go_on(run: Any) -> None:
    plan = plan_of()
    code, out = run([failed(search(plan, name, n), "the loss is NaN") for name in ("alone", "kd") for n in range(2)])
    assert code == 1
    assert "4 trials failed" in out
    # The words that were typed, not the folder's copy of the spec.
    home = Path("home").absolute()
    assert f"change the spec, or start over with: orchestrator run tiny.yaml --home {home} --fresh\n" in out


def test_a_damaged_journal_can_be_set_aside(run: Any) -> None:
    plan = plan_of()
    folder = write(Home("home"), plan, whole(plan))
    folder.journal.path.write_bytes(b"no event\n")
    with pytest.raises(CheckpointError):
        folder.records()
    assert run(whole(plan), words=("--fresh",))[0] == 0
    assert len(list(folder.path.parent.glob(f"{folder.id}.before-*"))) == 1
    assert len(folder.records()) == len(whole(plan))


def test_how_to_go_on_names_the_cluster_that_was_joined(run: Any) -> None:
    records = [failed(search(plan_of(), name, n), "the loss is NaN") for name in ("alone", "kd") for n in range(2)]
    _, out = run(records, words=("--address", "10.0.0.1:6379"))
    assert "start over with: orchestrator run tiny.yaml --address 10.0.0.1:6379 --home" in out


def test_results_are_shown_without_what_trains_them(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    plan = plan_of()
    write(home, plan, whole(plan))
    probe = (
        "import sys; from orchestrator.cli import main\n"
        f"try: main(['results', '--home', {str(home.path)!r}])\n"
        "finally: print(sorted({'scipy.stats', 'torch', 'ray', 'mlflow', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "81.00 ± 1.00" in done.stdout
    assert done.stdout.endswith("[]\n")


def lines_of(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_programs_get_json_alone_and_the_summary_at_the_end(run: Any) -> None:
    code, out = run(whole(plan_of()), ("kd-final-1",), words=("--format", "json-lines"))
    first, *_, last = lines_of(out)
    assert code == 0
    assert (first["event"], first["format"], first["id"], first["name"]) == ("begin", 1, plan_of().spec.id, "tiny")
    assert (last["event"], last["exit_code"], last["state"], last["error"]) == ("result", 0, "complete", None)
    assert (last["ended"], last["planned"], last["stopped"]) == (11, 11, False)
    assert [variant["name"] for variant in last["variants"]] == ["alone", "kd"]
    assert last["advice"] is None


def test_the_last_line_tells_of_failures_too(run: Any) -> None:
    records = [failed(search(plan_of(), name, n), "the loss is NaN") for name in ("alone", "kd") for n in range(2)]
    code, out = run(records, words=("--format", "json-lines"))
    last = lines_of(out)[-1]
    assert code == 1
    assert (last["exit_code"], last["state"]) == (1, "ended with failures")
    assert last["advice"].startswith("change the spec, or start over with: orchestrator run tiny.yaml")


@pytest.mark.parametrize("form", ["json-lines", "json"])
def test_an_error_in_the_middle_leaves_what_there_is(run: Any, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    plan = plan_of()
    records = whole(plan)[:3]
    run(records)

    def fail(*args: Any, **options: Any) -> Results:
        raise OrchestratorError("MLflow has gone", hint="look for it")

    monkeypatch.setattr("orchestrator.execution.runner.run_experiment", fail)
    code, out = run(None, words=("--format", form))
    last = lines_of(out)[-1] if form == "json-lines" else json.loads(out)
    assert (code, last["exit_code"]) == (1, 1)
    assert (last["id"], last["state"], last["ended"], last["planned"]) == (plan.spec.id, "not running", 3, 11)
    assert last["advice"].startswith("continue with: orchestrator run tiny.yaml")
    if form == "json":
        assert last["error"] == {"kind": "OrchestratorError", "message": "MLflow has gone", "hint": "look for it"}
    else:
        assert last["error"] == "MLflow has gone\n  look for it"


def test_one_object_of_json_is_all_that_is_printed(run: Any) -> None:
    code, out = run(whole(plan_of()), words=("--format", "json"))
    content = json.loads(out)
    assert (code, content["exit_code"], content["state"], content["error"]) == (0, 0, "complete", None)


def test_quiet_prints_the_results_alone(run: Any) -> None:
    _, loud = run(whole(plan_of()))
    code, out = run(whole(plan_of()), words=("--quiet",))
    assert code == 0
    assert out.startswith("variant ")
    assert "81.00 ± 1.00" in out
    for remark in ("Ray's own output", "Took", "Compare the runs", "Test accuracy: mean"):
        assert remark in loud
        assert remark not in out


@pytest.mark.parametrize("words", [(), ("--verbose",)], ids=["normal", "verbose"])
def test_what_libraries_print_is_in_the_log_and_shown_where_that_is_wanted(
    run: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    run(whole(plan_of()))

    def talk(spec: Any, *args: Any, **options: Any) -> Results:
        os.write(1, b"a library's line\n")
        os.write(2, b"a warning\n")
        if words:
            raise OrchestratorError("and an end")
        return Results(spec, folder.records())

    (folder,) = Home("home").experiments()
    monkeypatch.setattr("orchestrator.execution.runner.run_experiment", talk)
    with pytest.raises(SystemExit):
        main(["run", "tiny.yaml", "--home", "home", *words])
    out, err = capfd.readouterr()
    assert folder.log.read_text().endswith("a library's line\na warning\n")
    assert "library" not in out
    assert ("a library's line\na warning\n" in err) == bool(words)
    assert ("Traceback" in err) == bool(words)


def test_an_error_is_the_last_line_as_well_as_a_message(run: Any) -> None:
    Path("tiny.yaml").write_text("name: tiny\n")
    code, out = run([], words=("--format", "json-lines"))
    (last,) = lines_of(out)
    assert code == 2
    assert (last["event"], last["exit_code"]) == ("result", 2)
    assert "student" in last["error"]
