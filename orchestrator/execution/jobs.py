"""Experiments as jobs of a Ray cluster, through its Jobs API; the driver runs there."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.environment import AGAIN_VARIABLE, COMMIT_VARIABLE, OWNER_VARIABLE, git_commit, owner
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.execution.cluster import quiet_settings
from orchestrator.execution.dashboard import TIMEOUT_S, LostError, asked, client
from orchestrator.execution.package import SPEC, Package
from orchestrator.passwords import redacted
from orchestrator.registry import nearest
from orchestrator.spec.experiment import ExperimentSpec

T = TypeVar("T")

EXPERIMENT, ATTEMPT = "orchestrator.experiment", "orchestrator.attempt"
HOME, PYTHON, PIP = "orchestrator.home", "orchestrator.python", "orchestrator.pip"
OWNER = "orchestrator.owner"
"""Keys of a job's metadata."""
DEFAULT_HOME = "${ORCHESTRATOR_HOME:-$HOME/.orchestrator}"
"""The home folder on the cluster, as its shell reads it."""
POLL_S = 1.0
WORTH = 20
"""A log is asked for again after this many times the seconds that it took to come, so that a long one is no burden."""
PATIENCE_S = 600.0
"""How long a cluster may be away before following its job is given up."""
ANSWER_PATIENCE_S = 60.0
"""How long it may while somebody waits for the answer to a command."""
STOP_S = 120
"""What a stopped driver gets to save its trials, before Ray kills it."""
START_VARIABLE = "RAY_JOB_START_TIMEOUT_SECONDS"
"""Of the environment of Ray's head: within which a job has to have started, its packages installed."""
INSTALL_S = 3600
"""What installing gets, where the head allows as much."""


@dataclass(frozen=True)
class Setup:
    """Where and with what this program runs on a cluster."""

    home: str = DEFAULT_HOME
    """As the cluster's shell reads it."""
    python: str = "python"
    pip: tuple[str, ...] = ()
    """Requirements that Ray installs first."""

    def line(self, words: Sequence[str]) -> str:
        """The shell's command for one of this program's commands."""
        # The default is for the cluster's shell to fill in.
        place = f'"{self.home}"' if self.home == DEFAULT_HOME else shlex.quote(self.home)
        return f"{shlex.quote(self.python)} -m orchestrator {shlex.join(words)} --home {place}"

    @property
    def options(self) -> list[str]:
        """The words that have `submit` use it; none for the default."""
        home = [] if self.home == DEFAULT_HOME else ["--home", self.home]
        python = [] if self.python == "python" else ["--python", self.python]
        return [*home, *python, *(["--pip"] if self.pip else [])]


@dataclass(frozen=True)
class Job:
    """One attempt at an experiment, as the cluster knows it."""

    id: str
    experiment: str
    """Its id."""
    attempt: int
    state: str
    """pending, running, stopped, succeeded or failed."""
    setup: Setup = field(default_factory=Setup)
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
    def is_anothers(self) -> bool:
        return self.owner not in ("", owner())

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
            "home": self.setup.home,
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
        self._client = asked(self._given, lambda: client(address))

    def all(self) -> list[Job]:
        """Every attempt at every experiment, oldest first."""
        found = asked(self._given, self._client.list_jobs)
        jobs = [_job(details) for details in found if EXPERIMENT in (details.metadata or {})]
        return sorted(jobs, key=lambda job: (job.started or 0.0, job.attempt))

    def find(self, name: str | None, to: str | None = None) -> Job:
        """The last attempt at the experiment of this name or id, or at any; also one job by its own id.

        A name, or none, means this owner's experiments before those of others. `to` says what is to be done to it:
        raises `UsageError` where that would be done to another's without naming its id.
        """
        jobs = self.all()
        by_id = [job for job in jobs if name in (job.id, job.experiment)]
        found = by_id or [job for job in jobs if name in (None, job.name)]
        if found:
            job = (by_id or [job for job in found if not job.is_anothers] or found)[-1]
            if to is not None and job.is_anothers and not by_id:
                raise UsageError(
                    f"{job.experiment} is {job.owner}'s", hint=f"to {to} it all the same, name it by this id"
                )
            return job
        ids = list(dict.fromkeys(job.experiment for job in jobs))
        close = nearest(name, ids) if name else None
        raise UsageError(
            f"no experiment{f' {name!r}' if name else ''} was submitted to {self.address}"
            + (f"; did you mean {close!r}?" if close else ""),
            hint=f"known: {', '.join(ids) or 'none'}; its jobs are forgotten when a cluster starts anew",
        )

    def get(self, job_id: str) -> Job:
        """The job as it is now."""
        return _job(asked(self._given, lambda: self._client.get_job_info(job_id)))

    def submit(
        self,
        spec: ExperimentSpec,
        package: Package,
        home: str | None = None,
        python: str | None = None,
        pip: Sequence[str] = (),
    ) -> tuple[Job, bool]:
        """Start the next attempt at an experiment, or join the one that runs; tells which job it is and if it is new.

        `home` and `python` are on the cluster, and exclude `pip`. What is not given is as in the last attempt, or in
        this owner's last of the name, which the spec may extend: otherwise it would start over in another home.
        What an earlier attempt has finished is not repeated: `run` continues.
        """
        jobs = self.all()
        attempts = [job for job in jobs if job.experiment == spec.id]
        last = max(attempts, key=lambda job: job.attempt, default=None)
        if last is not None and not last.is_over:
            return last, False
        number = last.attempt + 1 if last else 1
        job_id = f"{spec.id}-{number}"
        namesakes = [job for job in jobs if job.name == spec.name and not job.is_anothers]
        known = last or (namesakes[-1] if namesakes else None)
        before = known.setup if known else Setup()
        setup = replace(before, python=python or "python", pip=tuple(pip)) if python or pip else before
        setup = replace(setup, home=home or setup.home)
        described = {EXPERIMENT: spec.id, ATTEMPT: str(number), OWNER: owner()}
        described |= {HOME: setup.home, PYTHON: setup.python, PIP: json.dumps(setup.pip)}
        try:
            self._send(job_id, f"exec {setup.line(['run', SPEC, '--address', 'auto'])}", package, setup, described)
        except OrchestratorError as error:
            if "already exists" in error.message:
                # Someone else has submitted it between the question and the answer.
                return self.get(job_id), False
            raise
        return self.get(job_id), True

    def stop(self, job: Job) -> Job:
        """Have a driver save its trials and end; returns when it has."""
        asked(self._given, lambda: self._client.stop_job(job.id))
        end = time.monotonic() + STOP_S + TIMEOUT_S
        while not (now := _patiently(lambda: self.get(job.id), ANSWER_PATIENCE_S)).is_over:
            if time.monotonic() > end:
                raise OrchestratorError(f"job {job.id} does not end", hint="look at it in Ray's dashboard")
            time.sleep(POLL_S / 2)
        return now

    def log(self, job: Job) -> str:
        """What the driver has printed so far."""
        return _output(asked(self._given, lambda: self._client.get_job_logs(job.id)), job)

    def follow(self, job: Job, show: Callable[[str], None], note: Callable[[str], None]) -> Job:
        """Give what the driver prints to `show` until it has ended; returns how.

        A connection that is lost is made again, and nothing is shown twice; `note` is told. Raises `OrchestratorError`
        after `PATIENCE_S` without an answer, and where the cluster no longer knows the job.
        """
        shown = 0

        def look() -> tuple[Job, str]:
            # Asked before the log, so that the log of a job that is over is whole.
            now = self.get(job.id)
            return now, self.log(now)

        while True:
            begin = time.monotonic()
            now, text = _patiently(look, PATIENCE_S, note)
            if len(text) > shown:
                show(text[shown:])
                shown = len(text)
            if now.is_over:
                return now
            time.sleep(max(POLL_S, WORTH * (time.monotonic() - begin)))

    def command(self, words: Sequence[str], package: Package, setup: Setup) -> tuple[int, str]:
        """Run one of this program's commands on the cluster; its exit code and what it printed.

        It is a job of its own, which is forgotten afterwards. Where it succeeds only its stdout is told.
        """
        job_id = f"{words[0]}-{uuid.uuid4().hex[:8]}"
        apart = 'errors=$(mktemp); {} 2>"$errors"; code=$?; [ $code = 0 ] || cat "$errors"; rm -f "$errors"; exit $code'
        self._send(job_id, apart.format(setup.line(words)), package, setup)
        try:
            while not (job := _patiently(lambda: self.get(job_id), ANSWER_PATIENCE_S)).is_over:
                time.sleep(POLL_S / 4)
            text = _patiently(lambda: self.log(job), ANSWER_PATIENCE_S)
        except BaseException:
            # Where even that is lost, what went wrong first is what is told.
            with suppress(OrchestratorError):
                asked(self._given, lambda: self._client.stop_job(job_id))
            raise
        # Where it is lost again, the cluster remembers one job more.
        with suppress(LostError):
            asked(self._given, lambda: self._client.delete_job(job_id))
        if job.code is None:
            why = job.advice or job.message
            raise OrchestratorError(f"`orchestrator {words[0]}` did not run on the cluster: {why}")
        return job.code, text

    def _send(
        self, job_id: str, entrypoint: str, package: Package, setup: Setup, described: Mapping[str, str] | None = None
    ) -> None:
        # Everything in here is shown to whoever may look at the cluster's jobs: never a secret.
        variables = {
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            OWNER_VARIABLE: owner(),
            COMMIT_VARIABLE: git_commit(),
            AGAIN_VARIABLE: shlex.join(["orchestrator", "submit", "SPEC", "--address", self.address, *setup.options]),
        }
        with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
            archive = Path(folder) / "package.zip"
            archive.write_bytes(package.content)
            environment: dict[str, Any] = {"working_dir": str(archive), "env_vars": variables}
            if setup.pip:
                environment |= {"pip": list(setup.pip), "config": {"setup_timeout_seconds": INSTALL_S}}
            asked(
                self._given,
                lambda: self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=job_id,
                    runtime_env=environment,
                    metadata=dict(described or {}),
                ),
            )


def _patiently(ask: Callable[[], T], patience: float, note: Callable[[str], None] = lambda text: None) -> T:
    """The answer, asked for again where the connection is lost, for `patience` seconds; `note` is told of it."""
    lost = None
    while True:
        begin = time.monotonic()
        try:
            answer = ask()
        except LostError as error:
            if lost is None:
                note(f"The connection is lost ({error.message}); trying again")
                lost = begin
            elif begin - lost > patience:
                raise
            time.sleep(POLL_S)
            continue
        if lost is not None:
            note("The connection is back")
        return answer


def _job(details: Any) -> Job:
    """A job as Ray describes it."""
    known = details.metadata or {}
    return Job(
        id=details.submission_id or "",
        experiment=known.get(EXPERIMENT, ""),
        attempt=int(known.get(ATTEMPT, 0)),
        state=str(details.status.value).lower(),
        setup=Setup(
            known.get(HOME, DEFAULT_HOME), known.get(PYTHON, "python"), tuple(json.loads(known.get(PIP, "[]")))
        ),
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
