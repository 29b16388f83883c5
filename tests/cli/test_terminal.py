"""What reaches a terminal or a pipe: readers that leave, narrow screens, Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiments_on_disk import failed, plan_of, search, store_teacher, whole, write
from rich.console import Console

from orchestrator.cli.specs import _print_plan
from orchestrator.cli.tables import print_comparison, print_trials
from orchestrator.experiment import Experiment
from orchestrator.search.logits import plan_logits
from orchestrator.store.home import Home

COMMAND = [sys.executable, "-m", "orchestrator"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = Home(tmp_path / "home")
    plan = plan_of()
    write(place, plan, whole(plan))
    return place


@pytest.mark.parametrize(
    "arguments",
    [["results"], ["results", "--format", "json"], ["results", "--format", "csv"], ["status"], ["list"], ["schema"]],
    ids=" ".join,
)
def test_a_reader_that_has_gone_is_no_fault(home: Home, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as gone:
        done = subprocess.run(
            [*COMMAND, "--home", home.path, *arguments], stdout=gone, stderr=subprocess.PIPE, text=True, check=False
        )
    # As a shell has it for what ended by SIGPIPE.
    assert (done.returncode, done.stderr) == (141, "")


def test_the_first_line_reaches_a_reader_that_leaves_after_it(home: Home) -> None:
    line = f"'{sys.executable}' -m orchestrator --home '{home.path}' results | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("trial ")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


# Narrow screens


def shown(home: Home, width: int) -> str:
    console = Console(width=width, highlight=False)
    (folder,) = home.experiments()
    experiment = Experiment.read(folder, home)
    with console.capture() as captured:
        print_trials(experiment.results(), console)
        print_comparison(experiment, console)
        _print_plan(experiment.plan, plan_logits(experiment.plan, home.room_for_logits()), home, console)
    return captured.get()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_tables_lose_nothing_on_any_screen(tmp_path: Path, width: int) -> None:
    place = Home(tmp_path / "home")
    plan = plan_of(
        search__variants={"la-ps+dtd-flsw": {}, "kd": {}},
        distillation={"temperature": {"method": "flsw"}},
        search__space={
            "training.optimizer.lr": {"type": "uniform", "low": 0.01, "high": 0.2},
            "distillation.temperature.max": {"type": "uniform", "low": 5, "high": 16},
        },
    )
    tests = {name: [98.11, 97.22, 96.33] for name in plan.by_name}
    records = whole(plan, tests=tests)
    write(place, plan, records)
    text = shown(place, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    if width < 100:
        # Values stand below their trial, so that figures keep their columns.
        (row,) = (line for line in lines if line.startswith("la-ps+dtd-flsw-000"))
        assert row.split()[1:] == ["finished", "5", "90.00", "-"]
    for word in ("97.22 ± 0.89", "95.01 to 99.43", "la-ps+dtd-flsw", "distillation.temperature.max", "val/acc1"):
        assert word in text
    value = f"{records[1].trial.params['training.optimizer.lr']:.4g}"
    assert value in text


def test_a_long_reason_keeps_to_its_column(tmp_path: Path) -> None:
    place = Home(tmp_path / "home")
    plan = plan_of()
    reason = "the training loss became NaN or infinite in epoch 1, step 2; lower training.optimizer.lr"
    write(place, plan, [failed(search(plan, "kd", 0), reason)])
    text = shown(place, 60)
    assert max(map(len, text.splitlines())) <= 60
    assert re.search(r"kd-000 +failed +5 +- +-\n", text)


# The comparison's columns


def test_the_comparison_counts_the_seeds_that_ran(tmp_path: Path) -> None:
    place = Home(tmp_path / "home")
    plan = plan_of()
    records = whole(plan)
    write(place, plan, records[:-1])
    table = shown(place, 140).partition("\nvariant")[2].partition("\nvariant")[0]
    rows = {line.split()[0]: line.split() for line in table.splitlines()}
    assert rows["alone"][1] == "3"
    assert rows["kd"][1] == "2/3"


def test_without_final_runs_only_validation_is_shown(tmp_path: Path) -> None:
    place = Home(tmp_path / "home")
    plan = plan_of(search__final_seeds=0)
    store_teacher(place, plan)
    write(place, plan, whole(plan, with_teacher=False))
    console = Console(width=140, highlight=False)
    (folder,) = place.experiments()
    with console.capture() as captured:
        print_comparison(Experiment.read(folder, place), console)
    text = captured.get()
    assert text.splitlines()[0].split() == ["variant", "best", "val/acc1", "trials", "winning", "values"]
    assert "search.final_seeds is 0" in text


# Ctrl-C


def test_ui_ends_with_a_line_of_its_own(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "mlflow.db").touch()
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--home", home, "ui", "--port", "58231"],
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(slave)
    try:
        seen = b""
        while b"MLflow starts" not in seen:
            seen += os.read(master, 1000)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        seen += os.read(master, 10_000)
    finally:
        process.kill()
        os.close(master)
    assert seen.decode().replace("\r", "").endswith("\nMLflow has ended.\n")
