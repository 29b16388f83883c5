"""Sessions of one experiment without Ray's processes, most of them killed: by the clock, or in the middle of a write.

As a program: python killed_sessions.py SPEC UNDISTURBED HOME SEED KILLS. It runs the experiment in one home from begin
to end, and then in the other in one forked process after the other, as importing everything anew would cost more than
the sessions; of each it tells in a line of JSON. In place of Tune's controller stands `Loop`, which asks the same
things in the same order and trains in its own process; all else, from the journal to MLflow, is what a user runs.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from orchestrator import load_spec
from orchestrator.execution import runner
from orchestrator.execution.cache import Cache
from orchestrator.execution.job import DESCRIBED, Job
from orchestrator.execution.session import Session
from orchestrator.machine import Machine
from orchestrator.store.home import Home
from orchestrator.store.journal import Journal

MACHINE = Machine(cpus=2, gpus=0)
LONGEST_S = 1.5
"""Seconds from a session's begin until the clock kills it, at most."""
MOST_WRITES = 9
"""Writes to the journal before the one that a session dies in, at most."""


class Loop:
    """What `tune.Tuner` is to the runner, in one process."""

    def __init__(self, trainable: Any, *, tune_config: Any, run_config: Any) -> None:
        self._searcher, self._scheduler = tune_config.search_alg, tune_config.scheduler
        self._at_once = tune_config.max_concurrent_trials
        (self._callback,) = run_config.callbacks
        self._stop = run_config.stop
        self._begun = 0

    def fit(self) -> None:
        cache, running = Cache(), []
        while not self._stop.stop_all():
            while len(running) < self._at_once and (started := self._start(cache)):
                running.append(started)
            if not running:
                return
            running = [(trial, session) for trial, session in running if self._goes_on(trial, session)]
        for _, session in running:
            session.save()

    def _start(self, cache: Cache) -> tuple[Any, Session] | None:
        trial = SimpleNamespace(trial_id=f"tune-{self._begun}", described=False)
        config = self._searcher.suggest(trial.trial_id)
        if config is None or config == Searcher.FINISHED:
            return None
        self._begun += 1
        self._scheduler.on_trial_add(None, trial)
        return trial, Session(Job.from_json(config["job"]), cache)

    def _goes_on(self, trial: Any, session: Session) -> bool:
        result: dict[str, Any] = {**session.train_epoch(), "done": session.done}
        if not trial.described:
            trial.described, result[DESCRIBED] = True, session.described
        ends = self._stop(trial.trial_id, result) or session.done
        ends = ends or self._scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP
        self._callback.on_trial_result(0, [], trial, result)
        if ends:
            self._scheduler.on_trial_complete(None, trial, result)
            self._callback.on_trial_complete(0, [], trial)
        return not ends


@contextmanager
def no_ray(*_: object) -> Iterator[Machine]:
    yield MACHINE


def die_in_write(number: int) -> None:
    """Have this process killed when it has written half a line to a journal, for the n-th time."""
    whole, left = Journal._write, [number]

    def torn(journal: Journal, line: bytes) -> None:
        left[0] -= 1
        if left[0]:
            whole(journal, line)
            return
        with journal.path.open("ab", buffering=0) as file:
            file.write(line[: random.randrange(len(line))])
            os.fsync(file.fileno())
        os.kill(os.getpid(), signal.SIGKILL)

    Journal._write = torn  # type: ignore[method-assign]


def run_once(spec: Path, home: Path, dies_in: int | None, log: Path) -> int:
    """Start a session in a process of its own; gives its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if dies_in is not None:
            die_in_write(dies_in)
        runner.run_experiment(load_spec(spec), Home(home))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(spec: Path, undisturbed: Path, home: Path, seed: int, kills: int) -> None:
    tune.Tuner, runner.ray_session = Loop, no_ray  # type: ignore[misc,assignment]
    runner.run_experiment(load_spec(spec), Home(undisturbed))
    log, rng = home.with_suffix(".log"), random.Random(seed)
    for number in range(kills + 1):
        random.seed(rng.random())
        last = number == kills
        writes = rng.randrange(1, MOST_WRITES) if number % 2 and not last else None
        after = rng.uniform(0.0, LONGEST_S) if writes is None and not last else None
        child = run_once(spec, home, writes, log)
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"after": after, "writes": writes, "code": code}), flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *map(int, sys.argv[4:]))
