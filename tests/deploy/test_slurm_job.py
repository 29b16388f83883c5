"""The Slurm script on a real Slurm, where that is installed (Debian's slurmctld, slurmd, slurm-client and munge)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import slurm_cluster
from slurm_cluster import SlurmCluster, SlurmUnusableError, missing, wait_for

from orchestrator.search.trials import Phase, Status
from tests.execution.conftest import Shell

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "orchestrator.sbatch"
needs_slurm = pytest.mark.skipif(bool(missing()), reason=f"Slurm is not installed: no {', '.join(missing())}")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"), nodes=2)
    # The script finds what it runs on PATH, as in an activated environment.
    cluster.environment["PATH"] = f"{Path(sys.executable).parent}:{cluster.environment['PATH']}"
    try:
        try:
            cluster.start()
        except SlurmUnusableError as error:
            pytest.skip(f"Slurm is not installed whole: {error}")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


def options(nodes: int) -> list[str]:
    return [f"--nodes={nodes}", "--cpus-per-task=1", "--time=10", f"--job-name=tests-{nodes}"]


def test_a_job_without_a_spec_is_told_what_is_missing() -> None:
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no spec" in done.stderr


def test_outside_of_slurm_it_says_so() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    done = subprocess.run(["bash", SCRIPT, "spec.yaml"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "sbatch orchestrator.sbatch SPEC" in done.stderr


def test_slurm_that_is_half_installed_is_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in slurm_cluster.PROGRAMS:
        (tmp_path / name).write_text(f"#!/bin/bash\n[[ {name} != slurmctld && $1 == -V ]]\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(slurm_cluster, "PATH", str(tmp_path))
    assert missing() == ["slurmctld"]
    (tmp_path / "slurmctld").unlink()
    assert missing() == ["slurmctld"]
    cluster = SlurmCluster(tmp_path, 1)
    cluster.environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", cluster.environment["PATH"])
    with pytest.raises(SlurmUnusableError, match="munged"):
        cluster.start()
    cluster.stop()


STANDING_IN = {
    # Ray that never comes up, until it is told to end.
    "srun": "echo $$ >> pids; exec sleep 60",
    "scancel": "kill $(cat pids)",
    "scontrol": 'echo "$*" >> told; kill -TERM "$PPID"',
    "orchestrator": "exit 1",
    "ray": "exit 1",
}


def test_time_that_is_over_before_the_driver_has_started_queues_the_job_again(tmp_path: Path) -> None:
    for name, text in STANDING_IN.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "77",
        "SLURMD_NODENAME": "n1",
        "SLURM_JOB_NUM_NODES": "1",
    }
    process = subprocess.Popen(
        ["bash", SCRIPT, "spec.yaml"], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    wait_for((tmp_path / "pids").exists, 20, "Ray's start")
    process.send_signal(signal.SIGUSR1)
    told, _ = process.communicate(timeout=30)
    assert "queueing again" in told
    assert (tmp_path / "told").read_text() == "requeue 77\n"
    assert process.returncode == -signal.SIGTERM


def processes_of(job: str) -> list[str]:
    """Commands of Ray's processes that a job has left."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            commands.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [command for command in commands if f"/ray-{job}-" in command]


SHORT = {"search.num_samples": 1, "search.final_seeds": 0}
LONG = {
    "data.train_samples": 600,
    "training.epochs": 50_000,
    "training.checkpoint_interval_s": 0.5,
    "search.final_seeds": 0,
    "search.variants": {"alone": {"set": {"distillation": {"kd_weight": 0.0, "ce_weight": 1.0}}}},
}
"""Two trials, one for each node, that no machine ends before they are stopped."""


@needs_slurm
@pytest.mark.timeout(800)
def test_jobs_share_a_node_and_go_on_after_being_queued_again(slurm: SlurmCluster, shell: Shell) -> None:
    slurm.environment["ORCHESTRATOR_HOME"] = str(shell.home)
    # One of the node n1's, two of n2's.
    job = slurm.submit(SCRIPT, [shell.spec(LONG)], [*options(2), "--gpus=3"], shell.folder)
    log = shell.folder / f"{job}.log"
    # At the same time, and on one of its nodes, another one.
    (shell.folder / "other").mkdir()
    other = Shell(shell.folder / "other")
    slurm.environment["ORCHESTRATOR_HOME"] = str(other.home)
    second = slurm.submit(SCRIPT, [other.spec(SHORT), "--set", "seed=1"], [*options(1), "--nodelist=n1"], other.folder)

    def state(number: str) -> str:
        now = slurm.state(number)["JobState"]
        assert now in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "COMPLETED"), now
        return now

    def trained() -> bool:
        assert state(job) != "COMPLETED", log.read_text()
        return len({path.parent for path in shell.home.glob("experiments/tiny-*/trials/*/checkpoints/*.pt")}) == 2

    def epochs() -> dict[str, int]:
        files = shell.home.glob("experiments/tiny-*/trials/*/metrics.jsonl")
        return {path.parent.name: len(path.read_text().splitlines()) for path in files}

    def goes_on() -> bool:
        # Slurm lets two minutes pass before it starts such a job.
        if state(job) == "PENDING":
            slurm.call("scontrol", "update", f"JobId={job}", "StartTime=now")
        now = epochs()
        return all(now[trial] > saved[trial] for trial in saved)

    wait_for(trained, 200, "a checkpoint", log)
    # What Slurm does when a job's time is nearly over.
    slurm.call("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: slurm.state(job)["Restarts"] == "1", 90, "queueing again", log)
    saved = epochs()
    assert {record.status for record in shell.records().values()} == {Status.INTERRUPTED}
    wait_for(goes_on, 200, "another epoch", log)
    assert shell.run("stop", "tiny", "--now").returncode == 0
    wait_for(lambda: state(job) == "COMPLETED", 100, "the end", log)
    wait_for(lambda: state(second) == "COMPLETED", 100, "the other's end", other.folder / f"{second}.log")

    told = log.read_text()
    assert "queueing again" in told
    assert "start number 2" in told
    assert told.count("Ray has 2 node(s), 2 CPUs, 3 GPUs") == 2
    assert "Ray's head did not start" not in told
    searched = {key: record for key, record in shell.records().items() if record.trial.phase is Phase.SEARCH}
    assert searched.keys() == saved.keys()
    assert {record.status for record in searched.values()} == {Status.STOPPED}
    assert all(record.epochs > saved[key] > 0 for key, record in searched.items())
    assert {record.status for record in other.records().values()} == {Status.FINISHED}
    for number in (job, second):
        wait_for(lambda number=number: not processes_of(number), 20, f"the end of what job {number} started")
        assert not list(Path("/tmp").glob(f"ray-{number}-*"))
    # A token has 64 digits.
    assert not re.search(r"\b[0-9a-f]{64}\b", told)
