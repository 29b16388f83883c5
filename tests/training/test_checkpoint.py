import hashlib
import io
import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from training_runs import network

from orchestrator.errors import CheckpointError
from orchestrator.training import load_latest, load_weights, save_checkpoint, save_weights


def _state(epoch: int) -> dict[str, object]:
    return {"epoch": epoch, "best": (1, 50.0), "weights": {"w": torch.full((3,), float(epoch))}}


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_state_comes_back_and_old_files_go(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert load_latest(folder) is None
    paths = [save_checkpoint(folder, _state(epoch)) for epoch in range(1, 13)]
    assert _names(folder) == sorted(path.name for path in paths[-2:])
    loaded = load_latest(folder)
    assert loaded is not None
    assert (loaded["epoch"], loaded["best"]) == (12, (1, 50.0))
    assert torch.equal(loaded["weights"]["w"], torch.full((3,), 12.0))
    with pytest.raises(ValueError, match="keep must be 1 or above"):
        save_checkpoint(folder, _state(13), keep=0)


def _flip_a_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [_flip_a_byte, lambda content: content[:-1], lambda content: b""])
def test_a_damaged_file_falls_back_to_the_one_before_or_to_the_beginning(tmp_path: Path, damage: object) -> None:
    older, newer = (save_checkpoint(tmp_path, _state(epoch)) for epoch in (1, 2))
    newer.write_bytes(damage(newer.read_bytes()))
    with pytest.warns(UserWarning, match=str(newer)):
        loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded["epoch"] == 1
    older.write_bytes(damage(older.read_bytes()))
    with pytest.warns(UserWarning, match="is damaged") as caught:
        assert load_latest(tmp_path) is None
    assert [str(warning.message) for warning in caught] == [
        f"checkpoint {newer} is damaged; trying the one before",
        f"checkpoint {older} is damaged; the run starts from its beginning",
    ]
    save_checkpoint(tmp_path, _state(3))
    again = load_latest(tmp_path)
    assert again is not None
    assert again["epoch"] == 3


def test_a_kill_while_writing_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, _state(1))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        # A kill runs no clean-up either.
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, _state(2))
    assert len(_names(tmp_path)) == 2
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded["epoch"] == 1
    save_checkpoint(tmp_path, _state(3))
    assert _names(tmp_path) == ["checkpoint-00000001.pt", "checkpoint-00000002.pt"]


def test_loading_runs_no_code(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("true",)

    buffer = io.BytesIO()
    torch.save({"bomb": Bomb()}, buffer)
    content = buffer.getvalue()
    (tmp_path / "checkpoint-00000001.pt").write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(pickle.UnpicklingError):
        load_latest(tmp_path)


def test_weights_come_back_with_their_metadata(tmp_path: Path) -> None:
    source, target = network(seed=0, norm="batch"), network(seed=1, norm="batch")
    source.to(memory_format=torch.channels_last)
    path = tmp_path / "a" / "student.safetensors"
    save_weights(path, source, {"model": "resnet8"})
    assert _names(path.parent) == ["student.safetensors"]
    assert load_weights(path, target) == {"model": "resnet8"}
    for name, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[name])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, "bias is missing"),
        (
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "scale": torch.zeros(1)},
            "scale is not in the model",
        ),
        (
            {"weight": torch.zeros(3, 2), "bias": torch.zeros(2)},
            r"weight is \[3, 2\], the model's is \[2, 3\]",
        ),
        ({"weight": torch.zeros(2, 3), "bias": torch.tensor([0.0, torch.nan])}, "bias holds NaN"),
        ({str(k): torch.zeros(1) for k in range(9)}, "bias is missing; 0 is not in the model and 8 more"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(tensors, path)
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    with pytest.raises(CheckpointError, match=message) as caught:
        load_weights(path, model)
    assert str(path) in str(caught.value)
    assert torch.equal(model.weight, before)


def test_a_file_that_is_no_safetensors_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(CheckpointError, match=str(path)):
        load_weights(path, nn.Linear(1, 1))
    path.write_bytes(b"not a file of weights")
    with pytest.raises(CheckpointError, match=str(path)):
        load_weights(path, nn.Linear(1, 1))
