"""The Python API, by what docs/python.md shows, on an experiment that has run."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from complete_experiments import complete

import orchestrator
from orchestrator.cli.lines import PlainView
from orchestrator.cli.notebook import NotebookView, in_notebook, view
from orchestrator.errors import UsageError
from orchestrator.search.plan import make_plan
from orchestrator.search.standing import State
from orchestrator.search.trials import Record, Status
from orchestrator.store.home import Home

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home folder in which the example of docs/python.md is complete."""
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(ROOT)
    home = Home()
    complete(home, make_plan(orchestrator.load_spec("specs/quickstart.yaml", {"search.num_samples": 2})))
    return home


def test_what_the_page_shows_runs(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    told: dict[str, Any] = {}
    for snippet in SNIPPETS:
        exec(compile(snippet, "docs/python.md", "exec"), told)
    assert told["results"].references == dict.fromkeys(("kd", "la-ps", "dtd-flsw", "la-ps+dtd-flsw"), "alone")
    assert told["experiment"].state is State.COMPLETE
    assert told["front"]._repr_markdown_().startswith("| candidate | test/acc1 | time/epoch_s | on the front |")
    assert {placed.candidate.name for placed in told["front"].placed} == set(told["variants"].index)
    assert list(told["variants"].index) == ["alone", "kd", "la-ps", "dtd-flsw", "la-ps+dtd-flsw"]
    assert len(told["trials"]) == 1 + 5 * (2 + 5)
    assert list(told["differences"]["reference"].unique()) == ["alone"]
    assert list(told["epochs"].columns) == ["trial", "phase", "variant", "seed", "epoch", "metric", "value"]
    assert list(told["curves"].index) == [1, 2, 3]
    assert told["curves"].loc[3, "kd"] == 73.0
    assert "la-ps None" not in capsys.readouterr().out


def test_the_page_names_the_columns_there_are(place: Home) -> None:
    results = orchestrator.Experiment.load("quickstart").results()
    assert {"test/acc1 mean", "difference", "p_holm"} <= set(results.to_frame().columns)
    assert any(column.startswith("params.") for column in results.to_frame().columns)
    assert {"phase", "variant", "seed", "status", "val/acc1"} <= set(results.trials_frame().columns)
    assert {"difference_low", "difference_high", "p"} <= set(results.comparisons_frame().columns)
    assert results._repr_markdown_() == results.to_markdown()


def test_what_is_not_there_is_refused(place: Home, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no experiment 'other'"):
        orchestrator.Experiment.load("other")
    with pytest.raises(UsageError, match="no experiment has run in"):
        orchestrator.Experiment.load(home=tmp_path / "elsewhere")
    with pytest.raises(AttributeError, match="has no attribute 'Experimen'"):
        orchestrator.Experimen  # noqa: B018
    assert orchestrator.Experiment.load(home=place.path).id.startswith("quickstart-")


def test_an_experiment_without_an_epoch_has_an_empty_frame(tmp_path: Path) -> None:
    home, plan = Home(tmp_path), make_plan(orchestrator.load_spec(ROOT / "specs" / "quickstart.yaml"))
    home.create()
    folder = home.experiment(plan.spec)
    with folder.opened(plan.spec):
        folder.journal.append({"event": "experiment", "key": "k", "id": folder.id})
    assert orchestrator.Experiment.load(home=tmp_path).metrics().empty


# Progress


class Handle:
    """What IPython gives for something that is shown; keeps what it was told to show."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def update(self, shown: Any) -> None:
        self.pages.append(shown._repr_html_())


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Handle:
    """Stands in for a notebook's kernel."""
    handle = Handle()

    def display(shown: Any, display_id: bool) -> Handle:
        assert display_id
        handle.update(shown)
        return handle

    kernel = types.SimpleNamespace(config={"IPKernelApp": {}})
    package = types.ModuleType("IPython")
    package.get_ipython = lambda: kernel  # type: ignore[attr-defined]
    page = types.ModuleType("IPython.display")
    page.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", page)
    return handle


def test_a_notebook_shows_a_table(notebook: Handle, place: Home) -> None:
    assert in_notebook()
    plan = make_plan(orchestrator.load_spec("specs/quickstart.yaml", {"search.num_samples": 2}))
    record = Record(plan.search_trial(plan.arms[1], 0, {}))
    with view(place, None, place.path / "log") as watcher:
        print("a library warns", file=sys.stderr)
        watcher.on_stage("starting Ray")
        watcher.on_plan(plan, {}, 2)
        watcher.on_start(record)
        record.epochs, record.metrics = 7, {"val/acc1": 91.5}
        watcher.on_epoch(record)
        failed = Record(plan.search_trial(plan.arms[2], 0, {}), Status.FAILED, reason="la-ps-000: the loss is <NaN>")
        watcher.on_end(failed)
    assert isinstance(watcher, NotebookView)
    assert (place.path / "log").read_text() == "a library warns\n"
    assert "starting Ray" in notebook.pages[1]
    last = notebook.pages[-1]
    assert last.startswith("<pre")
    for words in ("kd-000", "epoch 7/60", "91.50", "la-ps+dtd-flsw", "the loss is &lt;NaN&gt;"):
        assert words in last
    # Not each event is a message to the page.
    assert len(notebook.pages) < 6


def test_a_notebook_shows_what_is_told_at_once(notebook: Handle, place: Home, tmp_path: Path) -> None:
    plan = make_plan(orchestrator.load_spec("specs/quickstart.yaml", {"search.num_samples": 2}))
    with view(place, None, tmp_path / "ray.log") as watcher:
        watcher.on_plan(plan, {}, 2)
        record = Record(plan.search_trial(plan.arms[1], 0, {}))
        watcher.on_note("budget.time_s is spent")
        assert "budget.time_s is spent" in notebook.pages[-1]
        watcher.on_describe(record, {"precision": "bf16", "precision.reason": "auto: it can"})
        assert "precision of the student: bf16" in notebook.pages[-1]
        watcher.on_interrupt()
        assert "Ctrl-C again ends at once" in notebook.pages[-1]


def test_a_run_from_a_notebook_is_shown_there(notebook: Handle, place: Home) -> None:
    orchestrator.run(orchestrator.load_spec("specs/quickstart.yaml", {"search.num_samples": 2}))
    assert "nothing is left to run" in notebook.pages[-1]
    shown = len(notebook.pages)
    orchestrator.run(orchestrator.load_spec("specs/quickstart.yaml", {"search.num_samples": 2}), progress=False)
    assert len(notebook.pages) == shown


def test_elsewhere_lines_are_shown_where_someone_looks(
    place: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not in_notebook()
    spec = orchestrator.load_spec("specs/quickstart.yaml", {"search.num_samples": 2})
    orchestrator.run(spec)
    assert capsys.readouterr().out == ""
    orchestrator.run(spec, progress=True)
    assert "nothing is left to run" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert isinstance(view(place, None, place.path / "log"), PlainView)
    assert not isinstance(view(place, False, place.path / "log"), PlainView)
