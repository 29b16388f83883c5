"""Experiments that are submitted to a real Ray cluster of a head, where the driver runs, and a worker, where trials do.

The cluster's own orchestrator, if it has one, does not run.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient
from ray_heads import TOKEN, free_port, ray_files, ray_head, ray_worker

from orchestrator.search.trials import Phase, Status
from orchestrator.store.journal import Journal
from orchestrator.tracking.mlflow_store import open_client
from tests.execution.conftest import Shell, descendants
from tests.tracking.tracking_stores import Server

SECRET = "hunter2-planted-0123456789"
SECRETS = {
    "PLANTED": SECRET,
    "MLFLOW_TRACKING_PASSWORD": f"{SECRET}-of-mlflow",
    "AWS_ACCESS_KEY_ID": f"{SECRET}-id",
    "AWS_SECRET_ACCESS_KEY": f"{SECRET}-key",
}
"""In the environment of who submits, and of the cluster's nodes."""
SUBMITTING = 10
"""Requests that submitting takes, and some of the following."""
LONG = {
    "data.train_samples": 1200,
    "training.epochs": 500,
    "training.checkpoint_interval_s": 1,
    "search.num_samples": 1,
    "search.final_seeds": 0,
    "search.variants": {"dtd": {}},
}
"""A trial that does not end before it is stopped."""


@dataclass
class Cluster:
    """A Ray cluster, and a shell beside it."""

    port: int
    """Of its dashboard."""
    shell: Shell
    home: Path
    """The home folder on the cluster."""
    mlflow: Server
    variables: dict[str, str]
    """Of its nodes."""
    nodes: ExitStack = field(default_factory=ExitStack)
    worker: int = 0
    """The process of the node that has all CPUs."""
    code: int = 0
    """Of the last command."""
    error: str = ""
    """What the last question's command wrote to stderr."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        head = self.nodes.enter_context(ray_head(self.port, self.variables, cpus=0))
        self.worker = self.nodes.enter_context(ray_worker(head, self.variables))

    def lose(self) -> None:
        """Kill all that runs on its nodes, as when machines are lost."""
        for process in descendants("\0start\0"):
            for pid in (*descendants("", process), process):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.nodes.close()

    def submit(self, spec: Path, *more: str, url: str | None = None) -> str:
        done = self.shell.run("submit", spec, "--address", url or self.url, "--home", self.home, *more)
        self.code = done.returncode
        return done.stdout

    def ask(self, command: str, *words: str, **variables: str) -> str:
        """What a command for the cluster prints, which is told nothing of a home folder."""
        line = [sys.executable, "-m", "orchestrator", command, *words, "--address", self.url]
        environment = {**self.shell.environment, **variables}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
        self.code, self.error = done.returncode, done.stderr
        return done.stdout

    def sessions(self) -> int:
        """How many drivers have come so far that trials run."""
        journals = self.home.glob("experiments/tiny-*/journal.jsonl")
        return sum(event["event"] == "session" for path in journals for event in Journal(path).read())

    def states(self) -> list[str]:
        """Of the last attempts."""
        return [job["state"] for job in json.loads(self.ask("list", "--format", "json"))]

    def trains(self, phase: str) -> bool:
        """Whether a trial of a phase has come so far, on the worker, that it can go on from where it is."""
        saved = self.home.glob(f"experiments/tiny-*/trials/*{phase}*/checkpoints/*.pt")
        return any(saved) and bool(descendants("DistillationTrainable", self.worker))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    broken = folder / "installed"
    (broken / "orchestrator").mkdir(parents=True)
    (broken / "orchestrator" / "__init__.py").write_text("raise RuntimeError('this is not what was sent')")
    shell = Shell(folder)
    shell.home = folder / "shared"
    shell.environment |= {"RAY_AUTH_TOKEN": TOKEN, "ORCHESTRATOR_OWNER": "ann", **SECRETS}
    (folder / "mlflow").mkdir()
    open_client(f"sqlite:///{folder}/new.db")
    mlflow = Server(folder / "mlflow", folder / "new.db")
    starting = threading.Thread(target=mlflow.start)
    starting.start()
    try:
        made = Cluster(free_port(), shell, shell.home, mlflow, {"PYTHONPATH": str(broken), **SECRETS})
        with made.nodes:
            made.start()
            starting.join()
            yield made
    finally:
        shell.close()
        mlflow.kill()


def drivers() -> list[int]:
    """Of submitted experiments."""
    return descendants("run\0spec.yaml")


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def cutting(cluster: Cluster) -> Iterator[str]:
    """The dashboard's URL behind a proxy that, once a job is submitted, cuts the connection of every third request."""
    listener = socket.create_server(("127.0.0.1", 0))
    count = iter(range(1, 1_000_000))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            number = next(count)
            if number > SUBMITTING and number % 3 == 0:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", cluster.port))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=pump, args=(one, other), daemon=True).start()

    def pump(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            other.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def test_an_experiment_outlives_its_drivers_and_its_cluster(cluster: Cluster, cutting: str) -> None:
    uri = cluster.mlflow.uri.replace("http://", "http://me:${env:PLANTED}@")
    spec = cluster.shell.spec({**LONG, "tracking.uri": uri})
    told = cluster.submit(spec)
    assert cluster.code == 0, told
    assert re.search(r"Sent: \d+ kB of \d+ files; the largest: orchestrator/", told)
    assert "The cluster's environment must have PLANTED: values are not sent" in told
    assert "Attempt 1 is job tiny-" in told

    looking = cluster.shell.start("doctor", "--address", cluster.url, "--format", "json")

    # The same again joins what runs.
    told = cluster.submit(spec)
    assert "already as job tiny-" in told
    assert "nothing was sent" in told
    wait_for(lambda: cluster.sessions() == 1 and cluster.trains("-000"))
    findings = json.loads(looking.communicate(timeout=60)[0])["findings"]
    assert [f["found"].partition(": ")[2] for f in findings if f["check"] == "Ray"] == ["2 nodes, 2 CPUs, 0 GPUs"]
    assert {finding["state"] for finding in findings} <= {"ok", "absent", "warning"}
    cluster.lose()
    assert drivers() == []

    # Another cluster knows of nothing; the experiment goes on from its folder, and is saved when it is asked to.
    cluster.start()
    told = cluster.submit(spec)
    assert "Attempt 1 is job tiny-" in told
    wait_for(lambda: cluster.sessions() == 2 and cluster.trains("-000"))
    status = json.loads(cluster.ask("status", "tiny", "--format", "json"))
    assert status["job"]["attempt"] == 1
    assert status["id"] == status["job"]["experiment"]
    cluster.ask("pause", "tiny", ORCHESTRATOR_OWNER="bob")
    assert cluster.code == 2
    assert "is ann's" in cluster.error
    told = cluster.ask("pause", "tiny")
    assert re.match(r"Attempt 1 of tiny-\w{8} has been stopped; submit its spec again", told)
    told = cluster.ask("logs", "tiny")
    assert "Interrupted; running trials were saved." in told
    assert "orchestrator submit" in told

    # Followed through a bad connection, it ends with its results when it is stopped.
    before = {key: record.epochs for key, record in cluster.shell.records().items()}
    following = cluster.shell.start("submit", spec, "--address", cutting, "--home", cluster.home, "--follow")
    wait_for(lambda: cluster.sessions() == 3 and cluster.trains("-000"))
    told = cluster.ask("stop", "tiny", "--now")
    assert re.match(r"tiny-\w{8}: it ends; see how far it is", told), told
    told, _ = following.communicate(timeout=90)
    assert following.returncode == 0, told
    assert "Attempt 2 is job tiny-" in told
    assert "The connection is lost" in told
    assert "Stopped by `orchestrator stop`: 2 of 2 trials have ended." in told
    assert re.search(r"Attempt 2 of tiny-\w{8} has succeeded", told)
    records = cluster.shell.records()
    searched = [record for record in records.values() if record.trial.phase is Phase.SEARCH]
    assert [record.status for record in searched] == [Status.STOPPED]
    assert all(record.epochs >= before.get(record.trial.id, 0) for record in searched)
    assert cluster.states() == ["succeeded"]
    client = MlflowClient(cluster.mlflow.uri)
    (found,) = [experiment for experiment in client.search_experiments() if experiment.name == "tiny"]
    assert {run.data.tags["mlflow.user"] for run in client.search_runs([found.experiment_id])} == {"ann"}
    assert json.loads(cluster.ask("results", "--format", "json")) == cluster.shell.results()


TELL_ALL = """
import sys
from orchestrator.execution.jobs import Jobs
jobs = Jobs(sys.argv[1])
print(*(jobs.log(job) for job in jobs.all()), *jobs._client.list_jobs(), len(jobs.all()), "jobs")
"""


def test_no_secret_is_kept_anywhere(cluster: Cluster) -> None:
    """After the experiment above: in what its jobs tell, in the home folder, in MLflow's files and in Ray's."""
    command = [sys.executable, "-c", TELL_ALL, cluster.url]
    told = subprocess.run(command, env=cluster.shell.environment, capture_output=True, text=True, check=True).stdout
    assert told.endswith("2 jobs\n")
    files = [path for folder in (cluster.home, cluster.mlflow.folder) for path in folder.rglob("*") if path.is_file()]
    files += ray_files()
    assert {"mlflow.db", "spec.yaml", "ray.log", "journal.jsonl", "raylet.out"} <= {path.name for path in files}
    for where, content in [("the jobs", told.encode()), *((path, path.read_bytes()) for path in files)]:
        assert SECRET.encode() not in content, where
        assert TOKEN.encode() not in content, where


def test_a_stranger_is_told_about_tokens(cluster: Cluster) -> None:
    shell = cluster.shell
    environment = dict(shell.environment)
    try:
        del shell.environment["RAY_AUTH_TOKEN"]
        shell.environment |= {"RAY_AUTH_MODE": "disabled"}
        told = cluster.submit(shell.spec())
        assert cluster.code == 1
        assert "does not let us in" in told
        assert "RAY_AUTH_TOKEN_PATH" in told
        assert "Traceback" not in told
    finally:
        shell.environment = environment
