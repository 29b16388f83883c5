"""Jobs as the cluster tells of them: a server that answers as Ray's, and drops connections."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ray.dashboard.consts import RAY_JOB_START_TIMEOUT_SECONDS_ENV_VAR
from rich.console import Console

from orchestrator.cli.submit import watch
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.execution import jobs as module
from orchestrator.execution.dashboard import LostError
from orchestrator.execution.jobs import DEFAULT_HOME, Job, Jobs, Setup
from orchestrator.execution.package import Package
from orchestrator.spec import load_spec

PACKAGE = Package(b"", {})
SPEC: dict[str, Any] = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet8"},
    "student": {"model": "resnet8"},
}
HEAD = "INFO Runtime env is setting up.\nRunning entrypoint for job tiny-12345678-1: exec python -m orchestrator\n"


class Server:
    """A dashboard with jobs; each answer to a request for logs or details is the next of `script`."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.log = HEAD
        self.script: list[Callable[[], int | None]] = []
        """What happens at each look at the job: it may change the job, and gives the status to answer with."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def do_DELETE(self) -> None:
                outer.jobs[:] = [job for job in outer.jobs if not self.path.endswith(f"/{job['submission_id']}")]
                outer.send(self, {"deleted": True})

            def log_message(self, *arguments: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        status: int | None = 200
        content: Any
        if request.path == "/api/version":
            content = {"ray_version": "2.60.0", "version": "4"}
        elif request.path == "/api/jobs/":
            content = self.jobs
        elif request.path.endswith("/logs"):
            content = {"logs": self.log}
        else:
            if self.script:
                status = self.script.pop(0)()
            found = [job for job in self.jobs if request.path.endswith(f"/{job['submission_id']}")]
            content = found[0] if found else "no such job"
            status = status if found else 404
        if status is None:
            request.connection.close()
            return
        self.send(request, content, status)

    def send(self, request: BaseHTTPRequestHandler, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def add(
        self, number: int, status: str, code: int | None = None, experiment: str = "tiny-12345678", **known: str
    ) -> None:
        metadata = {"experiment": experiment, "attempt": str(number), **known}
        self.put(
            f"{experiment}-{number}",
            metadata={f"orchestrator.{key}": value for key, value in metadata.items()},
            status=status,
            start_time=1000 * number,
            driver_exit_code=code,
        )

    def put(self, id: str, **details: Any) -> None:
        self.jobs.append(
            {"type": "SUBMISSION", "submission_id": id, "entrypoint": "", "message": "its message", **details}
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(module, "WORTH", 0)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    yield made
    made.close()


def follow(server: Server) -> tuple[Job, str, list[str]]:
    jobs, shown, notes = Jobs(server.address), list[str](), list[str]()
    ended = jobs.follow(jobs.find(None), shown.append, notes.append)
    return ended, "".join(shown), notes


def test_a_job_is_followed_through_lost_connections(server: Server) -> None:
    server.add(1, "RUNNING")

    def say(text: str) -> int:
        server.log += text
        return 200

    def end() -> int:
        server.jobs[0] |= {"status": "SUCCEEDED", "driver_exit_code": 0}
        return say("three\n")

    server.script = [lambda: say("one\ntw"), lambda: None, lambda: 503, lambda: say("o\n"), lambda: 200, end]
    ended, shown, notes = follow(server)
    assert shown == "one\ntwo\nthree\n"
    assert ended.exit_code == 0
    assert len(notes) == 2
    assert "The connection is lost" in notes[0]
    assert notes[1] == "The connection is back"


def test_a_cluster_that_stays_away_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    server.add(1, "RUNNING")
    server.script = [lambda: None] * 10_000
    with pytest.raises(LostError, match="does not answer"):
        follow(server)


def test_a_cluster_that_was_started_anew_knows_no_job(server: Server) -> None:
    server.add(1, "RUNNING")
    server.script = [lambda: server.jobs.clear() or 200]  # type: ignore[func-returns-value]
    with pytest.raises(OrchestratorError, match="submit again, and the experiment goes on"):
        follow(server)


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 1, 1),
        ("FAILED", 2, 2),
        ("FAILED", 130, 130),
        ("FAILED", -9, 1),
        ("FAILED", None, 1),
        ("STOPPED", None, 130),
    ],
)
def test_the_exit_code_is_the_drivers(server: Server, status: str, driver: int | None, code: int) -> None:
    server.add(1, status, driver)
    ended, shown, _ = follow(server)
    assert ended.exit_code == code
    assert shown == ""


def test_where_the_driver_never_started_all_is_shown(server: Server) -> None:
    server.add(1, "FAILED")
    server.log = "the environment could not be made\n"
    assert follow(server)[1] == server.log


def test_an_installation_that_took_too_long_is_told_what_to_do(server: Server) -> None:
    server.add(1, "FAILED")
    assert module.START_VARIABLE == RAY_JOB_START_TIMEOUT_SECONDS_ENV_VAR
    ray_says = "Job supervisor actor failed to start within 900.0 seconds. This timeout can be configured by setting "
    server.jobs[0]["message"] = f"{ray_says}the environment variable RAY_JOB_START_TIMEOUT_SECONDS."
    jobs, console = Jobs(server.address), Console(width=300)
    with console.capture() as told:
        assert watch(jobs, jobs.find(None), console) == 1
    assert "has failed: Job supervisor actor failed to start" in told.get()
    assert "start Ray's head with RAY_JOB_START_TIMEOUT_SECONDS=3600" in told.get()


def test_the_last_attempt_is_the_one_that_is_meant(server: Server) -> None:
    for number in (1, 2, 10):
        server.add(number, "FAILED", 1)
    server.add(1, "SUCCEEDED", 0, "other-abcdef01")
    jobs = Jobs(f"{server.address}/")
    assert jobs.find("tiny").attempt == 10
    assert jobs.find("tiny-12345678").attempt == 10
    assert jobs.find("tiny-12345678-2").attempt == 2
    assert jobs.find("other").setup == Setup(DEFAULT_HOME)
    with pytest.raises(UsageError, match="did you mean 'tiny-12345678'"):
        jobs.find("tinny-12345678")


def test_a_name_means_ones_own_experiment_and_another_is_changed_by_its_id_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_OWNER", "ann")
    for number, (name, owner) in enumerate((("tiny-a1", "ann"), ("tiny-b1", "bob"), ("other-b2", "bob"))):
        server.add(number + 1, "RUNNING", experiment=name, owner=owner)
    jobs = Jobs(server.address)
    for name in ("tiny", None):
        assert jobs.find(name).experiment == jobs.find(name, "stop").experiment == "tiny-a1"
    assert jobs.find("other").owner == "bob"
    with pytest.raises(UsageError, match="other-b2 is bob's") as caught:
        jobs.find("other", "stop")
    assert "to stop it all the same" in str(caught.value)
    assert jobs.find("other-b2", "stop").is_anothers
    monkeypatch.setenv("ORCHESTRATOR_OWNER", "carl")
    assert jobs.find(None).experiment == "other-b2"
    with pytest.raises(UsageError, match="other-b2 is bob's"):
        jobs.find(None, "pause")


def sending_to(server: Server) -> tuple[Jobs, list[dict[str, Any]]]:
    """The server's jobs, and what is submitted to it."""
    jobs, sent = Jobs(server.address), list[dict[str, Any]]()

    def submit(**given: Any) -> None:
        sent.append(given)
        server.put(given["submission_id"], metadata=given["metadata"], status="RUNNING", start_time=len(sent))

    jobs._client.submit_job = submit
    return jobs, sent


def test_what_is_not_given_is_as_it_was_in_the_attempt_before(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_OWNER", "ann")
    jobs, sent = sending_to(server)
    jobs.submit(load_spec(SPEC), PACKAGE, "/shared/home", "/opt/python")
    again = f"orchestrator submit SPEC --address {server.address} --home /shared/home --python /opt/python"
    assert sent[0]["runtime_env"]["env_vars"]["ORCHESTRATOR_AGAIN"] == again
    server.jobs[0]["status"] = "FAILED"
    job, is_new = jobs.submit(load_spec(SPEC), PACKAGE)
    assert (job.attempt, is_new, job.setup) == (2, True, Setup("/shared/home", "/opt/python"))
    assert sent[1]["entrypoint"].startswith("exec /opt/python -m orchestrator run spec.yaml ")
    assert sent[1]["entrypoint"].endswith(" --home /shared/home")
    # A spec that may extend it looks for it in the same home; another one's is no matter.
    more = load_spec(SPEC, {"search.num_samples": 7})
    assert jobs.submit(more, PACKAGE)[0].setup == job.setup
    monkeypatch.setenv("ORCHESTRATOR_OWNER", "bob")
    assert jobs.submit(load_spec(SPEC, {"seed": 1}), PACKAGE)[0].setup == Setup()


def test_packages_that_ray_installs_are_there_for_all_that_is_asked_later(server: Server) -> None:
    jobs, sent = sending_to(server)
    needed = ("torch==2.15.0", "mlflow==3.17.2")
    jobs.submit(load_spec(SPEC), PACKAGE, pip=needed)
    job = jobs.find(None)
    assert job.setup == Setup(pip=needed)
    server.jobs[0]["status"] = "STOPPED"
    assert jobs.submit(load_spec(SPEC), PACKAGE)[0].setup == job.setup
    assert jobs.submit(load_spec(SPEC), PACKAGE)[1] is False
    server.jobs[1]["status"] = "STOPPED"
    assert jobs.submit(load_spec(SPEC), PACKAGE, python="/opt/python")[0].setup == Setup(python="/opt/python")
    assert [list(given["runtime_env"].get("pip", ())) for given in sent] == [list(needed), list(needed), []]
    assert sent[0]["runtime_env"]["env_vars"]["ORCHESTRATOR_AGAIN"].endswith(" --pip")


def test_a_commands_answer_is_waited_for_through_lost_connections(server: Server) -> None:
    jobs, sent = sending_to(server)

    def end() -> int:
        server.jobs[0] |= {"status": "SUCCEEDED", "driver_exit_code": 0}
        server.log = f"Running entrypoint for job {server.jobs[0]['submission_id']}: python\nfar\n"
        return 200

    server.script = [lambda: None, lambda: 503, lambda: 200, lambda: None, end]
    assert jobs.command(["status"], PACKAGE, Setup(pip=("torch==2.15.0",))) == (0, "far\n")
    assert sent[0]["runtime_env"]["pip"] == ["torch==2.15.0"]
    assert server.jobs == []


def test_a_command_without_an_answer_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_PATIENCE_S", 0.1)
    jobs, _ = sending_to(server)
    server.script = [lambda: None] * 10_000
    with pytest.raises(LostError, match="does not answer"):
        jobs.command(["status"], PACKAGE, Setup())


def test_addresses_that_are_no_dashboard(server: Server) -> None:
    with pytest.raises(UsageError, match=r"such as http://10\.0\.0\.1:8265"):
        Jobs("10.0.0.1:6379")
    server.close()
    with pytest.raises(OrchestratorError, match="does not answer"):
        Jobs(server.address)


def test_a_password_in_the_address_is_shown_nowhere(server: Server) -> None:
    given = server.address.replace("http://", "http://me:hunter2@")
    jobs = Jobs(given)
    assert jobs.address == server.address
    server.close()
    for ask in (jobs.all, lambda: Jobs(given)):
        with pytest.raises(OrchestratorError) as caught:
            ask()
        assert "hunter2" not in str(caught.value)
