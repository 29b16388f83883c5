"""What the measured costs of `scale.py` predict for a large cluster: 10,000 trials on 1,000 GPUs.

    python bench/scale.py --json measured.json
    python bench/scaling_model.py measured.json --trials 10000 --gpus 1000 --epochs 240

With --workers above 1 trials run on gangs of so many workers with a GPU each; what `trial_overhead.py --workers 2`
prints as "head" and "trial" goes in as --gang-mb, --gang-cpu-s and --gang-trial-s.

The formulas are in docs/scaling.md. Figures of one machine are put together here, no cluster was run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

EPOCH_SECONDS = (1.0, 3.0, 10.0, 30.0, 100.0)
GPUS_PER_NODE = 8
MAX_TOGETHER = 23
"""Epochs that one call to MLflow takes."""
GANG_MB, GANG_CPU_S, GANG_TRIAL_S = 920.0, 10.6, 0.226
"""Printed by `trial_overhead.py --workers 2` on the machine of docs/scaling.md."""


@dataclass(frozen=True)
class Scenario:
    """An experiment and a cluster."""

    trials: int = 10_000
    gpus: int = 1000
    epochs: int = 240
    samples: int = 50_000
    classes: int = 100
    views: int = 240
    """Augmented views that teacher logits are stored for."""
    checkpoint_mb: float = 2.3
    """Weights and momentum of a ResNet-20, 4 bytes each."""
    workers: int = 1
    """Of each trial."""
    gang_mb: float = GANG_MB
    """Memory that one more gang takes on the node of Ray's control plane."""
    gang_cpu_s: float = GANG_CPU_S
    """CPU time there for its start."""
    gang_trial_s: float = GANG_TRIAL_S
    """From the end of one of its trials to the next one's, without training."""

    @property
    def at_once(self) -> int:
        """Trials that run at once."""
        return self.gpus // self.workers

    @property
    def nodes(self) -> int:
        return -(-self.gpus // GPUS_PER_NODE)

    @property
    def view_gb(self) -> float:
        """Size of the stored logits of one view."""
        return self.samples * self.classes * 2 / 1e9


@dataclass(frozen=True)
class Prediction:
    """What one epoch time, in seconds, makes of a scenario."""

    epoch_s: float
    hours: float
    results_per_s: float
    driver: float
    """Share of one core that results and trials take, MLflow left out; above 1 the trials wait for the driver."""
    driver_logging: float
    """The same with the CPU time of MLflow's writer, a thread of the same process, at one call an epoch."""
    driver_together: float
    """The same where results are sent together, to the driver and to MLflow."""
    tracking: float
    """Share of the time that MLflow's one writer is busy, epochs sent alone."""
    tracking_floor: float
    """The same where as many epochs as fit are sent together; above 1 the backlog grows until the end."""
    lag_s: float
    """How far MLflow is behind once it sends together what waits."""
    checkpoints_mb_per_s: float
    """A checkpoint after each epoch; where the disk cannot take that, trials save less often by themselves."""
    logits_gb_per_s_node: float
    logits_gb_per_s_network: float


def predict(measured: Mapping[str, Any], scenario: Scenario, epoch_s: float) -> Prediction:
    """Put the measured costs together."""
    store, busy = measured["tracking"], scenario.at_once
    results = busy / epoch_s
    ends = results / scenario.epochs
    # Driver: what Ray and the driver do for a result, and the wait among all trials.
    trial = measured["trials"]["trial_driver_cpu_s"]
    waits = measured["wait_cpu_s"]
    counts = sorted(map(int, waits))
    slope = (waits[str(counts[-1])] - waits[str(counts[0])]) / (counts[-1] - counts[0])
    alone = measured["result_alone"]["driver_cpu_s"] + slope * busy
    together = measured["result_together"]["driver_cpu_s"] + store["epoch_together_cpu_s"]
    # MLflow: a batch of k epochs takes fixed + each * k, and all trials take their turns.
    each = store["epoch_together_wall_s"]
    fixed = max(store["epoch_alone_wall_s"] - each, 0.0)
    ending = ends * store["trial_wall_s"]
    floor = results * (each + fixed / MAX_TOGETHER) + ending
    free = 1 - results * each - ending
    return Prediction(
        epoch_s=epoch_s,
        hours=scenario.trials / busy * scenario.epochs * epoch_s / 3600,
        results_per_s=results,
        driver=results * alone + ends * (trial - store["trial_cpu_s"]),
        driver_logging=results * (alone + store["epoch_alone_cpu_s"]) + ends * trial,
        driver_together=results * together + ends * trial,
        tracking=results * (fixed + each) + ending,
        tracking_floor=floor,
        lag_s=busy * fixed / free if floor < 1 else float("inf"),
        checkpoints_mb_per_s=results * scenario.checkpoint_mb,
        logits_gb_per_s_node=min(GPUS_PER_NODE, scenario.gpus) * scenario.view_gb / epoch_s,
        logits_gb_per_s_network=scenario.nodes * scenario.view_gb / epoch_s,
    )


def shortest_epoch(measured: Mapping[str, Any], scenario: Scenario, field: str, limit: float = 0.7) -> float:
    """The epoch time in seconds at which a share reaches `limit`; every share falls as 1 / epoch time."""
    return float(getattr(predict(measured, scenario, 1.0), field)) / limit


def tables(measured: Mapping[str, Any], scenario: Scenario | None = None) -> list[str]:
    """The prediction as text."""
    plan = scenario or Scenario()
    rows = [predict(measured, plan, seconds) for seconds in EPOCH_SECONDS]
    store = measured["tracking"]["store"]
    memory = measured["trials"]["driver_peak_mb"] + measured["trials"]["trial_mb"] * plan.trials
    growth = _sampler(measured, plan)
    return [
        f"prediction for {plan.trials:,} trials of {plan.epochs} epochs on {plan.gpus:,} GPUs ({plan.nodes} nodes)",
        *_table(
            [
                "epoch",
                "hours",
                "results/s",
                "driver",
                "with MLflow",
                "together",
                store,
                "together",
                "MLflow's lag",
            ],
            [
                [
                    f"{row.epoch_s:g} s",
                    f"{row.hours:.1f}",
                    f"{row.results_per_s:.0f}",
                    _share(row.driver),
                    _share(row.driver_logging),
                    _share(row.driver_together),
                    _share(row.tracking),
                    _share(row.tracking_floor),
                    f"{row.lag_s:.0f} s" if row.lag_s < 1e6 else "grows",
                ]
                for row in rows
            ],
        ),
        "",
        *_table(
            ["epoch", "checkpoints", "logits, a node", "cores for that", "logits, network"],
            [
                [
                    f"{row.epoch_s:g} s",
                    f"{row.checkpoints_mb_per_s:.0f} MB/s",
                    f"{row.logits_gb_per_s_node:.3f} GB/s",
                    f"{1e9 * row.logits_gb_per_s_node / _speed(measured, plan):.3f}",
                    f"{row.logits_gb_per_s_network:.2f} GB/s",
                ]
                for row in rows
            ],
        ),
        "",
        "epoch time below which it takes more than 70 % of what there is",
        *(
            f"  {what:42} {shortest_epoch(measured, plan, field):6.1f} s"
            for what, field in (
                ("driver, without MLflow", "driver"),
                ("driver and MLflow, an epoch at a time", "driver_logging"),
                ("driver and MLflow, epochs together", "driver_together"),
                (f"MLflow ({store}), an epoch at a time", "tracking"),
                (f"MLflow ({store}), epochs together", "tracking_floor"),
            )
        ),
        f"driver's memory at the end {memory / 1000:.1f} GB; journal {2 * plan.trials * measured['journal_s']:.0f} s "
        f"of waiting for the disk in all; stored logits {plan.views * plan.view_gb:.1f} GB for {plan.views} views",
        f"TPE after {plan.trials:,} points of one variant: about {1000 * growth:.0f} ms CPU a point",
        *([] if plan.workers == 1 else [_gangs(plan)]),
    ]


def _gangs(plan: Scenario) -> str:
    """What gangs take on the one node that their trials' processes are on."""
    count, minutes = plan.at_once, plan.at_once * plan.gang_cpu_s / 60
    between = plan.gang_trial_s * plan.trials / count
    return (
        f"{count:,} gangs of {plan.workers} workers: on the head's node {count * plan.gang_mb / 1000:.0f} GB and "
        f"{minutes:.0f} CPU-minutes of starts; {between:.0f} s between the {plan.trials / count:.0f} trials of a gang"
    )


def _sampler(measured: Mapping[str, Any], plan: Scenario) -> float:
    """Straight on from the last two counts that were measured."""
    costs = {int(count): seconds for count, seconds in measured["sampler_cpu_s"].items()}
    (few, least), (many, most) = sorted(costs.items())[-2:]
    return most + (most - least) / (many - few) * (plan.trials - many)


def _speed(measured: Mapping[str, Any], plan: Scenario) -> float:
    speeds = {int(classes): speed for classes, speed in measured["reads_bytes_per_s"].items()}
    return float(speeds[min(speeds, key=lambda classes: abs(classes - plan.classes))])


def _share(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1f} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---:"] * len(head), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path, help="figures that scale.py --json wrote")
    defaults = Scenario()
    for name, default in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    measured = json.loads(arguments.pop("measured").read_text())
    print("\n".join(tables(measured, Scenario(**arguments))))


if __name__ == "__main__":
    main()
