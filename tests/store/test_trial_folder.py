"""The folder of one trial: its metrics and checkpoints."""

import os
import shutil
from pathlib import Path

import pytest

from orchestrator.errors import CheckpointError
from orchestrator.store.trial import TrialFolder


@pytest.fixture
def trial(tmp_path: Path) -> TrialFolder:
    folder = TrialFolder(tmp_path / "trial")
    assert folder.metrics() == []
    folder.path.mkdir()
    for epoch in (1, 2, 3):
        folder.add_metrics(epoch, {"val/acc1": epoch * 10.0})
    return folder


def test_metrics_are_read_back_by_epoch(trial: TrialFolder) -> None:
    assert trial.metrics() == [{"epoch": epoch, "val/acc1": epoch * 10.0} for epoch in (1, 2, 3)]


def test_a_cut_last_line_is_left_out_and_rewinding_makes_room_for_it(trial: TrialFolder) -> None:
    path = trial.path / "metrics.jsonl"
    content = path.read_bytes()
    start_of_last = content.rindex(b"\n", 0, -1) + 1
    for size in range(start_of_last, len(content)):
        path.write_bytes(content[:size])
        assert [entry["epoch"] for entry in trial.metrics()] == [1, 2]
        trial.rewind(2)
        trial.add_metrics(3, {"val/acc1": 30.0})
        assert path.read_bytes() == content


def test_a_damaged_line_is_named(trial: TrialFolder) -> None:
    log = trial.path / "metrics.jsonl"
    log.write_text('{"epoch": 1}\n\x00\x00\n{"epoch": 3}\n')
    with pytest.raises(CheckpointError, match=r"metrics.jsonl, line 2: damaged"):
        trial.metrics()


@pytest.mark.parametrize("epoch", [0, 1, 2, 3, 9])
def test_rewinding_forgets_what_came_after(trial: TrialFolder, epoch: int) -> None:
    trial.rewind(epoch)
    assert [entry["epoch"] for entry in trial.metrics()] == [e for e in (1, 2, 3) if e <= epoch]


@pytest.mark.parametrize("links", [True, False])
def test_checkpoints_of_another_trial_take_the_place_of_the_own_ones(
    trial: TrialFolder, monkeypatch, links: bool
) -> None:
    other = TrialFolder(trial.path.with_name("other"))
    for folder, names in ((trial, "16"), (other, "23")):
        folder.checkpoints.mkdir(parents=True)
        for name in names:
            (folder.checkpoints / f"checkpoint-0000000{name}.pt").write_text(f"{folder.path.name} {name}")
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", lambda self, target: os.link("/nowhere", self))
    for _ in range(2):
        trial.take_checkpoints(other)
        found = {path.name[-4]: path.read_text() for path in trial.checkpoints.iterdir()}
        assert found == {"2": "other 2", "3": "other 3"}
    shutil.rmtree(other.checkpoints)
    assert {path.read_text() for path in trial.checkpoints.iterdir()} == {"other 2", "other 3"}
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        trial.take_checkpoints(other)
    assert len(list(trial.checkpoints.iterdir())) == 2
