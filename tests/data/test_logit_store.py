"""Each view is computed once, whoever asks, and read by all; space is found, damage and dead processes are survived."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from orchestrator.data.logit_store import IN_USE_S, LogitStore
from orchestrator.data.views import View, Views
from orchestrator.errors import TeacherError

IMAGES, CLASSES = 50, 7


def logits(view: View) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * view.seed + view.number)
    return 10 * torch.randn(IMAGES, CLASSES, generator=generator)


class Maker:
    def __init__(self) -> None:
        self.made: list[View] = []

    def __call__(self, view: View) -> Tensor:
        self.made.append(view)
        return logits(view)


def store(root: Path, key: str = "a", dtype: str = "float16", limit: float = 1e9, strict: bool = False) -> LogitStore:
    return LogitStore(root, {"teacher": key}, dtype=dtype, limit=limit, strict=strict)


def shards(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*/*.bin"))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_read_is_what_was_made_in_the_dtype_asked_for(tmp_path: Path, dtype: str) -> None:
    make, view = Maker(), View(3, 1)
    for _ in range(2):
        shard = store(tmp_path, dtype=dtype).get(view, make)
        assert torch.equal(shard.logits, logits(view).to(getattr(torch, dtype)))
        error = (logits(view) - logits(view).to(getattr(torch, dtype)).float()).abs()
        assert shard.max_error == pytest.approx(error.max().item())
        assert shard.mean_error == pytest.approx(error.mean().item(), rel=1e-5)
    assert make.made == [view]
    assert f"{tmp_path}" in Path("/proc/self/maps").read_text()


def test_keys_dtypes_seeds_and_views_are_kept_apart(tmp_path: Path) -> None:
    make = Maker()
    for made in (store(tmp_path), store(tmp_path, "b"), store(tmp_path, dtype="float32")):
        for view in (View(0, 0), View(0, 1), View(1, 0)):
            assert torch.allclose(made.get(view, make).logits.float(), logits(view), atol=0.05)
    assert len(make.made) == 9
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_says_what_is_in_it_and_keeps_nothing_else(tmp_path: Path) -> None:
    made = store(tmp_path, "resnet56")
    made.get(View(0, 0), Maker())
    assert json.loads((made.folder / "about.json").read_text())["teacher"] == "resnet56"
    assert {path.suffix for path in made.folder.iterdir()} == {".json", ".bin"}


def test_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    make, view = Maker(), View(0, 0)
    made = store(tmp_path)
    made.get(view, make)
    (path,) = made.folder.glob("*.bin")
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:-200] + b"\xff" + whole[-199:]):
        path.unlink()
        path.write_bytes(damaged)
        assert torch.equal(made.get(view, make).logits, logits(view).half())
        assert path.read_bytes() == whole
    assert len(make.made) == 4


class Shelf:
    """Shards of other machines, by the name of their file."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.asked = 0

    def find(self, path: Path) -> bool:
        self.asked += 1
        if path.name in self.kept:
            path.write_bytes(self.kept[path.name])
        return path.name in self.kept

    def keep(self, path: Path) -> None:
        self.kept[path.name] = path.read_bytes()


def test_what_another_machine_has_made_is_not_made_again(tmp_path: Path) -> None:
    shelf, view = Shelf(), View(0, 0)

    def on(machine: str) -> LogitStore:
        return LogitStore(tmp_path / machine, {"teacher": "a"}, dtype="float16", limit=1e9, elsewhere=shelf)

    first, second = Maker(), Maker()
    made = on("one").get(view, first)
    assert (first.made, shelf.asked) == ([view], 1)
    on("one").get(view, first)
    assert shelf.asked == 1
    assert torch.equal(on("two").get(view, second).logits, made.logits)
    assert second.made == []
    shelf.kept[next(iter(shelf.kept))] = b"damaged"
    assert torch.equal(on("three").get(view, second).logits, made.logits)
    assert second.made == [view]


@pytest.mark.parametrize(
    ("wrong", "reason"), [(float("nan"), "NaN"), (float("inf"), "infinite"), (7e4, "too large for float16")]
)
def test_logits_that_cannot_be_kept_are_refused(tmp_path: Path, wrong: float, reason: str) -> None:
    def make(view: View) -> Tensor:
        made = logits(view)
        made[13, 2] = wrong
        return made

    with pytest.raises(TeacherError, match=f"image 13 .*{reason}"):
        store(tmp_path, strict=True).get(View(0, 0), make)
    assert list(tmp_path.glob("*/*.*")) == [*tmp_path.glob("*/about.json")], "no shard and no lock"
    assert torch.equal(store(tmp_path).get(View(0, 0), Maker()).logits, logits(View(0, 0)).half())


def test_a_view_beyond_float16_is_kept_as_float32_unless_float16_is_a_must(tmp_path: Path) -> None:
    def large(view: View) -> Tensor:
        return 1e5 * logits(view)

    for _ in range(2):
        shard = store(tmp_path).get(View(0, 0), large)
        assert torch.equal(shard.logits, 1e5 * logits(View(0, 0)))
        assert shard.max_error == 0
    assert store(tmp_path).get(View(0, 1), logits).logits.dtype == torch.float16
    with pytest.raises(TeacherError, match="too large for float16"):
        store(tmp_path, strict=True).get(View(0, 0), large)


def test_large_logits_fit_float32(tmp_path: Path) -> None:
    large = store(tmp_path, dtype="float32").get(View(0, 0), lambda view: 1e5 * logits(view))
    assert large.max_error == 0


def test_the_least_recently_used_shards_of_any_store_make_room(tmp_path: Path) -> None:
    first = store(tmp_path)
    shard = first.get(View(0, 0), Maker())
    size = next(first.folder.glob("*.bin")).stat().st_size
    for number in range(1, 4):
        first.get(View(0, number), Maker())
    for age, number in enumerate((1, 3, 0, 2)):  # the oldest first
        os.utime(first.folder / f"seed0-view{number}.bin", ns=(age, age))
    first.get(View(0, 1), Maker())  # now the most recently used
    other = store(tmp_path, "b", limit=4 * size)
    other.get(View(0, 9), Maker())
    other.get(View(0, 8), Maker())
    assert [path.name for path in sorted(first.folder.glob("*.bin"))] == ["seed0-view1.bin", "seed0-view2.bin"]
    assert torch.equal(shard.logits, logits(View(0, 0)).half()), "what is mapped stays"


def test_what_was_read_lately_stays_and_what_finds_no_room_is_not_kept(tmp_path: Path) -> None:
    """Two experiments that fit alone and not together."""
    store(tmp_path / "one").get(View(0, 0), Maker())
    size = next(tmp_path.glob("one/*/*.bin")).stat().st_size
    root, views, rounds = tmp_path / "store", [View(0, number) for number in range(4)], 5
    pairs = [(store(root, key, limit=5.5 * size), Maker()) for key in "ab"]
    for _ in range(rounds):
        for epoch, view in enumerate(views):
            for made, make in pairs:
                assert torch.equal(made.get(view, make, views[epoch + 1 :]).logits, logits(view).half())
    assert len(shards(root)) == 5
    assert sum(len(make.made) for _, make in pairs) == 5 + rounds * 3
    assert not list(root.glob("*/*.lock"))
    (one, _), (other, make) = pairs
    long_ago = time.time() - IN_USE_S - 1
    for path in one.folder.glob("*.bin"):
        os.utime(path, (long_ago, long_ago))
    make.made.clear()
    for view in 2 * views:
        other.get(view, make)
    assert make.made == views[2:]
    assert len(list(other.folder.glob("*.bin"))) == 4


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    make, made = Maker(), store(blocked)
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert torch.equal(made.get(View(0, 0), make).logits, logits(View(0, 0)).half())
    assert torch.equal(made.get(View(0, 0), make).logits, logits(View(0, 0)).half())
    assert make.made == [View(0, 0)] * 2


def test_a_full_disk_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert torch.equal(store(tmp_path).get(View(0, 0), Maker()).logits, logits(View(0, 0)).half())
    assert [path.name for path in tmp_path.glob("*/*")] == ["about.json"], "no shard and no lock"


# Many processes

FORK = multiprocessing.get_context("fork")
EPOCHS = 12


def slow_maker(log: str, seconds: float):
    def make(view: View) -> Tensor:
        with open(log, "a") as file:
            file.write(f"{view.number} {os.getpid()}\n")
        time.sleep(seconds)
        return logits(view)

    return make


def trial(root: str, log: str, seconds: float) -> None:
    """Asks for every view in order, as a run does epoch by epoch."""
    made, make = store(Path(root)), slow_maker(log, seconds)
    views = [Views(0).of(epoch) for epoch in range(EPOCHS)]
    for epoch, view in enumerate(views):
        if not torch.equal(made.get(view, make, views[epoch + 1 :]).logits, logits(view).half()):
            raise SystemExit(1)


def started(root: Path, count: int, seconds: float = 0.05) -> list:
    processes = [
        FORK.Process(target=trial, args=(str(root / "store"), str(root / "log"), seconds)) for _ in range(count)
    ]
    for process in processes:
        process.start()
    return processes


def made_by(root: Path) -> list[tuple[int, int]]:
    """View and process of each computation."""
    lines = (root / "log").read_text().splitlines() if (root / "log").exists() else []
    return [(int(view), int(process)) for view, process in map(str.split, lines)]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("count", [2, 5])
def test_processes_share_the_work_and_repeat_none(tmp_path: Path, count: int) -> None:
    processes = started(tmp_path, count)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * count
    assert sorted(view for view, _ in made_by(tmp_path)) == list(range(EPOCHS))
    (folder,) = (tmp_path / "store").iterdir()
    assert {path.suffix for path in folder.iterdir()} == {".json", ".bin"}, "no locks and no leftovers"


def test_who_finds_a_view_taken_makes_others_and_takes_over_from_a_dead_process(tmp_path: Path) -> None:
    (first,) = started(tmp_path, 1, seconds=1000)
    wait_for(lambda: len(made_by(tmp_path)) == 1)
    others = started(tmp_path, 2)
    wait_for(lambda: len(made_by(tmp_path)) == EPOCHS)
    assert [process.exitcode for process in others] == [None, None], "they wait for the first view"
    os.kill(first.pid, signal.SIGKILL)
    for process in [first, *others]:
        process.join(60)
    assert [process.exitcode for process in others] == [0, 0]
    made = [view for view, _ in made_by(tmp_path)]
    assert made[0] == made[-1] == 0
    assert sorted(made[1:]) == list(range(EPOCHS))


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    made = store(tmp_path)
    made.folder.mkdir(parents=True)
    left = made.folder / ".seed0-view0.bin.12345.tmp"
    left.write_bytes(b"half")
    made.get(View(0, 0), Maker())
    assert not left.exists()


def test_views_come_again_after_their_count() -> None:
    assert [Views(5).of(epoch).number for epoch in range(4)] == [0, 1, 2, 3]
    assert [Views(5, 3).of(epoch) for epoch in (0, 2, 3)] == [View(5, 0), View(5, 2), View(5, 0)]
    with pytest.raises(ValueError, match="count"):
        Views(0, 0)
