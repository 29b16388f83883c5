"""deploy/mlflow, served on loopback with secrets and a database of the tests' own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

from postgres_server import PASSWORD, PostgresServer, free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
ADMIN, SECRET_KEY = "the-admin-password-of-these-tests", "the-secret-key-of-these-tests"


class MLflowService:
    """`serve.sh` with its secrets from files, as the images and the unit start it."""

    def __init__(self, folder: Path, postgres: PostgresServer) -> None:
        self.port, self._folder = free_port(), folder
        self.postgres = postgres
        self.uri = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        secrets = {
            "PGPASSWORD": PASSWORD,
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": SECRET_KEY,
        }
        for name, secret in secrets.items():
            (folder / name).write_text(f"{secret}\n")
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PG"))
        }
        self._environment |= {f"{name}_FILE": str(folder / name) for name in secrets}
        self._environment |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PGPORT": str(postgres.port),
            "MLFLOW_PORT": str(self.port),
            "MLFLOW_WORKERS": "1",
            "MLFLOW_ARTIFACTS": str(folder / "artifacts"),
        }

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [DEPLOY / "secrets-from-files.sh", DEPLOY / "mlflow" / "serve.sh"],
                env=self._environment,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + 120
        while self.status("/health") != 200:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)

    def status(self, path: str, account: tuple[str, str] | None = None, **headers: str) -> int:
        """The status code that a GET is answered with; 0 for no answer."""
        if account:
            headers["Authorization"] = f"Basic {b64encode(':'.join(account).encode()).decode()}"
        try:
            with urllib.request.urlopen(urllib.request.Request(self.uri + path, headers=headers), timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def stop(self) -> None:
        """At once: it would wait for its clients, and all that it has is in the database."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
