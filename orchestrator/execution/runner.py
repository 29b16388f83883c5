"""Runs an experiment from its spec to its results, in one session or as the next of several."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import environment, names
from orchestrator.analysis.notes import run_note
from orchestrator.analysis.results import Results
from orchestrator.errors import OrchestratorError, StorageError, UsageError, first_line
from orchestrator.execution.cluster import keep_keys, quiet_settings, ray_session
from orchestrator.execution.interrupt import Interrupt, catching
from orchestrator.execution.preflight import preflight
from orchestrator.execution.shown import contents, experiment_info
from orchestrator.execution.students import student_models
from orchestrator.execution.teacher import fetch_teachers
from orchestrator.execution.warm_start import in_words, warm_start
from orchestrator.execution.watcher import Watcher
from orchestrator.machine import Machine, this_machine
from orchestrator.search.agenda import Agenda, Sampler
from orchestrator.search.logits import plan_logits
from orchestrator.search.packages import require_packages
from orchestrator.search.plan import Arm, Plan, make_plan
from orchestrator.search.standing import State, what_is_left
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.search.warm_start import Told
from orchestrator.spec.base import expand_environment
from orchestrator.spec.experiment import ExperimentSpec, digest
from orchestrator.spec.resources import ResourcesSpec
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home
from orchestrator.store.placing import Placed, place
from orchestrator.tracking.base import Tracker

if TYPE_CHECKING:
    from orchestrator.execution.driver import Driver


def run_experiment(
    spec: ExperimentSpec,
    home: Home,
    *,
    address: str | None = None,
    watcher: Watcher | None = None,
    tracker: Tracker | None = None,
    interrupt: Interrupt | None = None,
    placed: Placed | None = None,
) -> Results:
    """Run the experiment, or what is left of it, and return its results.

    A spec that only adds to an experiment of its name (see `search.extension`) extends that one. `placed` is what
    became of the spec where the caller has looked for its folder; `interrupt` is given by one that handles signals.

    `address` joins a Ray cluster instead of starting Ray on this machine. Raises `OrchestratorError` for
    what keeps the experiment from running, `KeyboardInterrupt` after Ctrl-C, when what ran
    is saved and marked.
    """
    watcher = watcher or Watcher()
    if interrupt is None:
        own = Interrupt(watcher.on_interrupt)
        with catching(own):
            return run_experiment(
                spec, home, address=address, watcher=watcher, tracker=tracker, interrupt=own, placed=placed
            )
    placed = placed or place(spec, home)
    spec, folder = placed.spec, placed.folder
    plan = make_plan(spec)
    machine = this_machine()
    if address is None:
        plan.concurrency(machine)
    home.create()
    if any(arm.points is None for arm in plan.unfinished(folder.records())):
        require_packages(spec.search)
    plan_logits(plan, home.room_for_logits())
    fetch_teachers(plan.checkpoints, home, tracking_uri(spec, home)[0])
    with folder.opened(spec, placed.changes, placed.known):
        for note in placed.notes:
            watcher.on_note(note)
        if folder.shared and folder.shared.told:
            watcher.on_note(folder.shared.told)
        records = folder.records()
        left, spent = what_is_left(plan, records, home.has_teacher, out_of_budget=_clock(spec, folder)())
        if not left and folder.is_tracked(_store(spec, home)):
            watcher.on_stage("every trial has ended before: nothing is left to run")
            return Results(spec, records, id=folder.id)
        if left and (changed := other_workers(plan, folder)):
            watcher.on_note(changed)
        told = warm_start(plan, home, folder, tracking_uri(spec, home)[0])
        if told:
            watcher.on_note(in_words(told))
        key = _session_key(folder)
        watcher.on_stage("opening MLflow")
        tracker = tracker or default_tracker(spec, home)
        described = json.dumps(environment.describe(), indent=2)
        interrupt.check()
        tracker.open(experiment_info(spec, folder, key, described), contents(spec, folder.id))
        status, lost = Status.FAILED, []
        try:
            interrupt.check()
            driver = _driver(plan, home, folder, tracker, watcher, records, described, told)
            driver.reconcile()
            if left and folder.was_stopped():
                watcher.on_stage("it was stopped by `orchestrator stop`, and goes on now")
            if left:
                watcher.on_stage("starting Ray" if address is None else f"joining Ray at {address}")
                with ray_session(address, machine, folder.log, spec.resources.custom_resources) as cluster:
                    interrupt.check()
                    if address is not None:
                        plan.concurrency(cluster)
                    if address is not None or _workers_need_gpus(spec.resources):
                        watcher.on_stage("looking at the cluster's nodes" if address else "looking at this machine")
                        for finding in preflight(plan, home, interrupt.check):
                            watcher.on_note(f"{finding.node}: {finding.check}: {finding.found}; {finding.advice}")
                    _run_trials(driver, cluster, interrupt)
                spent = driver.agenda.spent
            status = Status.STOPPED if driver.stopped else Status.FINISHED
            if spec.tracking.register_models:
                lost = _register_students(plan, home, folder, tracker, watcher, described)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
            raise
        finally:
            results = Results(spec, folder.records(), id=folder.id)
            state = results.outcome(plan, spent) if status is Status.FINISHED else State.INTERRUPTED
            note = run_note(results, _found(plan, results, home), state, json.loads(described), spent)
            kept = {"results.json": results.to_json()}
            if status in (Status.FINISHED, Status.STOPPED):
                kept |= _report(folder, home, state, spent, watcher)
            unwritten = [*tracker.close(status, results.summary_metrics(), note, kept), *lost]
            if unwritten:
                watcher.on_stage(
                    f"MLflow did not take {len(unwritten)} records ({unwritten[0]}); "
                    "run the same command again to write them"
                )
            else:
                folder.journal.append({"event": "tracked", "store": _store(spec, home)})
        return results


def _register_students(
    plan: Plan, home: Home, folder: ExperimentFolder, tracker: Tracker, watcher: Watcher, described: str
) -> list[str]:
    """Tell the tracker each variant's best student; returns what another session may be able to, in lines."""
    results = Results(plan.spec, folder.records(), id=folder.id)
    try:
        models, lacking = student_models(results, plan, home, folder, json.loads(described))
    except (OSError, StorageError) as error:
        return [f"the best students: {first_line(error)}"]
    for line in lacking:
        watcher.on_note(line)
    tracker.register(folder.id, models)
    return []


def _driver(
    plan: Plan,
    home: Home,
    folder: ExperimentFolder,
    tracker: Tracker,
    watcher: Watcher,
    records: dict[str, Record],
    described: str,
    told: Mapping[str, Told],
) -> Driver:
    """What carries the experiment through this session."""
    quiet_settings()
    from orchestrator.execution.driver import Driver
    from orchestrator.execution.space import SearcherSampler

    spec = plan.spec

    def sampler(arm: Arm, drawn: int) -> Sampler:
        earlier = told[arm.name].trials if arm.name in told else ()
        return SearcherSampler(arm, drawn, spec.search, spec.seed, earlier)

    agenda = Agenda(
        plan,
        sampler,
        records,
        [key for key in plan.teachers if home.has_teacher(key)],
        _clock(spec, folder),
    )
    return Driver(agenda, home, folder, tracker, watcher, described)


def _workers_need_gpus(resources: ResourcesSpec) -> bool:
    """Whether Ray Train's workers would be started again and again where torch cannot use a GPU."""
    return resources.gpus_per_worker > 0 and resources.workers != (1, 1)


def _run_trials(driver: Driver, cluster: Machine, interrupt: Interrupt) -> None:
    """Hand the agenda to Ray Tune and wait until it is empty."""
    from ray import tune
    from ray.widgets.util import in_notebook

    from orchestrator.execution.adapters import AgendaSearcher, DriverCallback, NoReport
    from orchestrator.execution.scheduler import VariantScheduler, relive, variant_schedulers
    from orchestrator.execution.stopper import SessionStopper
    from orchestrator.execution.trial import actors_for

    plan, agenda, folder = driver.plan, driver.agenda, driver.folder
    spec = plan.spec
    concurrency = driver.setbacks.concurrency = plan.concurrency(cluster)
    schedulers = variant_schedulers(spec.search, plan.arms)
    for record in agenda.records.values():
        if record.trial.phase is Phase.SEARCH and record.status.ended and schedulers:
            # The file may hold epochs that were trained before the scheduler's stop arrived.
            seen = driver.history(record.trial)[: record.epochs]
            relive(schedulers[record.trial.variant], record.trial.id, seen)
    described = json.loads(driver.environment)
    started = {"event": "session", "started": time.time(), "epochs": driver.epochs_behind(), "at_once": concurrency}
    folder.journal.append({**started, "workers": spec.resources.num_workers, "environment": described})
    driver.briefing.keep_decisions()
    driver.watcher.on_plan(plan, agenda.records, concurrency)
    keep_keys()
    storage = folder.path / "ray"
    shutil.rmtree(storage, ignore_errors=True)
    shared = folder.seen_by_all(storage / "gangs")
    with actors_for(spec.resources, shared, spec.budget.failures.max_restarts) as actors:
        driver.briefing.gang = actors.gang
        tuner = tune.Tuner(
            actors.trainable,
            tune_config=tune.TuneConfig(
                search_alg=AgendaSearcher(driver),
                scheduler=VariantScheduler(schedulers, driver.trial_of, driver.history),
                num_samples=-1,
                max_concurrent_trials=concurrency,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="session",
                storage_path=str(storage),
                verbose=0,
                # Elsewhere `verbose` is enough, and Tune warns of a reporter.
                progress_reporter=NoReport() if in_notebook() else None,
                callbacks=[DriverCallback(driver)],
                stop=SessionStopper(driver, interrupt, actors.stop),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                # The driver starts dead trials again. Tune would not where a reused actor died between two trials.
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )
        try:
            tuner.fit()
        except Exception as error:
            raise driver.error or error from None
        finally:
            driver.interrupt()
    if folder.shared:
        folder.shared.remote.remove_folder(storage)
    interrupt.check()
    if driver.fatal:
        raise OrchestratorError(driver.fatal)


def default_tracker(spec: ExperimentSpec, home: Home) -> Tracker:
    """MLflow at the spec's URI, else MLFLOW_TRACKING_URI, else a sqlite file in the home folder."""
    from orchestrator.tracking.mlflow import MLflowTracker

    uri, _ = tracking_uri(spec, home)
    return MLflowTracker(uri, spec.tracking.experiment or spec.name, artifacts_of(uri, home))


def artifacts_of(uri: str, home: Home) -> Path | None:
    """Where MLflow puts artifacts of a sqlite file, which has no server; it would take the working folder."""
    if not uri.startswith("sqlite:"):
        return None
    # The folder on this machine of a home in an object store is no place to keep anything.
    return Path(uri.removeprefix("sqlite:///")).absolute().parent / "artifacts" if home.remote else home.artifacts


def tracking_uri(spec: ExperimentSpec | None, home: Home) -> tuple[str, bool]:
    """Where the experiment is tracked, or any that does not say, and whether that is the home folder's own store."""
    if spec is not None and spec.tracking.uri is not None:
        return expand_environment(spec.tracking.uri, "tracking.uri"), False
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if home.remote and not given:
        raise UsageError(
            f"tracking.uri must be set with the home {home}: MLflow keeps no database in an object store",
            hint="name an MLflow server, such as --set tracking.uri=http://host:5000, or set MLFLOW_TRACKING_URI",
        )
    return (given, False) if given else (home.tracking_uri, True)


def _store(spec: ExperimentSpec, home: Home) -> str:
    """A digest of where the experiment is tracked, which tells nothing of a secret in it."""
    uri, local = tracking_uri(spec, home)
    # A local store that was deleted and comes anew is another one.
    made = home.database.stat().st_ino if local and home.database.exists() else None
    return digest([uri, spec.tracking.experiment or spec.name, made])


def _found(plan: Plan, results: Results, home: Home) -> dict[str, float | None]:
    """Validation accuracy of the teachers that were found again, by key."""
    records = {record.trial.id: record for record in results.records}
    return {key: home.teacher_accuracy(key) for key in plan.finding(records, home.has_teacher).found}


def other_workers(plan: Plan, folder: ExperimentFolder) -> str | None:
    """A remark where results depend on the number of workers, and trials have ended with another one."""
    now, models = plan.spec.resources.num_workers, ", ".join(plan.batch_norms)
    others = [_counted(count) for count in folder.worker_counts() if count != now]
    if not others or not models:
        return None
    return (
        f"resources.num_workers: trials have ended with {' and '.join(others)}, and the others are run with "
        f"{_counted(now)}: batch norms of {models} see one worker's part of a batch, so that results differ by that"
    )


def _counted(workers: int | list[int]) -> str:
    return str(workers) if isinstance(workers, int) else f"{workers[0]} to {workers[1]}"


def _report(folder: ExperimentFolder, home: Home, state: State, spent: str | None, watcher: Watcher) -> dict[str, str]:
    """The experiment's report as an artifact of its run; where it cannot be written, it is told why."""
    from orchestrator.experiment import Experiment

    try:
        # By its folder it still runs, in this process.
        return {names.REPORT: replace(Experiment.read(folder, home), state=state, spent=spent).report()}
    except Exception as error:
        # What was trained is to be recorded all the same.
        watcher.on_note(f"MLflow gets no report: {first_line(error)}")
        return {}


def _session_key(folder: ExperimentFolder) -> str:
    """The experiment's lasting key, made when it is first run."""
    for event in folder.journal.read():
        if event["event"] == "experiment":
            return str(event["key"])
    key = uuid.uuid4().hex
    folder.journal.append({"event": "experiment", "key": key, "id": folder.id, "owner": environment.owner()})
    return key


def _clock(spec: ExperimentSpec, folder: ExperimentFolder) -> Callable[[], bool]:
    """Whether the time budget is spent, earlier sessions' time included."""
    limit = spec.budget.time_s
    spent, begin = folder.seconds(), time.monotonic()
    return lambda: limit is not None and spent + time.monotonic() - begin >= limit
