"""What goes wrong is one clear message, and costs no more than it must."""

from __future__ import annotations

import socket

import torch
from safetensors.torch import load

from orchestrator.search.trials import Phase, Status
from tests.execution.conftest import Shell


def test_a_diverging_trial_fails_with_its_reason_and_the_search_goes_on(shell: Shell) -> None:
    spec = shell.spec(
        {
            "search.sampler": "grid",
            "search.num_samples": 1,
            "search.final_seeds": 1,
            "search.space": {"training.optimizer.lr": {"type": "choice", "values": [0.05, 1.0e30]}},
            "search.variants": {"kd": {}},
        }
    )
    done = shell.run("run", spec)
    assert done.returncode == 0, done.stdout
    records = {record.trial.id: record for record in shell.records().values()}
    failed = records["kd-001"]
    assert failed.status is Status.FAILED
    assert failed.reason is not None
    assert "kd-001" in failed.reason
    assert "epoch 1, step" in failed.reason
    assert records["kd-final-1"].trial.params["training.optimizer.lr"] == 0.05
    assert records["kd-final-1"].status is Status.FINISHED
    assert "DivergenceError" in (shell.experiment() / "trials" / "kd-001" / "error.txt").read_text()


def test_missing_data_ends_the_run_with_the_remedy_and_leaves_nothing_failed(shell: Shell) -> None:
    empty = shell.folder / "empty"
    empty.mkdir()
    done = shell.run("run", shell.spec({"data": {"dataset": "fashion-mnist", "root": str(empty)}}))
    assert done.returncode == 1
    assert str(empty) in done.stdout
    assert "dataset-fashion-mnist" in done.stdout
    assert "Traceback" not in done.stdout
    assert {record.status for record in shell.records().values()} <= {Status.INTERRUPTED}


def test_an_unreachable_tracking_server_is_said_before_anything_runs(shell: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    uri = f"http://someone:secret@127.0.0.1:{port}"
    done = shell.run("run", shell.spec({"tracking": {"uri": uri}}))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stdout
    assert "secret" not in done.stdout
    assert "Traceback" not in done.stdout


def test_a_missing_teacher_file_is_said_at_once(shell: Shell) -> None:
    done = shell.run("run", shell.spec({"teacher": {"model": "resnet8", "checkpoint": "gone.safetensors"}}))
    assert done.returncode == 2
    assert "teacher.checkpoint" in done.stdout
    assert "gone.safetensors" in done.stdout


def test_a_teacher_that_fails_leaves_the_variants_without_one(shell: Shell) -> None:
    spec = shell.spec({"teacher.training.optimizer": {"lr": 1.0e30}, "search.num_samples": 1, "search.final_seeds": 1})
    done = shell.run("run", spec)
    assert "teacher" in done.stdout
    assert "NaN or infinite" in done.stdout
    phases = [(r.trial.variant, r.trial.phase) for r in shell.records().values() if r.status is Status.FINISHED]
    assert phases == [("alone", Phase.SEARCH), ("alone", Phase.FINAL)]
    assert done.returncode == 1


def test_a_stored_teacher_that_was_cut_short_is_trained_again_before_what_needs_it(shell: Shell) -> None:
    spec = shell.spec({"search.num_samples": 1, "search.final_seeds": 2, "search.variants": {"kd": {}}})
    first = shell.run("run", spec)
    assert first.returncode == 0, first.stdout
    before = shell.records()
    (weights,) = (shell.home / "teachers").iterdir()
    whole = weights.read_bytes()
    # As if the driver had been killed before the final runs.
    journal = shell.experiment() / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    final = next(n for n, line in enumerate(lines) if "kd-final-" in line)
    journal.write_text("".join(lines[:final]))
    weights.write_bytes(whole[:-1000])
    again = shell.run("run", spec)
    assert again.returncode == 0, again.stdout
    # Of the bytes, those of the metadata come in any order.
    torch.testing.assert_close(load(weights.read_bytes()), load(whole), rtol=0, atol=0)
    after = shell.records()
    assert {record.status for record in after.values()} == {Status.FINISHED}
    assert after.keys() == before.keys()


def test_a_port_in_use_is_said(shell: Shell) -> None:
    (shell.home).mkdir()
    (shell.home / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = shell.run("ui", "--port", str(port))
    assert done.returncode == 1
    assert str(port) in done.stdout
    assert "--port" in done.stdout


def test_resume_needs_something_to_continue(shell: Shell) -> None:
    done = shell.run("run", shell.spec(), "--resume")
    assert done.returncode == 2
    assert "nothing to continue" in done.stdout


def test_a_trial_that_cannot_fit_is_refused_with_the_numbers(shell: Shell) -> None:
    done = shell.run("run", shell.spec({"resources": {"cpus_per_worker": 4000}}))
    assert done.returncode == 2
    assert "4000" in done.stdout
