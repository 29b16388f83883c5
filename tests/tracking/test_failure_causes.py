"""What is said of a store that cannot be used: one line of cause, one of remedy, and no secret."""

import http.server
import socket
import threading
import time

import pytest
from mlflow.exceptions import MlflowException
from tracking_stores import EXPERIMENT

from orchestrator.errors import TrackingError
from orchestrator.passwords import redacted
from orchestrator.tracking.failures import MAX_LENGTH, cause, may_pass
from orchestrator.tracking.mlflow import MLflowTracker
from orchestrator.tracking.mlflow_store import close_orphans


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers http://.../CODE/anything with that status and a page that is not MLflow's; 0 hangs up."""

    def do_GET(self):
        code = int(self.path.split("/")[1])
        if code:
            page = b"<html>\r\n<head><title>a proxy</title></head></html>"
            self.send_response(code)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def answering():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def refused(uri, use=lambda uri: MLflowTracker(uri, "x").open(EXPERIMENT)):
    """The lines of the error that using the store ends in, within seconds."""
    started = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        use(uri)
    assert time.monotonic() - started < 8
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert max(len(line) for line in lines) < 160
    assert "tracking.uri" in lines[1]
    for noise in ("user", "secret", "HTTPConnection", "Max retries", "sqlite3.", "sqlalche.me", "Errno", "<html>"):
        assert noise not in str(caught.value)
    return lines[0]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (401, "the server answered 401 Unauthorized"),
        (404, "the server answered 404 Not Found"),
        (503, "the server answered 503 Service Unavailable"),
        (299, "the server answered 299"),
        (200, "what answers there is not MLflow"),
        (0, "Remote end closed connection without response"),
    ],
)
def test_what_a_server_answered_is_said(answering, code, told):
    assert refused(f"http://user:secret@{answering}/{code}") == (
        f"MLflow at http://{answering}/{code} cannot be used: {told}"
    )


def test_a_server_that_does_not_listen_answer_or_exist_is_said(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as silent, socket.socket() as free:
        for each in (silent, free):
            each.bind(("127.0.0.1", 0))
        silent.listen()
        assert refused(f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}").endswith(": no answer in time")
        assert refused(f"http://user:secret@127.0.0.1:{free.getsockname()[1]}").endswith(": Connection refused")
    assert refused("http://user:secret@nowhere.invalid:5000").endswith(": there is no host of that name")


@pytest.mark.parametrize(
    "use", [lambda uri: MLflowTracker(uri, "x").open(EXPERIMENT), lambda uri: close_orphans(uri, "x", "k")]
)
def test_a_file_that_cannot_be_a_store_is_said_at_once(tmp_path, use):
    (tmp_path / "text.db").write_text("not a database at all, but long enough to be read as one" * 20)
    (tmp_path / "folder.db").mkdir()
    assert refused(f"sqlite:///{tmp_path / 'text.db'}", use).endswith(": file is not a database")
    assert refused(f"sqlite:///{tmp_path / 'folder.db'}", use).endswith(": unable to open database file")
    assert refused("sqlite:////proc/nowhere/mlflow.db", use).endswith(": No such file or directory: /proc/nowhere")


def test_an_unknown_kind_of_store_is_said():
    with pytest.raises(TrackingError) as caught:
        MLflowTracker("nonsense://user:secret@host/x", "x").open(EXPERIMENT)
    assert "MLflow at nonsense://host/x cannot be used" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_long_text_is_cut_after_its_secrets_are_taken_out():
    uri = "http://user:secret@host"
    for length in range(MAX_LENGTH - 30, MAX_LENGTH + 10):
        told = cause(ValueError("x" * length + "user:secret@host and more" * 5), uri)
        assert len(told) <= MAX_LENGTH
        assert "user" not in told


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (MlflowException("x", error_code=1), True),  # INTERNAL_ERROR
        (MlflowException("x", error_code=2), True),  # TEMPORARILY_UNAVAILABLE
        (MlflowException.invalid_parameter_value("x"), False),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (PermissionError(), False),
        (ValueError(), False),
    ],
)
def test_what_may_pass_is_told_from_what_will_not(error, passes):
    assert may_pass(error) is passes


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://user:pass@host:5000/mlflow", "https://host:5000/mlflow"),
        ("https://user@host/mlflow", "https://host/mlflow"),
        ("https://user:p@ss@host/a@b", "https://host/a@b"),
        ("https://host:5000/a@b", "https://host:5000/a@b"),
        ("postgresql+psycopg2://user:pa/ss@host:5432/db", "postgresql+psycopg2://host:5432/db"),
        ("mysql://user:p@ss@host/db", "mysql://host/db"),
        (
            "postgresql://host/db?user=me&password=pass&sslmode=require",
            "postgresql://host/db?user=me&password=***&sslmode=require",
        ),
        ("mlruns", "mlruns"),
    ],
)
def test_passwords_are_left_out_of_addresses(uri, shown):
    assert redacted(uri) == shown
