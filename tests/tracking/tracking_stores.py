"""Stores to test trackers on: what a tracker wrote, read back as plain data, and an MLflow server."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from orchestrator import names
from orchestrator.search.trials import Status
from orchestrator.tracking.base import RunInfo, Tracker
from orchestrator.tracking.memory import MemoryRun, MemoryTracker
from orchestrator.tracking.mlflow import NOTE_TAG, REASON_TAG, MLflowTracker
from orchestrator.tracking.mlflow_store import KEY_TAG, STATUS_TAG

EXPERIMENT = RunInfo(
    "key-of-the-experiment",
    "exp-1234",
    params={"seed": 0, "search.sampler": "optuna"},
    tags={"orchestrator.hash": "1234"},
    artifacts={"spec.yaml": "name: exp\n"},
)


def epoch(number: int, **more: float) -> dict[str, float]:
    return {
        "epoch": number,
        names.TRAIN_LOSS: 1 / number,
        names.VAL_ACC1: 50.0 + number,
        names.EPOCH_TIME: 0.25,
        **more,
    }


def epochs(first: int, last: int) -> list[dict[str, float]]:
    return [epoch(number) for number in range(first, last + 1)]


@dataclass
class Seen:
    """One run as a store has it."""

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    artifacts: dict[str, str]
    status: str
    reason: str | None
    epochs: list[dict[str, float]]


@dataclass
class MemoryStore:
    tracker_: MemoryTracker = field(default_factory=MemoryTracker)

    def tracker(self) -> Tracker:
        """A tracker of a new session."""
        return self.tracker_

    def trial(self, key: str) -> Seen:
        return self._seen(self.tracker_.runs[key])

    def experiment(self) -> Seen:
        assert self.tracker_.experiment is not None
        seen = self._seen(self.tracker_.experiment)
        seen.artifacts |= self.tracker_.artifacts
        return seen

    def note(self) -> str:
        return self.tracker_.note

    def summary(self) -> dict[str, float]:
        return self.tracker_.metrics

    def trials(self) -> list[str]:
        return sorted(self.tracker_.runs)

    def _seen(self, run: MemoryRun) -> Seen:
        info = run.info
        params = {name: str(value) for name, value in info.params.items()}
        return Seen(info.name, params, dict(info.tags), dict(info.artifacts), run.status, run.reason, run.epochs)


@dataclass
class MLflowStore:
    uri: str
    folder: Path
    name: str = "an experiment"
    """Of the MLflow experiment."""

    def tracker(self, **arguments: Any) -> MLflowTracker:
        """A tracker of a new session."""
        location = self.folder / "artifacts" if self.uri.startswith("sqlite") else None
        return MLflowTracker(self.uri, self.name, location, **arguments)

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def runs(self) -> list[Run]:
        experiment = self.client.get_experiment_by_name(self.name)
        return list(self.client.search_runs([experiment.experiment_id], "", ViewType.ALL, max_results=1000))

    def run(self, key: str) -> Run:
        """The one run of this key."""
        found = [run for run in self.runs() if run.data.tags.get(KEY_TAG) == key]
        assert len(found) == 1, f"{len(found)} runs have the key {key}"
        return found[0]

    def trial(self, key: str) -> Seen:
        return self._seen(self.run(key))

    def experiment(self) -> Seen:
        return self._seen(self.run(EXPERIMENT.key))

    def note(self) -> str:
        return str(self.run(EXPERIMENT.key).data.tags[NOTE_TAG])

    def summary(self) -> dict[str, float]:
        return dict(self.run(EXPERIMENT.key).data.metrics)

    def trials(self) -> list[str]:
        return sorted(run.data.tags[KEY_TAG] for run in self.runs() if names.PARENT_RUN_TAG in run.data.tags)

    def history(self, run_id: str) -> dict[int, dict[str, float]]:
        """Metrics by step; fails where one has two values for a step."""
        by_step: dict[int, dict[str, float]] = defaultdict(dict)
        for name in self.client.get_run(run_id).data.metrics:
            for metric in self.client.get_metric_history(run_id, name):
                assert name not in by_step[metric.step], f"{name} has step {metric.step} twice"
                by_step[metric.step][name] = metric.value
        return by_step

    def _seen(self, run: Run) -> Seen:
        run_id, tags = run.info.run_id, dict(run.data.tags)
        texts = {}
        for file in self.client.list_artifacts(run_id):
            local = self.client.download_artifacts(run_id, file.path)
            texts[file.path] = Path(local).read_text()
        by_step = self.history(run_id)
        return Seen(
            name=run.info.run_name,
            params=dict(run.data.params),
            tags={name: tags[name] for name in tags if name not in (STATUS_TAG, REASON_TAG)},
            artifacts=texts,
            status=tags[STATUS_TAG],
            reason=tags.get(REASON_TAG),
            epochs=[{"epoch": step, **by_step[step]} for step in sorted(by_step)],
        )


def trial_info(key: str, **params: Any) -> RunInfo:
    return RunInfo(
        key,
        key,
        params={"training.optimizer.lr": 0.1, **params},
        tags={"orchestrator.phase": "search"},
        artifacts={"spec.yaml": f"trial: {key}\n"},
    )


class Calls:
    """Wraps MLflow's clients: counts calls, and lets a test fail or delay them."""

    def __init__(self, client_class: Any, before: Any, after: Any) -> None:
        self._class, self._before, self._after = client_class, before, after

    def __call__(self, uri: str) -> Any:
        client, calls = self._class(uri), self

        class Wrapped:
            def __getattr__(self, name: str) -> Any:
                def call(*args: Any, **kwargs: Any) -> Any:
                    calls._before(name, *args, **kwargs)
                    result = getattr(client, name)(*args, **kwargs)
                    calls._after(name, *args, **kwargs)
                    return result

                return call

        return Wrapped()


def away() -> MlflowException:
    return MlflowException("the store does not answer", error_code=1)  # INTERNAL_ERROR


def wait_until(condition: Any, timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class Server:
    """An `mlflow server` on loopback, which can be killed and started again with the same store."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder = folder
        shutil.copy(database, folder / "mlflow.db")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        # Without its job runners the server starts in half the time.
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        wait_until(self._answers, timeout_s=60)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text()
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


ENDED = (Status.FINISHED, Status.STOPPED, Status.FAILED, Status.INTERRUPTED)
