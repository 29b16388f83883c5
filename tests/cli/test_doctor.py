"""doctor, as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cli.doctor import print_findings
from orchestrator.execution.checks import Finding, State


def doctor(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "orchestrator", "doctor", "--home", str(folder / "home"), "--format", "json"]
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=200)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_this_machine_is_looked_at_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "spec.yaml").write_text(
        "name: a\ndata: {dataset: cifar10, root: nowhere}\nstudent: {model: resnet8}\ndistillation: {kd_weight: 0}\n"
    )
    code, told = doctor(tmp_path, "spec.yaml", "--set", "seed=1")
    found = {finding["check"]: finding for finding in told["findings"]}
    assert (code, told["healthy"]) == (1, False)
    assert {name for name, finding in found.items() if finding["state"] == "broken"} == {"data cifar10"}
    assert "put cifar-10-python.tar.gz" in found["data cifar10"]["advice"]
    assert "a task took" in found["Ray"]["found"]
    assert "written and read back" in found["MLflow"]["found"]
    assert found["installation"]["state"] in ("ok", "warning")
    assert {"versions", "home folder", "memory", "disk", "devices", "precision"} <= set(found)
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


@pytest.mark.parametrize("width", [60, 140])
def test_the_table_tells_where_what_is_wrong_and_what_to_do(width: int) -> None:
    findings = [
        Finding("memory", State.OK, "8.0 GB are free", "", "10.0.0.1"),
        Finding("disk", State.WARNING, "3 GB are free", "free some", "10.0.0.1"),
        Finding("data cifar10", State.BROKEN, "is not [there]", "put it there", "10.0.0.2"),
    ]
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        print_findings(findings, console)
    text = captured.get()
    assert max(map(len, text.splitlines())) <= width
    for words in ("10.0.0.1", "10.0.0.2", "is not [there]", "put it there", "free some", "1 broken"):
        assert text.count(words) == 1, words
