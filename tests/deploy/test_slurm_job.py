"""The Slurm script on a real Slurm, where that is installed (Debian's slurmctld, slurmd, slurm-client and munge)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, missing, wait_for

from orchestrator.search.trials import Status
from tests.execution.conftest import Shell, descendants

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "orchestrator.sbatch"
needs_slurm = pytest.mark.skipif(bool(missing()), reason=f"Slurm is not installed: no {', '.join(missing())}")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"), nodes=2)
    # The script finds what it runs on PATH, as in an activated environment.
    cluster.environment["PATH"] = f"{Path(sys.executable).parent}:{cluster.environment['PATH']}"
    try:
        cluster.start()
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


@needs_slurm
def test_an_experiment_runs_on_two_nodes_and_goes_on_after_being_queued_again(
    slurm: SlurmCluster, shell: Shell
) -> None:
    spec = shell.spec({"training.epochs": 60, "search.num_samples": 3, "search.final_seeds": 1})
    slurm.environment["ORCHESTRATOR_HOME"] = str(shell.home)
    job = slurm.submit(SCRIPT, [spec], options(2), shell.folder)
    log = shell.folder / f"{job}.log"

    def text() -> str:
        return log.read_text() if log.exists() else ""

    def trained() -> bool:
        assert slurm.state(job)["JobState"] in ("PENDING", "CONFIGURING", "RUNNING"), text()
        return any((shell.home / "experiments").glob("tiny-*/trials/*/checkpoint*")) or "ended" in text()

    # What Slurm does when a job's time is nearly over.
    wait_for(trained, 120, f"a checkpoint (see {log})")
    slurm.call("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: "queued again" in text(), 60, f"saving (see {log})")
    wait_for(lambda: slurm.state(job).get("Restarts") == "1", 30, "queueing again")
    # Slurm lets two minutes pass before it starts a job that was queued again.
    slurm.call("scontrol", "update", f"JobId={job}", "StartTime=now")
    slurm.call("scontrol", "release", job)
    wait_for(lambda: slurm.state(job)["JobState"] == "COMPLETED", 180, f"the end (see {log})")

    assert "2 node(s)" in text()
    assert "start number 2" in text()
    assert {record.status for record in shell.records().values()} == {Status.FINISHED}
    assert "Traceback" not in text()
    token = re.search(r"\b[0-9a-f]{64}\b", text())
    assert token is None
    assert not list(Path("/tmp").glob(f"ray-{job}*"))
    assert descendants("raylet") == []
