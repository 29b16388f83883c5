"""deploy/mlflow as it is served: a real server on a real PostgreSQL, with accounts, and our tracker on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow_service import ADMIN, DEPLOY, SECRET_KEY, MLflowService
from postgres_server import PASSWORD

from orchestrator.errors import TrackingError
from orchestrator.search.trials import Status
from tests.tracking.tracking_stores import EXPERIMENT, MLflowStore, epochs, trial_info

ANNA, BERT = ("anna", "annas-own-password"), ("bert", "berts-own-password")


@pytest.fixture
def sign_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[str, str]], None]:
    """Has MLflow's client use an account, as its users do."""

    def use(account: tuple[str, str]) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", account[0])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", account[1])

    return use


@pytest.fixture(scope="module")
def accounts(service: MLflowService) -> None:
    """What README.md tells an administrator to do; Bert's as that of deploy/kuberay does, in MLflow's pod."""
    from mlflow.server import get_app_client

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN)
        get_app_client("basic-auth", tracking_uri=service.uri).create_user(*ANNA)
    readme = (DEPLOY / "kuberay" / "README.md").read_text()
    (program,) = re.findall(r"-- python -c '(.*?)' anna\n", readme)
    name, password = BERT
    done = subprocess.run(
        [sys.executable, "-c", program.replace("http://127.0.0.1:5000", service.uri), name],
        input=password,
        env={**os.environ, "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


SEARCH = "/api/2.0/mlflow/experiments/search?max_results=10"


def test_nobody_gets_in_without_the_password(service: MLflowService) -> None:
    assert service.status("/health") == 200
    assert service.status(SEARCH) == 401
    assert service.status(SEARCH, ("admin", "a-wrong-password")) == 401
    assert service.status(SEARCH, ("admin", ADMIN)) == 200


def test_pages_of_other_hosts_are_refused(service: MLflowService) -> None:
    """A page elsewhere that has its name lead to this machine must not read what a browser here may read."""
    assert service.status(SEARCH, ("admin", ADMIN), Host="evil.example") == 403
    assert service.status(SEARCH, ("admin", ADMIN), Host=f"localhost:{service.port}") == 200


def test_our_tracker_writes_with_the_account_of_the_environment(
    service: MLflowService, accounts: None, sign_in, tmp_path: Path
) -> None:
    sign_in(ANNA)
    store = MLflowStore(service.uri, tmp_path, name="annas")
    tracker = store.tracker()
    tracker.open(EXPERIMENT)
    tracker.start(trial_info("a"), epochs(1, 20))
    tracker.end("a", Status.FINISHED)
    assert tracker.close(Status.FINISHED, {"best": 1.0}, "a note", {"results.json": "{}"}) == []
    seen = store.trial("a")
    assert (seen.epochs, seen.status) == (epochs(1, 20), "finished")
    assert store.experiment().artifacts == {"spec.yaml": "name: exp\n", "results.json": "{}"}

    # What is Anna's, others may look at and not change.
    sign_in(BERT)
    assert store.trial("a").epochs == epochs(1, 20)
    with pytest.raises(TrackingError, match=r"403|[Pp]ermission") as caught:
        store.tracker().open(EXPERIMENT)
    assert "name one of your own with tracking.experiment" in str(caught.value)


@pytest.mark.parametrize("account", [("anna", "a-wrong-password"), None], ids=["wrong password", "no account"])
def test_a_wrong_password_is_told_in_one_line(
    service: MLflowService, account, sign_in, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if account:
        sign_in(account)
    else:
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    with pytest.raises(TrackingError) as caught:
        MLflowStore(service.uri, tmp_path).tracker().open(EXPERIMENT)
    told = str(caught.value)
    assert f"MLflow at {service.uri} cannot be used: the server answered 401 Unauthorized" in told
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in told
    assert "a-wrong-password" not in told
    assert len(told.splitlines()) <= 2


def test_secrets_are_in_no_log_and_no_argument(service: MLflowService) -> None:
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        # Processes end at any time.
        with suppress(OSError):
            commands.append(path.read_bytes())
    text = service.log.read_bytes() + b"\n".join(commands)
    assert b"mlflow server" in text.replace(b"\0", b" ")
    for secret in (PASSWORD, ADMIN, SECRET_KEY):
        assert secret.encode() not in text


@pytest.mark.parametrize("name", ["PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"])
def test_without_a_secret_nothing_is_served(name: str) -> None:
    given = ("PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_ARTIFACTS")
    environment = {"PATH": os.environ["PATH"], **{other: "x" for other in given if other != name}}
    done = subprocess.run([DEPLOY / "mlflow" / "serve.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {name} is not set")


def test_the_readme_names_every_setting() -> None:
    readme = (DEPLOY / "mlflow" / "README.md").read_text()
    text = (DEPLOY / "mlflow" / "serve.sh").read_text() + (DEPLOY / "mlflow" / "mlflow.service").read_text()
    read = set(re.findall(r"\$\{(\w+):-", text)) - {"name"}
    assert {setting for setting in read if setting.startswith(("MLFLOW", "PG"))} <= set(re.findall(r"\w+", readme))


def test_the_unit_is_sound(tmp_path: Path) -> None:
    """As far as systemd's own check goes, where there is one: it wants to see what is started."""
    unit = (DEPLOY / "mlflow" / "mlflow.service").read_text()
    here = tmp_path / "mlflow.service"
    here.write_text(unit.replace("/opt/mlflow/secrets-from-files.sh", str(DEPLOY / "secrets-from-files.sh")))
    try:
        done = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed")
    ours = [line for line in done.stderr.splitlines() if "mlflow.service" in line]
    assert ours == []
