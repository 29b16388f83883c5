"""Experiments as jobs of a Ray cluster, through its Jobs API; the driver runs there."""

from __future__ import annotations

import logging
import os
import re
import shlex
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.environment import AGAIN_VARIABLE, COMMIT_VARIABLE, OWNER_VARIABLE, git_commit, owner
from orchestrator.errors import OrchestratorError, UsageError, first_line
from orchestrator.execution.cluster import quiet_settings
from orchestrator.execution.package import SPEC, Package
from orchestrator.passwords import redacted, without_secrets
from orchestrator.registry import nearest
from orchestrator.spec.experiment import ExperimentSpec

EXPERIMENT, ATTEMPT = "orchestrator.experiment", "orchestrator.attempt"
HOME, PYTHON, OWNER = "orchestrator.home", "orchestrator.python", "orchestrator.owner"
"""Keys of a job's metadata."""
DEFAULT_HOME = "${ORCHESTRATOR_HOME:-$HOME/.orchestrator}"
"""The home folder on the cluster, as its shell reads it."""
TIMEOUT_S = 30.0
"""After which a request counts as lost."""
POLL_S = 1.0
WORTH = 20
"""A log is asked for again after this many times the seconds that it took to come, so that a long one is no burden."""
PATIENCE_S = 600.0
"""How long a cluster may be away before following its job is given up."""
STOP_S = 120
"""What a stopped driver gets to save its trials, before Ray kills it."""
START_VARIABLE = "RAY_JOB_START_TIMEOUT_SECONDS"
"""Of the environment of Ray's head: within which a job has to have started, its packages installed."""
INSTALL_S = 3600
"""What installing gets, where the head allows as much."""


@dataclass(frozen=True)
class Job:
    """One attempt at an experiment, as the cluster knows it."""

    id: str
    experiment: str
    """Its id."""
    attempt: int
    state: str
    """pending, running, stopped, succeeded or failed."""
    home: str
    """As the cluster's shell reads it."""
    python: str = "python"
    owner: str = ""
    """Who submitted it."""
    started: float | None = None
    """In seconds since 1970, as `ended`."""
    ended: float | None = None
    code: int | None = None
    """The driver's own exit code; None while it runs, and where it was killed."""
    message: str = ""

    @property
    def is_over(self) -> bool:
        return self.state not in ("pending", "running")

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed, 2 bad spec or usage, 130 stopped with everything saved."""
        if self.state == "stopped":
            return 130
        if self.state == "succeeded":
            return 0
        return self.code if self.code in (2, 130) else 1

    @property
    def ending(self) -> str:
        """What it has come to, as what follows "has"."""
        return {"stopped": "been stopped", "succeeded": "succeeded", "failed": "failed"}.get(self.state, "not ended")

    @property
    def advice(self) -> str | None:
        """What to do where the driver never started."""
        if START_VARIABLE not in self.message:
            return None
        return (
            f"What --pip installs takes longer than this cluster lets a job start: start Ray's head with "
            f"{START_VARIABLE}={INSTALL_S}, or have the packages in the nodes' image"
        )

    @property
    def name(self) -> str:
        """The spec's: the experiment's id without the hash."""
        return self.experiment.rpartition("-")[0]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-like data."""
        seen = {"started": self.started, "ended": self.ended}
        times = {key: at and datetime.fromtimestamp(at).astimezone() for key, at in seen.items()}
        return {
            "job": self.id,
            "experiment": self.experiment,
            "attempt": self.attempt,
            "state": self.state,
            "exit_code": self.exit_code if self.is_over else None,
            "home": self.home,
            "owner": self.owner,
            **{key: at and at.isoformat("T", "seconds") for key, at in times.items()},
        }


class Jobs:
    """The jobs of the cluster whose dashboard is at `address`, such as http://10.0.0.1:8265.

    The token comes from where Ray looks for it: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, or with RAY_AUTH_MODE=token its
    file in the home folder. Raises `OrchestratorError` where the cluster cannot be reached or refuses.
    """

    def __init__(self, address: str) -> None:
        if not re.match(r"https?://.", address):
            raise UsageError(
                f"--address {redacted(address)!r} is not the URL of a Ray cluster's dashboard",
                hint="such as http://10.0.0.1:8265; `run --address HOST:PORT` joins Ray itself",
            )
        self._given = address.rstrip("/")
        self.address = redacted(self._given)
        """As it may be shown."""
        quiet_settings()
        self._client = _asked(self._given, lambda: _client(address))

    def all(self) -> list[Job]:
        """Every attempt at every experiment, oldest first."""
        found = _asked(self._given, self._client.list_jobs)
        jobs = [_job(details) for details in found if EXPERIMENT in (details.metadata or {})]
        return sorted(jobs, key=lambda job: (job.started or 0.0, job.attempt))

    def latest(self, experiment: str) -> Job | None:
        """The last attempt at the experiment of this id."""
        attempts = [job for job in self.all() if job.experiment == experiment]
        return max(attempts, key=lambda job: job.attempt, default=None)

    def find(self, name: str | None) -> Job:
        """The last attempt at the experiment of this name or id, or at any; also one job by its own id."""
        jobs = self.all()
        for job in reversed(jobs):
            if name in (None, job.id, job.experiment, job.name):
                return job
        known = list(dict.fromkeys(job.experiment for job in jobs))
        close = nearest(name, known) if name else None
        raise UsageError(
            f"no experiment{f' {name!r}' if name else ''} was submitted to {self.address}"
            + (f"; did you mean {close!r}?" if close else ""),
            hint=f"known: {', '.join(known) or 'none'}; its jobs are forgotten when a cluster starts anew",
        )

    def get(self, job_id: str) -> Job:
        """The job as it is now."""
        return _job(_asked(self._given, lambda: self._client.get_job_info(job_id)))

    def submit(
        self,
        spec: ExperimentSpec,
        package: Package,
        home: str | None = None,
        python: str = "python",
        pip: Sequence[str] = (),
    ) -> tuple[Job, bool]:
        """Start the next attempt at an experiment, or join the one that runs; tells which job it is and if it is new.

        `home` and `python` are on the cluster. What an earlier attempt has finished is not repeated: `run` continues.
        """
        last = self.latest(spec.id)
        if last is not None and not last.is_over:
            return last, False
        number = last.attempt + 1 if last else 1
        job_id = f"{spec.id}-{number}"
        words = ["run", SPEC, "--address", "auto"]
        place = home or DEFAULT_HOME
        described = {EXPERIMENT: spec.id, ATTEMPT: str(number), HOME: place, PYTHON: python, OWNER: owner()}
        try:
            self._send(job_id, f"exec {_line(python, words, place)}", package, described, pip)
        except OrchestratorError as error:
            if "already exists" in error.message:
                # Someone else has submitted it between the question and the answer.
                return self.get(job_id), False
            raise
        return self.get(job_id), True

    def stop(self, job: Job) -> Job:
        """Have a driver save its trials and end; returns when it has."""
        _asked(self._given, lambda: self._client.stop_job(job.id))
        end = time.monotonic() + STOP_S + TIMEOUT_S
        while not (now := self.get(job.id)).is_over:
            if time.monotonic() > end:
                raise OrchestratorError(f"job {job.id} does not end", hint="look at it in Ray's dashboard")
            time.sleep(POLL_S / 2)
        return now

    def log(self, job: Job) -> str:
        """What the driver has printed so far."""
        return _output(_asked(self._given, lambda: self._client.get_job_logs(job.id)), job)

    def follow(self, job: Job, show: Callable[[str], None], note: Callable[[str], None]) -> Job:
        """Give what the driver prints to `show` until it has ended; returns how.

        A connection that is lost is made again, and nothing is shown twice; `note` is told. Raises `OrchestratorError`
        after `PATIENCE_S` without an answer, and where the cluster no longer knows the job.
        """
        shown, lost = 0, None
        while True:
            begin = time.monotonic()
            try:
                # Asked before the log, so that the log of a job that is over is whole.
                now = self.get(job.id)
                text = self.log(now)
            except LostError as error:
                if lost is None:
                    note(f"The connection is lost ({error.message}); trying again")
                    lost = begin
                elif begin - lost > PATIENCE_S:
                    raise
                time.sleep(POLL_S)
                continue
            if lost is not None:
                note("The connection is back")
                lost = None
            if len(text) > shown:
                show(text[shown:])
                shown = len(text)
            if now.is_over:
                return now
            time.sleep(max(POLL_S, WORTH * (time.monotonic() - begin)))

    def command(
        self, words: Sequence[str], package: Package, home: str | None = None, python: str = "python"
    ) -> tuple[int, str]:
        """Run one of this program's commands on the cluster; its exit code and what it printed.

        It is a job of its own, which is forgotten afterwards. Where it succeeds only its stdout is told.
        """
        job_id = f"{words[0]}-{uuid.uuid4().hex[:8]}"
        apart = 'errors=$(mktemp); {} 2>"$errors"; code=$?; [ $code = 0 ] || cat "$errors"; rm -f "$errors"; exit $code'
        self._send(job_id, apart.format(_line(python, words, home or DEFAULT_HOME)), package, {})
        try:
            while not (job := self.get(job_id)).is_over:
                time.sleep(POLL_S / 4)
            text = self.log(job)
        except BaseException:
            # Where even that is lost, what went wrong first is what is told.
            with suppress(OrchestratorError):
                _asked(self._given, lambda: self._client.stop_job(job_id))
            raise
        _asked(self._given, lambda: self._client.delete_job(job_id))
        if job.code is None:
            raise OrchestratorError(f"`orchestrator {words[0]}` did not run on the cluster: {job.message}")
        return job.code, text

    def _send(
        self, job_id: str, entrypoint: str, package: Package, described: Mapping[str, str], pip: Sequence[str] = ()
    ) -> None:
        # Everything in here is shown to whoever may look at the cluster's jobs: never a secret.
        variables = {
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            OWNER_VARIABLE: owner(),
            COMMIT_VARIABLE: git_commit(),
            AGAIN_VARIABLE: f"orchestrator submit SPEC --address {self.address}",
        }
        with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
            archive = Path(folder) / "package.zip"
            archive.write_bytes(package.content)
            environment: dict[str, Any] = {"working_dir": str(archive), "env_vars": variables}
            if pip:
                environment |= {"pip": list(pip), "config": {"setup_timeout_seconds": INSTALL_S}}
            _asked(
                self._given,
                lambda: self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=job_id,
                    runtime_env=environment,
                    metadata=dict(described),
                ),
            )


class LostError(OrchestratorError):
    """The cluster did not answer; it may, later."""


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    # It would tell of each package that it uploads.
    logging.getLogger("ray").setLevel("WARNING")
    logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel("WARNING")

    class Client(JobSubmissionClient):
        def _do_request(self, *given: Any, **named: Any) -> Any:
            # Ray's own would wait for ever where a network is cut.
            return super()._do_request(*given, **{"timeout": TIMEOUT_S, **named})

    # Ray takes these even where an address is given.
    kept = {name: os.environ.pop(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS") if name in os.environ}
    try:
        return Client(address)
    finally:
        os.environ.update(kept)


def _asked(address: str, ask: Callable[[], Any]) -> Any:
    """What the cluster answers; its errors as ours."""
    from ray.exceptions import AuthenticationError

    shown = redacted(address)

    def first(error: Exception) -> str:
        return without_secrets(first_line(error), address)

    try:
        return ask()
    except AuthenticationError as error:
        raise OrchestratorError(
            f"{shown} does not let us in: {first(error)}",
            hint="set RAY_AUTH_TOKEN_PATH to the file that holds the cluster's token",
        ) from None
    except OSError as error:
        # Those of the HTTP library are among them.
        raise LostError(
            f"{shown} does not answer: {first(error)}", hint="is it the address of the cluster's dashboard?"
        ) from None
    except (RuntimeError, ValueError) as error:
        status = re.search(r"status code (\d+): (.*)", str(error), re.DOTALL)
        if status is None:
            raise OrchestratorError(f"{shown}: {first(error)}") from None
        told = (status[2].strip().splitlines() or [""])[-1]
        if int(status[1]) == 404:
            raise OrchestratorError(
                f"{shown} no longer knows the job: {told}",
                hint="a cluster that was started anew forgets its jobs; submit again, and the experiment goes on",
            ) from None
        kind = LostError if int(status[1]) in (502, 503, 504) or "agent" in told.lower() else OrchestratorError
        raise kind(f"{shown} refuses with status {status[1]}: {told}") from None


def _line(python: str, words: Sequence[str], home: str) -> str:
    """The shell's command for one of this program's commands."""
    # The default is for the cluster's shell to fill in.
    place = f'"{home}"' if home == DEFAULT_HOME else shlex.quote(home)
    return f"{shlex.quote(python)} -m orchestrator {shlex.join(words)} --home {place}"


def _job(details: Any) -> Job:
    """A job as Ray describes it."""
    known = details.metadata or {}
    return Job(
        id=details.submission_id or "",
        experiment=known.get(EXPERIMENT, ""),
        attempt=int(known.get(ATTEMPT, 0)),
        state=str(details.status.value).lower(),
        home=known.get(HOME, DEFAULT_HOME),
        python=known.get(PYTHON, "python"),
        owner=known.get(OWNER, ""),
        started=details.start_time and details.start_time / 1000,
        ended=details.end_time and details.end_time / 1000,
        code=details.driver_exit_code,
        message=details.message or "",
    )


def _output(log: str, job: Job) -> str:
    """A job's log without what Ray writes before the driver starts; all of it where the driver never did."""
    head, started, output = log.partition(f"Running entrypoint for job {job.id}: ")
    if started:
        return output.partition("\n")[2]
    return head if job.is_over else ""
