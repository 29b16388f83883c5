"""The model of docs/scaling.md: how its predictions move with what goes in."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MEASURED: dict[str, Any] = {
    "trials": {"trial_driver_cpu_s": 0.03, "driver_peak_mb": 300.0, "trial_mb": 0.05},
    "result_alone": {"driver_cpu_s": 0.003},
    "result_together": {"driver_cpu_s": 0.001},
    "wait_cpu_s": {"1": 0.0002, "1000": 0.0012},
    "sampler_cpu_s": {"100": 0.002, "1000": 0.011},
    "journal_s": 0.002,
    "tracking": {
        "store": "sqlite",
        "trial_wall_s": 0.05,
        "trial_cpu_s": 0.02,
        "epoch_alone_wall_s": 0.010,
        "epoch_alone_cpu_s": 0.005,
        "epoch_together_wall_s": 0.001,
        "epoch_together_cpu_s": 0.001,
    },
    "reads_bytes_per_s": {"100": 1e9, "1000": 2e9},
}


@pytest.fixture(scope="module")
def model() -> ModuleType:
    path = Path(__file__).parents[1] / "bench" / "scaling_model.py"
    spec = importlib.util.spec_from_file_location("scaling_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scaling_model"] = module
    spec.loader.exec_module(module)
    return module


def test_loads_are_rates_times_costs(model: ModuleType) -> None:
    seen = model.predict(MEASURED, model.Scenario(), 10.0)
    assert seen.results_per_s == 100
    assert seen.hours == pytest.approx(10 * 240 * 10 / 3600)
    ends = 100 / 240
    wait = 0.001 / 999 * 1000
    assert seen.driver == pytest.approx(100 * (0.003 + wait) + ends * (0.03 - 0.02))
    assert seen.driver_logging == pytest.approx(100 * (0.003 + wait + 0.005) + ends * 0.03)
    assert seen.driver_together == pytest.approx(100 * 0.002 + ends * 0.03)
    assert seen.tracking == pytest.approx(100 * 0.010 + ends * 0.05)
    assert seen.logits_gb_per_s_node == pytest.approx(8 * 0.01 / 10)
    assert seen.logits_gb_per_s_network == pytest.approx(125 * 0.01 / 10)


def test_a_store_that_keeps_up_when_epochs_go_together_is_late_and_no_later(model: ModuleType) -> None:
    late = model.predict(MEASURED, model.Scenario(), 5.0)
    assert late.tracking > 1 > late.tracking_floor
    # In one round over the trials each has this many epochs waiting, and they take the whole round.
    waiting = late.lag_s / 5.0
    assert 1000 * (0.009 + 0.001 * waiting) + late.lag_s * 200 / 240 * 0.05 == pytest.approx(late.lag_s)
    assert math.isinf(model.predict(MEASURED, model.Scenario(), 0.5).lag_s)


def test_the_shortest_epoch_is_where_the_load_is_what_was_asked_for(model: ModuleType) -> None:
    for gpus in (10, 1000):
        scenario = replace(model.Scenario(), gpus=gpus)
        for field in ("driver", "driver_logging", "driver_together", "tracking", "tracking_floor"):
            seconds = model.shortest_epoch(MEASURED, scenario, field)
            assert getattr(model.predict(MEASURED, scenario, seconds), field) == pytest.approx(0.7)


def test_gangs_are_fewer_trials_at_once_and_load_one_node(model: ModuleType) -> None:
    gangs = replace(model.Scenario(), workers=4, gang_mb=300.0, gang_cpu_s=6.0, gang_trial_s=0.1)
    seen, usual = model.predict(MEASURED, gangs, 10.0), model.predict(MEASURED, model.Scenario(), 10.0)
    assert seen.results_per_s == usual.results_per_s / 4
    assert seen.logits_gb_per_s_node == usual.logits_gb_per_s_node
    told = model.tables(MEASURED, gangs)[-1]
    assert told.startswith("250 gangs of 4 workers: on the head's node 75 GB and 25 CPU-minutes")
    assert told.endswith("4 s between the 40 trials of a gang")


def test_the_tables_name_every_epoch_time(model: ModuleType) -> None:
    lines = model.tables(MEASURED)
    for seconds in model.EPOCH_SECONDS:
        assert sum(line.startswith(f"| {seconds:g} s |") for line in lines) == 2
    assert "about 101 ms" in lines[-1]
