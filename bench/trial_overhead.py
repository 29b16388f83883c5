"""What a trial costs beyond its training, with tracking, beside Ray Tune's own floor.

Runs 50 trials (--quick: 5) of near-zero work (one epoch on ten images) one after the other, and prints medians:
  floor     a Tune class trainable that returns at once, on a reused actor, with no tracking
  work      the same training without Ray or MLflow, in a plain loop
  trial     the orchestrator, from the end of one trial to the end of the next, MLflow included
  overhead  trial - work

With --workers N it prints instead, for trials on a gang of N workers with a CPU each:
  trainer   a Tune trial that starts a Ray Train trainer of its own, which returns at once (3 trials)
  start     from the session's begin to the end of its first trial, the start of the gang included
  trial     from the end of one trial to the end of the next, as above
  head      what a gang takes on the node of Ray's control plane, where all of it runs but the workers: memory that its
            processes share with nobody, and CPU time until the middle of the session, most of it their start (Linux)
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator import load_spec
from orchestrator.execution.cluster import quiet_settings
from orchestrator.execution.runner import run_experiment
from orchestrator.execution.watcher import Watcher
from orchestrator.search.trials import Record
from orchestrator.store.home import Home

SPEC: dict[str, Any] = {
    "name": "overhead",
    "data": {"dataset": "digits", "train_samples": 10, "validation_fraction": 0.02},
    "student": {"model": "resnet8", "width": 0.125},
    "distillation": {"ce_weight": 1.0, "kd_weight": 0.0},
    "training": {"epochs": 1, "batch_size": 10},
    "search": {
        "sampler": "random",
        "final_seeds": 0,
        "space": {"training.optimizer.lr": {"type": "loguniform", "low": 0.001, "high": 0.1}},
    },
    "resources": {"max_concurrent_trials": 1},
}


OF_A_GANG = ("ray::GangTrainable", "ray::TrainController", "ray::SynchronizationActor")
"""Titles of its processes beside the workers."""


class AtHalf(Watcher):
    """Looks at the processes of a gang after half of the trials."""

    def __init__(self, trials: int) -> None:
        self._left = (trials + 1) // 2
        self.processes: list[tuple[str, float, float]] = []
        """Of each the title, MB of its own, and seconds of CPU time."""

    def on_end(self, record: Record) -> None:
        self._left -= 1
        if self._left == 0 and Path("/proc/self/smaps_rollup").exists():
            self.processes = sorted(gang_processes())


def gang_processes() -> Iterator[tuple[str, float, float]]:
    """Processes of a gang on this machine, as `AtHalf` has them; no other Ray may run a gang here."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            title = (process / "cmdline").read_bytes().decode(errors="replace")
            for known in OF_A_GANG:
                if title.startswith(known):
                    lines = (process / "smaps_rollup").read_text().splitlines()
                    own = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
                    ticks = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
                    yield known.removeprefix("ray::"), own / 1000, sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def gaps(times: list[float]) -> float:
    """Median of the times between neighbours, in milliseconds."""
    return 1000 * statistics.median(later - earlier for earlier, later in itertools.pairwise(times))


def floor(folder: Path, trials: int) -> float:
    """A trial of bare Ray Tune."""
    from ray import tune

    ends: list[float] = []

    class Nothing(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            pass

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

        def step(self) -> dict[str, Any]:
            return {"value": 0.0, "done": True}

    class Ends(tune.Callback):
        def on_trial_complete(self, **info: Any) -> None:
            ends.append(time.monotonic())

        def __getstate__(self) -> dict[str, Any]:
            return {}

    tune.Tuner(
        tune.with_resources(Nothing, {"cpu": 1}),
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=trials + 1, max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(folder),
            verbose=0,
            callbacks=[Ends()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    return gaps(ends)


def own_trainers(folder: Path, trials: int, workers: int) -> float:
    """A trial of Ray Tune that starts its own trainer, as Ray's documentation nests them."""
    from ray import train, tune
    from ray.train.torch import TorchTrainer

    from orchestrator.execution.trial import HEAD_NODE

    ends: list[float] = []

    def nothing() -> None:
        train.report({"value": 0.0})

    def nested(config: dict[str, Any]) -> None:
        scaling = train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1})
        name = f"trial-{config['number']}"
        TorchTrainer(
            nothing, scaling_config=scaling, run_config=train.RunConfig(name=name, storage_path=str(folder))
        ).fit()
        tune.report({"value": 0.0})

    class Ends(tune.Callback):
        def on_trial_complete(self, **info: Any) -> None:
            ends.append(time.monotonic())

        def __getstate__(self) -> dict[str, Any]:
            return {}

    tune.Tuner(
        tune.with_resources(nested, tune.PlacementGroupFactory([{HEAD_NODE: 0.001}])),
        param_space={"number": tune.grid_search(list(range(trials + 1)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=[Ends()]),
    ).fit()
    return gaps(ends)


def work(folder: Path, trials: int) -> float:
    """A trial in a plain loop, in milliseconds."""
    import torch

    from orchestrator.execution.cache import Cache
    from orchestrator.execution.job import Job
    from orchestrator.execution.session import Session

    torch.set_num_threads(1)
    content = load_spec(SPEC).run_content({})
    cache, ends = Cache(), []
    for n in range(trials + 1):
        Session(Job(f"work-{n}", "search", content, 0, str(folder / f"{n}"), []), cache).train_epoch()
        ends.append(time.monotonic())
    return gaps(ends)


def trial(folder: Path, trials: int, workers: int = 1, watcher: Watcher | None = None) -> tuple[float, float]:
    """The first trial of the orchestrator, in seconds, and a later one, in milliseconds."""
    spec = load_spec(SPEC, {"search.num_samples": trials + 1, "resources.num_workers": workers})
    run_experiment(spec, Home(folder), watcher=watcher)
    events = Home(folder).experiment(spec).journal.read()
    (begin,) = (event["started"] for event in events if event["event"] == "session")
    ends = [event["at"] for event in events if event["event"] == "ended"]
    return ends[0] - begin, gaps(ends)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few trials: does it run, not what does it cost")
    parser.add_argument("--workers", type=int, default=1, help="workers of each trial")
    arguments = parser.parse_args()
    trials, workers = 5 if arguments.quick else 50, arguments.workers
    quiet_settings()
    import ray

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cpus = max(2, workers)
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        if workers > 1:
            nested = own_trainers(folder / "nested", 1 if arguments.quick else 3, workers)
            half = AtHalf(trials)
            start, ours = trial(folder / "home", trials, workers, half)
            print(f"trials of one epoch on ten images, with {workers} workers; median of {trials}")
            print(f"trainer  {nested:7.1f} ms a trial that starts its own trainer: {nested / ours:.0f} x a trial here")
            print(f"start    {start:7.1f} s until the first trial has ended (aim: at most 15 s on 2 cores)")
            print(f"trial    {ours:7.1f} ms a trial, MLflow included (aim: at most 500 ms)")
            memory, spent = (sum(process[n] for process in half.processes) for n in (1, 2))
            each = ", ".join(f"{title} {own:.0f} MB, {cpu:.1f} s" for title, own, cpu in half.processes)
            print(f"head     {memory:7.0f} MB and {spent:.1f} s of CPU time a gang: {each}")
            return
        bare, (_, ours) = floor(folder / "floor", trials), trial(folder / "home", trials)
        ray.shutdown()
        alone = work(folder / "work", trials)
    print(f"one-worker trials of one epoch on ten images, medians of {trials}")
    print(f"floor    {bare:7.1f} ms a trial of bare Ray Tune")
    print(f"work     {alone:7.1f} ms a trial in a plain loop")
    print(f"trial    {ours:7.1f} ms a trial of the orchestrator, MLflow included")
    print(f"overhead {ours - alone:7.1f} ms a trial, {(ours - alone) / bare:.1f} x the floor (aim: at most 50 ms)")


if __name__ == "__main__":
    main()
