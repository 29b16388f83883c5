"""The `sh` and `python` blocks of the documentation, and its notebook, run.

The notebook trains, with fewer epochs than it shows; the tutorial's commands then look at what it left. Those of other
pages meet experiments that are complete.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from complete_experiments import complete, leave_students
from doc_blocks import ROOT, blocks
from PIL import Image

import orchestrator
from orchestrator.cli import main
from orchestrator.execution.students import student_models
from orchestrator.experiment import Experiment
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Status
from orchestrator.store.home import Home
from orchestrator.tracking.base import RunInfo
from orchestrator.tracking.mlflow import MLflowTracker

NOTEBOOK = ROOT / "docs" / "notebooks" / "walkthrough.ipynb"
TUTORIAL = "docs/tutorial.md"
ELSEWHERE = "docs/python.md"
"""test_python.py runs its code and looks at what that gave."""
STUDENTS = "docs/export.md"
"""Its commands and its code are of one story."""
COMPLETE: dict[str, dict[str, dict[str, Any]]] = {
    "README.md": {"quickstart": {"search.num_samples": 2, "search.final_seeds": 1}},
    "docs/comparisons.md": {"quickstart": {}, "fashion-mnist": {}},
}
"""The experiments that a page's code finds complete, and what was set of their specs; elsewhere the quickstart."""
GIVEN = {
    "logits_student": torch.randn(4, 10),
    "logits_teacher": torch.randn(4, 10),
    "images": torch.rand(4, 1, 8, 8),
}
"""What a page's code takes from its reader."""
_EPOCHS = re.compile(r"epochs: \d+")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the specs of the repository, and the folder's own home."""
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    monkeypatch.chdir(tmp_path)
    for name in ("ORCHESTRATOR_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def complete_for(page: str) -> None:
    """Makes what the page's code finds."""
    for name, changes in COMPLETE.get(page, {"quickstart": {}}).items():
        complete(Home(), make_plan(orchestrator.load_spec(f"specs/{name}.yaml", changes)))


def run_commands(page: str) -> None:
    """Every command of the page, in this process; each has to end well."""
    for block in blocks("sh"):
        for words in block.commands if block.page == page else ():
            assert words[0] == "orchestrator", f"{block}: a test can run no {words[0]}; if nothing can, call it console"
            with pytest.raises(SystemExit) as caught:
                main(words[1:])
            assert caught.value.code == 0, f"{block}: {' '.join(words)}"


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("sh")} - {TUTORIAL, STUDENTS}))
def test_commands_that_are_shown_run(page: str, folder: Path) -> None:
    complete_for(page)
    (folder / "more.yaml").write_text("dkd: {set: {distillation.loss: {method: dkd}}}\n")
    run_commands(page)


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("python")} - {ELSEWHERE, STUDENTS}))
def test_python_that_is_shown_runs(page: str, folder: Path) -> None:
    complete_for(page)
    run_python(page)


def run_python(page: str) -> None:
    """The page's code, each block after the one before it."""
    told: dict[str, Any] = dict(GIVEN)
    for block in blocks("python"):
        if block.page == page:
            exec(compile(block.text, str(block), "exec"), told)


def outputs(notebook: dict[str, Any]) -> list[tuple[str, set[str]]]:
    """What each cell shows, by kind."""
    shown = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    return [(output["output_type"], set(output.get("data", ()))) for output in shown]


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Where the notebook has run, and the notebook with what it gave."""
    sys.path.insert(0, str(ROOT / "docs" / "generate"))
    import notebook

    place = tmp_path_factory.mktemp("walkthrough")
    shorter = place / NOTEBOOK.name
    shorter.write_text(_EPOCHS.sub("epochs: 2", NOTEBOOK.read_text()))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ORCHESTRATOR_HOME", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        patch.setenv("PYTHONPATH", str(ROOT))
        yield place, notebook.run(shorter, place)
    shutil.rmtree(place / ".orchestrator", ignore_errors=True)


@pytest.mark.xdist_group("ray")
def test_the_notebook_runs_and_shows_what_it_did(walkthrough: tuple[Path, dict[str, Any]]) -> None:
    committed = json.loads(NOTEBOOK.read_text())
    assert outputs(walkthrough[1]) == outputs(committed)
    assert NOTEBOOK.stat().st_size < 200_000
    ran = [cell["execution_count"] for cell in committed["cells"] if cell["cell_type"] == "code"]
    assert ran == list(range(1, len(ran) + 1)), "run it as a whole: make notebook"


@pytest.mark.xdist_group("ray")
def test_the_tutorials_commands_run(
    walkthrough: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(walkthrough[0])
    (spec,) = (block.text for block in blocks("yaml") if block.page == TUTORIAL)
    assert Path("first-search.yaml").read_text() == _EPOCHS.sub("epochs: 2", spec)
    run_commands(TUTORIAL)
    assert re.search(r"^la\+dtd +3 ", capsys.readouterr().out, re.MULTILINE)


@pytest.fixture
def mlflows_own_place() -> Iterator[None]:
    """Which store MLflow asks without being told, as it was before."""
    yield
    mlflow.set_tracking_uri(None)


def test_students_are_exported_and_loaded_as_is_shown(folder: Path, mlflows_own_place: None) -> None:
    pytest.importorskip("onnxruntime")
    home, plan = Home(), make_plan(orchestrator.load_spec("specs/quickstart.yaml"))
    experiment = complete(home, plan)
    leave_students(experiment, plan, [record.trial for record in experiment.records().values()])
    results = Experiment.load("quickstart").results()
    tracker = MLflowTracker(home.tracking_uri, "quickstart", home.artifacts)
    tracker.open(RunInfo("key", "quickstart"))
    models, _ = student_models(results, plan, home, experiment, {})
    for model in models:
        tracker.start(RunInfo(model.key, model.key))
    tracker.register(experiment.id, models)
    assert tracker.close(Status.FINISHED) == []
    (folder / "photos").mkdir()
    for name in ("photos/5.png", "a.png", "b.png"):
        Image.new("L", (8, 8), 90).save(folder / name)
    run_commands(STUDENTS)
    run_python(STUDENTS)


def test_the_tutorials_mistakes_are_told_as_it_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spec,) = (block.text for block in blocks("yaml") if block.page == TUTORIAL)
    (shown,) = (block.text for block in blocks("text") if block.page == TUTORIAL and block.text.startswith("error"))
    wrong = spec.replace("resnet8", "resnet9").replace("\ntraining: {epochs", "\ntraining: {epocs")
    Path("first-search.yaml").write_text(wrong)
    with pytest.raises(SystemExit):
        main(["validate", "first-search.yaml"])
    assert re.fullmatch(re.escape(shown).replace(r"\.\.\.", ".*"), capsys.readouterr().err)
