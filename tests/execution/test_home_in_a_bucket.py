"""A whole experiment whose home and data set lie in S3, begun on one machine and finished on another."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_digits

from orchestrator import names
from orchestrator.search.trials import Record, Status, replay
from orchestrator.store.remote import Remote
from tests.conftest import SECRETS
from tests.execution.conftest import Shell, descendants


def journal_in(place: Remote) -> str:
    """The journal in the store."""
    paths = (path for path in place.entries(place.folder / "experiments") if path.name == "journal.jsonl")
    return (place.read(next(paths)) or b"").decode()


def records_in(place: Remote) -> dict[str, Record]:
    """What it tells."""
    return replay([json.loads(line) for line in journal_in(place).splitlines()])


def in_store(place: Remote, end: str) -> list[str]:
    return sorted(p.relative_to(place.folder).as_posix() for p in place.entries(place.folder) if p.name.endswith(end))


def put_digits(uri: str, folder: Path) -> str:
    """A data set of arrays in the store; its URI."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 15.9).astype(np.uint8)
    path = folder / "images.npz"
    first, rest = slice(0, 400), slice(400, 600)
    np.savez(
        path, train_images=pixels[first], train_labels=labels[first], test_images=pixels[rest], test_labels=labels[rest]
    )
    Remote(uri, folder).push(path)
    return f"{uri}/images.npz"


def test_an_experiment_moves_from_machine_to_machine(shell: Shell, s3: str, tmp_path: Path) -> None:
    home = f"{s3}/a/home"
    place = Remote(home, tmp_path / "seen")
    shell.environment |= {"ORCHESTRATOR_HOME": home, **{k: v for k, v in os.environ.items() if k.startswith("AWS_")}}
    shell.home = home  # type: ignore[assignment]
    spec = shell.spec(
        {
            "data": {"dataset": "arrays", "root": put_digits(s3, tmp_path), "validation_fraction": 0.1},
            "training.epochs": 80,
            "training.checkpoint_interval_s": 0.1,
            "search.variants": {"dtd": {}},
            "search.final_seeds": 1,
            "distillation.teacher_logits": {"keep": "stored"},
            "distillation.adjustment": {"rule": "probability_shift"},
            "data.augmentation": "none",
            "tracking": {"uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
        }
    )
    told = []

    def on(machine: str) -> None:
        shell.environment["ORCHESTRATOR_CACHE"] = str(tmp_path / machine)

    on("one")
    process = shell.start("run", spec)
    shell.wait_until(lambda: any("dtd-" in name for name in in_store(place, ".pt")), process)
    on("another")
    status = shell.run("status", "tiny")
    assert "running" in status.stdout, status.stdout
    second = shell.run("run", spec)
    assert second.returncode == 2, second.stdout
    assert "already running on" in second.stdout
    # A trial's process is killed, and soon the whole session ended.
    actors: list[int] = []
    shell.wait_until(lambda: bool(actors.extend(descendants("DistillationTrainable", process.pid)) or actors), process)
    os.kill(actors[0], signal.SIGKILL)
    shell.wait_until(lambda: "its process died" in journal_in(place), process)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    told += [output, second.stdout, status.stdout]
    before = records_in(place)
    ended = {name: record.metrics for name, record in before.items() if record.status.ended}
    assert len(ended) < 4

    done = shell.run("run", spec)
    assert done.returncode == 0, done.stdout
    told.append(done.stdout)
    after = records_in(place)
    assert {(record.status, record.reason) for record in after.values()} == {(Status.FINISHED, None)}
    assert {name: after[name].metrics for name in ended} == ended
    assert in_store(place, ".pt") == []
    assert len(in_store(place, "student.safetensors")) == 1
    assert any(name.startswith("teachers/") for name in in_store(place, ".safetensors"))
    assert any(name.startswith("cache/teacher-logits/") for name in in_store(place, ".bin"))
    assert home in done.stdout

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if names.PARENT_RUN_TAG in run.data.tags:
            steps = [metric.step for metric in client.get_metric_history(run.info.run_id, names.TRAIN_LOSS)]
            assert sorted(steps) == list(range(1, after[run.data.tags["orchestrator.key"]].epochs + 1))

    on("a third")
    results = shell.results()
    assert {row["id"] for row in results["trials"]} == set(after)
    listed = shell.run("list", "--format", "json")
    assert json.loads(listed.stdout)[0]["state"] == "complete"
    assert not [path for path in (tmp_path / "a third").rglob("*") if path.suffix in (".pt", ".safetensors", ".bin")]

    # Nothing that was left anywhere holds a credential.
    secrets = [value.encode() for value in SECRETS.values()]
    left = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    left |= {path: place.read(path) or b"" for path in place.entries(place.folder)}
    left |= {Path(f"output {number}"): text.encode() for number, text in enumerate(told)}
    assert len(left) > 50
    assert [path for path, content in left.items() if any(secret in content for secret in secrets)] == []


def test_a_home_in_a_bucket_needs_a_tracking_server(shell: Shell, s3: str, tmp_path: Path) -> None:
    shell.environment |= {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
    shell.home = f"{s3}/home"  # type: ignore[assignment]
    done = shell.run("run", shell.spec())
    assert done.returncode == 2
    assert "tracking.uri must be set" in done.stdout
    assert "MLFLOW_TRACKING_URI" in done.stdout
    assert Remote(s3, tmp_path / "seen").entries(tmp_path / "seen") == {}


@pytest.mark.parametrize(
    ("home", "told"), [("s3://no-such-bucket/x", "create the bucket"), ("s3://k:s@b/x", "holds no")]
)
def test_a_store_that_cannot_be_used_is_one_message(shell: Shell, s3: str, home: str, told: str) -> None:
    shell.environment |= {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
    shell.home = home  # type: ignore[assignment]
    done = shell.run("run", shell.spec({"tracking": {"uri": "sqlite:///mlflow.db"}}))
    assert done.returncode in (1, 2), done.stdout
    assert told in done.stdout
    assert "Traceback" not in done.stdout
    assert len(done.stdout.split("error:")[1].strip().splitlines()) == 2
