"""What people see in MLflow's pages, in a real browser."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracking_stores import EXPERIMENT, MLflowStore, Server, epochs

from orchestrator.search.trials import Status
from orchestrator.tracking.base import DataSet, RunInfo
from orchestrator.tracking.uris import experiment_page
from orchestrator.tracking.views import Contents, address, views

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
LR, LOW = "training.optimizer.lr", "distillation.temperature.min"
SEEN = Contents("exp-1234", "val/acc1", "max", [LR, LOW], [LR, LOW], (LR, LOW), has_temperatures=True, has_finals=True)
DATA = DataSet("digits", "training", "0123456789abcdef", [100, 1, 8, 8], 10)
CHARTS = "document.querySelector('[data-testid=experiment-view-compare-runs-chart-area]')"
DRAWN = "document.querySelectorAll('.js-plotly-plot .main-svg').length"


@pytest.fixture(scope="module")
def store(server: Server, tmp_path_factory: pytest.TempPathFactory) -> MLflowStore:
    """Two variants, each with two search trials and a final run."""
    made = MLflowStore(server.uri, tmp_path_factory.mktemp("store"), "shown")
    tracker = made.tracker()
    tracker.open(EXPERIMENT, SEEN)
    for number, (variant, phase, index) in enumerate(
        [
            ("kd", "search", 0),
            ("kd", "search", 1),
            ("dtd", "search", 0),
            ("dtd", "search", 1),
            ("kd", "final", 1),
            ("dtd", "final", 1),
        ]
    ):
        key = f"{variant}-{phase}-{index}"
        tags = {"phase": phase, "variant": variant, "seed": "0", "experiment": "exp-1234"}
        info = RunInfo(
            key,
            f"{key} seed 0",
            {LR: 0.1 + 0.01 * number, LOW: 1 + number % 3, "constant.of.all": 7},
            {f"orchestrator.{name}": value for name, value in tags.items()},
            note=f"`{variant}`: lr 0.1",
        )
        tracker.start(info)
        tracker.describe(key, {}, [DATA])
        for entry in epochs(1, 3):
            # MLflow draws, and counts, the charts alone that a run has values for.
            seen = {"val/acc1": entry["val/acc1"] + number, "val/loss": 1.0, "temperature/mean": 4.0}
            last = {"test/acc1": 60.0 + number, "test/ece": 0.1} if phase == "final" and entry["epoch"] == 3 else {}
            tracker.log(key, {**entry, **seen, **last})
        tracker.end(key, Status.FINISHED)
    note = "**exp**: test accuracy\n\n| variant | test acc1 |\n| --- | --- |\n| dtd | 65.00 ± 0.10 |\n"
    assert tracker.close(Status.FINISHED, note=note) == []
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(1600, 1000) as made:
        yield made


@pytest.fixture
def page(store: MLflowStore) -> str:
    return experiment_page(store.uri, store.client.get_experiment_by_name(store.name).experiment_id)


def test_the_experiment_opens_on_model_training_with_its_charts(browser: Browser, page: str) -> None:
    browser.open(address(page, views(SEEN)[0].key))
    shown = browser.wait_for_text("Learning curves", "Searched values", "dtd-search-1 seed 0")
    browser.wait_for(f"{DRAWN} >= 4")
    assert "Model registry" in shown
    assert "Prompts" not in shown
    assert "4 matching runs" in shown
    assert "exp-1234: search" in shown
    # Charts are drawn where they are scrolled to.
    browser.evaluate(f"{CHARTS}.scrollTop = 500")
    browser.wait_for_text("Parallel Coordinates", f"{LOW} vs. val/acc1")


def test_final_runs_are_drawn_by_variant(browser: Browser, page: str) -> None:
    browser.open(address(page, views(SEEN)[1].key))
    shown = browser.wait_for_text("Group: dtd", "Group: kd", "Learning curves (3)", "Test (2)")
    browser.wait_for(f"{DRAWN} >= 3")
    assert "2 matching runs" in shown


def test_a_parent_unfolds_to_trials_beside_what_was_searched(browser: Browser, page: str) -> None:
    browser.open(address(page, views(SEEN)[2].key, "TABLE"))
    shown = browser.wait_for_text("exp-1234", "test/acc1", "7 matching runs")
    assert "kd-final-1 seed 0" not in shown
    assert "constant.of.all" not in shown
    name = "Array.from(document.querySelectorAll('.ag-cell a')).find(link => link.innerText == 'exp-1234')"
    unfold = f"{name}?.closest('.ag-cell').querySelector('button')"
    browser.wait_for(f"!!{unfold}")
    browser.evaluate(f"{unfold}.click()")
    browser.wait_for_text("kd-final-1 seed 0", "dtd-search-0 seed 0")


def test_the_parents_page_has_its_note_as_a_table_and_its_data(browser: Browser, page: str, store: MLflowStore) -> None:
    run = store.run(EXPERIMENT.key)
    browser.open(page.replace("/runs?", f"/runs/{run.info.run_id}?"))
    browser.wait_for_text("65.00 ± 0.10", "Child runs", "digits (0123456789abcdef)")
    assert browser.evaluate("Array.from(document.querySelectorAll('td')).some(cell => cell.innerText.trim() == 'dtd')")


def test_no_page_had_a_problem(browser: Browser) -> None:
    # Without accounts MLflow's server knows nobody who could ask.
    assert [problem for problem in browser.problems if not problem.endswith("/users/current")] == []
