"""compare and results on experiments in a home folder: formats, references, fronts, and refusals."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from experiments_on_disk import plan_of, whole, write

from orchestrator.cli import main
from orchestrator.search.trials import Phase
from orchestrator.store.home import Home

TESTS = {"alone": [80.0, 81.0, 83.0], "kd": [84.1, 85.0, 87.2]}
WIDER = {"alone": [80.3, 81.1, 83.0], "kd": [90.1, 91.2, 93.0]}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Runs a command on a home with two experiments; gives its exit code and what it printed."""
    home = Home(tmp_path / "home")
    for size, tests, plan in ((10, TESTS, plan_of()), (40, WIDER, plan_of(name="wide", student__width=2.0))):
        records = whole(plan, tests=tests)
        for record in records:
            if record.trial.phase is not Phase.TEACHER:
                record.described = {"student.parameters": size, "student.flops": 10 * size}
        write(home, plan, records)

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--home", str(home.path)])
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out + captured.err

    return run


def test_experiments_stand_beside_each_other(run: Any) -> None:
    code, out = run("compare", "tiny", "wide")
    assert code == 0
    assert "tiny/alone" in out
    assert "wide is" not in out
    assert "wide/kd is better than tiny/kd by 6.00 points" in out
    assert "No difference from tiny/alone is shown for wide/alone." in out
    assert [line.split() for line in out.splitlines() if line.startswith("student.width")] == [
        ["student.width", "1", "2"]
    ]
    assert "not the same" not in out


def test_what_is_not_fair_is_told(run: Any, tmp_path: Path) -> None:
    other = plan_of(name="longer", search__num_samples=3, training__epochs=6)
    write(Home(tmp_path / "home"), other, whole(other))
    out = run("compare", "tiny", "longer")[1]
    assert "not the same search trials: 3 for longer/alone, longer/kd; 2 for the reference" in out
    assert "not the same epochs: 6 for longer/alone, longer/kd; 5 for the reference" in out


def test_programs_read_the_same(run: Any) -> None:
    content = json.loads(run("compare", "tiny", "wide", "--format", "json", "--reference", "tiny/kd")[1])
    assert [c["reference"] for c in content["comparisons"]] == ["tiny/kd"] * 3
    rows = list(csv.DictReader(io.StringIO(run("compare", "tiny", "wide", "--format", "csv")[1])))
    assert [row["variant"] for row in rows] == ["tiny/alone", "tiny/kd", "wide/alone", "wide/kd"]
    assert float(rows[3]["difference"]) == pytest.approx(6.0)


def test_documents_have_it_too(run: Any) -> None:
    out = run("compare", "tiny", "wide", "--format", "markdown")[1]
    assert "| wide/kd | 3 | 91.43 ± 1.46 |" in out
    assert "| field | tiny | wide |\n| --- | --- | --- |\n| student.width | 1 | 2 |" in out
    assert "wide/kd is better than tiny/kd by 6.00 points" in out


def test_an_experiment_of_another_home_is_named_with_it(run: Any, tmp_path: Path) -> None:
    other, plan = Home(tmp_path / "other"), plan_of()
    folder = write(other, plan, whole(plan, tests=WIDER)[:-1])
    for named in (f"{other}/tiny", str(folder.path)):
        code, out = run("compare", "tiny", named, "--format", "csv")
        assert code == 0
        # The same spec in two homes: the home tells them apart.
        assert [row["variant"] for row in csv.DictReader(io.StringIO(out))] == [
            f"{home}/{plan.spec.id}/{variant}" for home in (tmp_path / "home", other) for variant in ("alone", "kd")
        ]
    out = " ".join(run("compare", "tiny", f"{other}/tiny")[1].split())
    assert "Their specs differ in nothing but the name." in out
    assert f"{other}/{plan.spec.id} is not at its end: not running, 10 of 11 trials have ended" in out
    code, out = run("compare", "tiny", f"{other}/wild")
    assert code == 2
    assert f"there is no experiment 'wild' in {other}" in " ".join(out.split())


def test_a_front_over_experiments(run: Any) -> None:
    out = run("compare", "tiny", "wide", "--pareto", "test/acc1,student.parameters")[1]
    assert [line.split()[-1] for line in out.splitlines() if line.startswith(("tiny/kd", "wide/kd"))].count("yes") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tiny"], "takes two experiments or more"),
        (["tiny", "tiny"], "each once"),
        (["tiny", "wild"], "there is no experiment 'wild'"),
        (["tiny", "wide", "--reference", "tiny/kdd"], "did you mean 'tiny/kd'?"),
        (["tiny", "wide", "--pareto", "test/acc1"], "takes two objectives or more"),
        ([], "Missing argument 'NAME'"),
    ],
)
def test_what_cannot_be_compared_is_refused(run: Any, arguments: list[str], said: str) -> None:
    code, out = run("compare", *arguments)
    assert code == 2
    assert said in " ".join(out.split())


# results

LOADED = """
import contextlib, io, sys
from orchestrator.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    main(sys.argv[1:])
assert 'Hedges' in out.getvalue()
print(*sorted({'torch', 'ray', 'mlflow', 'numpy', 'scipy', 'pandas'} & {*sys.modules}))
"""


@pytest.mark.parametrize("command", [["results", "tiny"], ["compare", "tiny", "wide"]], ids=lambda words: words[0])
def test_telling_what_was_found_loads_nothing_heavy(run: Any, tmp_path: Path, command: list[str]) -> None:
    words = [sys.executable, "-c", LOADED, *command, "--home", str(tmp_path / "home")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "\n"


def test_results_take_another_reference(run: Any) -> None:
    assert "alone is worse than kd by" in run("results", "tiny")[1]
    assert "kd is better than alone by" in run("results", "tiny", "--reference", "alone")[1]
    code, out = run("results", "tiny", "--reference", "alome")
    assert code == 2
    assert "did you mean 'alone'?" in out


def test_results_weigh_what_they_are_asked_to(run: Any) -> None:
    out = run("results", "tiny", "--pareto", "val/acc1,epochs")[1]
    assert "on the front" in out
    assert "on the front" not in run("results", "tiny")[1]
    content = json.loads(run("results", "tiny", "--pareto", "test/acc1,epochs", "--format", "json")[1])
    assert {c["name"]: c["on_front"] for c in content["pareto"]["candidates"]} == {"alone": "no", "kd": "yes"}
    assert run("results", "tiny", "--pareto", "test/acc2,epochs")[0] == 2


def test_results_for_programs_and_documents(run: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(run("results", "tiny", "--format", "csv", "--rows", "variants")[1])))
    assert [(row["variant"], row["reference"]) for row in rows] == [("alone", "kd"), ("kd", "")]
    out = run("results", "tiny", "--format", "markdown")[1]
    assert "| alone | 3 | " in out
    assert "| variant | n | difference to kd | 95% interval | p (Holm) | Hedges' g | detectable |" in out
