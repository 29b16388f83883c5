"""Whether a large experiment stays usable in MLflow: what its pages take, and what recording it costs.

Fills a sqlite store with an experiment of 1,000 search trials of 100 epochs (--quick: 20 of 10) the way the driver
does, but without training, and prints
  report    what an epoch's report adds to a trial: its own log, and the driver's hand-over to MLflow's writer
  write     what the writer's thread takes for an epoch beside that, of CPU time
  requests  how long MLflow's server takes for what its page of the experiment asks for
  pages     how long Chromium, if it is there, takes from an address to a drawn page: the experiment's views

    python bench/mlflow_pages.py --keep FOLDER      # leaves the store; `orchestrator ui --home FOLDER` opens it
    python bench/mlflow_pages.py --shots docs/images  # draws the pages of the documentation

Times are wall times on a machine that does nothing else, where CPU time is not said.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from browser import CHROMIUM, Browser

from orchestrator import environment, load_spec, names
from orchestrator.analysis.notes import run_note
from orchestrator.execution.runner import default_tracker
from orchestrator.execution.shown import contents, experiment_info, trial_info
from orchestrator.experiment import Experiment
from orchestrator.search.plan import Plan, make_plan
from orchestrator.search.standing import State
from orchestrator.search.trials import Record, Status, Trial, created, ended
from orchestrator.store.home import Home
from orchestrator.store.trial import TrialFolder
from orchestrator.tracking.base import DataSet
from orchestrator.tracking.mlflow_store import open_client, show
from orchestrator.tracking.uris import experiment_page
from orchestrator.tracking.views import address, views

LOG_BOUND_MS = 5.0
SPEC: dict[str, Any] = {
    "name": "large",
    "data": {"dataset": "cifar100"},
    "teacher": {"model": "resnet56"},
    "student": {"model": "resnet20"},
    "distillation": {
        "temperature": {"method": "flsw", "base": 4, "beta": 20, "min": 1, "max": 12},
        "adjustment": {"rule": "probability_shift"},
    },
    "search": {
        "sampler": "random",
        "final_seeds": 5,
        "reference": "kd",
        "space": {"training.optimizer.lr": {"type": "loguniform", "low": 0.01, "high": 0.3}},
        "variants": {
            "kd": {
                "set": {
                    "distillation.temperature": {"method": "constant", "base": 4},
                    "distillation.adjustment.rule": "none",
                }
            },
            "la-ps": {"set": {"distillation.temperature": {"method": "constant", "base": 4}}},
            "dtd-flsw": {
                "set": {"distillation.adjustment.rule": "none"},
                "space": {
                    "distillation.temperature.min": {"type": "uniform", "low": 0.5, "high": 4},
                    "distillation.temperature.max": {"type": "uniform", "low": 5, "high": 16},
                },
            },
            "la-ps+dtd-flsw": {
                "space": {
                    "distillation.temperature.min": {"type": "uniform", "low": 0.5, "high": 4},
                    "distillation.temperature.max": {"type": "uniform", "low": 5, "high": 16},
                },
            },
        },
    },
}
QUANTILES = (names.TEMPERATURE_P10, names.TEMPERATURE_P50, names.TEMPERATURE_P90)
DESCRIBED = {"student.parameters": 278324, "student.flops": 41215488, "precision": "bf16"}
SHAPES = {"training": 45000, "validation": 5000, "testing": 10000}


def epochs(trial: Trial, count: int) -> Iterator[dict[str, float]]:
    """Epochs as a student's look, by a formula in place of training."""
    rng = random.Random(f"{trial.id} {trial.seed}")
    rate = float(trial.params["training.optimizer.lr"])
    low, high = (float(trial.params.get(f"distillation.temperature.{end}", 4)) for end in ("min", "max"))
    best = 71 - 1.5 * math.log10(rate / 0.08) ** 2 - 0.02 * (high - 11) ** 2 - 0.15 * (low - 2) ** 2
    best += 0.6 * ("la" in trial.variant) + rng.gauss(0, 0.3)
    for epoch in range(1, count + 1):
        done = epoch / count
        accuracy = best * (1 - math.exp(-6 * done)) + rng.gauss(0, 0.4)
        middle = low + (high - low) * (0.35 + 0.15 * done)
        values = {
            names.TRAIN_LOSS: 3 * math.exp(-2 * done) + 0.5,
            names.TRAIN_LOSS_CE: 2 * math.exp(-2 * done) + 0.3,
            names.TRAIN_LOSS_KD: 4 * math.exp(-2 * done) + 0.8,
            names.TRAIN_ACC1: min(100.0, 1.1 * accuracy),
            names.TRAIN_AGREEMENT: 90 * done,
            names.VAL_LOSS: 2.5 * math.exp(-2 * done) + 1,
            names.VAL_ACC1: accuracy,
            names.VAL_ECE: 5 + 5 * done,
            names.LEARNING_RATE: rate * (1 + math.cos(math.pi * done)) / 2,
            names.THROUGHPUT: rng.gauss(5000, 100),
            names.EPOCH_TIME: rng.gauss(9, 0.2),
        }
        if "dtd" in trial.variant:
            ends = {names.TEMPERATURE_MIN: low, names.TEMPERATURE_MEAN: middle, names.TEMPERATURE_MAX: high}
            for name, share in zip(QUANTILES, (0.2, 0.45, 0.8), strict=True):
                ends[name] = low + (high - low) * share * (0.8 + 0.2 * done)
            values |= {**ends, names.TEMPERATURE_CLAMPED_LOW: 0.1 * done, names.TEMPERATURE_CLAMPED_HIGH: 0.02}
        if "la" in trial.variant:
            values |= {names.ADJUSTMENT_WRONG: 3000 - 500 * done, names.ADJUSTMENT_ADJUSTED: 3000 - 500 * done}
        if epoch == count and "-final-" in trial.id:
            values |= {names.TEST_ACC1: accuracy - 0.3, names.TEST_LOSS: 1.1, names.TEST_ECE: 9 + rng.gauss(0, 0.5)}
        yield values


def trials(plan: Plan) -> Iterator[Trial]:
    for n in range(max(arm.count for arm in plan.arms)):
        for arm in plan.arms:
            if n < arm.count:
                yield plan.search_trial(arm, n, (arm.points or ())[n])
    for arm in plan.arms:
        for n in range(plan.spec.search.final_seeds):
            yield plan.final_trial(arm, n, (arm.points or ())[0])


def fill(home: Home, plan: Plan) -> dict[str, float]:
    """Record the experiment; returns what an epoch cost, in ms."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    spec, count = plan.spec, plan.spec.training.epochs
    home.create()
    folder = home.experiment(spec)
    tracker = default_tracker(spec, home)
    described = json.dumps(environment.describe())
    reports: list[float] = []
    # CPU time of the process, and of the part of it that is not MLflow's writer.
    cpu, own = time.process_time(), 0.0
    with folder.opened(spec):
        tracker.open(experiment_info(spec, folder, "key", described), contents(spec, folder.id))
        for trial in trials(plan):
            began = time.thread_time()
            record = Record(trial)
            folder.journal.append(created(trial))
            tracker.start(trial_info(plan, folder, record, described))
            data = [
                DataSet("cifar100", part, f"{part[:4]}0123456789ab", [size, 3, 32, 32], 100)
                for part, size in SHAPES.items()
                if part != "testing" or "-final-" in trial.id
            ]
            tracker.describe(trial.id, DESCRIBED, data)
            kept = TrialFolder(folder.path / "trials" / trial.id)
            kept.path.mkdir(parents=True)
            for number, values in enumerate(epochs(trial, count), start=1):
                at = time.perf_counter()
                kept.add_metrics(number, values)
                if "dtd" in trial.variant:
                    kept.add_temperatures(number, [100] * 40, (1.0, 12.0))
                tracker.log(trial.id, {"epoch": number, **values})
                reports.append(1000 * (time.perf_counter() - at))
            record.status, record.epochs, record.metrics, record.seconds = Status.FINISHED, count, values, 9.0 * count
            folder.journal.append(ended(record))
            tracker.end(trial.id, Status.FINISHED)
            own += time.thread_time() - began
        experiment = Experiment.read(folder, home)
        began = time.thread_time()
        results = experiment.results()
        note = run_note(results, {}, State.COMPLETE, json.loads(described))
        made = {"results.json": results.to_json(), "report.html": experiment.report()}
        own += time.thread_time() - began
        missed = tracker.close(Status.FINISHED, results.summary_metrics(), note, made)
    assert not missed, missed
    return {
        "report": statistics.fmean(reports),
        "late": statistics.quantiles(reports, n=100)[98],
        "write": 1000 * (time.process_time() - cpu - own) / len(reports),
    }


@contextlib.contextmanager
def serving(home: Home) -> Iterator[str]:
    """MLflow's server on a home's store, as `orchestrator ui` starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", home.tracking_uri, "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        server = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 120
        while True:
            try:
                ask(f"{server}/health")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.2)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(url: str, content: Mapping[str, Any] | None = None) -> bytes:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return bytes(answer.read())


def requests(server: str, experiment: str, id: str) -> dict[str, float]:
    """Seconds of what the page asks for, each the median of three."""
    api = f"{server}/ajax-api/2.0/mlflow"
    ours = f"tags.`orchestrator.experiment` = '{id}'"
    searches: dict[str, dict[str, Any]] = {
        "100 runs, the latest": {"order_by": ["attributes.start_time DESC"]},
        "100 trials, the best": {"order_by": [f"metrics.`{names.VAL_ACC1}` DESC"], "filter": f"{ours} and {SEARCHED}"},
    }
    found: dict[str, float] = {}
    for name, search in searches.items():
        content = {"experiment_ids": [experiment], "max_results": 100, **search}
        found[name] = median(lambda content=content: ask(f"{api}/runs/search", content))  # type: ignore[misc]
    runs = [run["info"]["run_id"] for run in json.loads(ask(f"{api}/runs/search", content))["runs"]]
    query = "&".join([*(f"run_ids={run}" for run in runs), f"metric_key={names.VAL_ACC1}", "max_results=320"])
    found["a curve of these 100"] = median(lambda: ask(f"{api}/metrics/get-history-bulk-interval?{query}"))
    return found


SETTLED_S = 8.0
"""Until a page is drawn as it stays."""
SEARCHED = "tags.`orchestrator.phase` = 'search'"


def median(call: Any) -> float:
    def once() -> float:
        began = time.monotonic()
        call()
        return time.monotonic() - began

    return statistics.median(once() for _ in range(3))


DRAWN = "document.querySelectorAll('.js-plotly-plot .main-svg').length"
"""How many charts MLflow has drawn."""
CLOSE = "document.querySelector('[data-component-id=\"mlflow.assistant.chat_panel.close\"]')"
"""The button of the panel that MLflow opens for whoever comes for the first time."""
SEARCHED_CHARTS = (
    "[...document.querySelectorAll('*')].find(e => !e.children.length && /^Searched values/.test(e.innerText))"
)


def pages(server: str, experiment: str, plan: Plan, id: str, shots: Path | None) -> dict[str, float]:
    """Seconds from an address to what it is opened for, each in a fresh tab of a browser that knows the scripts."""
    page = experiment_page(server, experiment)
    search, final, table = views(contents(plan.spec, id))
    found: dict[str, float] = {}
    with Browser(1680, 1000) as browser:

        def draw(name: str, to: str, condition: str, picture: str | None = None) -> None:
            began = time.monotonic()
            browser.open(to)
            browser.wait_for(condition, 120)
            found[name] = time.monotonic() - began
            if picture:
                shoot(picture)

        def shoot(picture: str) -> None:
            if shots:
                time.sleep(SETTLED_S)
                browser.evaluate(f"{CLOSE}?.click()")
                time.sleep(SETTLED_S / 4)
                browser.shot(shots / f"{picture}.png")

        rows = "document.body && document.body.innerText.includes('{}')"
        draw("the list of experiments", f"{server}/#/experiments", rows.format(plan.spec.name))
        draw("all runs, as a table", address(page, table.key, "TABLE"), rows.format(id), "mlflow-runs")
        draw("the best 100 trials, as charts", address(page, search.key), f"{DRAWN} >= 3", "mlflow-search")
        browser.evaluate(f"{SEARCHED_CHARTS}.scrollIntoView()")
        shoot("mlflow-searched")
        draw("final runs by variant, as charts", address(page, final.key), f"{DRAWN} >= 3", "mlflow-final")
        if browser.problems:
            print("the pages had problems:", *browser.problems, sep="\n  ", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 trials of 10 epochs in place of 1,000 of 100")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a home folder to fill, or to look at again")
    parser.add_argument("--shots", type=Path, metavar="FOLDER", help="where to draw the pages")
    arguments = parser.parse_args()
    searched, count = (20, 10) if arguments.quick else (1000, 100)
    with contextlib.ExitStack() as stack:
        home = Home(arguments.keep or stack.enter_context(tempfile.TemporaryDirectory()))
        spec = load_spec(SPEC, {"search.num_samples": searched // 4, "training.epochs": count})
        plan, id = make_plan(spec), home.own(spec).id
        if (home.path / "mlflow.db").exists():
            client = open_client(home.tracking_uri)
            # Views as they are by now.
            show(client, client.get_experiment_by_name(spec.name).experiment_id, contents(spec, id))
        else:
            costs = fill(home, plan)
            print(f"recording {plan.total_trials} trials of {count} epochs, an epoch")
            aim = f"99 %: {costs['late']:.2f}; aim: under {LOG_BOUND_MS:g}"
            print(f"  report  {costs['report']:6.2f} ms of trial time ({aim})")
            print(f"  write   {costs['write']:6.2f} ms of CPU time of MLflow's writer, beside the trial")
        server = stack.enter_context(serving(home))
        listed = json.loads(ask(f"{server}/ajax-api/2.0/mlflow/experiments/search", {"max_results": 10}))
        (experiment,) = (one["experiment_id"] for one in listed["experiments"] if one["name"] == spec.name)
        print("requests of its page")
        for name, seconds in requests(server, experiment, id).items():
            print(f"  {name:34} {seconds:6.2f} s")
        if CHROMIUM is None:
            print("pages: no chromium here")
            return
        print("pages")
        for name, seconds in pages(server, experiment, plan, id, arguments.shots).items():
            print(f"  {name:34} {seconds:6.2f} s")


if __name__ == "__main__":
    main()
