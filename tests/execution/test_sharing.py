"""What a trial takes from an object store and gives to it, on two machines."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.errors import StorageError
from orchestrator.execution import sharing
from orchestrator.execution.job import Job
from orchestrator.execution.sharing import Sharing
from orchestrator.store.remote import Remote, local_folder
from orchestrator.training import load_latest, save_checkpoint

Make = Callable[..., Sharing]


@pytest.fixture
def trial(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """A trial on one of several machines."""
    monkeypatch.setattr(sharing, "PAUSE_S", 0.01)

    def make(machine: str = "one", life: str = "a", **fields: Any) -> Sharing:
        monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / machine))
        folder = f"/driver/experiments/x/trials/{fields.pop('name', 't')}"
        home = {"uri": s3, "folder": "/driver", "life": life}
        job = Job(trial="t", phase="search", run={}, split_seed=0, folder=folder, home=home, **fields)
        return Sharing(Job.from_json(job.to_json()))

    return make


def train(trial: Sharing, epochs: int, *, save: bool = True) -> None:
    """Leave what that many epochs leave."""
    begin = len(trial.folder.metrics())
    for epoch in range(begin + 1, begin + epochs + 1):
        trial.folder.add_metrics(epoch, {"val/acc1": float(epoch)})
        if save:
            save_checkpoint(trial.folder.checkpoints, {"epoch": epoch})
        trial.tell()


def in_store(trial: Sharing) -> set[str]:
    return {p.relative_to(trial.folder.path).as_posix() for p in trial._remote.entries(trial.folder.path)} - {"writer"}


def test_paths_become_those_of_the_machine(trial: Make, s3: str) -> None:
    made = trial(teachers=[{"model": {}, "weights": "/driver/teachers/k"}, {"model": {}, "weights": "/elsewhere/k"}])
    assert made.folder.path == local_folder(s3) / "experiments/x/trials/t"
    weights = [teacher["weights"] for teacher in made.job.teachers]
    assert weights == [str(local_folder(s3) / "teachers/k"), "/elsewhere/k"]


def test_another_machine_goes_on_where_the_last_one_was(trial: Make) -> None:
    one = trial("one")
    one.restore()
    train(one, 4)
    one.wait()
    assert in_store(one) == {
        "metrics.jsonl",
        *(f"checkpoints/checkpoint-{number:08d}.pt" for number in sorted(p_number(one))[-2:]),
    }
    other = trial("other")
    other.restore()
    assert load_latest(other.folder.checkpoints) == {"epoch": 4}
    assert other.folder.metrics() == one.folder.metrics()
    train(other, 2)
    other.leave()
    # The first machine has an older checkpoint than the store now.
    again = trial("one")
    again.restore()
    assert load_latest(again.folder.checkpoints) == {"epoch": 6}
    assert len(again.folder.metrics()) == 6


def p_number(trial: Sharing) -> list[int]:
    """Numbers of the checkpoints that the store has."""
    names = (path.name for path in trial._remote.entries(trial.folder.checkpoints))
    return [int(name.removeprefix("checkpoint-").removesuffix(".pt")) for name in names]


def test_a_machine_that_knows_more_than_the_store_keeps_it(trial: Make) -> None:
    one = trial()
    one.restore()
    train(one, 2)
    one.wait()
    save_checkpoint(one.folder.checkpoints, {"epoch": 3})
    one.folder.add_metrics(3, {"val/acc1": 3.0})
    again = trial()
    again.restore()
    assert load_latest(again.folder.checkpoints) == {"epoch": 3}
    assert len(again.folder.metrics()) == 3


def test_a_damaged_checkpoint_here_is_replaced_and_one_in_the_store_passed_over(trial: Make) -> None:
    one = trial()
    one.restore()
    train(one, 1)
    one.wait()
    train(one, 1)
    one.wait()
    newest = max(one.folder.checkpoints.iterdir())
    newest.write_bytes(b"damaged")
    again = trial()
    with pytest.warns(UserWarning, match="damaged"):
        again.restore()
    assert load_latest(again.folder.checkpoints) == {"epoch": 2}
    one._remote.write(newest, b"damaged")
    other = trial("other")
    other.restore()
    with pytest.warns(UserWarning, match="trying the one before"):
        assert load_latest(other.folder.checkpoints) == {"epoch": 1}


def test_what_another_life_of_the_experiment_left_does_not_count(trial: Make) -> None:
    one = trial(life="a")
    one.restore()
    train(one, 3)
    one.leave()
    one._remote.remove_folder(one.folder.path)
    anew = trial(life="b")
    anew.restore()
    assert load_latest(anew.folder.checkpoints) is None
    assert anew.folder.metrics() == []


def test_a_process_that_was_replaced_brings_nothing_more(trial: Make) -> None:
    cut_off = trial("one")
    cut_off.restore()
    train(cut_off, 2)
    cut_off.wait()
    other = trial("other")
    other.restore()
    train(other, 3)
    other.wait()
    train(cut_off, 1)
    with pytest.raises(StorageError, match="another process goes on"):
        cut_off.wait()
    cut_off.leave()
    third = trial("third")
    third.restore()
    assert load_latest(third.folder.checkpoints) == {"epoch": 5}
    assert len(third.folder.metrics()) == 5


def test_training_does_not_wait_and_an_outage_is_told_once_and_made_up(
    trial: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trial()
    one.restore()
    write, down = Remote.write, True
    tries = []

    def flaky(self: Remote, path: Path, content: Any) -> None:
        tries.append(path)
        if down:
            raise StorageError(f"cannot write {path.name}: it is down", passing=True)
        write(self, path, content)

    monkeypatch.setattr(Remote, "write", flaky)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train(one, 3)
        while len(tries) < 3:
            pass
        down = False
        one.wait()
    assert [str(warning.message) for warning in told] == ["cannot write metrics.jsonl: it is down; it is tried again"]
    assert in_store(one) >= {"metrics.jsonl", "checkpoints/checkpoint-00000003.pt"}


def test_the_trial_ends_with_the_reason_where_the_store_stays_away(
    trial: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trial()
    one.restore()
    train(one, 1)

    def refuse(self: Remote, path: Path, content: Any) -> None:
        raise StorageError("access denied")

    monkeypatch.setattr(Remote, "write", refuse)
    one.folder.add_metrics(2, {})
    with pytest.raises(StorageError, match="access denied"):
        one.wait()
    one.leave()


def test_a_process_that_does_not_lead_brings_nothing_of_the_trials_own(trial: Make) -> None:
    lead, other = trial("one"), trial("other")
    lead.restore()
    train(lead, 1)
    lead.wait()
    other.folder.path.mkdir(parents=True)
    (other.folder.path / "metrics.jsonl").write_text("of another time\n")
    shard = local_folder(other._remote.uri) / "cache" / "teacher-logits" / "k" / "v.bin"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"logits")
    other.keep(shard)
    other.leave()
    assert other._remote.read(other.folder.path / "metrics.jsonl") == (lead.folder.path / "metrics.jsonl").read_bytes()
    assert other._remote.read(shard) == b"logits"
    shard.unlink()
    assert other.find(shard)
    assert shard.read_bytes() == b"logits"
    assert not other.find(shard.with_name("none.bin"))


def test_teachers_are_brought_and_an_alias_is_looked_at_again(trial: Make) -> None:
    names = ("key.safetensors", "mlflow-0123")
    teachers = [{"model": {}, "weights": f"/driver/teachers/{name}"} for name in names]
    maker, user = trial("one", teachers=teachers), trial("other", teachers=teachers)
    paths = [user._remote.folder / "teachers" / name for name in names]
    for content in (b"first", b"another"):
        for name in names:
            path = maker._remote.folder / "teachers" / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(content)
            maker._remote.push(path)
        user.bring_teachers()
    assert [path.read_bytes() for path in paths] == [b"first", b"another"]


def test_a_teacher_in_another_store_is_brought_from_there(trial: Make, s3: str, tmp_path: Path) -> None:
    elsewhere = Remote(f"{s3}/elsewhere", tmp_path / "maker")
    (tmp_path / "maker").mkdir()
    (tmp_path / "maker" / "t.pt").write_bytes(b"weights")
    elsewhere.push(tmp_path / "maker" / "t.pt")
    model = {"model": "resnet8", "checkpoint": f"{s3}/elsewhere/t.pt"}
    user = trial("other", teachers=[{"model": model, "weights": "/driver/teachers/uri-0123"}])
    user.bring_teachers()
    path = user._remote.folder / "teachers" / "uri-0123"
    assert path.read_bytes() == b"weights"
    assert user._remote.entry(path) is None


def test_tensors_come_back_as_they_were(trial: Make) -> None:
    one = trial()
    one.restore()
    state = {"weights": torch.randn(1000, 100), "epoch": 1}
    save_checkpoint(one.folder.checkpoints, state)
    one.wait()
    shutil.rmtree(one.folder.path)
    again = trial()
    again.restore()
    found = load_latest(again.folder.checkpoints)
    assert found is not None
    assert torch.equal(found["weights"], state["weights"])
