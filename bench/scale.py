"""What an experiment of many trials costs its driver, and what follows for a cluster.

Runs 1,000 trials (--quick: 100) of near-zero work, and compares the last hundred with the first; then measures the
pieces one by one: the driver without Ray, the agenda, the sampler, the journal, an epoch's result, the wait for one of
many trials, MLflow, and reads of stored logits. At the end it prints what `scaling_model.py` makes of the figures.

    python bench/scale.py --json measured.json     # keeps the figures for scaling_model.py
    python bench/scale.py --tracking http://...    # measures your MLflow server in place of a sqlite file

Times are wall times where a disk or a server is waited for, and CPU times of the driver's process elsewhere.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import scaling_model
from trial_overhead import SPEC

from orchestrator import load_spec
from orchestrator.execution.cluster import quiet_settings
from orchestrator.execution.watcher import Watcher
from orchestrator.search.agenda import Agenda
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Record, Status
from orchestrator.store.home import Home
from orchestrator.store.journal import Journal
from orchestrator.tracking.base import RunInfo, Tracker

HUNDRED = 100
METRICS = 15
"""Of an epoch of a student that distils with LA and DTD."""
Figures = dict[str, float]


class Marks(Watcher):
    """Wall time and the driver's CPU time, in seconds, when it hears of epochs and of ends; its memory at each end."""

    def __init__(self) -> None:
        self.epochs: list[tuple[float, float]] = []
        self.ends: list[tuple[float, float]] = []
        self.peaks: list[float] = []

    def on_epoch(self, record: Record) -> None:
        self.epochs.append((time.monotonic(), time.process_time()))

    def on_end(self, record: Record) -> None:
        self.ends.append((time.monotonic(), time.process_time()))
        self.peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def experiment(values: dict[str, Any], marks: Marks, tracker: Tracker | None = None) -> None:
    """Run an experiment of near-zero work with Ray, as `orchestrator.run` does, in a home of its own."""
    from orchestrator.execution.runner import run_experiment

    with tempfile.TemporaryDirectory() as folder:
        results = run_experiment(load_spec(SPEC, values), Home(folder), watcher=marks, tracker=tracker)
    assert all(record.status is Status.FINISHED for record in results.records)


def trials(count: int) -> Figures:
    """One trial after the other, of one epoch each, with MLflow."""
    marks = Marks()
    # The first trial waits for its process, which loads torch.
    experiment({"search.num_samples": count + 1}, marks)
    walls, cpus = ([later[n] - earlier[n] for earlier, later in itertools.pairwise(marks.ends)] for n in (0, 1))
    size = min(HUNDRED, count // 2)
    return {
        "trials": count,
        "compared": size,
        "trial_wall_s": statistics.median(walls),
        "trial_driver_cpu_s": statistics.fmean(cpus),
        "first_wall_s": statistics.fmean(walls[:size]),
        "last_wall_s": statistics.fmean(walls[-size:]),
        "first_wall_median_s": statistics.median(walls[:size]),
        "last_wall_median_s": statistics.median(walls[-size:]),
        "first_cpu_s": statistics.fmean(cpus[:size]),
        "last_cpu_s": statistics.fmean(cpus[-size:]),
        "driver_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "trial_mb": (marks.peaks[-1] - marks.peaks[size]) / (len(marks.peaks) - 1 - size),
    }


def results(epochs: int, buffer: str) -> Figures:
    """Two long trials of near-zero epochs, without MLflow; a result each, or all that come in 0.3 s together."""
    os.environ["TUNE_RESULT_BUFFER_LENGTH"] = buffer
    quiet_settings()
    from orchestrator.tracking.memory import MemoryTracker

    marks = Marks()
    values = {"search.num_samples": 2, "training.epochs": epochs, "resources.max_concurrent_trials": 2}
    experiment(values, marks, MemoryTracker())
    # The first ones compete with the start of the workers.
    seen = marks.epochs[len(marks.epochs) // 10 :]
    (began, before), (ended, after) = seen[0], seen[-1]
    return {"driver_cpu_s": (after - before) / (len(seen) - 1), "per_s": (len(seen) - 1) / (ended - began)}


def waiting(counts: list[int]) -> Figures:
    """CPU time that Tune's wait for the next event takes while so many trials run."""
    quiet_settings()
    import asyncio

    import ray
    from ray.air.execution._internal.event_manager import RayEventManager

    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)

    @ray.remote
    class Busy:
        async def work(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    busy = Busy.options(max_concurrency=2 * max(counts)).remote()
    figures = {}
    for count in counts:
        manager = RayEventManager()
        manager.track_futures([busy.work.remote(3600) for _ in range(count)])
        costs = []
        for _ in range(50):
            manager.track_future(ray.put(0))
            began = time.process_time()
            manager.wait(num_results=1)
            costs.append(time.process_time() - began)
        figures[str(count)] = statistics.median(costs)
    ray.shutdown()
    return figures


def driver_alone(count: int) -> float:
    """CPU seconds of the driver for one trial of one epoch, without Ray and MLflow."""
    quiet_settings()
    from orchestrator.execution.driver import Driver
    from orchestrator.tracking.memory import MemoryTracker

    spec = load_spec(SPEC, {"search.num_samples": count})
    with tempfile.TemporaryDirectory() as temporary:
        home = Home(temporary)
        home.create()
        folder = home.experiment(spec)
        folder.path.mkdir(parents=True)
        driver = Driver(Agenda(make_plan(spec), no_sampler, {}, ()), home, folder, MemoryTracker(), Watcher(), "{}")
        began = time.process_time()
        for number in range(count):
            assert driver.next(str(number))
            driver.on_result(str(number), {"epoch": 1, **metrics(1)})
            driver.on_end(str(number))
        return (time.process_time() - began) / count


def no_sampler(arm: object, drawn: int) -> Any:
    raise AssertionError("planned points need no sampler")


def agenda(count: int) -> float:
    """CPU seconds for the agenda to hand out a trial and take in its result, the last hundred of so many."""
    plan = make_plan(load_spec(SPEC, {"search.num_samples": count}))
    mine = Agenda(plan, no_sampler, {}, ())

    def one() -> None:
        trial = mine.next()
        assert trial is not None
        mine.finish(Record(trial, Status.FINISHED, {"val/acc1": 1.0}, epochs=1))

    for _ in range(count - HUNDRED):
        one()
    return cpu(one, HUNDRED)


def sampler(counts: list[int]) -> Figures:
    """CPU seconds for Optuna's TPE to draw a point of six values, after so many."""
    quiet_settings()
    from orchestrator.execution.space import SearcherSampler

    space = {
        "training.optimizer.lr": {"type": "loguniform", "low": 0.001, "high": 0.1},
        "training.optimizer.weight_decay": {"type": "loguniform", "low": 1e-5, "high": 1e-2},
        "training.optimizer.momentum": {"type": "uniform", "low": 0.5, "high": 0.99},
        "training.batch_size": {"type": "randint", "low": 8, "high": 64},
        "distillation.ce_weight": {"type": "uniform", "low": 0.1, "high": 1.0},
        "student.width": {"type": "uniform", "low": 0.1, "high": 1.0},
    }
    spec = load_spec(SPEC, {"search.sampler": "optuna", "search.num_samples": 2, "search.space": space})
    (arm,) = make_plan(spec).arms
    mine = SearcherSampler(arm, 0, spec.search, 0)
    figures, drawn = {}, itertools.count()

    def one() -> None:
        name = f"trial-{next(drawn)}"
        point = mine.suggest(name)
        assert point is not None
        mine.tell(name, point, -abs(point["training.optimizer.lr"] - 0.03))

    for count in counts:
        while next(drawn) < count - 10:
            one()
        figures[str(count)] = cpu(one, 20)
    return figures


def journal(count: int) -> float:
    """Seconds until an event is on the disk."""
    event = {"event": "ended", "id": "kd-000", "status": "finished", "metrics": metrics(1), "epochs": 240}
    with tempfile.TemporaryDirectory() as folder:
        mine = Journal(Path(folder) / "journal.jsonl")
        return statistics.median(wall(lambda: mine.append(event)) for _ in range(count))


def metrics(seed: int) -> dict[str, float]:
    return {f"val/metric_{n}": float(seed + n) for n in range(METRICS)}


def tracking(uri: str | None, count: int) -> Figures:
    """Wall and CPU seconds that MLflow takes for a trial, for an epoch sent alone, and for one of 23 sent together."""
    quiet_settings()
    spent = {}
    with tempfile.TemporaryDirectory() as folder:
        store = uri or f"sqlite:///{folder}/mlflow.db"
        tracked(store, Path(folder), 1, 1)
        for what, trials, epochs in (
            ("nothing", 0, 0),
            ("trials", count, 0),
            ("alone", count, 1),
            ("many", count, 230),
        ):
            spent[what] = tracked(store, Path(folder), trials, epochs)
    figures = {}
    for n, kind in enumerate(("wall", "cpu")):
        figures[f"trial_{kind}_s"] = (spent["trials"][n] - spent["nothing"][n]) / count
        figures[f"epoch_alone_{kind}_s"] = (spent["alone"][n] - spent["trials"][n]) / count
        figures[f"epoch_together_{kind}_s"] = (spent["many"][n] - spent["trials"][n]) / count / 230
    return figures


def tracked(uri: str, folder: Path, trials: int, epochs: int) -> tuple[float, float]:
    """Wall and CPU seconds until MLflow has an experiment of so many trials, the opening left out."""
    from orchestrator.tracking.mlflow import MLflowTracker

    key = f"scale-{time.time_ns()}"
    tracker = MLflowTracker(uri, "scale", folder / "artifacts" if uri.startswith("sqlite:") else None)
    tracker.open(RunInfo(key, key))
    params = {f"field.{n}": n for n in range(80)}
    artifacts = {"spec.yaml": "field: 0\n" * 80, "environment.json": "{}"}
    began = time.monotonic(), time.process_time()
    for n in range(trials):
        tracker.start(RunInfo(f"{key}-{n}", f"trial-{n}", params, {}, artifacts))
        for epoch in range(1, epochs + 1):
            tracker.log(f"{key}-{n}", {"epoch": epoch, **metrics(epoch)})
        tracker.end(f"{key}-{n}", Status.FINISHED, None, {"classes.csv": "class,images\n"})
    missed = tracker.close(Status.FINISHED)
    assert not missed, missed
    return time.monotonic() - began[0], time.process_time() - began[1]


def reads(classes: int) -> float:
    """Bytes a second at which an epoch opens a stored view, checks it and takes batches of 64 random rows."""
    import torch

    from orchestrator.data.bundle import Bundle, read_bundle, write_bundle

    rows = 50_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "view"
        write_bundle(path, Bundle({"logits": torch.randn(rows, classes).half()}, {}))

        def epoch() -> None:
            view = read_bundle(path)
            assert view is not None
            for batch in torch.randperm(rows).split(64):
                view.tensors["logits"][batch].float()

        return rows * classes * 2 / statistics.median(cpu(epoch, 1) for _ in range(5))


def cpu(call: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times


def wall(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a process of its own, where nothing else adds to memory and CPU time."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def measure(quick: bool, uri: str | None) -> dict[str, Any]:
    """All figures, in seconds, MB and bytes a second."""
    calls: dict[str, list[Any]] = {
        "trials": [trials, 100 if quick else 1000],
        "result_alone": [results, 100 if quick else 500, "1"],
        "result_together": [results, 200 if quick else 1000, "1000"],
        "wait_cpu_s": [waiting, [1, 100, 1000]],
        "driver_cpu_s": [driver_alone, 100 if quick else 1000],
        "sampler_cpu_s": [sampler, [50, 100] if quick else [100, 1000]],
        "journal_s": [journal, 50 if quick else 500],
        "tracking": [tracking, uri, 5 if quick else 20],
    }
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    figures: dict[str, Any] = {"machine": machine}
    for name, (function, *arguments) in calls.items():
        print(f"measuring {name}", file=sys.stderr, flush=True)
        figures[name] = alone(function, *arguments)
    figures["tracking"]["store"] = "server" if uri else "sqlite"
    counts = [100, 1000] if quick else [100, 1000, 10_000]
    figures["agenda_cpu_s"] = {str(count): alone(agenda, count) for count in counts}
    figures["reads_bytes_per_s"] = {str(classes): alone(reads, classes) for classes in (100, 1000)}
    return figures


def report(figures: dict[str, Any]) -> list[str]:
    ran, one, many, store = (figures[key] for key in ("trials", "result_alone", "result_together", "tracking"))
    first, last = ran["first_wall_s"], ran["last_wall_s"]
    pairs = [("wall", "mean", "wall_s"), ("wall", "median", "wall_median_s"), ("driver's CPU", "mean", "cpu_s")]
    lines = [f"{ran['trials']} trials of near-zero work, one after the other ({figures['machine']})"]
    lines += [
        f"  {what:13} {1000 * ran[f'first_{key}']:7.1f} ms a trial, {kind} of the first {ran['compared']}; "
        f"{1000 * ran[f'last_{key}']:7.1f} ms of the last: {ran[f'last_{key}'] / ran[f'first_{key}']:.2f} x"
        for what, kind, key in pairs
    ]
    lines += [
        f"  (aim: at most 1.20 x; here {last / first:.2f} x)",
        f"  driver's peak memory {ran['driver_peak_mb']:.0f} MB (aim: under 1000), "
        f"of which {1000 * ran['trial_mb']:.0f} kB a trial",
        "pieces",
        f"  driver without Ray and MLflow   {1000 * figures['driver_cpu_s']:8.2f} ms CPU a trial",
        f"  an epoch's result, sent alone   {1000 * one['driver_cpu_s']:8.2f} ms CPU, together with others "
        f"{1000 * many['driver_cpu_s']:.2f}: {one['driver_cpu_s'] / many['driver_cpu_s']:.1f} x",
        f"  journal, until it is on disk    {1000 * figures['journal_s']:8.2f} ms an event",
        f"  MLflow ({store['store']}), a trial       {1000 * store['trial_wall_s']:8.1f} ms, "
        f"of which {1000 * store['trial_cpu_s']:.1f} CPU in the driver's process",
        f"  MLflow, an epoch of {METRICS} metrics   {1000 * store['epoch_alone_wall_s']:8.2f} ms sent alone, "
        f"{1000 * store['epoch_together_wall_s']:.2f} of 23 sent together: "
        f"{store['epoch_alone_wall_s'] / store['epoch_together_wall_s']:.1f} x",
    ]
    for text, key, unit in (
        ("agenda, after {} trials", "agenda_cpu_s", "a trial"),
        ("TPE of six values, after {}", "sampler_cpu_s", "a point"),
        ("Tune's wait among {} trials", "wait_cpu_s", "an event"),
    ):
        least = next(iter(figures[key].values()))
        lines += [
            f"  {text.format(count):31} {1000 * seconds:8.3f} ms CPU {unit}, {seconds / least:.1f} x the first"
            for count, seconds in figures[key].items()
        ]
    return lines + [
        f"  stored logits, {classes} classes       {speed / 1e9:8.2f} GB/s a core"
        for classes, speed in figures["reads_bytes_per_s"].items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few trials: does it run, not what does it cost")
    parser.add_argument("--tracking", metavar="URI", help="MLflow server to measure; default: a sqlite file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures are kept")
    arguments = parser.parse_args()
    figures = measure(arguments.quick, arguments.tracking)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    print("\n".join([*report(figures), "", *scaling_model.tables(figures)]))


if __name__ == "__main__":
    main()
