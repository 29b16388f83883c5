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
    uri = f"http://someone:${{env:PLANTED}}@127.0.0.1:{port}"
    shell.environment["PLANTED"] = "planted-secret"
    done = shell.run("run", shell.spec({"tracking": {"uri": uri}}))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stdout
    assert "Traceback" not in done.stdout
    kept = [path for path in shell.folder.rglob("*") if path.is_file()]
    assert any(path.name == "spec.yaml" and path.is_relative_to(shell.home) for path in kept)
    assert not any(b"planted-secret" in text for text in (done.stdout.encode(), *(path.read_bytes() for path in kept)))


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


DIVERGES = {
    "search.num_samples": 6,
    "search.final_seeds": 1,
    "search.space": {},
    "search.variants": {
        "broken": {
            "set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}},
            "space": {"training.optimizer.lr": {"type": "loguniform", "low": 1.0e29, "high": 1.0e30}},
        }
    },
}


def test_failures_alike_stop_the_experiment_and_are_tried_again_by_the_same_command(shell: Shell) -> None:
    spec = shell.spec(DIVERGES)
    done = shell.run("run", spec)
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    assert "5 trials failed alike" in text
    assert "became NaN or infinite" in text
    assert "broken-000" in text
    assert "error.txt" in text
    assert "run the same command again" in text
    records = shell.records()
    assert {record.status for record in records.values()} == {Status.INTERRUPTED}
    assert len(records) <= 6
    told = " ".join(shell.run("status").stdout.split())
    assert "became NaN or infinite" in told
    assert "continue with" in told
    # The budget is no part of what the experiment is.
    again = shell.run("run", spec, "--set", "budget.failures.stop_after_alike=null")
    assert again.returncode == 1
    assert "failed alike" not in again.stdout
    ended = shell.records()
    assert len(ended) == 6
    assert {record.status for record in ended.values()} == {Status.FAILED}
    assert all("epoch 1, step" in (record.reason or "") for record in ended.values())


def test_a_budget_of_epochs_stops_the_search_in_mid_trial_and_final_runs_follow(shell: Shell) -> None:
    budget = {"student_epochs": 5, "when_spent": "stop"}
    done = shell.run("run", shell.spec({"budget": budget, "resources.max_concurrent_trials": 1}))
    assert done.returncode == 0, done.stdout
    assert "budget.student_epochs is spent" in done.stdout
    records = shell.records()
    search = [record for record in records.values() if record.trial.phase is Phase.SEARCH]
    assert [(record.status, record.epochs) for record in search] == [(Status.FINISHED, 3), (Status.STOPPED, 2)]
    assert search[1].metrics["val/acc1"] > 0
    finals = [record for record in records.values() if record.trial.phase is Phase.FINAL]
    assert [(record.status, record.epochs) for record in finals] == [(Status.FINISHED, 3)] * 4


def test_a_trial_that_rays_memory_monitor_kills_is_told_to_have_run_out_of_memory(shell: Shell) -> None:
    shell.environment |= {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "200"}
    alone = {"alone": {"set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}}}}
    budget = {"failures": {"max_restarts": 0}}
    done = shell.run(
        "run", shell.spec({"search": {"variants": alone, "final_seeds": 0}, "budget": budget, "training.epochs": 2000})
    )
    assert done.returncode == 1, done.stdout
    (record,) = shell.records().values()
    assert record.status is Status.FAILED
    assert record.reason is not None
    assert record.reason.startswith("its process died (out of memory); try")
    assert "training.batch_size (now 30)" in record.reason
