"""A spec finds its experiment: its own, the one that it extends, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UsageError
from orchestrator.search.extension import Change, compare
from orchestrator.spec import ExperimentSpec, load_spec
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home
from orchestrator.store.placing import place

BASE: dict[str, Any] = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "search": {
        "sampler": "random",
        "num_samples": 4,
        "final_seeds": 2,
        "space": {"training.optimizer.lr": {"type": "loguniform", "low": 0.01, "high": 0.2}},
        "variants": {"kd": {}, "warm": {"set": {"distillation.temperature.base": 8}}},
    },
}
FIRST = load_spec(BASE)
MORE = load_spec(BASE, {"search.num_samples": 6})
MOST = load_spec(BASE, {"search.num_samples": 9, "search.final_seeds": 3})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.create()
    return made


def begin(home: Home, spec: ExperimentSpec) -> ExperimentFolder:
    """As `run` does it."""
    placed = place(spec, home)
    with placed.folder.opened(placed.spec, placed.changes):
        placed.folder.journal.append({"event": "experiment", "key": "k", "id": placed.folder.id})
    return placed.folder


def test_an_experiment_that_never_ran_is_new_and_nothing_is_made_by_looking(home: Home) -> None:
    placed = place(FIRST, home)
    assert (placed.folder.id, placed.spec, placed.notes, placed.changes) == (FIRST.id, FIRST, (), ())
    assert not placed.folder.path.exists()


def test_a_spec_that_adds_extends_the_experiment_and_says_so(home: Home) -> None:
    begin(home, FIRST)
    placed = place(MORE, home)
    assert placed.folder.id == FIRST.id
    assert placed.changes == (Change("search.num_samples", 4, 6),)
    assert placed.notes == (f"{FIRST.id} is extended: search.num_samples 4 -> 6",)
    # Looking changes nothing.
    assert place(MORE, home).changes == placed.changes


def test_an_extended_experiment_is_found_by_every_spec_that_it_ever_had(home: Home) -> None:
    for spec in (FIRST, MORE, MOST):
        begin(home, spec)
    assert [folder.id for folder in home.experiments()] == [FIRST.id]
    folder = home.experiments()[0]
    assert folder.spec() == MOST
    told = f"{FIRST.id} goes on as it was extended: search.num_samples 4 -> 6, search.num_samples 6 -> 9, "
    told += "search.final_seeds 2 -> 3"
    for spec in (FIRST, MORE, MOST):
        placed = place(spec, home)
        assert placed.folder.path == folder.path
        assert (placed.spec.hash, placed.changes) == (MOST.hash, ())
        assert placed.notes == (() if spec == MOST else (told,))
        assert home.experiment(spec).path == folder.path
        # As commands name it that know the spec alone.
        assert home.find(spec.id).path == folder.path
    with pytest.raises(UsageError, match="there is no experiment 'tiny-00000000'"):
        home.find("tiny-00000000")


def test_what_was_added_in_different_ways_is_brought_together(home: Home) -> None:
    begin(home, FIRST)
    begin(home, MORE)
    late = load_spec(BASE, {"search.variants.late": {}})
    placed = place(late, home)
    assert placed.folder.id == FIRST.id
    assert placed.changes == (Change("search.variants.late", None, {}),)
    assert (placed.spec.search.num_samples, list(placed.spec.search.variants)) == (6, ["kd", "warm", "late"])


@pytest.mark.parametrize("spec", [FIRST, load_spec(BASE, {"search.num_samples": 12})], ids=["same", "more"])
def test_an_extension_between_looking_and_holding_is_not_overwritten(home: Home, spec: ExperimentSpec) -> None:
    folder = begin(home, FIRST)
    placed = place(spec, home)
    begin(home, MORE)
    with (
        pytest.raises(UsageError, match=r"just now: search.num_samples 4 -> 6\n  run the same command again"),
        placed.folder.opened(placed.spec, placed.changes, placed.known),
    ):
        pass
    assert folder.spec() == MORE
    assert begin(home, spec).spec().search.num_samples == max(6, spec.search.num_samples or 0)


def test_another_experiment_is_new_and_names_what_differs_from_the_latest(home: Home) -> None:
    begin(home, load_spec(BASE, {"seed": 5}))
    latest = begin(home, FIRST)
    placed = place(load_spec(BASE, {"training.epochs": 3}), home)
    assert placed.folder.id == load_spec(BASE, {"training.epochs": 3}).id
    assert placed.notes == (
        f"this is a new experiment: it differs from {latest.id} in training.epochs 3 instead of 240",
    )


def test_an_experiment_of_another_name_is_no_relation(home: Home) -> None:
    begin(home, FIRST)
    other = load_spec(BASE, {"name": "other", "search.num_samples": 9})
    assert (place(other, home).folder.id, place(other, home).notes) == (other.id, ())


def test_what_was_set_aside_or_is_damaged_is_not_extended(home: Home) -> None:
    folder = begin(home, FIRST)
    folder.set_aside()
    assert place(MORE, home).folder.id == MORE.id
    begin(home, FIRST)
    (home.experiment(FIRST).path / "spec.yaml").write_text("name: [")
    assert place(MORE, home).folder.id == MORE.id


def test_a_folder_of_another_version_is_not_extended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the same spec gives other results."""
    begin(home, FIRST)
    monkeypatch.setattr("orchestrator.spec.experiment.SPEC_VERSION", 1)
    assert compare(FIRST, MORE).obstacle is None
    assert place(MORE, home).folder.id == MORE.id


def test_another_way_to_write_the_same_is_the_same_experiment(home: Home) -> None:
    twenty = load_spec(BASE, {"search.num_samples": 20})
    search = {name: value for name, value in BASE["search"].items() if name != "num_samples"}
    unset = load_spec({**BASE, "search": search})
    assert twenty.hash != unset.hash
    begin(home, twenty)
    placed = place(unset, home)
    assert (placed.folder.id, placed.notes, placed.changes) == (twenty.id, (), ())
